//! What waits at gates, and who lets it go.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use brim_device::Images;
use brim_device::control::{Held, Release, Which};
use brim_device::fault::{ErrorName, Outcome};

use super::clock::Clock;
use super::held::Gate;
use super::submit::{End, Performed};
use super::{Disk, HeldRequest, Parked, State, later};
use crate::lock;
use crate::outbox::Outbox;
use crate::output::Output;

impl Disk {
    /// The requests that wait at gates, in order of arrival. A request whose connection ends, by `NBD_CMD_DISC` too, is
    /// dropped without being executed.
    #[must_use]
    pub fn held(&self) -> Vec<Held> {
        let now = self.now();
        lock(&self.shared.state).held.iter().map(|held| held.describe(now)).collect()
    }

    /// Waits until at least `count` requests wait at the gate `name`, and answers how many do: fewer when `limit` is
    /// over first.
    #[must_use]
    pub fn wait_held(&self, name: &str, count: usize, limit: Duration) -> usize {
        let waiting = |state: &State| state.held.iter().filter(|held| held.gate.name() == name).count();
        let result = self
            .shared
            .holding
            .wait_timeout_while(lock(&self.shared.state), limit, |state| waiting(state) < count);
        let (state, _timeout) = result.unwrap_or_else(PoisonError::into_inner);
        waiting(&state)
    }

    /// Opens the gate `name` for good: executes what waits there, in order of arrival, and has the replies sent by the
    /// connections that own them. When this returns, the requests are done, but for those that another row delays still;
    /// answers how many. Also a gate that holds nothing yet is open from here on. Zero when there is no such gate.
    #[must_use = "how many were released says whether the gate had caught anything"]
    pub fn open_gate(&self, name: &str) -> usize {
        let mut state = lock(&self.shared.state);
        state.faults.open(name);
        let released = state.release(self.shared.clock, |held| held.gate.name() == name, None);
        self.hand_over(state, released)
    }

    /// Closes the gate `name` again; false when there is none.
    #[must_use = "without a gate of that name nothing is held"]
    pub fn close_gate(&self, name: &str) -> bool {
        lock(&self.shared.state).faults.close(name)
    }

    /// Opens all gates there are, as [`Disk::open_gate`].
    #[must_use = "how many were released says whether a gate had caught anything"]
    pub fn open_all_gates(&self) -> usize {
        let mut state = lock(&self.shared.state);
        state.faults.open_all();
        let released = state.release(self.shared.clock, |_| true, None);
        self.hand_over(state, released)
    }

    /// Lets requests go that wait at the gate `name`, which holds others as before. As with [`Disk::open_gate`] they are
    /// done when this returns; answers how many.
    #[must_use = "how many were released says whether the gate had caught anything"]
    pub fn release(&self, name: &str, release: &Release) -> usize {
        let mut state = lock(&self.shared.state);
        let clock = self.shared.clock;
        let released = match &release.which {
            Which::All => state.release(clock, |held| held.gate.name() == name, release.error),
            Which::First(count) => {
                let mut left = *count;
                let take = |held: &HeldRequest| {
                    let taken = held.gate.name() == name && left > 0;
                    left -= usize::from(taken);
                    taken
                };
                state.release(clock, take, release.error)
            }
            Which::These(ids) => {
                let one = |id: &u64| {
                    state.release(
                        clock,
                        |held| held.gate.name() == name && held.parked.arrival == *id,
                        release.error,
                    )
                };
                ids.iter().flat_map(one).collect()
            }
        };
        self.hand_over(state, released)
    }

    /// A held request has waited for as long as its gate may hold it: if it waits still, the gate opens for good.
    pub(crate) fn overdue(&self, arrival: u64) {
        let mut state = lock(&self.shared.state);
        let held = state.held.iter().find(|held| held.parked.arrival == arrival);
        // One that waits for space by now was let go.
        let Some(gate @ Gate::Row(_)) = held.map(|held| held.gate.clone()) else {
            return;
        };
        state.faults.open_overdue(gate.name());
        let released = state.release(self.shared.clock, |held| held.gate == gate, None);
        let _count = self.hand_over(state, released);
    }

    /// Gives the lock back and hands the replies to their connections, which may be long; answers how many were let go.
    pub(super) fn hand_over(&self, state: MutexGuard<'_, State>, released: Vec<Released>) -> usize {
        drop(state);
        if released.iter().any(Released::waits_on) {
            self.shared.holding.notify_all();
        }
        let count = released.iter().filter(|released| !released.woken && !released.waits_on()).count();
        for Released { owner, what, .. } in released {
            match what {
                What::Done { mut output, freed, end } => {
                    owner.post(&output.take(), end);
                    later::let_go(freed);
                }
                What::Delayed(parked) => owner.delay(parked),
                What::HeldAgain => {}
            }
        }
        count
    }
}

/// A held request that was let go.
pub(super) struct Released {
    owner: Arc<Outbox>,
    what: What,
    /// Nobody has asked for it by name: there was space for it.
    woken: bool,
}

impl Released {
    pub(super) fn woken(self) -> Self {
        Self { woken: true, ..self }
    }

    /// Whether it waits at a gate still.
    pub(super) const fn waits_on(&self) -> bool {
        matches!(self.what, What::HeldAgain)
    }
}

enum What {
    /// It was executed and is to be answered.
    Done { output: Output, freed: Option<Images>, end: Option<End> },
    /// It waits for its time now.
    Delayed(Parked),
    /// Another gate has it.
    HeldAgain,
}

impl State {
    /// Lets the held requests go that `which` picks: executes them, or refuses them with an error.
    pub(super) fn release(
        &mut self,
        clock: Clock,
        mut which: impl FnMut(&HeldRequest) -> bool,
        error: Option<ErrorName>,
    ) -> Vec<Released> {
        let picked: Vec<HeldRequest> = self.held.extract_if(.., |held| which(held)).collect();
        let mut released: Vec<Released> =
            picked.into_iter().map(|held| self.let_go(clock, held, error)).collect();
        // What these have freed may be what others wait for.
        released.extend(self.wake_waiting(clock));
        released
    }

    pub(super) fn let_go(&mut self, clock: Clock, held: HeldRequest, error: Option<ErrorName>) -> Released {
        let HeldRequest { gate, owner, mut parked, since } = held;
        if let Some(error) = error {
            parked.outcome = Some(Outcome::Error(error));
        }
        if parked.due() > clock.now() {
            self.delayed.insert(parked.arrival, Arc::clone(&owner));
            return Released { owner, what: What::Delayed(parked), woken: false };
        }
        let mut output = Output::default();
        let was = Some((parked.arrival, since));
        let without_space = self.without_space;
        let performed = self.perform(clock, &parked.incoming(), was, parked.outcome, &owner, &mut output);
        if gate == Gate::Pool {
            // It was counted when it came to wait there.
            self.without_space = without_space;
        }
        let what = match performed {
            Performed::Held => What::HeldAgain,
            Performed::Done { freed, end } => What::Done { output, freed, end },
        };
        Released { owner, what, woken: false }
    }
}
