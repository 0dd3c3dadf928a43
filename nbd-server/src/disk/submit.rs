//! How a request comes to the disk, now or when its time has come.

use std::sync::{Arc, MutexGuard};

use brim_device::control::WhenFull;
use brim_device::fault::{Decision, ErrorName, Moment, Op, Outcome, Request};
use brim_device::{Bytes, Images, Nanos};

use super::clock::Clock;
use super::held::Gate;
use super::{Disk, HeldRequest, Incoming, Parked, State, execute, later};
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
        let performed = state.perform(self.shared.clock, incoming, None, outcome, owner, output);
        self.after(state, performed, incoming.request.op)
    }

    /// Does a delayed request whose time has come.
    pub(crate) fn resume(&self, parked: &Parked, owner: &Arc<Outbox>, output: &mut Output) -> Submitted {
        let mut state = lock(&self.shared.state);
        state.delayed.remove(&parked.arrival);
        let clock = self.shared.clock;
        let was = Some((parked.arrival, clock.now()));
        let performed = state.perform(clock, &parked.incoming(), was, parked.outcome, owner, output);
        let submitted = self.after(state, performed, parked.request.op);
        self.shared.settled.notify_all();
        submitted
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
        let waits =
            |state: &mut State| state.delayed.first_key_value().is_some_and(|(first, _)| *first < mark);
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

    /// Forgets what a connection that has ended still waits for, also what is on its way to it.
    pub(crate) fn forget(&self, owner: &Arc<Outbox>) {
        let mut gone = Vec::new();
        let mut state = lock(&self.shared.state);
        gone.extend(state.held.extract_if(.., |held| Arc::ptr_eq(&held.owner, owner)));
        state.delayed.retain(|_, other| !Arc::ptr_eq(other, owner));
        drop(state);
        self.shared.settled.notify_all();
    }

    fn after(&self, mut state: MutexGuard<'_, State>, performed: Performed, op: Op) -> Submitted {
        // Only these free blocks that others may wait for.
        let frees = matches!(op, Op::Trim | Op::Zeroes);
        let released = if frees { state.wake_waiting(self.shared.clock) } else { Vec::new() };
        let _count = self.hand_over(state, released);
        match performed {
            Performed::Held => {
                self.shared.holding.notify_all();
                Submitted::Held(None)
            }
            Performed::Done { freed, end } => {
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
            state.delayed.insert(parked.arrival, Arc::clone(owner));
            return Submitted::Delayed(parked);
        };
        let gate = state.faults.entries().iter().find(|entry| entry.id() == row);
        let gate = Gate::Row(gate.map(|entry| entry.row.name.clone()).unwrap_or_default());
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

    /// Does a request whose time has come, or what a row has it do instead. Of one that was put aside before, `was` is its
    /// number and since when.
    pub(super) fn perform(
        &mut self,
        clock: Clock,
        incoming: &Incoming<'_>,
        was: Option<(u64, Nanos)>,
        outcome: Option<Outcome>,
        owner: &Arc<Outbox>,
        output: &mut Output,
    ) -> Performed {
        let end = match outcome {
            Some(Outcome::Close) => return Performed::Done { freed: None, end: Some(End::Hard) },
            Some(Outcome::Disconnect) => Some(End::Soft),
            _ => None,
        };
        let done = execute::done_as(incoming, outcome);
        match done.as_ref().and_then(|done| self.lacks_space(done)) {
            None => {}
            Some(WhenFull::Error) => {
                self.without_space += 1;
                let why = "the pool behind the disk has no space left";
                execute::fault_error(incoming, ErrorName::Enospc, why, output);
                return Performed::Done { freed: None, end };
            }
            Some(WhenFull::Hold) => {
                self.without_space += 1;
                let (arrival, since) = was.unwrap_or_else(|| {
                    self.arrivals += 1;
                    (self.arrivals - 1, clock.now())
                });
                let mut parked = Parked::new(arrival, incoming);
                parked.outcome = outcome;
                let held = HeldRequest { gate: Gate::Pool, owner: Arc::clone(owner), parked, since };
                let place = self.held.partition_point(|other| other.parked.arrival < arrival);
                self.held.insert(place, held);
                return Performed::Held;
            }
        }
        let freed = match (outcome, &done) {
            (None | Some(Outcome::Disconnect), _) => self.execute(incoming, output),
            (Some(outcome), done) => {
                let freed = done.as_ref().and_then(|done| self.before_it_frees(done));
                execute::instead(&mut self.images, incoming, outcome, output);
                freed
            }
        };
        if let Some(done) = &done {
            self.log_done(done);
        }
        Performed::Done { freed, end }
    }

    /// Executes a request and appends its reply. What that frees, if it may be much, is still there in what this answers, for
    /// [`later::let_go`] once the lock is given back.
    fn execute(&mut self, incoming: &Incoming<'_>, output: &mut Output) -> Option<Images> {
        let freed = self.before_it_frees(incoming);
        execute::run(&mut self.images, incoming, output);
        freed
    }

    pub(super) fn before_it_frees(&mut self, incoming: &Incoming<'_>) -> Option<Images> {
        (self.may_free(incoming) >= later::FELT).then(|| self.images.fork())
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
