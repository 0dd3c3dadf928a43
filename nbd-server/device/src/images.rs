//! What a disk holds, and what of it a power cut would leave: the two images of a volatile write cache.
//!
//! Without a cache there is one image: a change is durable once it is made.

use std::ops::ControlFlow;

use crate::{AccessError, BLOCK, Bytes, Page, SizeError, Store};

/// The content of a disk, with or without a volatile write cache.
///
/// Changes go to the cached image, which is what reads see. [`Images::flush`] makes all of it durable,
/// [`Images::persist`] a range of it, and [`Images::power_cut`] goes back to what is durable.
#[derive(Debug)]
pub struct Images {
    /// With a cache, both have the same size at all times.
    cached: Store,
    /// `None` without a cache: the other one is durable then.
    durable: Option<Store>,
}

impl Images {
    /// Without a cache: all changes are durable at once.
    #[must_use]
    pub const fn write_through(store: Store) -> Self {
        Self { cached: store, durable: None }
    }

    /// With a volatile cache, in which nothing is yet: the content of `store` is durable.
    #[must_use]
    pub fn write_back(store: Store) -> Self {
        Self { durable: Some(store.fork()), cached: store }
    }

    /// What reads see.
    #[must_use]
    pub const fn cached(&self) -> &Store {
        &self.cached
    }

    /// What a power cut leaves.
    #[must_use]
    pub fn durable(&self) -> &Store {
        self.durable.as_ref().unwrap_or(&self.cached)
    }

    /// Whether there is a volatile cache.
    #[must_use]
    pub const fn has_cache(&self) -> bool {
        self.durable.is_some()
    }

    /// How much a power cut would undo, in whole blocks: those that were changed since they were last made durable, also
    /// where they were changed back.
    #[must_use]
    pub fn dirty(&self) -> Bytes {
        self.durable.as_ref().map_or(Bytes::ZERO, |durable| self.cached.differing(durable))
    }

    /// As [`Store::extents`] of what reads see, and tells as the second thing of each part whether it is dirty.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn extents(
        &self,
        offset: Bytes,
        len: Bytes,
        mut show: impl FnMut(bool, bool, Bytes) -> ControlFlow<()>,
    ) -> Result<(), AccessError> {
        match &self.durable {
            Some(durable) => self.cached.extents_against(durable, offset, len, show),
            None => self.cached.extents(offset, len, |allocated, len| show(allocated, false, len)),
        }
    }

    /// As [`Store::write`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn write(&mut self, offset: Bytes, data: &[u8]) -> Result<(), AccessError> {
        self.cached.write(offset, data)
    }

    /// As [`Store::write_pages`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn write_pages(&mut self, offset: Bytes, len: Bytes, pages: &[Page]) -> Result<(), AccessError> {
        self.cached.write_pages(offset, len, pages)
    }

    /// As [`Store::trim`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn trim(&mut self, offset: Bytes, len: Bytes) -> Result<(), AccessError> {
        self.cached.trim(offset, len)
    }

    /// As [`Store::zero`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn zero(&mut self, offset: Bytes, len: Bytes) -> Result<(), AccessError> {
        self.cached.zero(offset, len)
    }

    /// Makes all changes durable.
    pub fn flush(&mut self) {
        if let Some(durable) = &mut self.durable {
            *durable = self.cached.fork();
        }
    }

    /// Makes these bytes durable as they are now, and no byte beside them.
    ///
    /// # Errors
    ///
    /// When the range ends past the disk; nothing changes then.
    pub fn persist(&mut self, offset: Bytes, len: Bytes) -> Result<(), AccessError> {
        match &mut self.durable {
            Some(durable) => durable.copy_range_from(&self.cached, offset, len),
            None => Ok(()),
        }
    }

    /// Loses what was not durable, and answers how much that was, as [`Images::dirty`] has it.
    pub fn power_cut(&mut self) -> Bytes {
        let lost = self.dirty();
        // A cut that leaves a part of what is dirty would persist the sectors that make it, here.
        if let Some(durable) = &self.durable {
            self.cached = durable.fork();
        }
        lost
    }

    /// As [`Store::resize`], for both images: the new size is durable at once, and what it cuts off is gone from both. What
    /// was dirty stays so.
    ///
    /// # Errors
    ///
    /// As there; nothing changes then.
    pub fn resize(&mut self, size: Bytes) -> Result<(), SizeError> {
        let edge = self.clean_edge(size);
        self.cached.resize(size)?;
        if let Some(durable) = &mut self.durable {
            durable.resize(size)?;
            if let Some((offset, len)) = edge {
                // Both cut the block that they shared, each into one of its own. It is the last one of the disk.
                let _on_the_disk = durable.copy_range_from(&self.cached, offset, len);
            }
        }
        Ok(())
    }

    /// Another pair with the content of both, in constant time.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { cached: self.cached.fork(), durable: self.durable.as_ref().map(Store::fork) }
    }

    /// What stays of a block that a smaller size cuts through, where it is clean.
    fn clean_edge(&self, size: Bytes) -> Option<(Bytes, Bytes)> {
        if size >= self.cached.size() {
            return None;
        }
        let len = Bytes(size.0 % BLOCK.0);
        let offset = Bytes(size.0 - len.0);
        let mut clean = len > Bytes::ZERO;
        let told = self.extents(offset, len, |_, dirty, _| {
            clean &= !dirty;
            ControlFlow::Continue(())
        });
        assert!(told.is_ok(), "a smaller size is past the disk: {told:?}");
        clean.then_some((offset, len))
    }
}
