//! What an administrator does to a btrfs: its disks, its chunks, its limits.

use serde::{Deserialize, Serialize};

use crate::expression::Expression;

/// One act of administration. Disks are named as the plan names them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Administration {
    /// Gives the filesystem one disk more.
    DeviceAdd {
        /// The disk.
        device: String,
    },
    /// Takes a disk out of the filesystem, which moves what is on it first.
    DeviceRemove {
        /// The disk, or [`MISSING`](crate::plan::Device::MISSING): one that is not there.
        device: String,
    },
    /// Puts a disk in the place of another, until all is copied.
    DeviceReplace {
        /// The disk that goes; also one that is lost.
        from: String,
        /// The disk that takes its place.
        to: String,
    },
    /// Unmounts, takes a disk away for good, and mounts what is left.
    LoseDevice {
        /// The disk.
        device: String,
        /// Mount options from here on; as before if `None`.
        options: Option<Vec<String>>,
    },
    /// Rewrites chunks, until done. Without a filter all of them.
    Balance {
        /// Chunks of data, and which.
        data: Option<Filter>,
        /// Chunks of metadata, and which.
        metadata: Option<Filter>,
        /// Chunks of the chunk tree itself, and which.
        system: Option<Filter>,
        /// Also where that leaves fewer copies of metadata.
        force: bool,
    },
    /// Gives the filesystem another size on a disk.
    ResizeFilesystem {
        /// In bytes; all of the disk if `None`.
        size: Option<Expression>,
        /// The disk; the first one if `None`.
        device: Option<String>,
    },
    /// Writes a file anew in long extents.
    Defragment {
        /// The file.
        file: String,
        /// How it is compressed then.
        compress: Option<Compression>,
    },
    /// Has new writes to a file, or to all that is made in a directory, be compressed.
    Compress {
        /// The file or directory.
        file: String,
        /// How.
        with: Compression,
    },
    /// Turns quotas on, and waits until what is there is counted.
    QuotaEnable {},
    /// Counts again what every subvolume has, and waits for the end.
    QuotaRescan {},
    /// Limits what a subvolume may have.
    QgroupLimit {
        /// The subvolume; `.` is the root of the mount.
        path: String,
        /// In all, in bytes.
        referenced: Option<Expression>,
        /// Of its own, in bytes.
        exclusive: Option<Expression>,
    },
    /// Deletes a subvolume or a snapshot; its space comes back later.
    SubvolumeDelete {
        /// Its path.
        path: String,
    },
    /// Waits until nothing is left of the subvolumes that were deleted.
    WaitCleaner {},
    /// Discards what is free.
    Fstrim {},
}

/// Which chunks of a kind a balance rewrites: those that all of this is true of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// They are less than so full, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<u64>,
    /// They have one of these profiles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<Profile>,
    /// They have a copy or a part on this disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// So many of them at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// What they become.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convert: Option<Profile>,
    /// Those that are that already stay as they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub soft: bool,
}

impl Filter {
    /// Every chunk of its kind, which stays what it is.
    pub const NONE: Self =
        Self { usage: None, profiles: Vec::new(), device: None, limit: None, convert: None, soft: false };
}

/// How chunks are laid out over disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// One copy.
    Single,
    /// Two copies on one disk.
    Dup,
    /// One copy, in stripes over all disks.
    Raid0,
    /// Two copies on two disks.
    Raid1,
    /// Three copies on three disks.
    Raid1c3,
    /// Four copies on four disks.
    Raid1c4,
    /// Two copies, in stripes.
    Raid10,
    /// Stripes with one parity.
    Raid5,
    /// Stripes with two.
    Raid6,
}

impl Profile {
    /// Every profile and its name.
    pub const ALL: [(&str, Self); 9] = [
        ("single", Self::Single),
        ("dup", Self::Dup),
        ("raid0", Self::Raid0),
        ("raid1", Self::Raid1),
        ("raid1c3", Self::Raid1c3),
        ("raid1c4", Self::Raid1c4),
        ("raid10", Self::Raid10),
        ("raid5", Self::Raid5),
        ("raid6", Self::Raid6),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, profile)| *profile == self).map_or("single", |(name, _)| name)
    }
}

/// How btrfs compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// DEFLATE.
    Zlib,
    /// LZO.
    Lzo,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// Every way and its name.
    pub const ALL: [(&str, Self); 3] = [("zlib", Self::Zlib), ("lzo", Self::Lzo), ("zstd", Self::Zstd)];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, way)| *way == self).map_or("zstd", |(name, _)| name)
    }
}

impl Administration {
    /// The verb a scenario writes: `balance`.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::DeviceAdd { .. } => "device_add",
            Self::DeviceRemove { .. } => "device_remove",
            Self::DeviceReplace { .. } => "device_replace",
            Self::LoseDevice { .. } => "lose_device",
            Self::Balance { .. } => "balance",
            Self::ResizeFilesystem { .. } => "resize_filesystem",
            Self::Defragment { .. } => "defragment",
            Self::Compress { .. } => "compress",
            Self::QuotaEnable {} => "quota_enable",
            Self::QuotaRescan {} => "quota_rescan",
            Self::QgroupLimit { .. } => "qgroup_limit",
            Self::SubvolumeDelete { .. } => "subvolume_delete",
            Self::WaitCleaner {} => "wait_cleaner",
            Self::Fstrim {} => "fstrim",
        }
    }

    /// The file or directory that it works on, where it works on one.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::Defragment { file, .. } | Self::Compress { file, .. } => Some(file),
            Self::QgroupLimit { path, .. } | Self::SubvolumeDelete { path } => Some(path),
            _ => None,
        }
    }

    /// Whether it takes the mount away for a while.
    #[must_use]
    pub fn takes_the_mount(&self) -> bool {
        matches!(self, Self::LoseDevice { .. })
    }
}
