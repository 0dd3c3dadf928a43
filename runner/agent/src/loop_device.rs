//! The loop device over the disk's file: direct I/O, gone at its last close.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::Path;

use brim_trial::Bytes;
use rustix::io::Errno;

use crate::Failure;
use crate::failure::Trying;
use crate::sys;

/// The logical block size of the device: a disk may have any size that is a multiple of it.
const SECTOR: u32 = 512;
/// How often another process may take the free device we were just shown.
const RACES_MAX: u32 = 64;

/// A loop device that is ours. While this is alive the device is; dropped, it goes away at the last unmount.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    device: File,
    path: String,
}

impl LoopDevice {
    /// Puts a loop device over `file`.
    pub(crate) fn over(file: &Path) -> Result<Self, Failure> {
        let backing = open(file)?;
        let control = open(Path::new("/dev/loop-control")).map_err(|failure| {
            failure
                .with_help("load the loop driver: `modprobe loop` (in a container: pass /dev/loop-control)")
        })?;
        for _ in 0..RACES_MAX {
            let number = sys::loop_get_free(&control).trying(|| "find a free loop device".to_owned())?;
            let path = format!("/dev/loop{number}");
            let device = open(Path::new(&path))?;
            match sys::loop_configure(&device, backing.as_raw_fd(), SECTOR, "brim") {
                Ok(()) => return Ok(Self { device, path }),
                Err(Errno::BUSY) => {}
                Err(errno) => return Err(errno).trying(|| format!("put {path} over the disk")),
            }
        }
        Err(Failure::new("find a free loop device", "another process was faster each time"))
    }

    /// Its path: `/dev/loop0`.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Its name: `loop0`.
    pub(crate) fn name(&self) -> &str {
        self.path.trim_start_matches("/dev/")
    }

    /// Takes the size from the file again, and says what it is now by the kernel's account.
    pub(crate) fn update_size(&self) -> Result<Bytes, Failure> {
        sys::loop_set_capacity(&self.device).trying(|| format!("tell {} its new size", self.path))?;
        self.size()
    }

    /// Its size by the kernel's account.
    pub(crate) fn size(&self) -> Result<Bytes, Failure> {
        let path = format!("/sys/class/block/{}/size", self.name());
        let what = || format!("read {path}");
        let sectors = std::fs::read_to_string(&path).trying(what)?;
        // Documentation/ABI/stable/sysfs-block: in sectors of 512 bytes, whatever the device's own.
        let size = sectors.trim().parse().ok().and_then(|sectors: u64| sectors.checked_mul(512));
        size.map(Bytes).ok_or_else(|| Failure::new(what(), format!("`{}` is no size", sectors.trim())))
    }

    /// Forgets what the kernel has cached of the device.
    pub(crate) fn forget_cache(&self) -> Result<(), Failure> {
        sys::flush_buffers(&self.device).trying(|| format!("drop the cache of {}", self.path))
    }

    /// Has btrfs forget what it has seen on the device, which is about to be another.
    pub(crate) fn forget(&self) -> Result<(), Failure> {
        if let Ok(control) = open(Path::new("/dev/btrfs-control")) {
            match sys::btrfs::forget(control, &self.path) {
                Ok(()) | Err(Errno::NOENT | Errno::BUSY) => {}
                Err(errno) => return Err(errno).trying(|| format!("have btrfs forget {}", self.path)),
            }
        }
        Ok(())
    }

    /// Takes the device away, at once where nothing else has it open.
    pub(crate) fn detach(self) -> Result<(), Failure> {
        self.forget()?;
        sys::loop_clear(&self.device).trying(|| format!("detach {}", self.path))
    }
}

fn open(path: &Path) -> Result<File, Failure> {
    OpenOptions::new().read(true).write(true).open(path).trying(|| format!("open {}", path.display()))
}
