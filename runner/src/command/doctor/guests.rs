//! What guests want of a machine: a kernel, memory that may be executed, and what brings kernels.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

use super::{Check, UML, tool};
use crate::kernel::{Kind, Store};

/// What a guest takes of memory for a disk of 128 MiB.
const MEMORY: u64 = 640 << 20;
/// The kernel of Debian's package.
const PACKAGED: &str = "/usr/bin/linux.uml";

/// What is looked for.
pub(super) fn checks() -> [Check; 5] {
    let brings = |name, mend| Check {
        name,
        found: tool(name),
        needed: &[],
        without: "without it `brim kernel add` fails; kernels that are here, and --kernel PATH, work",
        mend,
    };
    [
        Check {
            name: "guest kernel",
            found: kernel(),
            needed: &[UML],
            without: "the rig uml boots one, and needs no root; --kernel PATH takes your own",
            mend: "brim kernel add uml/6.1",
        },
        Check {
            name: "guest memory",
            found: memory(),
            needed: &[UML],
            without: "User Mode Linux has its memory in an unnamed file there",
            mend: "TMPDIR=/tmp brim …, or any directory with room that is not mounted noexec",
        },
        brings("apt-get", "brim kernel add on a Debian or Ubuntu, and a copy of its BRIM_KERNELS"),
        brings("dpkg-deb", "apt-get install dpkg"),
        brings("depmod", "apt-get install kmod"),
    ]
}

/// The kernels of User Mode Linux that are kept, or the packaged one.
fn kernel() -> Result<String, String> {
    let store = Store::open().map_err(|error| error.to_string())?;
    let kept = store.all().into_iter().filter(|kept| kept.about.kind == Kind::Uml);
    let mut names: Vec<String> = kept.map(|kept| kept.about.name).collect();
    if Path::new(PACKAGED).is_file() {
        names.push(PACKAGED.to_owned());
    }
    if names.is_empty() {
        return Err(format!("no User Mode Linux in {}", store.root().display()));
    }
    Ok(names.join(", "))
}

/// Where User Mode Linux puts its memory (`choose_tempdir`, arch/um/os-Linux/mem.c, v6.1).
fn memory() -> Result<String, String> {
    let named = |name: &&str| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    let directory = ["TMPDIR", "TMP", "TEMP"].iter().find_map(named);
    let directory = directory.map_or_else(|| PathBuf::from("/dev/shm"), PathBuf::from);
    let shown = directory.display();
    let stat = rustix::fs::statvfs(&directory).map_err(|errno| format!("{shown}: {errno}"))?;
    let free = stat.f_bavail * stat.f_frsize;
    if stat.f_flag.contains(StatVfsMountFlags::NOEXEC) {
        Err(format!("{shown} is mounted noexec"))
    } else if free < MEMORY {
        Err(format!(
            "{shown} has {} MiB free, and a guest takes {} for a small disk",
            free >> 20,
            MEMORY >> 20
        ))
    } else {
        Ok(shown.to_string())
    }
}
