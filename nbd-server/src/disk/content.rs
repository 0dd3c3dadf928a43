//! What a disk holds, what a power cut would leave of it, and its size.

use brim_device::{Bytes, SizeError, Store};

use super::{Disk, DiskOptions};
use crate::lock;

impl Disk {
    /// What the disk has beside its content.
    #[must_use]
    pub fn options(&self) -> DiskOptions {
        DiskOptions { write_cache: lock(&self.shared.state).images.has_cache() }
    }

    /// The content of this moment as reads see it, in constant time.
    #[must_use]
    pub fn snapshot(&self) -> Store {
        lock(&self.shared.state).images.cached().fork()
    }

    /// What a power cut of this moment would leave, in constant time. Without a write cache that is [`Disk::snapshot`].
    #[must_use]
    pub fn durable(&self) -> Store {
        lock(&self.shared.state).images.durable().fork()
    }

    /// How much a power cut of this moment would undo: blocks of 4 KiB that were changed since they were last made durable,
    /// as a sum of bytes. Nothing without a write cache.
    #[must_use]
    pub fn dirty(&self) -> Bytes {
        lock(&self.shared.state).images.dirty()
    }

    /// Cuts the power: the disk is from now on what was durable, and all else is lost. Answers how much that was, as
    /// [`Disk::dirty`] has it.
    ///
    /// It is the content alone that feels it. Connections go on, as if the machine had come back at once; end them by the
    /// server where the client shall notice. Requests that wait at a gate stay there, and what they do is done when it opens:
    /// a disk that really lost its power would never answer them.
    #[must_use = "a cut that lost nothing has tested nothing"]
    pub fn power_cut(&self) -> Bytes {
        lock(&self.shared.state).images.power_cut()
    }

    /// The exact size.
    #[must_use]
    pub fn size(&self) -> Bytes {
        lock(&self.shared.state).images.cached().size()
    }

    /// Gives the disk another size at once, which is durable at once also with a write cache: what is cut off is gone, and
    /// what was dirty elsewhere stays so. Clients learn of it on their next handshake only; for nbd.ko, tell the kernel by
    /// netlink.
    ///
    /// # Errors
    ///
    /// As for [`Disk::new`]; nothing changes then.
    pub fn resize(&self, size: Bytes) -> Result<(), SizeError> {
        lock(&self.shared.state).images.resize(size)
    }

    /// The memory that the blocks of this disk take, those it shares with forks included. With a write cache, blocks that
    /// only the durable image still has are not counted.
    #[must_use]
    pub fn allocated(&self) -> Bytes {
        lock(&self.shared.state).images.cached().allocated()
    }
}
