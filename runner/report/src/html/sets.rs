//! The runs in a journal: one for each set of parameters on each kernel.

use std::collections::BTreeSet;

use brim_trial::event::{Run, VerdictEvent};
use brim_trial::{Event, TrialVerdict, Verdict, judge};

use crate::verdict::symptom;

/// A run and what was seen of it.
#[derive(Clone, Debug)]
pub struct Set<'a> {
    /// What ran.
    pub run: &'a Run,
    /// Its events.
    pub events: &'a [Event],
    /// What it came to. Of a journal that was cut short, or of one trial alone, it is made from the trials there are.
    pub verdict: VerdictEvent,
    /// Whether the journal has the verdict itself.
    pub is_whole: bool,
}

/// The runs in `events`, in order. What stands before the first is of none.
#[must_use]
pub fn sets(events: &[Event]) -> Vec<Set<'_>> {
    let starts: Vec<usize> =
        (0..events.len()).filter(|index| matches!(events.get(*index), Some(Event::Run(_)))).collect();
    let ends = starts.iter().skip(1).copied().chain([events.len()]);
    let of = |(start, end): (&usize, usize)| {
        let events = events.get(*start..end)?;
        let Some(Event::Run(run)) = events.first() else { return None };
        let whole = events.iter().find_map(|event| match event {
            Event::Verdict(verdict) => Some(VerdictEvent::clone(verdict)),
            _ => None,
        });
        let is_whole = whole.is_some();
        let verdict = whole.unwrap_or_else(|| made_of(run, events));
        Some(Set { run, events, verdict, is_whole })
    };
    starts.iter().zip(ends).filter_map(of).collect()
}

fn trials(events: &[Event]) -> impl Iterator<Item = &TrialVerdict> {
    events.iter().filter_map(|event| match event {
        Event::TrialVerdict(trial) => Some(trial),
        _ => None,
    })
}

fn made_of(run: &Run, events: &[Event]) -> VerdictEvent {
    let trials: Vec<TrialVerdict> = trials(events).cloned().collect();
    let verdict = judge::together(&trials);
    let count = |wanted| {
        u32::try_from(trials.iter().filter(|trial| trial.verdict == wanted).count()).unwrap_or(u32::MAX)
    };
    let shown = trials.iter().find(|trial| trial.verdict == verdict);
    let known = run.plan.as_ref().and_then(|plan| plan.known_on(&run.kernel));
    let failed = events.iter().find_map(|event| match event {
        Event::Failed { why, .. } => Some(why.clone()),
        _ => None,
    });
    VerdictEvent {
        scenario: run.scenario.clone(),
        control: run.control.clone(),
        params: run.params.clone(),
        verdict,
        known,
        rate: None,
        expected: known.is_none_or(|known| known == verdict),
        trials: u32::try_from(trials.len()).unwrap_or(u32::MAX),
        reproduced: count(Verdict::Reproduced),
        inconclusive: count(Verdict::Inconclusive),
        kernel: run.kernel.clone(),
        filesystem: run.filesystem,
        rig: run.rig.clone(),
        failed_step: shown.and_then(|trial| trial.failed_step.clone()),
        errno: shown.and_then(|trial| trial.errno),
        space: shown.and_then(|trial| trial.space),
        reason: shown.and_then(|trial| trial.reason.clone()).or(failed),
        findings: shown.map(|trial| trial.findings.clone()).unwrap_or_default(),
        seed: run.seed,
        seconds: 0.0,
        command: String::new(),
    }
}

impl<'a> Set<'a> {
    /// The verdicts of its trials.
    pub fn trials(&self) -> impl Iterator<Item = &'a TrialVerdict> {
        trials(self.events)
    }

    /// The trial that stands for the verdict.
    #[must_use]
    pub fn representative(&self) -> u32 {
        let stands = self.trials().find(|trial| trial.verdict == self.verdict.verdict);
        stands.or_else(|| self.trials().next()).map_or(1, |trial| trial.trial)
    }

    /// `reproduced, pwrite = ENOSPC, for want of data space`.
    #[must_use]
    pub fn outcome(&self) -> String {
        crate::verdict::outcome(&self.verdict)
    }

    /// What failures alike have in common: the step, its error, the space.
    #[must_use]
    pub fn signature(&self) -> String {
        symptom(&self.verdict)
    }
}

/// Those of many that are worth to be shown whole: all of a few; else the first of each signature that reproduced or was not as
/// known or inconclusive.
pub(super) fn worth_showing<'s, 'a>(sets: &'s [Set<'a>], most: usize) -> Vec<&'s Set<'a>> {
    if sets.len() <= 2 {
        return sets.iter().collect();
    }
    let mut seen: BTreeSet<(String, String, String)> = BTreeSet::new();
    let mut is_new = |set: &&Set<'_>| {
        let tells = set.verdict.verdict != Verdict::NotReproduced || !set.verdict.expected;
        let key = (set.run.scenario.clone(), set.run.kernel.clone(), set.signature());
        tells && seen.insert(key)
    };
    sets.iter().filter(|set| is_new(set)).take(most).collect()
}
