//! Operations on files: the system calls of a program under test.

use serde::{Deserialize, Serialize};

use super::{Content, Expect, ExtentCount, FallocateMode, How, OpenFlag, Rename, Short, Target};
use crate::expression::Expression;
use crate::limits::Limits;
use crate::template::Template;

/// One operation on a file. Paths are relative to the mount; unless it says otherwise, a file that is not there is created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileOperation {
    /// `fallocate(2)`.
    Fallocate {
        /// The file.
        file: Template,
        /// Where the range begins, in bytes.
        offset: Expression,
        /// How long it is, in bytes.
        length: Expression,
        /// What becomes of it.
        mode: FallocateMode,
        /// Leave the file's size as it is, where the mode leaves that open.
        keep_size: bool,
    },
    /// `pwrite(2)`, or `pwritev2(2)` with flags.
    Pwrite {
        /// The file.
        file: Template,
        /// Where the range begins, in bytes.
        offset: Expression,
        /// How long it is, in bytes.
        length: Expression,
        /// What is written.
        data: Content,
        /// By which way.
        #[serde(default, skip_serializing_if = "How::is_plain")]
        how: How,
        /// What follows a short write.
        #[serde(default, skip_serializing_if = "Short::goes_on")]
        short: Short,
    },
    /// `pread(2)` until the range ends, compared with what ought to be there. The file has to exist.
    Pread {
        /// The file.
        file: Template,
        /// Where the range begins, in bytes.
        offset: Expression,
        /// How long it is, in bytes.
        length: Expression,
        /// What ought to be there.
        expect: Expect,
        /// By which way.
        #[serde(default, skip_serializing_if = "How::is_plain")]
        how: How,
    },
    /// Stores into a `MAP_SHARED` mapping, page by page. A SIGBUS ends it, and is how it failed.
    MmapWrite {
        /// The file, which has to be as long already.
        file: Template,
        /// Where the range begins, in bytes.
        offset: Expression,
        /// How long it is, in bytes.
        length: Expression,
        /// What is stored.
        data: Content,
    },
    /// Loads from a `MAP_SHARED` mapping, compared with what ought to be there. The file has to exist.
    MmapRead {
        /// The file.
        file: Template,
        /// Where the range begins, in bytes.
        offset: Expression,
        /// How long it is, in bytes.
        length: Expression,
        /// What ought to be there.
        expect: Expect,
    },
    /// `msync(2)` with `MS_SYNC`.
    Msync {
        /// The file.
        file: Template,
        /// Where the range begins, in bytes.
        offset: Expression,
        /// How long it is, in bytes.
        length: Expression,
    },
    /// `fsync(2)`, of a directory too.
    Fsync {
        /// The file.
        file: Template,
    },
    /// `fdatasync(2)`, of a directory too.
    Fdatasync {
        /// The file.
        file: Template,
    },
    /// `sync_file_range(2)`: waits, writes the range, waits. It commits nothing, and tells of writeback that failed.
    SyncFileRange {
        /// The file.
        file: Template,
        /// Where the range begins, in bytes.
        offset: Expression,
        /// How long it is, in bytes.
        length: Expression,
    },
    /// `ftruncate(2)`.
    Truncate {
        /// The file.
        file: Template,
        /// The new size, in bytes.
        size: Expression,
    },
    /// `open(2)`. Later steps work on what it opened, until `close`.
    Open {
        /// The file, which is not created unless a flag says so.
        file: Template,
        /// With which flags; to read and to write where none says another.
        flags: Vec<OpenFlag>,
    },
    /// `close(2)`.
    Close {
        /// The file.
        file: Template,
    },
    /// `open(2)` with `O_TMPFILE`: a file that has no name but in these steps.
    Tmpfile {
        /// What the steps call it; it is made in the directory that such a file would be in.
        file: Template,
    },
    /// `creat(2)`, closed at once.
    Creat {
        /// The file; one that is there is emptied.
        file: Template,
    },
    /// `mkdir(2)`.
    Mkdir {
        /// The directory.
        path: Template,
    },
    /// `rmdir(2)`.
    Rmdir {
        /// The directory.
        path: Template,
    },
    /// `unlink(2)`.
    Unlink {
        /// The file.
        file: Template,
        /// It stays open, and takes its space, until `close`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        keep_open: bool,
    },
    /// `renameat2(2)`.
    Rename {
        /// The old name.
        from: Template,
        /// The new name. A file that is replaced is closed first.
        to: Template,
        /// What becomes of a file that has it already.
        how: Rename,
    },
    /// `link(2)`; a file of `tmpfile` gets a name by it.
    Link {
        /// A name that it has.
        from: Template,
        /// The new one.
        to: Template,
    },
    /// `symlink(2)`.
    Symlink {
        /// Where it is.
        path: Template,
        /// What it says.
        target: Target,
    },
    /// `setxattr(2)`.
    Setxattr {
        /// The file.
        file: Template,
        /// The attribute, with its namespace: `user.x`.
        name: Template,
        /// How long its value is, in bytes drawn from the run's seed.
        length: Expression,
    },
    /// `removexattr(2)`.
    Removexattr {
        /// The file.
        file: Template,
        /// The attribute.
        name: Template,
    },
    /// `chmod(2)`, of a directory too.
    Chmod {
        /// The file, which has to exist.
        file: Template,
        /// The permissions, as in octal `0644`.
        mode: u32,
    },
    /// btrfs: sets `FS_NOCOW_FL` on a file, which has to be empty: it is then written in place, without checksums.
    Nocow {
        /// The file.
        file: Template,
    },
    /// Has one file share the extents of another: `FICLONE`, or `FICLONERANGE` for a range.
    Reflink {
        /// The file that has them.
        from: Template,
        /// The file that gets them.
        to: Template,
        /// Which part; all of `from` if `None`, and then `to` is that and no more.
        range: Option<Shared>,
    },
    /// Has two files share extents where they hold the same: `FIDEDUPERANGE`.
    Dedupe {
        /// The file that has them.
        from: Template,
        /// The file that gets them.
        to: Template,
        /// Which part.
        range: Shared,
    },
    /// `FS_IOC_FIEMAP`, as it is: nothing is written back first.
    Extents {
        /// The file, which has to exist.
        file: Template,
        /// What has to be so of them; else the step fails.
        expect: Vec<(ExtentCount, Limits)>,
    },
    /// Makes the file a swap area, as mkswap(8) does.
    Mkswap {
        /// The file, which has to be as long already.
        file: Template,
    },
    /// `swapon(2)`, in a guest alone.
    Swapon {
        /// The file.
        file: Template,
    },
    /// `swapoff(2)`.
    Swapoff {
        /// The file.
        file: Template,
    },
}

/// A range of one file that another one is to share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// Where it begins in the file that has it, in bytes.
    pub offset: Expression,
    /// How long it is, in bytes.
    pub length: Expression,
    /// Where it begins in the file that gets it, in bytes.
    pub to_offset: Expression,
}

impl FileOperation {
    /// The verb a scenario writes: `pwrite`.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Fallocate { .. } => "fallocate",
            Self::Pwrite { .. } => "pwrite",
            Self::Pread { .. } => "pread",
            Self::MmapWrite { .. } => "mmap_write",
            Self::MmapRead { .. } => "mmap_read",
            Self::Msync { .. } => "msync",
            Self::Fsync { .. } => "fsync",
            Self::Fdatasync { .. } => "fdatasync",
            Self::SyncFileRange { .. } => "sync_file_range",
            Self::Truncate { .. } => "truncate",
            Self::Open { .. } => "open",
            Self::Close { .. } => "close",
            Self::Tmpfile { .. } => "tmpfile",
            Self::Creat { .. } => "creat",
            Self::Mkdir { .. } => "mkdir",
            Self::Rmdir { .. } => "rmdir",
            Self::Unlink { .. } => "unlink",
            Self::Rename { .. } => "rename",
            Self::Link { .. } => "link",
            Self::Symlink { .. } => "symlink",
            Self::Setxattr { .. } => "setxattr",
            Self::Removexattr { .. } => "removexattr",
            Self::Chmod { .. } => "chmod",
            Self::Nocow { .. } => "nocow",
            Self::Reflink { .. } => "reflink",
            Self::Dedupe { .. } => "dedupe",
            Self::Extents { .. } => "extents",
            Self::Mkswap { .. } => "mkswap",
            Self::Swapon { .. } => "swapon",
            Self::Swapoff { .. } => "swapoff",
        }
    }

    /// The file it works on; of two the one that is made or changed.
    #[must_use]
    pub fn file(&self) -> &Template {
        match self {
            Self::Fallocate { file, .. }
            | Self::Pwrite { file, .. }
            | Self::Pread { file, .. }
            | Self::MmapWrite { file, .. }
            | Self::MmapRead { file, .. }
            | Self::Msync { file, .. }
            | Self::Fsync { file }
            | Self::Fdatasync { file }
            | Self::SyncFileRange { file, .. }
            | Self::Truncate { file, .. }
            | Self::Open { file, .. }
            | Self::Close { file }
            | Self::Tmpfile { file }
            | Self::Creat { file }
            | Self::Mkdir { path: file }
            | Self::Rmdir { path: file }
            | Self::Unlink { file, .. }
            | Self::Rename { to: file, .. }
            | Self::Link { to: file, .. }
            | Self::Symlink { path: file, .. }
            | Self::Setxattr { file, .. }
            | Self::Removexattr { file, .. }
            | Self::Chmod { file, .. }
            | Self::Nocow { file }
            | Self::Reflink { to: file, .. }
            | Self::Dedupe { to: file, .. }
            | Self::Extents { file, .. }
            | Self::Mkswap { file }
            | Self::Swapon { file }
            | Self::Swapoff { file } => file,
        }
    }

    /// The other file it works on, where there are two.
    #[must_use]
    pub fn from(&self) -> Option<&Template> {
        match self {
            Self::Rename { from, .. }
            | Self::Link { from, .. }
            | Self::Reflink { from, .. }
            | Self::Dedupe { from, .. } => Some(from),
            _ => None,
        }
    }

    /// The byte range it works on, where it works on one: offset and length.
    #[must_use]
    pub fn range(&self) -> Option<(&Expression, &Expression)> {
        match self {
            Self::Fallocate { offset, length, .. }
            | Self::Pwrite { offset, length, .. }
            | Self::Pread { offset, length, .. }
            | Self::MmapWrite { offset, length, .. }
            | Self::MmapRead { offset, length, .. }
            | Self::Msync { offset, length, .. }
            | Self::SyncFileRange { offset, length, .. }
            | Self::Reflink { range: Some(Shared { to_offset: offset, length, .. }), .. }
            | Self::Dedupe { range: Shared { to_offset: offset, length, .. }, .. } => Some((offset, length)),
            _ => None,
        }
    }
}
