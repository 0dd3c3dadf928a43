//! What a disk holds, what a power cut would leave of it, and its size.

use std::sync::MutexGuard;

use brim_device::{Bytes, Cut, Images, SizeError, Store, Survival};

use super::{Disk, DiskOptions, State, later};
use crate::lock;

impl Disk {
    /// What the disk has beside its content.
    #[must_use]
    pub fn options(&self) -> DiskOptions {
        let state = lock(&self.shared.state);
        DiskOptions { write_cache: state.images.has_cache(), seed: state.faults.seed() }
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
        let mut state = lock(&self.shared.state);
        let before = state.images.cached().fork();
        let lost = state.images.power_cut();
        state.log_difference(&before);
        self.changed(state);
        lost
    }

    /// As [`Disk::power_cut`], but of what was not durable some sectors survive, drawn from `seed`. Without a write cache
    /// nothing is lost.
    #[must_use = "a cut that lost nothing has tested nothing"]
    pub fn power_cut_partly(&self, survival: Survival, seed: u64) -> Cut {
        let mut state = lock(&self.shared.state);
        let before = state.images.cached().fork();
        let cut = state.images.power_cut_partly(survival, seed);
        state.log_difference(&before);
        self.changed(state);
        cut
    }

    /// The content is another one, which may have space for what waits for it.
    fn changed(&self, mut state: MutexGuard<'_, State>) {
        let released = state.wake_waiting(self.shared.clock);
        let _count = self.hand_over(state, released);
    }

    /// Keeps the content of this moment under a name, in constant time; with a write cache, also what of it is durable. What
    /// had that name before is gone.
    pub fn keep_snapshot(&self, name: &str) {
        let mut state = lock(&self.shared.state);
        let images = state.images.fork();
        let before = state.snapshots.insert(name.to_owned(), images);
        drop(state);
        later::let_go(before);
    }

    /// Goes back to a snapshot, which stays; false when there is none of that name. As with a power cut, it is the content alone
    /// that feels it. Also the size is that of the snapshot.
    #[must_use = "without such a snapshot nothing changes"]
    pub fn restore_snapshot(&self, name: &str) -> bool {
        let mut state = lock(&self.shared.state);
        let Some(images) = state.snapshots.get(name).map(Images::fork) else {
            return false;
        };
        let before = std::mem::replace(&mut state.images, images);
        state.log_difference(before.cached());
        self.changed(state);
        later::let_go(Some(before));
        true
    }

    /// Forgets a snapshot; false when there is none of that name.
    #[must_use = "there may have been none"]
    pub fn forget_snapshot(&self, name: &str) -> bool {
        let images = lock(&self.shared.state).snapshots.remove(name);
        let was_there = images.is_some();
        later::let_go(images);
        was_there
    }

    /// The names of the snapshots.
    #[must_use]
    pub fn snapshots(&self) -> Vec<String> {
        lock(&self.shared.state).snapshots.keys().cloned().collect()
    }

    /// Another disk with the content of a snapshot, as [`Disk::fork`]; `None` when there is none of that name.
    #[must_use]
    pub fn fork_snapshot(&self, name: &str) -> Option<Self> {
        let state = lock(&self.shared.state);
        let (images, seed) = (state.snapshots.get(name)?.fork(), state.faults.seed());
        drop(state);
        Some(Self::from_images(images, seed))
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
        let mut state = lock(&self.shared.state);
        let before = state.images.cached().fork();
        state.images.resize(size)?;
        state.log_difference(&before);
        self.changed(state);
        Ok(())
    }

    /// The memory that the blocks of this disk take, those it shares with forks included. With a write cache, blocks that
    /// only the durable image still has are not counted.
    #[must_use]
    pub fn allocated(&self) -> Bytes {
        lock(&self.shared.state).images.cached().allocated()
    }
}
