//! A scenario's control: the smallest change that makes its verdict another.

use serde::{Deserialize, Serialize};

use crate::event::VerdictEvent;
use crate::judge::Verdict;
use crate::kernel::{self, Requirement};

/// What a plan says of its control, which is a plan of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// The change, in the author's words.
    pub change: String,
    /// What it does to the plan, one thing each: `record = 131072 B`.
    pub changes: Vec<String>,
    /// What it is to come to.
    pub verdict: Verdict,
    /// On which kernels; on others nothing is expected of it.
    pub kernel: Requirement,
}

impl Control {
    /// What it is to come to on the kernel `release`, where that is said.
    #[must_use]
    pub fn wanted_on(&self, release: &str) -> Option<Verdict> {
        kernel::meets(release, &self.kernel).then_some(self.verdict)
    }
}

/// What a scenario and its control came to beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flip {
    /// The verdicts differ as they ought to.
    Flipped,
    /// They do not: what the scenario shows does not come from what it says.
    NotFlipped,
    /// What the scenario is about is not there on this kernel, with and without the change; or nothing is said of its control there.
    NothingToFlip,
    /// One of the two says nothing, or the scenario's rate is too low for so few trials.
    Inconclusive,
}

impl Flip {
    /// Of a scenario and its control, which is to come to `wanted` in every trial, if anything is wanted of it here.
    #[must_use]
    pub fn of(scenario: &VerdictEvent, control: &VerdictEvent, wanted: Option<Verdict>) -> Self {
        let Some(wanted) = wanted else { return Self::NothingToFlip };
        let inconclusive = |verdict: &VerdictEvent| verdict.verdict == Verdict::Inconclusive;
        if inconclusive(scenario) || inconclusive(control) || control.inconclusive > 0 {
            return Self::Inconclusive;
        }
        let unanimous = control.reproduced == 0 || control.reproduced == control.trials;
        if control.verdict != wanted || !unanimous {
            return Self::NotFlipped;
        }
        if scenario.verdict != wanted {
            return Self::Flipped;
        }
        match (&scenario.rate, scenario.known) {
            (Some(_), _) if scenario.expected => Self::Inconclusive,
            (None, Some(known)) if known == wanted => Self::NothingToFlip,
            (None, None) => Self::NothingToFlip,
            _ => Self::NotFlipped,
        }
    }
}

/// A scenario and its control, when both have run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlEvent {
    /// The scenario.
    pub scenario: String,
    /// The kernel's release.
    pub kernel: String,
    /// What the control changes, in words.
    pub change: String,
    /// What the control was to come to; `None` where nothing is said of this kernel.
    pub wanted: Option<Verdict>,
    /// What the scenario came to.
    pub verdict: Verdict,
    /// What the control came to.
    pub control: Verdict,
    /// What follows.
    pub flip: Flip,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::event::MeasuredRate;
    use crate::filesystem::FilesystemKind;

    fn verdict(reproduced: u32, inconclusive: u32, known: Option<Verdict>) -> VerdictEvent {
        let verdict = match (reproduced, inconclusive) {
            (0, 0) => Verdict::NotReproduced,
            (0, _) => Verdict::Inconclusive,
            _ => Verdict::Reproduced,
        };
        VerdictEvent {
            scenario: "test".to_owned(),
            control: None,
            params: BTreeMap::new(),
            verdict,
            known,
            rate: None,
            expected: true,
            trials: 20,
            reproduced,
            inconclusive,
            kernel: "6.18".to_owned(),
            filesystem: FilesystemKind::Btrfs,
            rig: "host/fuse".to_owned(),
            failed_step: None,
            errno: None,
            space: None,
            reason: None,
            findings: Vec::new(),
            seed: 1,
            seconds: 0.0,
            command: String::new(),
        }
    }

    #[test]
    fn a_control_flips_only_where_all_its_trials_differ() {
        use Verdict::{NotReproduced, Reproduced};
        let flip = |scenario: &VerdictEvent, control: (u32, u32)| {
            Flip::of(scenario, &verdict(control.0, control.1, None), Some(NotReproduced))
        };
        let bug = verdict(20, 0, Some(Reproduced));
        assert_eq!(flip(&bug, (0, 0)), Flip::Flipped);
        assert_eq!(flip(&bug, (20, 0)), Flip::NotFlipped);
        assert_eq!(flip(&bug, (1, 0)), Flip::NotFlipped);
        assert_eq!(flip(&bug, (0, 1)), Flip::Inconclusive);
        assert_eq!(flip(&verdict(0, 20, Some(Reproduced)), (0, 0)), Flip::Inconclusive);
        // Not there, and known or never said to be: nothing to flip. Not there although it was known to be: no flip.
        assert_eq!(flip(&verdict(0, 0, Some(NotReproduced)), (0, 0)), Flip::NothingToFlip);
        assert_eq!(flip(&verdict(0, 0, None), (0, 0)), Flip::NothingToFlip);
        assert_eq!(flip(&verdict(0, 0, Some(Reproduced)), (0, 0)), Flip::NotFlipped);
    }

    #[test]
    fn a_promise_flips_the_other_way() {
        let promise = verdict(0, 0, Some(Verdict::NotReproduced));
        let flip = |reproduced| Flip::of(&promise, &verdict(reproduced, 0, None), Some(Verdict::Reproduced));
        assert_eq!(flip(20), Flip::Flipped);
        assert_eq!(flip(19), Flip::NotFlipped);
        assert_eq!(flip(0), Flip::NotFlipped);
    }

    /// Something seen now and then was not seen at all, which can be: that says nothing of the control.
    #[test]
    fn a_rate_that_few_trials_miss_flips_nothing() {
        let rate = MeasuredRate { at_least: 0.02, at_most: 0.1, why: String::new(), low: 0.0, high: 0.16 };
        let scenario = VerdictEvent { rate: Some(rate), ..verdict(0, 0, Some(Verdict::Reproduced)) };
        let control = verdict(0, 0, None);
        assert_eq!(Flip::of(&scenario, &control, Some(Verdict::NotReproduced)), Flip::Inconclusive);
    }
}
