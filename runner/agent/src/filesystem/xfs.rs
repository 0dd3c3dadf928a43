//! xfs: statvfs, which leaves out what xfs keeps for itself.

use std::fs::File;

use brim_trial::Counters;

use super::statvfs;
use crate::Failure;

/// No discard of the whole disk first: it is empty.
pub(super) const MKFS: (&str, &[&str]) = ("mkfs.xfs", &["-q", "-f", "-K"]);

/// Looks for mistakes without mending any.
pub(super) const CHECK: (&str, &[&str]) = ("xfs_repair", &["-n"]);

/// `f_bfree` is the count of free data blocks less what allocation groups set aside (`fs/xfs/xfs_super.c`,
/// `xfs_statfs_data`, v6.12); the reserve pool is not part of it.
pub(super) fn counters(root: &File) -> Result<Counters, Failure> {
    let (free, available, total) = statvfs(root)?;
    let values =
        [("total".to_owned(), total), ("free".to_owned(), free), ("available".to_owned(), available)].into();
    Ok(Counters { data_free: free, values })
}
