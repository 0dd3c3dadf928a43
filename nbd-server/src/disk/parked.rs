//! A request that is not done yet: all it takes to do it later.

use brim_device::Nanos;
use brim_device::fault::{Outcome, Request, RowId};

use super::{Data, How, Incoming};
use crate::payload::Payload;

/// A request that waits for its time or at a gate.
#[derive(Debug)]
pub(crate) struct Parked {
    /// Its number among all that were parked on its disk, in order of arrival.
    pub(super) arrival: u64,
    pub(super) request: Request,
    data: Kept,
    how: How,
    /// What is done instead.
    pub(super) outcome: Option<Outcome>,
    /// When it is to be answered, by the clock of its disk.
    pub(super) due: Option<Nanos>,
    /// The rows that made it wait.
    pub(super) delayed_by: Vec<RowId>,
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

impl Parked {
    pub(super) fn new(arrival: u64, incoming: &Incoming<'_>) -> Self {
        Self {
            arrival,
            request: incoming.request,
            data: Kept::of(incoming.data),
            how: incoming.how,
            outcome: None,
            due: None,
            delayed_by: Vec::new(),
        }
    }

    pub(super) fn incoming(&self) -> Incoming<'_> {
        Incoming { request: self.request, data: self.data.lend(), how: self.how }
    }

    /// The rows that made it wait.
    pub(crate) fn delayed_by(self) -> Vec<RowId> {
        self.delayed_by
    }

    /// When it is to be answered, by the clock of its disk.
    pub(crate) fn due(&self) -> Nanos {
        self.due.unwrap_or_default()
    }
}
