//! The agent's own mount namespace, and the one directory in it where everything of a run is. All of it is in memory
//! and goes away with the last process in the namespace, however that one ends.

use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags};

use crate::Failure;
use crate::failure::Trying;
use crate::sys;

/// Directories of the Filesystem Hierarchy Standard for mounts. The first that is empty is covered, in our namespace
/// only: a directory made for the purpose would stay behind when a run is killed.
const PLACES: [&str; 3] = ["/mnt", "/media", "/srv"];

/// Where the files and mounts of this run are.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    root: PathBuf,
}

impl RunDirectory {
    /// Moves this process to a mount namespace of its own and makes the run directory there. To be called before the
    /// process has a second thread.
    pub(crate) fn enter() -> Result<Self, Failure> {
        let root = place()?;
        leave_the_hosts_mounts()?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("brim", &root, "tmpfs", flags, c"size=16m,mode=0755")
            .trying(|| format!("mount a tmpfs on {}", root.display()))?;
        let run = Self { root };
        for path in [run.disks(), run.tracing()] {
            std::fs::create_dir(&path).trying(|| format!("make {}", path.display()))?;
        }
        Ok(run)
    }

    /// Where the FUSE filesystems with the disks' files are mounted, each in a directory of the disk's name.
    pub(crate) fn disks(&self) -> PathBuf {
        self.root.join(".disk")
    }

    /// Where tracefs is mounted for us.
    pub(crate) fn tracing(&self) -> PathBuf {
        self.root.join(".tracing")
    }

    /// Where the filesystem under test is mounted: its name is what a user sees in `brim shell`.
    pub(crate) fn mount(&self) -> PathBuf {
        self.root.join("brim")
    }
}

/// Moves this process to a mount namespace of its own: what the host unmounts is unmounted there too, nothing of ours
/// reaches the host.
pub(crate) fn leave_the_hosts_mounts() -> Result<(), Failure> {
    sys::unshare_mounts().trying(|| "make a mount namespace".to_owned()).map_err(|failure| {
        failure.with_help(
            "the running kernel takes root (CAP_SYS_ADMIN) to mount anything: `sudo brim …`; \
             a guest takes none: `brim run … --kernel uml/6.12`",
        )
    })?;
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .trying(|| "keep our mounts from the host".to_owned())
}

/// Mounts tracefs, for us alone.
pub(crate) fn mount_tracefs(tracing: &Path) -> Result<(), Failure> {
    rustix::mount::mount("brim", tracing, "tracefs", MountFlags::NOEXEC, None)
        .trying(|| "mount tracefs".to_owned())
}

fn place() -> Result<PathBuf, Failure> {
    let empty = |path: &&str| Path::new(path).read_dir().is_ok_and(|mut entries| entries.next().is_none());
    let existing = |path: &&str| Path::new(path).is_dir();
    PLACES
        .into_iter()
        .find(empty)
        .or_else(|| PLACES.into_iter().find(existing))
        .map(PathBuf::from)
        .ok_or_else(|| {
            Failure::new("find a place for the run's mounts", "none of /mnt, /media, /srv is there")
                .with_help("mkdir /mnt")
        })
}
