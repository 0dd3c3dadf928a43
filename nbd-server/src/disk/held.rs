//! Requests that wait at a gate.

use std::sync::Arc;

use brim_device::Nanos;
use brim_device::control::Held;

use super::Parked;
use crate::outbox::Outbox;

#[derive(Debug)]
pub(super) struct HeldRequest {
    pub(super) gate: String,
    pub(super) owner: Arc<Outbox>,
    pub(super) parked: Parked,
    /// By the clock of its disk.
    pub(super) since: Nanos,
}

impl HeldRequest {
    pub(super) fn describe(&self, now: Nanos) -> Held {
        Held {
            id: self.parked.arrival,
            gate: self.gate.clone(),
            op: self.parked.request.op,
            offset: self.parked.request.offset,
            len: self.parked.request.len,
            age: Nanos(now.0.saturating_sub(self.since.0)),
        }
    }
}
