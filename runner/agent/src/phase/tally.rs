//! What a worker has done in a phase, in numbers.

use std::collections::{BTreeMap, BTreeSet};

use brim_trial::event::Timing;
use brim_trial::{Event, Nanos};

use crate::steps::Outcome;

/// By step of the phase.
#[derive(Debug)]
pub(super) struct Tally {
    completed: Vec<u64>,
    allowed: Vec<BTreeMap<String, u64>>,
    timing: Vec<Timing>,
    /// Steps that ended with a short write.
    short: BTreeSet<usize>,
}

impl Tally {
    /// Nothing yet, of so many steps.
    pub(super) fn of(steps: usize) -> Self {
        Self {
            completed: vec![0; steps],
            allowed: vec![BTreeMap::new(); steps],
            timing: vec![Timing::default(); steps],
            short: BTreeSet::new(),
        }
    }

    /// Step `at` ended. Whether that is to be told: the first time that it does well, or as it may, and each other failure.
    pub(super) fn count(
        &mut self,
        at: usize,
        outcome: &Outcome,
        failed: bool,
        allowed: bool,
        nanos: Nanos,
    ) -> bool {
        if let Some(timing) = self.timing.get_mut(at) {
            timing.add(nanos);
        }
        if failed && !allowed {
            return true;
        }
        if allowed {
            let errno = outcome.result.err().map(|errno| errno.to_string());
            let how = outcome.signal.map(|signal| signal.to_string()).or(errno).unwrap_or_default();
            let count = self.allowed.get_mut(at).map(|counts| counts.entry(how).or_insert(0));
            return count.is_some_and(|count| {
                *count += 1;
                *count == 1
            });
        }
        let first_short = outcome.short.is_some() && self.short.insert(at);
        self.completed.get_mut(at).is_some_and(|count| {
            *count += 1;
            *count == 1 || first_short
        })
    }

    /// What another worker has done, too.
    pub(super) fn add(&mut self, other: Self) {
        for (sum, count) in self.completed.iter_mut().zip(other.completed) {
            *sum += count;
        }
        for (sum, times) in self.timing.iter_mut().zip(other.timing) {
            *sum = sum.with(times);
        }
        for (sum, counts) in self.allowed.iter_mut().zip(other.allowed) {
            for (how, count) in counts {
                *sum.entry(how).or_insert(0) += count;
            }
        }
    }

    /// The end of the phase.
    pub(super) fn event(self, trial: u32, phase: usize) -> Event {
        let Self { completed, allowed, timing, .. } = self;
        Event::Phase { trial, phase, completed, allowed, timing }
    }
}
