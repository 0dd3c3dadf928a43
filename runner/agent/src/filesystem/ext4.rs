//! ext4: statvfs, less the clusters that it keeps for itself.

use std::fs::File;
use std::path::Path;

use brim_trial::{Bytes, Counters};

use super::statvfs;
use crate::Failure;
use crate::failure::Trying;

/// Nothing reserved for root: what is free is then the same to every program, and is what `df` shows. Blocks of 4 KiB,
/// as on a disk of everyday size: for one under 512 MiB mke2fs would take 1 KiB (mke2fs.conf(5), `small`).
pub(super) const MKFS: (&str, &[&str]) =
    ("mkfs.ext4", &["-q", "-F", "-m", "0", "-b", "4096", "-E", "nodiscard"]);

/// Looks for mistakes without mending any, also where the filesystem says that it is clean.
pub(super) const CHECK: (&str, &[&str]) = ("e2fsck", &["-f", "-n"]);

/// Free blocks less `reserved_clusters`, which only ext4's own conversions may take (fs/ext4/balloc.c,
/// `ext4_has_free_clusters`, v6.12), and less what delayed allocation has promised, which statvfs leaves out.
pub(super) fn counters(root: &File, sysfs: &Path) -> Result<Counters, Failure> {
    let (free, available, total) = statvfs(root)?;
    let cluster = cluster_size(root)?;
    let number = |name: &str| -> Result<Bytes, Failure> {
        let path = sysfs.join(name);
        let what = || format!("read {}", path.display());
        let text = std::fs::read_to_string(&path).trying(what)?;
        let count: u64 = text.trim().parse().map_err(|_| Failure::new(what(), "it holds no number"))?;
        Ok(Bytes(count.saturating_mul(cluster)))
    };
    let reserved = number("reserved_clusters")?;
    let delayed = number("delayed_allocation_blocks")?;
    let values = [
        ("total".to_owned(), total),
        ("free".to_owned(), free),
        ("available".to_owned(), available),
        ("reserved".to_owned(), reserved),
        ("delayed".to_owned(), delayed),
    ];
    Ok(Counters { data_free: Bytes(free.0.saturating_sub(reserved.0)), values: values.into() })
}

fn cluster_size(root: &File) -> Result<u64, Failure> {
    rustix::fs::fstatvfs(root).map(|stat| stat.f_frsize).trying(|| "statvfs the mount".to_owned())
}
