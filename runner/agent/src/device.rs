//! The block device under test, whichever driver it is of.

use std::fs::{File, OpenOptions};
use std::path::Path;

use brim_trial::Bytes;
use rustix::io::Errno;

use crate::Failure;
use crate::failure::Trying;
use crate::loop_device::LoopDevice;
use crate::nbd_device::NbdDevice;
use crate::sys;

/// A block device that is ours and goes away with this.
#[derive(Debug)]
pub(crate) enum Device {
    /// A loop device over the disk's file.
    Loop(LoopDevice),
    /// The kernel's own NBD client.
    Nbd(NbdDevice),
}

impl Device {
    /// Its path: `/dev/loop0`.
    pub(crate) fn path(&self) -> &str {
        self.node().path()
    }

    /// Its name: `loop0`.
    pub(crate) fn name(&self) -> &str {
        self.node().name()
    }

    /// Has the kernel see that the disk has `size` now, and says what it is by the kernel's account.
    pub(crate) fn update_size(&self, size: Bytes) -> Result<Bytes, Failure> {
        match self {
            // It asks the file.
            Self::Loop(device) => device.update_size(),
            Self::Nbd(device) => device.resize(size),
        }
    }

    /// Its size by the kernel's account.
    pub(crate) fn size(&self) -> Result<Bytes, Failure> {
        self.node().size()
    }

    /// Forgets what the kernel has cached of the device.
    pub(crate) fn forget_cache(&self) -> Result<(), Failure> {
        self.node().forget_cache()
    }

    /// Has btrfs forget what it has seen on the device, which is about to be another.
    pub(crate) fn forget(&self) -> Result<(), Failure> {
        self.node().forget()
    }

    /// Shows the device to btrfs, and says whether one is on it.
    pub(crate) fn show_to_btrfs(&self) -> Result<bool, Failure> {
        self.node().show_to_btrfs()
    }

    /// Takes the device away, at once where nothing else has it open.
    pub(crate) fn detach(self) -> Result<(), Failure> {
        match self {
            Self::Loop(device) => device.detach(),
            Self::Nbd(device) => device.disconnect(),
        }
    }

    fn node(&self) -> &Node {
        match self {
            Self::Loop(device) => device.node(),
            Self::Nbd(device) => device.node(),
        }
    }
}

impl From<LoopDevice> for Device {
    fn from(device: LoopDevice) -> Self {
        Self::Loop(device)
    }
}

impl From<NbdDevice> for Device {
    fn from(device: NbdDevice) -> Self {
        Self::Nbd(device)
    }
}

/// A block device that is open, and what can be done with any.
#[derive(Debug)]
pub(crate) struct Node {
    file: File,
    path: String,
}

impl Node {
    /// Opens `/dev/NAME`.
    pub(crate) fn open(name: &str) -> Result<Self, Failure> {
        let path = format!("/dev/{name}");
        Ok(Self { file: open(Path::new(&path))?, path })
    }

    /// What it is by which system calls name it.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    /// Its path: `/dev/loop0`.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Its name: `loop0`.
    pub(crate) fn name(&self) -> &str {
        self.path.trim_start_matches("/dev/")
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
        sys::flush_buffers(&self.file).trying(|| format!("drop the cache of {}", self.path))
    }

    /// Shows the device to btrfs, and says whether one is on it.
    pub(crate) fn show_to_btrfs(&self) -> Result<bool, Failure> {
        let control = open(Path::new("/dev/btrfs-control")).map_err(|failure| {
            failure.with_help("load btrfs: `modprobe btrfs` (in a container: pass /dev/btrfs-control)")
        })?;
        match sys::btrfs::scan(control, &self.path) {
            Ok(()) => Ok(true),
            // No superblock, or none that is valid.
            // Where it cannot be read, btrfs does without it as well.
            Err(Errno::INVAL | Errno::IO) => Ok(false),
            Err(errno) => Err(errno).trying(|| format!("show {} to btrfs", self.path)),
        }
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
}

/// Opens a device for reading and writing.
pub(crate) fn open(path: &Path) -> Result<File, Failure> {
    OpenOptions::new().read(true).write(true).open(path).trying(|| format!("open {}", path.display()))
}
