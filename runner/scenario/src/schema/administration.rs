//! The keys of the steps of an administrator.

use serde::Deserialize;
use toml::Spanned;

use super::fault::Words;
use super::{Formula, Scalar, Table, Text, Verb};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OneDevice {
    pub(crate) device: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceReplace {
    pub(crate) from: Text,
    pub(crate) to: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoseDevice {
    pub(crate) device: Text,
    pub(crate) options: Option<Vec<Text>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Remount {
    pub(crate) options: Option<Vec<Text>>,
    pub(crate) live: Option<Spanned<bool>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Balance {
    pub(crate) data: Option<Spanned<Table<Filter>>>,
    pub(crate) metadata: Option<Spanned<Table<Filter>>>,
    pub(crate) system: Option<Spanned<Table<Filter>>>,
    #[serde(default)]
    pub(crate) force: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    pub(crate) usage: Option<Spanned<Scalar>>,
    #[serde(default)]
    pub(crate) profiles: Words,
    pub(crate) device: Option<Text>,
    pub(crate) limit: Option<Spanned<Scalar>>,
    pub(crate) convert: Option<Text>,
    pub(crate) soft: Option<Spanned<bool>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResizeFilesystem {
    pub(crate) size: Spanned<Formula>,
    pub(crate) device: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResizeDisk {
    pub(crate) size: Spanned<Formula>,
    pub(crate) device: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Defragment {
    pub(crate) file: Text,
    pub(crate) compress: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Compress {
    pub(crate) file: Text,
    pub(crate) with: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QgroupLimit {
    pub(crate) path: Text,
    pub(crate) referenced: Option<Spanned<Formula>>,
    pub(crate) exclusive: Option<Spanned<Formula>>,
}

impl Verb {
    /// What it is called, where only btrfs has it. The verbs that came first are not told: where they make no sense, the kernel
    /// says so.
    pub(crate) fn of_btrfs_alone(&self) -> Option<&'static str> {
        Some(match self {
            Self::DeviceAdd(_) => "device_add",
            Self::DeviceRemove(_) => "device_remove",
            Self::DeviceReplace(_) => "device_replace",
            Self::LoseDevice(_) => "lose_device",
            Self::Balance(_) => "balance",
            Self::ResizeFilesystem(_) => "resize_filesystem",
            Self::Defragment(_) => "defragment",
            Self::Compress(_) => "compress",
            Self::QuotaEnable(_) => "quota_enable",
            Self::QuotaRescan(_) => "quota_rescan",
            Self::QgroupLimit(_) => "qgroup_limit",
            Self::SubvolumeDelete(_) => "subvolume_delete",
            Self::WaitCleaner(_) => "wait_cleaner",
            _ => return None,
        })
    }
}

super::shapes! {
    OneDevice => "a table such as `{ device = \"spare\" }`",
    DeviceReplace => "a table such as `{ from = \"b\", to = \"spare\" }`",
    LoseDevice => "a table such as `{ device = \"b\", options = [\"degraded\"] }`",
    Remount => "a table such as `{}`, or `{ options = [\"degraded\"] }`",
    Balance => "a table such as `{ data = { convert = \"raid1\" } }`, or `{}`",
    Filter => "a table such as `{ usage = 50 }`, or `{}`",
    ResizeFilesystem => "a table such as `{ size = \"300 MiB\" }`, or `{ size = \"max\" }`",
    ResizeDisk => "a table such as `{ size = \"64 MiB\" }`",
    Defragment => "a table such as `{ file = \"blob\", compress = \"zstd\" }`",
    Compress => "a table such as `{ file = \"blob\", with = \"zstd\" }`",
    QgroupLimit => "a table such as `{ path = \"subvol\", referenced = \"16 MiB\" }`",
}
