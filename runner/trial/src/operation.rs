//! What a step does: a system call of the program under test, or a word with the disk.

mod administration;

use brim_device::fault::ErrorName;
use brim_device::{Bytes, Survival};
use serde::{Deserialize, Serialize};

pub use administration::{Administration, Compression, Filter, Profile};

use crate::expression::Expression;

/// One operation at the mount. Paths are relative to it; a file that is not there is created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// `fallocate(2)`, mode 0 or `FALLOC_FL_KEEP_SIZE`.
    Fallocate {
        /// The file.
        file: String,
        /// Where the range begins, in bytes.
        offset: Expression,
        /// How long it is, in bytes.
        length: Expression,
        /// Leave the file's size as it is.
        keep_size: bool,
    },
    /// `pwrite(2)`, again for the rest after a short write, so that a lack of space always shows as an error.
    Pwrite {
        /// The file.
        file: String,
        /// Where the range begins, in bytes.
        offset: Expression,
        /// How long it is, in bytes.
        length: Expression,
        /// What is written.
        data: Content,
    },
    /// `pread(2)` until the range ends, compared with what ought to be there. The file has to exist.
    Pread {
        /// The file.
        file: String,
        /// Where the range begins, in bytes.
        offset: Expression,
        /// How long it is, in bytes.
        length: Expression,
        /// What ought to be there.
        expect: Expect,
    },
    /// `fsync(2)`.
    Fsync {
        /// The file.
        file: String,
    },
    /// `fdatasync(2)`.
    Fdatasync {
        /// The file.
        file: String,
    },
    /// `sync_file_range(2)`: waits, writes the range, waits. It commits nothing, and tells of writeback that failed.
    SyncFileRange {
        /// The file.
        file: String,
        /// Where the range begins, in bytes.
        offset: Expression,
        /// How long it is, in bytes.
        length: Expression,
    },
    /// `syncfs(2)` on the mount.
    Syncfs {},
    /// `ftruncate(2)`.
    Truncate {
        /// The file.
        file: String,
        /// The new size, in bytes.
        size: Expression,
    },
    /// `unlink(2)`.
    Unlink {
        /// The file.
        file: String,
    },
    /// Gives the disk another size under the mounted filesystem, and tells the kernel.
    ResizeDisk {
        /// The new size, in bytes; a multiple of 512.
        size: Expression,
        /// The disk; the first one if `None`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
    },
    /// btrfs: sets `FS_NOCOW_FL` on a file, which has to be empty: it is then written in place, without checksums.
    Nocow {
        /// The file.
        file: String,
    },
    /// btrfs: makes a subvolume.
    Subvolume {
        /// Its path.
        path: String,
    },
    /// btrfs: makes a snapshot of a subvolume.
    Snapshot {
        /// The subvolume.
        of: String,
        /// The snapshot's path.
        to: String,
        /// Nobody may write to it.
        read_only: bool,
    },
    /// Has a range of one file share the extents of another: `FICLONERANGE`.
    Reflink {
        /// The file that has them.
        from: String,
        /// The file that gets them.
        to: String,
        /// Where the range begins in `from`, in bytes.
        offset: Expression,
        /// How long it is, in bytes.
        length: Expression,
        /// Where it begins in `to`, in bytes.
        to_offset: Expression,
    },
    /// btrfs: reads all of the disk and checks it, until done.
    Scrub {},
    /// Drops what the machine has cached and could read again.
    DropCaches {},
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
    },
    /// Waits until the gate holds so many requests: `await.held`.
    Await {
        /// The name of the fault that holds them.
        gate: String,
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

/// Requests that a gate lets go while it holds others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Those that go, in this order.
    pub which: Which,
    /// They are not done, and answered with this error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorName>,
}

/// Requests that wait at a gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// All of them, in order of arrival.
    All,
    /// All of them, the last one first.
    Reversed,
    /// The first so many, in order of arrival.
    First(u64),
    /// Those with these places in the order of arrival, counted from 1; in this order.
    Only(Vec<u64>),
}

impl Which {
    /// How many requests have to wait at the gate for this to be possible.
    #[must_use]
    pub fn at_least(&self) -> u64 {
        match self {
            Self::All | Self::Reversed => 0,
            Self::First(count) => *count,
            Self::Only(places) => places.iter().copied().max().unwrap_or(0),
        }
    }

    /// Of `held` requests in order of arrival, those that go; fewer where there are not enough.
    pub fn of<'a, T>(&self, held: &'a [T]) -> Vec<&'a T> {
        let at = |place: &u64| {
            let index = place.checked_sub(1).and_then(|index| usize::try_from(index).ok());
            index.and_then(|index| held.get(index))
        };
        match self {
            Self::All => held.iter().collect(),
            Self::Reversed => held.iter().rev().collect(),
            Self::First(count) => held.iter().take(usize::try_from(*count).unwrap_or(usize::MAX)).collect(),
            Self::Only(places) => places.iter().filter_map(at).collect(),
        }
    }
}

/// What a write writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Bytes that do not compress, drawn from the run's seed.
    Random,
    /// Zero bytes.
    Zeroes,
}

/// What a read ought to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// What the steps of this trial wrote there, and zeroes where they wrote nothing.
    Written,
    /// What the last `fsync`, `fdatasync` or `syncfs` that returned without an error has made durable. Bytes that were written
    /// over since then, or never, may be anything, and a file of which nothing is durable need not be there.
    Synced,
    /// Zeroes.
    Zeroes,
}

impl Operation {
    /// The verb a scenario writes: `pwrite`.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Fallocate { .. } => "fallocate",
            Self::Pwrite { .. } => "pwrite",
            Self::Pread { .. } => "pread",
            Self::Fsync { .. } => "fsync",
            Self::Fdatasync { .. } => "fdatasync",
            Self::SyncFileRange { .. } => "sync_file_range",
            Self::Syncfs {} => "syncfs",
            Self::Truncate { .. } => "truncate",
            Self::Unlink { .. } => "unlink",
            Self::ResizeDisk { .. } => "resize_disk",
            Self::Nocow { .. } => "nocow",
            Self::Subvolume { .. } => "subvolume",
            Self::Snapshot { .. } => "snapshot",
            Self::Reflink { .. } => "reflink",
            Self::Scrub {} => "scrub",
            Self::DropCaches {} => "drop_caches",
            Self::Panic { .. } => "panic",
            Self::Remount { .. } => "remount",
            Self::Administer(act) => act.verb(),
            Self::Check {} => "check",
            Self::PowerCut { .. } => "power_cut",
            Self::Await { .. } => "await",
            Self::Arm { .. } => "arm",
            Self::Release { .. } => "release",
            Self::Close { .. } => "close",
        }
    }

    /// The file it works on, where it works on one.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::Fallocate { file, .. }
            | Self::Pwrite { file, .. }
            | Self::Pread { file, .. }
            | Self::Fsync { file }
            | Self::Fdatasync { file }
            | Self::SyncFileRange { file, .. }
            | Self::Truncate { file, .. }
            | Self::Unlink { file }
            | Self::Nocow { file }
            | Self::Subvolume { path: file }
            | Self::Snapshot { to: file, .. }
            | Self::Reflink { to: file, .. } => Some(file),
            Self::Administer(act) => act.file(),
            Self::Syncfs {}
            | Self::ResizeDisk { .. }
            | Self::Scrub {}
            | Self::DropCaches {}
            | Self::Panic { .. }
            | Self::Remount { .. }
            | Self::Check {}
            | Self::PowerCut { .. }
            | Self::Await { .. }
            | Self::Arm { .. }
            | Self::Release { .. }
            | Self::Close { .. } => None,
        }
    }

    /// Whether it takes the mount away for a while, so that nobody else may be at work there.
    #[must_use]
    pub fn takes_the_mount(&self) -> bool {
        match self {
            Self::Remount { live, .. } => !live,
            Self::Check {} | Self::PowerCut { .. } => true,
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

    /// The byte range it works on, where it works on one: offset and length.
    #[must_use]
    pub fn range(&self) -> Option<(&Expression, &Expression)> {
        match self {
            Self::Fallocate { offset, length, .. }
            | Self::Pwrite { offset, length, .. }
            | Self::Pread { offset, length, .. }
            | Self::SyncFileRange { offset, length, .. }
            | Self::Reflink { to_offset: offset, length, .. } => Some((offset, length)),
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

#[cfg(test)]
mod tests {
    use super::Which;

    #[test]
    fn places_are_counted_from_one_in_order_of_arrival() {
        let held = ["a", "b", "c"];
        for (which, goes, at_least) in [
            (Which::All, vec!["a", "b", "c"], 0),
            (Which::Reversed, vec!["c", "b", "a"], 0),
            (Which::First(2), vec!["a", "b"], 2),
            (Which::Only(vec![3, 1]), vec!["c", "a"], 3),
            (Which::Only(vec![4, 0, 2]), vec!["b"], 4),
        ] {
            assert_eq!(which.of(&held).into_iter().copied().collect::<Vec<_>>(), goes, "{which:?}");
            assert_eq!(which.at_least(), at_least, "{which:?}");
        }
    }
}
