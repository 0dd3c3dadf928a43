//! Who does the steps of a phase: its workers, and their copies.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use brim_trial::Phase;

/// One copy of one worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'a> {
    /// The worker; `None` is the main one.
    pub(super) by: Option<&'a str>,
    /// Which copy, from 0.
    pub(super) copy: u64,
    /// Of how many.
    pub(super) copies: u64,
}

impl Who<'_> {
    /// What it is doing when it does `step`.
    pub(super) fn doing(self, step: &str) -> String {
        match (self.by, self.copies) {
            (None, _) => step.to_owned(),
            (Some(by), ..=1) => format!("{step} by {by}"),
            (Some(by), _) => format!("{step} by {by} (copy {})", self.copy),
        }
    }
}

/// All who are at work in a phase.
#[derive(Debug, Default)]
pub(crate) struct Company<'a> {
    members: Vec<Who<'a>>,
    /// How many copies of each worker are not done yet.
    at_work: Vec<(Option<&'a str>, AtomicU64)>,
    /// One of them has failed.
    given_up: AtomicBool,
}

impl<'a> Company<'a> {
    /// The workers of a phase.
    pub(super) fn of(phase: &'a Phase) -> Self {
        let copies = |by| phase.loop_of(by).map_or(1, |own| own.copies);
        let workers: Vec<_> = phase.workers().into_iter().map(|by| (by, copies(by))).collect();
        let each = |(by, copies): &(Option<&'a str>, u64)| {
            let (by, copies) = (*by, *copies);
            (0..copies).map(move |copy| Who { by, copy, copies })
        };
        let members = workers.iter().flat_map(each).collect();
        let at_work = workers.into_iter().map(|(by, copies)| (by, AtomicU64::new(copies))).collect();
        Self { members, at_work, given_up: AtomicBool::default() }
    }

    pub(super) fn members(&self) -> &[Who<'a>] {
        &self.members
    }

    /// A copy of `by` is done.
    pub(super) fn is_done(&self, by: Option<&str>) {
        if let Some((_, left)) = self.at_work.iter().find(|(other, _)| *other == by) {
            left.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// One of them has failed, and is there no more for what others wait for.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    /// Whether one of them has failed.
    pub(crate) fn has_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Whether all copies of `by` are done.
    pub(super) fn are_done(&self, by: &str) -> bool {
        let left = self.at_work.iter().find(|(other, _)| *other == Some(by));
        left.is_none_or(|(_, left)| left.load(Ordering::Acquire) == 0)
    }
}
