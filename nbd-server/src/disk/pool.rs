//! A thin pool that runs dry: a limit on what the blocks of a disk take.

use std::ops::ControlFlow;

use brim_device::control::{Pool, WhenFull};
use brim_device::fault::{Op, Request};
use brim_device::{BLOCK, Bytes, Images};

use super::clock::Clock;
use super::gates::Released;
use super::held::Gate;
use super::{Disk, Incoming, State, execute};
use crate::lock;

/// The gate at which requests wait for space.
pub(crate) const GATE: &str = "pool";

impl Disk {
    /// Gives the disk another pool, or none: then its blocks may take all of its size. Requests that wait for space are done as
    /// far as there is space for them; answers how many.
    #[must_use = "how many were released says whether any had waited for space"]
    pub fn set_pool(&self, pool: Option<Pool>) -> usize {
        let mut state = lock(&self.shared.state);
        state.pool = pool;
        let released = state.release_for_space(self.shared.clock);
        self.hand_over(state, released)
    }

    /// How much space there is behind the disk; `None` for all of its size.
    #[must_use]
    pub fn pool(&self) -> Option<Pool> {
        lock(&self.shared.state).pool
    }

    /// How many requests have needed more space than a pool had, those that waited for it included. Zero at the end of a run means
    /// that no pool has run dry.
    #[must_use]
    pub fn without_space(&self) -> u64 {
        lock(&self.shared.state).without_space
    }
}

impl State {
    /// What becomes of a request for which there is not enough space; `None` when there is.
    pub(super) fn lacks_space(&self, incoming: &Incoming<'_>) -> Option<WhenFull> {
        let pool = self.pool?;
        let Request { op, offset, len, .. } = incoming.request;
        let takes = op == Op::Write || op == Op::Zeroes && execute::keeps_blocks(incoming);
        let more = if takes { new_blocks(&self.images, offset, len) } else { Bytes::ZERO };
        let after = self.images.cached().allocated().checked_add(more);
        (more > Bytes::ZERO && after.is_none_or(|after| after > pool.limit)).then_some(pool.when_full)
    }

    /// As [`State::release_for_space`], after anything that may have made space.
    pub(super) fn wake_waiting(&mut self, clock: Clock) -> Vec<Released> {
        if self.pool.is_none() {
            return Vec::new();
        }
        self.release_for_space(clock).into_iter().map(Released::woken).collect()
    }

    /// Does what waits for space, in order of arrival and up to the first for which there is none.
    pub(super) fn release_for_space(&mut self, clock: Clock) -> Vec<Released> {
        let mut released = Vec::new();
        while let Some(at) = self.held.iter().position(|held| held.gate == Gate::Pool) {
            let first = &self.held[at].parked;
            let done = execute::done_as(&first.incoming(), first.outcome);
            if done.and_then(|done| self.lacks_space(&done)) == Some(WhenFull::Hold) {
                break;
            }
            let first = self.held.remove(at);
            released.push(self.let_go(clock, first, None));
        }
        released
    }
}

/// How much the blocks take that a range touches and that are not there.
fn new_blocks(images: &Images, offset: Bytes, len: Bytes) -> Bytes {
    if len == Bytes::ZERO {
        return Bytes::ZERO;
    }
    let start = offset.0 - offset.0 % BLOCK.0;
    let end = offset.0.saturating_add(len.0).div_ceil(BLOCK.0) * BLOCK.0;
    let size = images.cached().size();
    let (mut at, mut more) = (start, 0);
    let range = Bytes(end.min(size.0).saturating_sub(start));
    // A range that ends past the disk takes nothing: it is refused.
    let _past_end = images.cached().extents(Bytes(start), range, |allocated, part| {
        let next = at + part.0;
        if !allocated {
            more += next.div_ceil(BLOCK.0) * BLOCK.0 - at;
        }
        at = next;
        ControlFlow::Continue(())
    });
    Bytes(more)
}
