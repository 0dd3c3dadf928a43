//! btrfs: the counters of each `space_info`, in sysfs.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use brim_trial::{Bytes, Counters};

use super::read_numbers;
use crate::Failure;
use crate::failure::Trying;
use crate::sys;

/// No discard of the whole disk first: it is empty, or it is our fork of one.
pub(super) const MKFS: (&str, &[&str]) = ("mkfs.btrfs", &["--quiet", "--force", "--nodiscard"]);

/// Looks for mistakes without mending any.
pub(super) const CHECK: (&str, &[&str]) = ("btrfs", &["check", "--readonly"]);

// fs/btrfs/sysfs.c, space_info_attrs, v6.12.
const COUNTERS: [&str; 7] = [
    "total_bytes",
    "bytes_used",
    "bytes_may_use",
    "bytes_reserved",
    "bytes_pinned",
    "bytes_readonly",
    "bytes_zone_unusable",
];

pub(super) fn fsid(root: &File) -> Result<[u8; 16], Failure> {
    sys::btrfs::fsid(root).trying(|| "ask btrfs for its fsid".to_owned())
}

pub(super) fn sysfs(fsid: [u8; 16]) -> PathBuf {
    use std::fmt::Write;
    let mut name = String::new();
    for (index, byte) in fsid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            name.push('-');
        }
        // Writing to a String cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    Path::new("/sys/fs/btrfs").join(name)
}

/// `total − used − may_use − reserved − pinned − readonly − zone_unusable` of the space that holds file contents.
pub(super) fn counters(sysfs: &Path) -> Result<Counters, Failure> {
    let allocation = sysfs.join("allocation");
    let mut values = BTreeMap::new();
    for space in ["data", "metadata", "mixed", "system"] {
        let directory = allocation.join(space);
        // Either data and metadata are there, or what they share.
        if directory.is_dir() {
            values.extend(read_numbers(&directory, space, &COUNTERS)?);
        }
    }
    let reserve = read_numbers(&allocation, "", &["global_rsv_size", "global_rsv_reserved"])?;
    // As the other counters are called: `global_rsv.size`.
    values.extend(
        reserve.into_iter().map(|(name, value)| (name.replace(".global_rsv_", "global_rsv."), value)),
    );
    let data = if values.contains_key("mixed.total") { "mixed." } else { "data." };
    let size = format!("{data}total");
    let total = values.get(&size).copied().ok_or_else(|| {
        Failure::new(format!("read {}", allocation.display()), "it has no counters of data space")
    })?;
    let taken: u64 = values
        .iter()
        .filter(|(name, _)| name.starts_with(data) && **name != size)
        .map(|(_, value)| value.0)
        .sum();
    Ok(Counters { data_free: Bytes(total.0.saturating_sub(taken)), values })
}
