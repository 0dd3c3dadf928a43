//! What a step has the disks do, in the words that `brim ctl` has for it.

use brim_device::Bytes;
use brim_device::control::WhenFull;
use serde::{Deserialize, Serialize};

/// An order to the disks: to all of them where none is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskWord {
    /// Puts a mark into the write logs, where they are kept.
    Mark {
        /// Up to 479 bytes, none of them zero.
        text: String,
    },
    /// Keeps the content of this moment under a name, the write cache with what is dirty in it included.
    KeepSnapshot {
        /// The name, which another snapshot may have had.
        name: String,
    },
    /// Goes back to a snapshot, under the unmounted filesystem, which is mounted again.
    RestoreSnapshot {
        /// Its name.
        name: String,
    },
    /// Puts so much space behind a disk.
    SetPool {
        /// The disk's name; the first if `None`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        /// How much.
        pool: Pool,
    },
    /// Puts all of its size behind a disk.
    RemovePool {
        /// The disk's name; the first if `None`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
    },
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
            Self::SetPool { .. } => "set_pool",
            Self::RemovePool { .. } => "remove_pool",
        }
    }
}
