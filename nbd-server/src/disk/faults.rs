//! The fault table of a disk, live.

use brim_device::fault::{Entry, Lateness, Row, RowError, RowId};
use brim_device::{ByteRange, Nanos};

use super::Disk;
use super::gates::deliver;
use crate::lock;

/// A row of the fault table with what it has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    pub lateness: Option<LatenessSummary>,
}

/// How much later than asked requests were answered: from when their answer was due until it was handed to the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatenessSummary {
    /// Of how many requests.
    pub count: u64,
    /// Half were less late.
    pub p50: Nanos,
    /// 99 of 100 were less late.
    pub p99: Nanos,
    /// The worst.
    pub max: Nanos,
    /// Counts by lateness: the upper end of each step that has any, to 1 %.
    pub steps: Vec<(Nanos, u64)>,
}

impl From<&Lateness> for LatenessSummary {
    fn from(lateness: &Lateness) -> Self {
        Self {
            count: lateness.count(),
            p50: lateness.percentile(50.0),
            p99: lateness.percentile(99.0),
            max: lateness.max(),
            steps: lateness.steps().collect(),
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

impl Disk {
    /// Adds a row to the end of the fault table. It counts from here on.
    ///
    /// # Errors
    ///
    /// When its name is taken, when it can never fire, or when its region or gate is not known.
    pub fn add_fault(&self, row: Row) -> Result<(), RowError> {
        lock(&self.shared.state).faults.add(row)
    }

    /// Takes a row out of the fault table, and answers with what it has seen; `None` when there is none of that name. What
    /// it holds is let go first, and what it delays stays delayed.
    pub fn remove_fault(&self, name: &str) -> Option<Fault> {
        let _released = self.open_gate(name);
        let mut state = lock(&self.shared.state);
        // Between the two it may have been closed again, by somebody else.
        let (entry, released) =
            (state.faults.remove(name), state.release(self.shared.clock, |held| held.gate == name, None));
        drop(state);
        let _count = deliver(released);
        entry.as_ref().map(Fault::from)
    }

    /// The fault table in order, with its counts.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        lock(&self.shared.state).faults.entries().iter().map(Fault::from).collect()
    }

    /// Says which bytes a region is that rows name. Rows that are about it follow at once.
    pub fn set_region(&self, name: &str, ranges: Vec<ByteRange>) {
        lock(&self.shared.state).faults.set_region(name, ranges);
    }

    /// The regions that were defined, by name.
    #[must_use]
    pub fn regions(&self) -> Vec<(String, Vec<ByteRange>)> {
        let state = lock(&self.shared.state);
        state.faults.regions().iter().map(|(name, ranges)| (name.clone(), ranges.clone())).collect()
    }

    /// From here on rows draw from this seed, from its beginning.
    pub fn reseed(&self, seed: u64) {
        lock(&self.shared.state).faults.reseed(seed);
    }

    /// Tells rows how much later than asked requests were answered that they had delayed.
    pub(crate) fn were_late(&self, late: &mut Vec<(Vec<RowId>, Nanos)>) {
        let mut state = lock(&self.shared.state);
        for (rows, lateness) in late.drain(..) {
            for row in rows {
                state.faults.was_late(row, lateness);
            }
        }
    }
}
