//! Requests that wait at a gate.

use std::sync::Arc;

use brim_device::fault::Op;
use brim_device::{Bytes, Nanos};

use super::Parked;
use crate::outbox::Outbox;

/// A request that waits at a gate, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its number on its disk, by which it is released: those of later requests are higher.
    pub id: u64,
    /// The name of the row that holds it.
    pub gate: String,
    /// What it does.
    pub op: Op,
    /// First byte; zero for a flush.
    pub offset: Bytes,
    /// Bytes from there; zero for a flush.
    pub len: Bytes,
    /// For how long it has been held.
    pub age: Nanos,
}

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
