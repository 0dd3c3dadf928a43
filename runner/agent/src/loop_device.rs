//! The loop device over the disk's file: direct I/O, gone at its last close.

use std::os::fd::AsRawFd;
use std::path::Path;

use brim_trial::Bytes;
use rustix::io::Errno;

use crate::Failure;
use crate::device::{Node, open};
use crate::failure::Trying;
use crate::sys;

/// The logical block size of the device: a disk may have any size that is a multiple of it.
pub(crate) const SECTOR: u32 = 512;
/// How often another process may take the free device we were just shown.
const RACES_MAX: u32 = 64;

/// A loop device that is ours. While this is alive the device is; dropped, it goes away at the last unmount.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    node: Node,
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
            let node = Node::open(&format!("loop{number}"))?;
            match sys::loop_configure(node.file(), backing.as_raw_fd(), SECTOR, "brim") {
                Ok(()) => return Ok(Self { node }),
                Err(Errno::BUSY) => {}
                Err(errno) => return Err(errno).trying(|| format!("put {} over the disk", node.path())),
            }
        }
        Err(Failure::new("find a free loop device", "another process was faster each time"))
    }

    /// The device itself.
    pub(crate) const fn node(&self) -> &Node {
        &self.node
    }

    /// Takes the size from the file again, and says what it is now by the kernel's account.
    pub(crate) fn update_size(&self) -> Result<Bytes, Failure> {
        sys::loop_set_capacity(self.node.file())
            .trying(|| format!("tell {} its new size", self.node.path()))?;
        self.node.size()
    }

    /// Takes the device away, at once where nothing else has it open.
    pub(crate) fn detach(self) -> Result<(), Failure> {
        self.node.forget()?;
        sys::loop_clear(self.node.file()).trying(|| format!("detach {}", self.node.path()))
    }
}
