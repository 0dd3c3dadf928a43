//! How a disk is and what was asked of it.

use brim_device::control::{Fault, Stats, Status};

use super::Disk;
use crate::lock;

impl Disk {
    /// What was asked of this disk so far, held and failed requests included.
    #[must_use]
    pub fn stats(&self) -> Stats {
        lock(&self.shared.state).stats
    }

    /// All there is to know of one moment, for a disk that is exported as `export` by a server with so many connections.
    pub(crate) fn status(&self, export: &str, connections: u64) -> Status {
        let state = lock(&self.shared.state);
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        Status {
            export: export.to_owned(),
            size: state.images.cached().size(),
            allocated: state.images.cached().allocated(),
            dirty: state.images.dirty(),
            write_cache: state.images.has_cache(),
            pool: state.pool,
            without_space: state.without_space,
            seed: state.faults.seed(),
            connections,
            held: count(state.held.len()),
            delayed: count(state.delayed.len()),
            requests: state.stats,
            faults: state.faults.entries().iter().map(Fault::from).collect(),
        }
    }
}
