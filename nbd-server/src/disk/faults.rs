//! The fault table of a disk, live.

use brim_device::control::Fault;
use brim_device::fault::{Row, RowError, RowId};
use brim_device::{ByteRange, Nanos};

use super::Disk;
use super::held::Gate;
use crate::lock;

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
    /// it holds is let go, and what it delays stays delayed.
    #[must_use = "there may have been none"]
    pub fn remove_fault(&self, name: &str) -> Option<Fault> {
        let mut state = lock(&self.shared.state);
        let entry = state.faults.remove(name)?;
        let gate = Gate::Row(name.to_owned());
        let released = state.release(self.shared.clock, |held| held.gate == gate, None);
        let _count = self.hand_over(state, released);
        Some(Fault::from(&entry))
    }

    /// The fault table in order, with its counts.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        lock(&self.shared.state).faults.entries().iter().map(Fault::from).collect()
    }

    /// How often each row fired, by name and in order: what [`Disk::faults`] says of it, without its histogram.
    #[must_use]
    pub fn firings(&self) -> Vec<(String, u64)> {
        let state = lock(&self.shared.state);
        state.faults.entries().iter().map(|entry| (entry.row.name.clone(), entry.firings)).collect()
    }

    /// The rows alone, in order.
    pub(crate) fn rows(&self) -> Vec<Row> {
        lock(&self.shared.state).faults.entries().iter().map(|entry| entry.row.clone()).collect()
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
