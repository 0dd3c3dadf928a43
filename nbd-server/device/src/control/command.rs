//! What can be asked for.

use serde::{Deserialize, Serialize};

use crate::fault::{ErrorName, Row};
use crate::{ByteRange, Bytes, Nanos, Ratio};

/// What a disk, or its server, is to do.
///
/// A command that changes or looks at the content or the fault table is done at one moment between two requests, at which all
/// requests that came before it are completed or held by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Command {
    /// Add a row to the end of the fault table.
    AddFault(Box<Row>),
    /// Take a row out of the fault table; what it holds is let go.
    RemoveFault {
        /// Name of the row.
        name: String,
    },
    /// Show the fault table with what its rows have seen.
    Faults,
    /// Say which bytes a region is that rows name.
    SetRegion {
        /// Name of the region.
        name: String,
        /// The bytes.
        ranges: Vec<ByteRange>,
    },
    /// Have the filesystem on the disk say which bytes a region is at this moment, where brim has mounted it.
    FindRegion {
        /// Name of the region.
        name: String,
    },
    /// Show the regions.
    Regions,
    /// Let rows draw from this seed, from its beginning.
    Reseed {
        /// The seed.
        seed: u64,
    },
    /// Wait until requests wait at a gate.
    WaitHeld {
        /// Name of the row that holds them.
        gate: String,
        /// How many; one if absent.
        #[serde(default = "one")]
        count: usize,
        /// For how long; 30 s if absent.
        #[serde(default = "half_a_minute")]
        limit: Nanos,
    },
    /// Show the requests that wait at gates.
    Held,
    /// Let requests go that wait at a gate, which stays as it is for others.
    Release {
        /// Name of the row that holds them.
        gate: String,
        /// Those that go; all if absent.
        #[serde(default)]
        which: Which,
        /// They are not done, and answered with this error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ErrorName>,
    },
    /// Open a gate until it is closed again, and let go what waits there.
    OpenGate {
        /// Name of the row that holds them.
        gate: String,
    },
    /// Close a gate that was opened.
    CloseGate {
        /// Name of the row.
        gate: String,
    },
    /// Open every gate.
    OpenAllGates,
    /// Cut the power: what is not durable is lost.
    PowerCut {
        /// All of it if absent; else by the sector.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        partly: Option<PartlyCut>,
    },
    /// Give the disk another size. The kernel is told where brim has put the disk under one; other clients learn of it when they
    /// connect again.
    Resize {
        /// The exact size in bytes, a multiple of 512.
        size: Bytes,
    },
    /// Put so much space behind the disk.
    SetPool(Pool),
    /// Put all of its size behind the disk.
    RemovePool,
    /// Keep the content of this moment under a name.
    KeepSnapshot {
        /// The name, which another snapshot may have had.
        name: String,
    },
    /// Go back to a snapshot, which stays.
    RestoreSnapshot {
        /// Its name.
        name: String,
    },
    /// Forget a snapshot.
    ForgetSnapshot {
        /// Its name.
        name: String,
    },
    /// Show the names of the snapshots.
    Snapshots,
    /// Offer the content of this moment as another disk on the same server.
    Fork {
        /// The name of the new export.
        to: String,
        /// The content of this snapshot instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<String>,
    },
    /// Stop offering an export. Connections that have it keep it.
    RemoveExport {
        /// Its name.
        name: String,
    },
    /// Show the exports of the server.
    Exports,
    /// Show how the disk is and what was asked of it so far. This waits for nothing.
    Stats,
    /// Wait for the requests that came before.
    Settle,
    /// Put a mark into the write log of the disk.
    Mark {
        /// Up to 479 bytes, none of them zero.
        text: String,
    },
}

const fn one() -> usize {
    1
}

const fn half_a_minute() -> Nanos {
    Nanos(30_000_000_000)
}

/// What survives a power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartlyCut {
    /// How likely a changed sector is to be on the disk, whole.
    #[serde(default)]
    pub kept: Ratio,
    /// How likely it is to be torn. What is neither kept nor torn is lost.
    #[serde(default)]
    pub torn: Ratio,
    /// What is drawn from.
    #[serde(default)]
    pub seed: u64,
}

/// An order to let requests go that wait at a gate, which stays as it is for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Those that go, in this order.
    pub which: Which,
    /// They are not done, and answered with this error.
    pub error: Option<ErrorName>,
}

/// Requests that wait at a gate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// All of them, in order of arrival.
    #[default]
    All,
    /// The first so many, in order of arrival.
    First(usize),
    /// Those with these numbers ([`Held::id`](super::Held::id)), in this order. Numbers that do not wait there are left out.
    These(Vec<u64>),
}

/// How much space there is behind a disk, as behind a thin volume: less than its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Blocks of 4 KiB take up to so many bytes in all. Those that are trimmed are free again.
    pub limit: Bytes,
    /// What becomes of a request that needs more.
    pub when_full: WhenFull,
}

/// What becomes of a request that needs more space than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// It is not done, and answered with `ENOSPC`.
    Error,
    /// It is held, by the gate named `pool`, until there is space: by a larger limit, or by a trim.
    Hold,
}
