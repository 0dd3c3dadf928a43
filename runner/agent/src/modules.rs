//! Kernel modules, for process 1 of a guest, in which there is no modprobe. What a module depends on has to be loaded
//! before it: nothing is looked up here.

use std::ffi::{CString, c_int};
use std::fs::File;
use std::path::Path;

use rustix::io::Errno;

use crate::Failure;
use crate::failure::Trying;

// include/uapi/linux/module.h, since v5.17.
const MODULE_INIT_COMPRESSED_FILE: c_int = 4;

/// Loads the module in `file` with `parameters` such as `nbds_max=16 max_part=0`. A module that is there already is
/// left as it is.
///
/// # Errors
/// There is no such file, or the kernel refuses it: it is of another kernel, or one it depends on is missing, which only the
/// kernel log tells (`Unknown symbol`).
pub fn load(file: &Path, parameters: &str) -> Result<(), Failure> {
    let what = || format!("load {}", file.display());
    let parameters = CString::new(parameters).map_err(|_| Failure::new(what(), "a nul byte"))?;
    let module = File::open(file).trying(what)?;
    match rustix::system::finit_module(&module, &parameters, flags(file)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno).trying(what),
    }
}

/// The kernel has to be told of a packed module, and does not look at its name itself.
fn flags(file: &Path) -> c_int {
    let packed = ["gz", "xz", "zst"];
    let extension = file.extension().and_then(|extension| extension.to_str());
    if extension.is_some_and(|extension| packed.contains(&extension)) {
        MODULE_INIT_COMPRESSED_FILE
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packed_modules_are_unpacked() {
        let flags = |name| flags(Path::new(name));
        assert_eq!([flags("/m/nbd.ko"), flags("nbd"), flags("/m.xz/nbd.ko")], [0, 0, 0]);
        assert_eq!([flags("nbd.ko.xz"), flags("nbd.ko.zst"), flags("nbd.ko.gz")], [4, 4, 4]);
    }

    #[test]
    fn a_failure_says_what_was_to_be_loaded() {
        let failure = load(Path::new("/nowhere/nbd.ko"), "").unwrap_err();
        assert_eq!(failure.what, "load /nowhere/nbd.ko");
        let failure = load(Path::new("/nowhere/nbd.ko"), "nbds_max=\0").unwrap_err();
        assert_eq!(failure.why, "a nul byte");
    }
}
