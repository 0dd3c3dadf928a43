//! What a step does: a system call of the program under test, or a word with the disk.

use brim_device::Bytes;
use serde::{Deserialize, Serialize};

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
    /// `fsync(2)`.
    Fsync {
        /// The file.
        file: String,
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
    },
    /// Waits until the gate holds so many requests: `await.held`.
    Await {
        /// The name of the fault that holds them.
        gate: String,
        /// How many.
        count: u64,
    },
    /// Opens the gate for good, and waits until what it held is done.
    Release {
        /// The name of the fault.
        gate: String,
    },
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

impl Operation {
    /// The verb a scenario writes: `pwrite`.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Fallocate { .. } => "fallocate",
            Self::Pwrite { .. } => "pwrite",
            Self::Fsync { .. } => "fsync",
            Self::Syncfs {} => "syncfs",
            Self::Truncate { .. } => "truncate",
            Self::Unlink { .. } => "unlink",
            Self::ResizeDisk { .. } => "resize_disk",
            Self::Await { .. } => "await",
            Self::Release { .. } => "release",
        }
    }

    /// The file it works on, where it works on one.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::Fallocate { file, .. }
            | Self::Pwrite { file, .. }
            | Self::Fsync { file }
            | Self::Truncate { file, .. }
            | Self::Unlink { file } => Some(file),
            Self::Syncfs {} | Self::ResizeDisk { .. } | Self::Await { .. } | Self::Release { .. } => None,
        }
    }

    /// The byte range it works on, where it works on one: offset and length.
    #[must_use]
    pub fn range(&self) -> Option<(&Expression, &Expression)> {
        match self {
            Self::Fallocate { offset, length, .. } | Self::Pwrite { offset, length, .. } => {
                Some((offset, length))
            }
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
