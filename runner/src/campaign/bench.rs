//! One worker's rig: brings it to a cell's state, runs one trial, and says what it came to.

use std::time::Instant;

use brim_campaign::cell::{self, RUNNING};
use brim_campaign::{Cell, TrialRecord, signature};
use brim_trial::event::{Prepared, Run, When};
use brim_trial::{Bytes, Event, Nanos, Plan, Verdict, judge};

use crate::error::Error;
use crate::executor::{self, Kept};
use crate::interrupt::Interrupt;
use crate::kernel::Kernel;
use crate::rig::workbench::{Preparation, State};
use crate::rig::{Rig, RigError, RigName};

/// A rig, and the state that it is in.
pub(super) struct Bench {
    kernel: String,
    rig: Box<dyn Rig>,
    prepared: Option<(Preparation, State)>,
}

/// What a trial came to.
pub(super) struct Outcome {
    pub(super) record: TrialRecord,
    pub(super) journal: Vec<Event>,
    /// The disk before it and after it, of a hit that is kept.
    pub(super) kept: Option<Kept>,
}

impl Bench {
    /// For a kernel, with nothing prepared.
    pub(super) fn stand(kernel: &str, interrupt: &Interrupt) -> Result<Self, Error> {
        let found = (kernel != RUNNING).then(|| Kernel::find(kernel, None)).transpose()?;
        let rig = RigName::Auto.stand(found.as_ref(), interrupt)?;
        Ok(Self { kernel: kernel.to_owned(), rig, prepared: None })
    }

    /// Whether it is of this kernel.
    pub(super) fn is_of(&self, kernel: &str) -> bool {
        self.kernel == kernel
    }

    /// The kernel's release, and what the rig is called.
    pub(super) fn seen(&self) -> (String, String) {
        (self.rig.kernel().to_owned(), self.rig.name().name().to_owned())
    }

    /// Runs trial `number` of a cell.
    pub(super) fn run(
        &mut self,
        campaign_seed: u64,
        cell: &Cell,
        plan: &Plan,
        number: u32,
        wants: &dyn Fn(&TrialRecord) -> bool,
    ) -> Result<Outcome, RigError> {
        let seed = cell::seed(campaign_seed, &cell.id, number);
        let (State { counters, failed }, seconds) = self.prepare(plan, seed)?;
        let mut journal = vec![
            Event::Run(Run {
                scenario: plan.scenario.clone(),
                control: None,
                params: plan.params.clone(),
                rig: self.rig.name().name().to_owned(),
                kernel: self.rig.kernel().to_owned(),
                filesystem: plan.filesystem.kind,
                seed,
                trials: 1,
                plan: Some(Box::new(plan.clone())),
            }),
            Event::Prepared(Prepared {
                data_free_wanted: plan.prepare.fill.data_free,
                metadata_free_wanted: plan.prepare.fill.metadata_free,
                counters,
                failed,
                seconds,
            }),
        ];
        let unreached = judge::unreached(plan, &journal);
        let began = Instant::now();
        if unreached.is_none() {
            journal.push(Event::Trial { trial: 1 });
            self.rig.trial(&executor::order(plan, seed, 1), &mut |event| journal.push(event))?;
        }
        let nanos = Nanos(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let verdict = judge::trial(plan, 1, &journal);
        journal.push(Event::TrialVerdict(verdict.clone()));
        let signature = match verdict.verdict {
            Verdict::Inconclusive if unreached.is_some() => Some("state".to_owned()),
            _ => signature::signature(&verdict, &journal),
        };
        let record = TrialRecord {
            cell: cell.id.clone(),
            number,
            seed,
            verdict: Some(verdict.verdict),
            step: verdict.failed_step,
            errno: verdict.errno,
            space: verdict.space,
            signature,
            reason: verdict.reason.as_deref().map(nameless),
            unreached: unreached.is_some(),
            data_free: data_free(&journal),
            kernel_log: count(&journal),
            nanos,
        };
        let is_hit = record.verdict == Some(Verdict::Reproduced);
        let kept = if is_hit && wants(&record) {
            let after = self.rig.take_left().map(|left| (Verdict::Reproduced, left));
            Some(Kept { before: self.rig.image()?, after: after.into_iter().collect() })
        } else {
            None
        };
        Ok(Outcome { record, journal, kept })
    }

    /// What the state counted, and how long it took to reach: 0 where it was there.
    fn prepare(&mut self, plan: &Plan, seed: u64) -> Result<(State, f64), RigError> {
        let preparation = executor::preparation(plan, seed);
        if let Some((_, state)) = self.prepared.as_ref().filter(|(known, _)| *known == preparation) {
            return Ok((state.clone(), 0.0));
        }
        self.prepared = None;
        let began = Instant::now();
        let state = self.rig.prepare(&preparation)?;
        self.prepared = Some((preparation, state.clone()));
        Ok((state, began.elapsed().as_secs_f64()))
    }
}

/// A cell that the rig refuses: its trial, without a verdict.
pub(super) fn refused(campaign_seed: u64, cell: &Cell, number: u32, why: &str) -> TrialRecord {
    TrialRecord {
        cell: cell.id.clone(),
        number,
        seed: cell::seed(campaign_seed, &cell.id, number),
        verdict: None,
        step: None,
        errno: None,
        space: None,
        signature: None,
        reason: Some(nameless(why)),
        unreached: false,
        data_free: None,
        kernel_log: 0,
        nanos: Nanos(0),
    }
}

/// Without the numbers of block devices: which ones are free is different each time, and no two results would be the same.
fn nameless(why: &str) -> String {
    let mut words = String::with_capacity(why.len());
    let mut rest = why;
    while let Some((at, device)) =
        ["/dev/loop", "/dev/nbd"].iter().filter_map(|device| rest.find(device).map(|at| (at, *device))).min()
    {
        let (before, behind) = rest.split_at(at + device.len());
        words.push_str(before);
        rest = behind.trim_start_matches(|digit: char| digit.is_ascii_digit());
    }
    words + rest
}

fn data_free(journal: &[Event]) -> Option<[Bytes; 2]> {
    let at = |wanted: When| {
        journal.iter().find_map(|event| match event {
            Event::Counters { when, counters, .. } if *when == wanted => Some(counters.data_free),
            _ => None,
        })
    };
    Some([at(When::Before)?, at(When::After)?])
}

fn count(journal: &[Event]) -> u64 {
    let lines = journal.iter().filter(|event| matches!(event, Event::KernelLog(_))).count();
    u64::try_from(lines).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_does_not_tell_which_block_device_it_was() {
        let why = "mkfs.btrfs on /dev/loop12: '/dev/nbd0' is too small, 112 blocks of 4096 B";
        assert_eq!(nameless(why), "mkfs.btrfs on /dev/loop: '/dev/nbd' is too small, 112 blocks of 4096 B");
        assert_eq!(nameless("data_free is 65 blocks"), "data_free is 65 blocks");
    }
}
