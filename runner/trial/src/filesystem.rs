//! The filesystems brim can fill exactly.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A kind of filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilesystemKind {
    /// btrfs.
    Btrfs,
    /// ext4.
    Ext4,
    /// xfs.
    Xfs,
}

/// The name is none of the filesystems brim can fill.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a filesystem brim can fill: btrfs, ext4 or xfs")]
pub struct UnknownFilesystem(pub String);

impl FilesystemKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Btrfs, Self::Ext4, Self::Xfs];

    /// The name that `mount -t` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Btrfs => "btrfs",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

impl fmt::Display for FilesystemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for FilesystemKind {
    type Err = UnknownFilesystem;

    fn from_str(text: &str) -> Result<Self, UnknownFilesystem> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| UnknownFilesystem(text.to_owned()))
    }
}
