//! What is answered.

use serde::{Deserialize, Serialize};

use super::command::Pool;
use crate::fault::{Entry, Lateness, Op, Request, Row};
use crate::{ByteRange, Bytes, Cut, Nanos};

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Answer {
    /// It is done, and there is no more to say.
    Done,
    /// The fault table, in order.
    Faults(Vec<Fault>),
    /// The row that was taken out, with what it has seen.
    Removed(Box<Fault>),
    /// The regions, by name.
    Regions(Vec<Region>),
    /// How many requests wait at the gate.
    Waiting(u64),
    /// The requests that wait at gates, in order of arrival.
    Held(Vec<Held>),
    /// So many requests were let go.
    Released(u64),
    /// So many bytes were lost, in whole blocks of 4 KiB.
    LostBytes(Bytes),
    /// What became of sectors of 512 bytes that were changed and not durable.
    CutSectors(Cut),
    /// The names of the snapshots.
    Snapshots(Vec<String>),
    /// There is another export, which took so many nanoseconds to make.
    Forked(Nanos),
    /// The exports, in order; the first is the default.
    Exports(Vec<ExportStatus>),
    /// How a disk is and what was asked of it.
    Stats(Box<Status>),
}

/// A row of the fault table with what it has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The row.
    pub row: Row,
    /// Requests that it is about.
    pub matches: u64,
    /// Requests that it did something to. Zero at the end of a run means that nothing was tested.
    pub firings: u64,
    /// Its gate was opened: it goes on counting and holds no more.
    pub open: bool,
    /// Its gate opened by itself, because it had held a request for longer than its limit.
    pub overdue: bool,
    /// How much later than asked the requests were answered that it made wait; absent for rows that made none wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lateness: Option<LatenessSummary>,
}

/// How much later than asked requests were answered: from when their answer was due until it was handed to the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatenessSummary {
    /// Of how many requests.
    pub count: u64,
    /// All of it together.
    pub sum: Nanos,
    /// Half were less late.
    pub p50: Nanos,
    /// 99 of 100 were less late.
    pub p99: Nanos,
    /// The worst.
    pub max: Nanos,
    /// Counts by lateness: the upper end of each step that has any, to 1 %.
    pub steps: Vec<(Nanos, u64)>,
    /// How many were late by at most each of [`Lateness::BOUNDS`].
    pub within: Vec<(Nanos, u64)>,
}

impl From<&Lateness> for LatenessSummary {
    fn from(lateness: &Lateness) -> Self {
        Self {
            count: lateness.count(),
            sum: lateness.sum(),
            p50: lateness.percentile(50.0),
            p99: lateness.percentile(99.0),
            max: lateness.max(),
            steps: lateness.steps().collect(),
            within: lateness.within().collect(),
        }
    }
}

impl From<&Entry> for Fault {
    fn from(entry: &Entry) -> Self {
        Self {
            row: entry.row.clone(),
            matches: entry.matches,
            firings: entry.firings,
            open: entry.open,
            overdue: entry.overdue,
            lateness: entry.lateness.as_ref().map(LatenessSummary::from),
        }
    }
}

/// Bytes that rows name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// The name.
    pub name: String,
    /// The bytes.
    pub ranges: Vec<ByteRange>,
}

/// A request that waits at a gate, as others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Requests of one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many.
    pub requests: u64,
    /// The sum of their lengths.
    pub bytes: Bytes,
}

/// Requests by operation, from all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

    /// Counts a request.
    pub fn count(&mut self, request: &Request) {
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

/// A disk at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The name of its export.
    pub export: String,
    /// The exact size.
    pub size: Bytes,
    /// What its blocks take, those shared with forks and snapshots included.
    pub allocated: Bytes,
    /// How much a power cut would undo, in whole blocks.
    pub dirty: Bytes,
    /// Whether it has a volatile write cache.
    pub write_cache: bool,
    /// The space behind it; absent for all of its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// Requests that have needed more space than a pool had, those that waited for it included.
    #[serde(default)]
    pub without_space: u64,
    /// What its rows draw from.
    pub seed: u64,
    /// Connections to the server, whatever export they have.
    pub connections: u64,
    /// Requests that wait at gates.
    pub held: u64,
    /// Requests that wait for their time.
    pub delayed: u64,
    /// What was asked of it so far, held and failed requests included.
    pub requests: Stats,
    /// The fault table, in order.
    pub faults: Vec<Fault>,
}

/// An export of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportStatus {
    /// Its name.
    pub name: String,
    /// The exact size of its disk.
    pub size: Bytes,
    /// Clients cannot change it.
    pub read_only: bool,
}
