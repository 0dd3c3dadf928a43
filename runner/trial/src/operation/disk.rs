//! What a step has the disk do, in the words that `brim ctl` has for it.

use brim_device::Bytes;
use brim_device::control::WhenFull;
use serde::{Deserialize, Serialize};

/// An order to the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskWord {
    /// Puts a mark into the write log, where one is kept.
    Mark {
        /// Up to 479 bytes, none of them zero.
        text: String,
    },
    /// Keeps the content of this moment under a name, the write cache with what is dirty in it included.
    KeepSnapshot {
        /// The name, which another snapshot may have had.
        name: String,
    },
    /// Goes back to a snapshot, under an unmounted filesystem, which is mounted again.
    RestoreSnapshot {
        /// Its name.
        name: String,
    },
    /// Puts so much space behind the disk.
    SetPool(Pool),
    /// Puts all of its size behind the disk.
    RemovePool {},
}

/// The space behind a disk, as behind a thin volume: less than its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// How much.
    pub space: Space,
    /// What becomes of a request that needs more.
    pub when_full: WhenFull,
}

/// How much space there is behind a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Space {
    /// So much in all.
    Limit(Bytes),
    /// So much more than its blocks take at the moment that this is said.
    Free(Bytes),
}

impl Pool {
    /// The name of the gate at which requests wait for space. A fault of a scenario with a pool has another name.
    pub const GATE: &str = "pool";

    /// The limit on what the blocks of a disk take that take so much now.
    #[must_use]
    pub fn limit(self, allocated: Bytes) -> Bytes {
        match self.space {
            Space::Limit(limit) => limit,
            Space::Free(free) => Bytes(allocated.0.saturating_add(free.0)),
        }
    }
}

impl DiskWord {
    /// The verb a scenario writes.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Mark { .. } => "mark",
            Self::KeepSnapshot { .. } => "keep_snapshot",
            Self::RestoreSnapshot { .. } => "restore_snapshot",
            Self::SetPool(_) => "set_pool",
            Self::RemovePool {} => "remove_pool",
        }
    }
}
