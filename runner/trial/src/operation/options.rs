//! What an operation on a file may be told beside where it works.

use serde::{Deserialize, Serialize};

use crate::expression::Expression;
use crate::template::Template;

/// What `fallocate(2)` does with a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FallocateMode {
    /// Mode 0: reserves room for it.
    #[default]
    Allocate,
    /// `FALLOC_FL_PUNCH_HOLE`, always with `FALLOC_FL_KEEP_SIZE`.
    PunchHole,
    /// `FALLOC_FL_ZERO_RANGE`.
    ZeroRange,
    /// `FALLOC_FL_COLLAPSE_RANGE`: takes it out, and what follows moves up.
    CollapseRange,
    /// `FALLOC_FL_INSERT_RANGE`: puts a hole in, and what follows moves down.
    InsertRange,
    /// `FALLOC_FL_UNSHARE_RANGE`: what it shares is copied.
    UnshareRange,
    /// `FALLOC_FL_WRITE_ZEROES` (6.17): reserves room that is written and not merely marked so.
    WriteZeroes,
}

impl FallocateMode {
    /// Every mode.
    pub const ALL: [Self; 7] = [
        Self::Allocate,
        Self::PunchHole,
        Self::ZeroRange,
        Self::CollapseRange,
        Self::InsertRange,
        Self::UnshareRange,
        Self::WriteZeroes,
    ];

    /// Its name in a scenario.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allocate => "allocate",
            Self::PunchHole => "punch_hole",
            Self::ZeroRange => "zero_range",
            Self::CollapseRange => "collapse_range",
            Self::InsertRange => "insert_range",
            Self::UnshareRange => "unshare_range",
            Self::WriteZeroes => "write_zeroes",
        }
    }

    /// Whether `FALLOC_FL_KEEP_SIZE` may go with it (`vfs_fallocate`, fs/open.c, v6.17).
    #[must_use]
    pub fn may_keep_size(self) -> bool {
        matches!(self, Self::Allocate | Self::ZeroRange | Self::UnshareRange)
    }
}

/// By which way bytes go to a file or come from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct How {
    /// `O_DIRECT`: past the page cache.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub direct: bool,
    /// `RWF_DSYNC`: the write is durable when it returns.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dsync: bool,
    /// `RWF_NOWAIT`: rather fails with EAGAIN than it waits.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nowait: bool,
}

impl How {
    /// Whether nothing is special about it.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// What follows a short write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Short {
    /// Another call for the rest, so that a lack of space always shows as an error.
    #[default]
    GoOn,
    /// Nothing: it is how the step ended.
    Stop,
}

impl Short {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    pub(super) fn goes_on(&self) -> bool {
        *self == Self::GoOn
    }
}

/// What a write writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Bytes that do not compress, drawn from the run's seed.
    Random,
    /// Zero bytes.
    Zeroes,
    /// A few bytes drawn from the run's seed, again and again.
    Compressible,
    /// This text again and again; it is not empty.
    Text(String),
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

/// A flag of `open(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenFlag {
    /// `O_RDONLY`.
    ReadOnly,
    /// `O_WRONLY`.
    WriteOnly,
    /// `O_CREAT`.
    Create,
    /// `O_EXCL`.
    Exclusive,
    /// `O_TRUNC`.
    Truncate,
    /// `O_APPEND`.
    Append,
    /// `O_DIRECT`.
    Direct,
    /// `O_SYNC`.
    Sync,
    /// `O_DSYNC`.
    Dsync,
}

impl OpenFlag {
    /// Every flag, with its name in open(2).
    pub const ALL: [(&str, Self); 9] = [
        ("O_RDONLY", Self::ReadOnly),
        ("O_WRONLY", Self::WriteOnly),
        ("O_CREAT", Self::Create),
        ("O_EXCL", Self::Exclusive),
        ("O_TRUNC", Self::Truncate),
        ("O_APPEND", Self::Append),
        ("O_DIRECT", Self::Direct),
        ("O_SYNC", Self::Sync),
        ("O_DSYNC", Self::Dsync),
    ];

    /// Its name in open(2).
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, flag)| *flag == self).map_or("", |(name, _)| name)
    }
}

/// What a rename does to a file that has the new name already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rename {
    /// It is replaced.
    #[default]
    Replace,
    /// `RENAME_NOREPLACE`: the rename fails.
    Noreplace,
    /// `RENAME_EXCHANGE`: it gets the old name.
    Exchange,
}

/// What a symbolic link says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A path.
    Path(Template),
    /// So many bytes that name nothing.
    Length(Expression),
}

/// What can be counted of a file's extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExtentCount {
    /// All of them.
    Count,
    /// Those that other files have as well: `FIEMAP_EXTENT_SHARED`.
    Shared,
    /// Those that are allocated and not written: `FIEMAP_EXTENT_UNWRITTEN`.
    Unwritten,
    /// Those that have no place yet: `FIEMAP_EXTENT_DELALLOC`.
    Delalloc,
    /// Those that are in the metadata: `FIEMAP_EXTENT_DATA_INLINE`.
    Inline,
    /// Those that are compressed or otherwise not as they are read: `FIEMAP_EXTENT_ENCODED`.
    Encoded,
}

impl ExtentCount {
    /// Every count, with its name in a scenario.
    pub const ALL: [(&str, Self); 6] = [
        ("count", Self::Count),
        ("shared", Self::Shared),
        ("unwritten", Self::Unwritten),
        ("delalloc", Self::Delalloc),
        ("inline", Self::Inline),
        ("encoded", Self::Encoded),
    ];

    /// Its name in a scenario.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, count)| *count == self).map_or("", |(name, _)| name)
    }
}
