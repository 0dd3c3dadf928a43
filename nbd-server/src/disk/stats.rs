//! What was asked of a disk.

use brim_device::Bytes;
use brim_device::fault::{Op, Request};

/// Requests of one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub requests: u64,
    /// The sum of their lengths.
    pub bytes: Bytes,
}

/// Requests by operation, from all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Reads.
    pub read: Count,
    /// Writes.
    pub write: Count,
    /// Flushes; they have no length.
    pub flush: Count,
    /// Trims.
    pub trim: Count,
    /// Zeroes written.
    pub zeroes: Count,
}

impl Stats {
    /// The count of one operation.
    #[must_use]
    pub const fn of(&self, op: Op) -> Count {
        match op {
            Op::Read => self.read,
            Op::Write => self.write,
            Op::Flush => self.flush,
            Op::Trim => self.trim,
            Op::Zeroes => self.zeroes,
        }
    }

    pub(super) fn count(&mut self, request: &Request) {
        let count = match request.op {
            Op::Read => &mut self.read,
            Op::Write => &mut self.write,
            Op::Flush => &mut self.flush,
            Op::Trim => &mut self.trim,
            Op::Zeroes => &mut self.zeroes,
        };
        count.requests += 1;
        count.bytes = Bytes(count.bytes.0.saturating_add(request.len.0));
    }
}
