//! Programs of other people that brim runs.

use std::path::PathBuf;

/// Where a program is: in `PATH`, or where the tools of filesystems are, which is not always in the `PATH` of sudo or of a
/// plain user.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}
