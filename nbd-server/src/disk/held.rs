//! Requests that wait at a gate.
#![expect(
    clippy::disallowed_methods,
    reason = "the server is a shell: it tells how long a request has been held"
)]

use std::sync::Arc;
use std::time::Instant;

use brim_device::fault::{Op, Request};
use brim_device::{Bytes, Nanos};

use super::{How, Incoming};
use crate::outbox::Outbox;

/// A request that waits at a gate, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
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
    request: Request,
    data: Vec<u8>,
    how: How,
    since: Instant,
}

impl HeldRequest {
    pub(super) fn new(gate: String, incoming: &Incoming<'_>, owner: &Arc<Outbox>) -> Self {
        Self {
            gate,
            owner: Arc::clone(owner),
            request: incoming.request,
            data: incoming.data.to_vec(),
            how: incoming.how,
            since: now(),
        }
    }

    pub(super) fn incoming(&self) -> Incoming<'_> {
        Incoming { request: self.request, data: &self.data, how: self.how }
    }

    pub(super) fn describe(&self, now: Instant) -> Held {
        Held {
            gate: self.gate.clone(),
            op: self.request.op,
            offset: self.request.offset,
            len: self.request.len,
            age: Nanos::from(now.saturating_duration_since(self.since)),
        }
    }
}

pub(super) fn now() -> Instant {
    Instant::now()
}
