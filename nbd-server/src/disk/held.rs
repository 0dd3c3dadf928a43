//! Requests that wait at a gate.

use std::sync::Arc;

use brim_device::Nanos;
use brim_device::control::Held;

use super::Parked;
use super::pool::GATE;
use crate::outbox::Outbox;

/// What a request waits at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// The row of this name.
    Row(String),
    /// Space in the pool behind the disk.
    Pool,
}

impl Gate {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Row(name) => name,
            Self::Pool => GATE,
        }
    }
}

#[derive(Debug)]
pub(super) struct HeldRequest {
    pub(super) gate: Gate,
    pub(super) owner: Arc<Outbox>,
    pub(super) parked: Parked,
    /// By the clock of its disk.
    pub(super) since: Nanos,
}

impl HeldRequest {
    pub(super) fn describe(&self, now: Nanos) -> Held {
        Held {
            id: self.parked.arrival,
            gate: self.gate.name().to_owned(),
            op: self.parked.request.op,
            offset: self.parked.request.offset,
            len: self.parked.request.len,
            age: Nanos(now.0.saturating_sub(self.since.0)),
        }
    }
}
