//! What a disk holds, and what of it a power cut would leave: the two images of a volatile write cache.
//!
//! Without a cache there is one image: a change is durable once it is made.

use std::ops::ControlFlow;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::random::scale;
use crate::{AccessError, BLOCK, Bytes, Page, Ratio, SizeError, Store};

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
        if let Some(durable) = &self.durable {
            self.cached = durable.fork();
        }
        lost
    }

    /// As [`Images::power_cut`], but of what was not durable some sectors survive: each for itself, as a disk may write its
    /// cache in any order, and each may be torn.
    ///
    /// The same content, seed and odds leave the same.
    pub fn power_cut_partly(&mut self, survival: Survival, seed: u64) -> Cut {
        let Some(durable) = &self.durable else {
            return Cut::default();
        };
        let (mut cut, mut left) = (Cut::default(), durable.fork());
        let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
        for sector in self.changed_sectors() {
            let (mut old, new) = (read_sector(durable, sector), read_sector(&self.cached, sector));
            if old == new {
                continue;
            }
            let count = match survival.of(&mut dice) {
                Fate::Lost => {
                    cut.lost += 1;
                    continue;
                }
                Fate::Kept => {
                    old = new;
                    &mut cut.kept
                }
                Fate::Torn(at) => {
                    old[..at].copy_from_slice(&new[..at]);
                    &mut cut.torn
                }
            };
            *count += 1;
            // What was read is on the disk.
            let _on_the_disk = left.write(sector, &old);
        }
        self.cached = left.fork();
        self.durable = Some(left);
        cut
    }

    /// Flips bits of a byte on the disk, those that `mask` has: in both images, and neither durable nor dirty changes by it.
    /// Nothing happens past the end.
    pub fn flip(&mut self, offset: Bytes, mask: u8) {
        let block = Bytes(offset.0 - offset.0 % BLOCK.0);
        let clean = offset < self.cached.size() && self.is_clean(block, Bytes(1));
        flip(&mut self.cached, offset, mask);
        match &mut self.durable {
            Some(durable) if clean => {
                let length = BLOCK.min(Bytes(self.cached.size().0 - block.0));
                // They shared the block, each would have one of its own now.
                let _on_the_disk = durable.copy_range_from(&self.cached, block, length);
            }
            Some(durable) => flip(durable, offset, mask),
            None => {}
        }
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
        (len > Bytes::ZERO && self.is_clean(offset, len)).then_some((offset, len))
    }

    /// Whether none of a range, which is on the disk, is dirty.
    fn is_clean(&self, offset: Bytes, len: Bytes) -> bool {
        let mut clean = true;
        let told = self.extents(offset, len, |_, dirty, _| {
            clean &= !dirty;
            ControlFlow::Continue(())
        });
        assert!(told.is_ok(), "a range on the disk is past it: {told:?}");
        clean
    }

    /// The sectors of dirty blocks, in order.
    fn changed_sectors(&self) -> Vec<Bytes> {
        let (mut at, mut sectors) = (0, Vec::new());
        let told = self.extents(Bytes::ZERO, self.cached.size(), |_, dirty, len| {
            if dirty {
                sectors.extend((at..at + len.0).step_by(SECTOR_LEN).map(Bytes));
            }
            at += len.0;
            ControlFlow::Continue(())
        });
        assert!(told.is_ok(), "a disk is larger than itself: {told:?}");
        sectors
    }
}

fn flip(store: &mut Store, offset: Bytes, mask: u8) {
    let mut byte = [0];
    if store.read(offset, &mut byte).is_ok() {
        // What could be read is on the disk.
        let _on_the_disk = store.write(offset, &[byte[0] ^ mask]);
    }
}

const SECTOR_LEN: usize = 512;

fn read_sector(store: &Store, at: Bytes) -> [u8; SECTOR_LEN] {
    let mut sector = [0; SECTOR_LEN];
    let read = store.read(at, &mut sector);
    assert!(read.is_ok(), "a changed sector is not on the disk: {read:?}");
    sector
}

/// What of a volatile cache a power cut leaves, sector by sector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Survival {
    /// How likely a changed sector is to be on the disk, whole.
    #[serde(default)]
    pub kept: Ratio,
    /// How likely it is to be torn: its first bytes are new, the others old. What is neither kept nor torn is lost.
    #[serde(default)]
    pub torn: Ratio,
}

/// What a power cut did to sectors that were changed and not durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cut {
    /// So many are as they were.
    pub lost: u64,
    /// So many are on the disk.
    pub kept: u64,
    /// So many are half new and half old.
    pub torn: u64,
}

enum Fate {
    Lost,
    Kept,
    /// So many bytes are new.
    Torn(usize),
}

impl Survival {
    /// Whether nothing survives.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the two are more than all sectors together, which makes no sense.
    #[must_use]
    pub const fn is_more_than_all(&self) -> bool {
        self.kept.0.saturating_add(self.torn.0) > Ratio::ONE.0
    }

    fn of(self, dice: &mut Xoshiro256PlusPlus) -> Fate {
        let drawn = scale(dice.next_u64(), u128::from(Ratio::ONE.0));
        let torn = self.kept.0.saturating_add(self.torn.0);
        if drawn < self.kept.0 {
            Fate::Kept
        } else if drawn < torn {
            let at = usize::try_from(scale(dice.next_u64(), 511)).unwrap_or_default();
            Fate::Torn(at + 1)
        } else {
            Fate::Lost
        }
    }
}
