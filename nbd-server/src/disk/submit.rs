//! How a request comes to the disk, now or when its time has come.

use std::sync::Arc;

use brim_device::control::WhenFull;
use brim_device::fault::{Decision, Moment, Op, Outcome, Request};
use brim_device::{Bytes, Images, Nanos};

use super::clock::Clock;
use super::gates::deliver;
use super::{Disk, HeldRequest, Incoming, Parked, State, execute, later, pool};
use crate::lock;
use crate::outbox::Outbox;
use crate::output::Output;

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Submitted {
    /// It is answered.
    Done,
    /// It is answered through its owner. The gate is to be told when the limit is over, if it has one.
    Held(Option<Watch>),
    /// It is answered when its time has come, by [`Disk::resume`].
    Delayed(Parked),
    /// The connection ends.
    Ends(End),
}

/// A held request, and when it will have waited for too long, by the clock of its disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    pub(crate) arrival: u64,
    pub(crate) until: Nanos,
}

/// How a connection ends because a row says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// What is answered is sent first.
    Soft,
    /// At once.
    Hard,
}

/// What became of a request whose time had come.
pub(super) enum Performed {
    /// It is answered, or never will be.
    Done { freed: Option<Images>, end: Option<End> },
    /// There is no space for it, and it waits for some.
    Held,
}

impl Disk {
    /// Does, holds or delays one request. What is answered at once is appended to `output`.
    pub(crate) fn submit(
        &self,
        incoming: &Incoming<'_>,
        owner: &Arc<Outbox>,
        output: &mut Output,
    ) -> Submitted {
        let mut state = lock(&self.shared.state);
        state.stats.count(&incoming.request);
        let size = state.images.cached().size();
        // A request that cannot be done fails before any fault sees it: a gate holds only what would have an effect.
        if let Err(refusal) = execute::check(incoming, size) {
            drop(state);
            refusal.put(incoming.how.answer, output.bytes());
            return Submitted::Done;
        }
        let mut outcome = None;
        if !state.faults.is_empty() {
            let now = if state.faults.takes_time() { self.now() } else { Nanos(0) };
            let decision = state.faults.decide(Moment { now, size }, &incoming.request);
            let holds = matches!(decision.outcome, Some((_, Outcome::Hold { .. })));
            if holds || decision.due.is_some() {
                let submitted = self.park(&mut state, incoming, decision, owner);
                drop(state);
                if holds {
                    self.shared.holding.notify_all();
                }
                return submitted;
            }
            outcome = decision.outcome.map(|(_, outcome)| outcome);
        } else if state.pool.is_none() && state.log.is_none() {
            let freed = state.execute(incoming, output);
            drop(state);
            later::let_go(freed);
            return Submitted::Done;
        }
        let performed = state.perform(self.shared.clock, incoming, outcome, owner, output);
        drop(state);
        self.after(performed)
    }

    /// Does a delayed request whose time has come.
    pub(crate) fn resume(&self, parked: &Parked, owner: &Arc<Outbox>, output: &mut Output) -> Submitted {
        let mut state = lock(&self.shared.state);
        state.delayed.remove(&parked.arrival);
        let performed = state.perform(self.shared.clock, &parked.incoming(), parked.outcome, owner, output);
        drop(state);
        self.shared.settled.notify_all();
        self.after(performed)
    }

    /// Waits until every request that had arrived before this call is done or held, but for such as are being received; false
    /// when `limit` is over first.
    #[must_use = "a disk that is not quiet may change"]
    pub fn settle(&self, limit: std::time::Duration) -> bool {
        self.settle_before(self.arrived(), limit)
    }

    /// A mark between the requests that have arrived by now and those that will.
    pub(crate) fn arrived(&self) -> u64 {
        lock(&self.shared.state).arrivals
    }

    /// As [`Disk::settle`], for the requests before such a mark.
    pub(crate) fn settle_before(&self, mark: u64, limit: std::time::Duration) -> bool {
        let state = lock(&self.shared.state);
        let waits = |state: &mut State| state.delayed.first().is_some_and(|first| *first < mark);
        let result = self.shared.settled.wait_timeout_while(state, limit, waits);
        let (_state, timeout) = result.unwrap_or_else(std::sync::PoisonError::into_inner);
        !timeout.timed_out()
    }

    /// How many requests wait for their time.
    #[must_use]
    pub fn delayed(&self) -> usize {
        lock(&self.shared.state).delayed.len()
    }

    /// Prepares for requests at these offsets, which are about to be submitted.
    pub(crate) fn prefetch(&self, offsets: &[Bytes]) {
        lock(&self.shared.state).images.cached().prefetch(offsets);
    }

    /// Forgets what a connection that has ended still waits for: what gates hold, and `delayed`.
    pub(crate) fn forget(&self, owner: &Arc<Outbox>, delayed: impl Iterator<Item = u64>) {
        let mut gone = Vec::new();
        let mut state = lock(&self.shared.state);
        gone.extend(state.held.extract_if(.., |held| Arc::ptr_eq(&held.owner, owner)));
        for arrival in delayed {
            state.delayed.remove(&arrival);
        }
        drop(state);
        self.shared.settled.notify_all();
    }

    fn after(&self, performed: Performed) -> Submitted {
        match performed {
            Performed::Held => {
                self.shared.holding.notify_all();
                Submitted::Held(None)
            }
            Performed::Done { freed, end } => {
                // What it freed may be what others wait for.
                if freed.is_some() && lock(&self.shared.state).pool.is_some() {
                    let released = lock(&self.shared.state).release_for_space(self.shared.clock);
                    let _count = deliver(released);
                }
                later::let_go(freed);
                end.map_or(Submitted::Done, Submitted::Ends)
            }
        }
    }

    /// Puts a request aside, at its gate or until its time comes.
    fn park(
        &self,
        state: &mut State,
        incoming: &Incoming<'_>,
        decision: Decision,
        owner: &Arc<Outbox>,
    ) -> Submitted {
        let mut parked = state.parked(incoming);
        parked.due = decision.due;
        parked.delayed_by = decision.delayed_by;
        let Some((row, Outcome::Hold { limit })) = decision.outcome else {
            parked.outcome = decision.outcome.map(|(_, outcome)| outcome);
            state.delayed.insert(parked.arrival);
            return Submitted::Delayed(parked);
        };
        let gate = state.faults.entries().iter().find(|entry| entry.id() == row);
        let gate = gate.map(|entry| entry.row.name.clone()).unwrap_or_default();
        let (arrival, since) = (parked.arrival, self.now());
        state.held.push(HeldRequest { gate, owner: Arc::clone(owner), parked, since });
        Submitted::Held(limit.and_then(|limit| Some(Watch { arrival, until: since.checked_add(limit)? })))
    }
}

impl State {
    fn parked(&mut self, incoming: &Incoming<'_>) -> Parked {
        let arrival = self.arrivals;
        self.arrivals += 1;
        Parked::new(arrival, incoming)
    }

    /// Does a request whose time has come, or what a row has it do instead.
    pub(super) fn perform(
        &mut self,
        clock: Clock,
        incoming: &Incoming<'_>,
        outcome: Option<Outcome>,
        owner: &Arc<Outbox>,
        output: &mut Output,
    ) -> Performed {
        let mut freed = None;
        let mut end = None;
        match outcome {
            None | Some(Outcome::Disconnect) => {
                end = outcome.map(|_| End::Soft);
                match self.lacks_space(incoming) {
                    None => {
                        freed = self.execute(incoming, output);
                        self.log_done(incoming, None);
                    }
                    Some(WhenFull::Error) => {
                        let why = "the pool behind the disk has no space left";
                        execute::fault_error(incoming, Self::FULL, why, output);
                    }
                    Some(WhenFull::Hold) => {
                        let parked = self.parked(incoming);
                        let (gate, owner) = (pool::GATE.to_owned(), Arc::clone(owner));
                        self.held.push(HeldRequest { gate, owner, parked, since: clock.now() });
                        return Performed::Held;
                    }
                }
            }
            Some(Outcome::Close) => end = Some(End::Hard),
            Some(outcome) => {
                execute::instead(&mut self.images, incoming, outcome, output);
                self.log_done(incoming, Some(outcome));
            }
        }
        Performed::Done { freed, end }
    }

    /// Executes a request and appends its reply. What that frees, if it may be much or somebody waits for it, is still there in
    /// what this answers, for [`later::let_go`] once the lock is given back.
    fn execute(&mut self, incoming: &Incoming<'_>, output: &mut Output) -> Option<Images> {
        let may_free = self.may_free(incoming);
        let waited_for = self.pool.is_some() && may_free > Bytes::ZERO;
        let freed = (may_free >= later::FELT || waited_for).then(|| self.images.fork());
        execute::run(&mut self.images, incoming, output);
        freed
    }

    /// At most how much a request is going to free.
    fn may_free(&mut self, incoming: &Incoming<'_>) -> Bytes {
        let Request { op, len, .. } = incoming.request;
        if self.images.has_cache() && matches!(op, Op::Write | Op::Trim | Op::Zeroes) {
            self.unflushed = Bytes(self.unflushed.0.saturating_add(len.0));
        }
        match op {
            Op::Trim => len,
            Op::Zeroes if !execute::keeps_blocks(incoming) => len,
            // The image that was durable goes, with all that was changed since.
            Op::Flush => std::mem::take(&mut self.unflushed),
            Op::Read | Op::Write | Op::Zeroes => Bytes::ZERO,
        }
    }
}
