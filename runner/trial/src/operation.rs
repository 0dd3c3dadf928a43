//! What a step does: a system call of the program under test, or a word with the disk.

mod administration;
mod disk;
mod file;
mod gate;
mod options;

use brim_device::{Bytes, Nanos, Survival};
use serde::{Deserialize, Serialize};

pub use administration::{Administration, Compression, Filter, Profile};

use crate::expression::Expression;
use crate::limits::Limits;
use crate::pattern::Pattern;
use crate::template::Template;
pub use brim_device::control::WhenFull;
pub use disk::{DiskWord, Pool, Space};

pub use file::{FileOperation, Shared};
pub use gate::{Release, Which};
pub use options::{Content, Expect, ExtentCount, FallocateMode, How, OpenFlag, Rename, Short, Target};

/// One operation at the mount. Paths are relative to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// What a program does with a file.
    File(FileOperation),
    /// `syncfs(2)` on the mount.
    Syncfs {},
    /// Gives the disk another size under the mounted filesystem, and tells the kernel.
    ResizeDisk {
        /// The new size, in bytes; a multiple of 512.
        size: Expression,
        /// The disk; the first one if `None`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
    },
    /// btrfs: makes a subvolume.
    Subvolume {
        /// Its path.
        path: Template,
    },
    /// btrfs: makes a snapshot of a subvolume.
    Snapshot {
        /// The subvolume.
        of: Template,
        /// The snapshot's path.
        to: Template,
        /// Nobody may write to it.
        read_only: bool,
    },
    /// btrfs: reads all of the disk and checks it, until done.
    Scrub {},
    /// Drops what the machine has cached and could read again.
    DropCaches {},
    /// Reads the filesystem's counters, for conditions to speak of.
    Counters {},
    /// Panics the kernel of a guest.
    Panic {
        /// In this trial alone, counted from 1; in every trial if `None`.
        trial: Option<u64>,
    },
    /// Closes all files, unmounts and mounts again.
    Remount {
        /// Mount options from here on; as before if `None`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        options: Option<Vec<String>>,
        /// The mount stays and takes the options over: `mount -o remount`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        live: bool,
    },
    /// What an administrator does to a btrfs.
    Administer(Administration),
    /// Unmounts, has the filesystem's own checker look for mistakes, and mounts again.
    Check {},
    /// The disk loses all that was not durable at this moment, and is mounted again.
    PowerCut {
        /// What of the rest is left as well, sector by sector, drawn from the run's seed.
        #[serde(default, skip_serializing_if = "Survival::is_none")]
        survival: Survival,
        /// The faults that are in force when it is mounted, with their regions as they were at the cut.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        arm: Vec<String>,
    },
    /// `FIFREEZE`: nobody can write until `thaw`, or the end of the trial.
    Freeze {},
    /// `FITHAW`.
    Thaw {},
    /// Runs a program with the mount as its working directory, until it and all that it started have ended.
    Exec {
        /// Its words.
        command: Vec<Template>,
        /// The exit code that is no failure.
        exit: u8,
    },
    /// Waits.
    Sleep {
        /// How long.
        time: Nanos,
    },
    /// Has the disk do something.
    Disk(DiskWord),
    /// Waits until the gate holds so many requests: `await.held`.
    Await {
        /// The name of the fault that holds them.
        gate: String,
        /// How many.
        count: u64,
    },
    /// Waits until a counter of the filesystem is so: `await.counter`.
    AwaitCounter {
        /// Its name, as [`crate::Counters::value`] knows it.
        counter: String,
        /// What it has to be, in bytes.
        is: Limits,
    },
    /// Waits until the kernel log has so many lines like this since the trial began: `await.kernel_log`.
    AwaitLog {
        /// What is found in them.
        pattern: Pattern,
        /// How many.
        count: u64,
    },
    /// Puts a fault in force, its region as it is at this moment.
    Arm {
        /// The name of the fault.
        fault: String,
    },
    /// Lets requests go that a gate holds, and waits until they are done.
    Release {
        /// The name of the fault.
        gate: String,
        /// Which, while the gate goes on to hold others; if `None` it is open for good.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        some: Option<Release>,
    },
    /// Has a gate hold again that was opened for good.
    Close {
        /// The name of the fault.
        gate: String,
    },
}

impl Operation {
    /// The verb a scenario writes: `pwrite`.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::File(operation) => operation.verb(),
            Self::Syncfs {} => "syncfs",
            Self::ResizeDisk { .. } => "resize_disk",
            Self::Subvolume { .. } => "subvolume",
            Self::Snapshot { .. } => "snapshot",
            Self::Scrub {} => "scrub",
            Self::DropCaches {} => "drop_caches",
            Self::Counters {} => "counters",
            Self::Panic { .. } => "panic",
            Self::Remount { .. } => "remount",
            Self::Administer(act) => act.verb(),
            Self::Check {} => "check",
            Self::PowerCut { .. } => "power_cut",
            Self::Disk(word) => word.verb(),
            Self::Freeze {} => "freeze",
            Self::Thaw {} => "thaw",
            Self::Exec { .. } => "exec",
            Self::Sleep { .. } => "sleep",
            Self::Await { .. } | Self::AwaitCounter { .. } | Self::AwaitLog { .. } => "await",
            Self::Arm { .. } => "arm",
            Self::Release { .. } => "release",
            Self::Close { .. } => "close",
        }
    }

    /// The file it works on, where it works on one; of two the one that is made or changed.
    #[must_use]
    pub fn file(&self) -> Option<&Template> {
        match self {
            Self::File(operation) => Some(operation.file()),
            Self::Subvolume { path: file } | Self::Snapshot { to: file, .. } => Some(file),
            Self::Administer(act) => act.file(),
            _ => None,
        }
    }

    /// Whether it takes the mount away for a while, so that nobody else may be at work there.
    #[must_use]
    pub fn takes_the_mount(&self) -> bool {
        match self {
            Self::Remount { live, .. } => !live,
            Self::Check {} | Self::PowerCut { .. } | Self::Disk(DiskWord::RestoreSnapshot { .. }) => true,
            Self::Administer(act) => act.takes_the_mount(),
            _ => false,
        }
    }

    /// Whether it makes chunks with a parity.
    #[must_use]
    pub fn makes_parity(&self) -> bool {
        let Self::Administer(Administration::Balance { data, metadata, system, .. }) = self else {
            return false;
        };
        let of = |filter: &Option<Filter>| filter.as_ref().and_then(|filter| filter.convert);
        let profiles = [of(data), of(metadata), of(system)];
        profiles.iter().flatten().any(|profile| matches!(profile, Profile::Raid5 | Profile::Raid6))
    }

    /// What it does to its kernel that is nothing for a host: `panics its kernel`.
    #[must_use]
    pub fn needs_a_guest(&self) -> Option<&'static str> {
        match self {
            Self::Panic { .. } => Some("panics its kernel"),
            Self::File(FileOperation::Swapon { .. }) => Some("has its kernel swap to a file"),
            _ => None,
        }
    }

    /// The byte range it works on, where it works on one: offset and length.
    #[must_use]
    pub fn range(&self) -> Option<(&Expression, &Expression)> {
        match self {
            Self::File(operation) => operation.range(),
            _ => None,
        }
    }
}

/// Where and how much an operation worked on, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First byte.
    pub offset: Bytes,
    /// Count of bytes.
    pub length: Bytes,
}

impl From<FileOperation> for Operation {
    fn from(operation: FileOperation) -> Self {
        Self::File(operation)
    }
}
