//! Requests that wait at a gate.
#![expect(
    clippy::disallowed_methods,
    reason = "the server is a shell: it tells how long a request has been held"
)]

use std::sync::Arc;
use std::time::Instant;

use brim_device::fault::{Op, Request};
use brim_device::{Bytes, Nanos};

use super::{Data, How, Incoming};
use crate::outbox::Outbox;
use crate::payload::Payload;

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
    data: Kept,
    how: How,
    since: Instant,
}

/// The payload of a write, for as long as it takes.
#[derive(Debug)]
enum Kept {
    Bytes(Vec<u8>),
    Pages(Payload),
}

impl Kept {
    fn of(data: Data<'_>) -> Self {
        match data {
            Data::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
            Data::Pages(payload) => Self::Pages(payload.clone()),
        }
    }

    fn lend(&self) -> Data<'_> {
        match self {
            Self::Bytes(bytes) => Data::Bytes(bytes),
            Self::Pages(payload) => Data::Pages(payload),
        }
    }
}

impl HeldRequest {
    pub(super) fn new(gate: String, incoming: &Incoming<'_>, owner: &Arc<Outbox>) -> Self {
        Self {
            gate,
            owner: Arc::clone(owner),
            request: incoming.request,
            data: Kept::of(incoming.data),
            how: incoming.how,
            since: now(),
        }
    }

    pub(super) fn incoming(&self) -> Incoming<'_> {
        Incoming { request: self.request, data: self.data.lend(), how: self.how }
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
