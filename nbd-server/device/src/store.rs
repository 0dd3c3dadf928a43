//! The sparse disk: bytes on a device of an exact size, of which only what was written takes memory.
//!
//! It knows no sockets, no faults and no time; it is a value that forks in constant time.

mod page;
mod tree;

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use crate::{BLOCK, Bytes, SECTOR};
pub use page::Page;
use tree::{Node, Subtree};

/// Why a disk cannot have a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SizeError {
    /// Disks are whole sectors.
    #[error("a disk of {size} is not a multiple of {SECTOR}")]
    Unaligned {
        /// As asked for.
        size: Bytes,
    },
    /// Offsets on a disk are signed for the kernel.
    #[error("a disk of {size} is larger than {}", Store::SIZE_MAX)]
    TooLarge {
        /// As asked for.
        size: Bytes,
    },
}

/// Why a range of a disk cannot be read or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The range leaves the disk.
    #[error("{len} at offset {offset} ends past the {size} device")]
    PastEnd {
        /// First byte of the range.
        offset: Bytes,
        /// Length of the range.
        len: Bytes,
        /// Size of the disk.
        size: Bytes,
    },
}

/// A piece of what a disk holds.
#[derive(Clone, Debug)]
pub enum Piece<'a> {
    /// These bytes of an allocated block. A clone of the page keeps them as they are now.
    Data(&'a Page, Range<usize>),
    /// So many bytes where nothing is allocated; they read as zeroes.
    Hole(Bytes),
}

impl Piece<'_> {
    /// How much of the disk it is.
    #[must_use]
    pub fn len(&self) -> Bytes {
        match self {
            Self::Data(_, range) => Bytes::of_len(range.len()),
            Self::Hole(len) => *len,
        }
    }

    /// Whether it is nothing, which [`Store::visit`] never shows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == Bytes::ZERO
    }
}

/// A sparse disk of an exact size.
///
/// Blocks of 4 KiB hang in a tree of shared nodes. A fork shares all of them; the first change of a shared node, in
/// either disk, copies that node alone.
#[derive(Debug)]
pub struct Store {
    size: Bytes,
    /// Of the root: levels above the leaves.
    height: u32,
    /// What lies past `size` in here is always zero, so that growing shows zeroes.
    root: Option<Arc<Node>>,
}

impl Store {
    /// The largest disk: what a signed 64-bit offset of whole blocks can reach.
    pub const SIZE_MAX: Bytes = Bytes((1 << 63) - BLOCK.0);

    /// An empty disk; it reads as zeroes.
    ///
    /// # Errors
    ///
    /// When `size` is not a multiple of 512 bytes, or above [`Store::SIZE_MAX`].
    pub fn new(size: Bytes) -> Result<Self, SizeError> {
        Self::check_size(size)?;
        Ok(Self { size, height: tree::height(size.0), root: None })
    }

    /// The exact size.
    #[must_use]
    pub const fn size(&self) -> Bytes {
        self.size
    }

    /// The memory that blocks of this disk take, those shared with forks included: a multiple of 4 KiB.
    #[must_use]
    pub fn allocated(&self) -> Bytes {
        Bytes(self.root.as_ref().map_or(0, |root| root.allocated()) * BLOCK.0)
    }

    /// Fills `buf` with what the disk holds from `offset` on; what was never written is zero.
    ///
    /// # Errors
    ///
    /// When the range ends past the disk; `buf` is untouched then.
    pub fn read(&self, offset: Bytes, buf: &mut [u8]) -> Result<(), AccessError> {
        let mut rest = &mut *buf;
        self.visit(offset, Bytes::of_len(rest.len()), |piece| {
            let (here, after) = std::mem::take(&mut rest).split_at_mut(tree::index(piece.len().0));
            match piece {
                Piece::Data(page, range) => here.copy_from_slice(&page[range]),
                Piece::Hole(_) => here.fill(0),
            }
            rest = after;
        })
    }

    /// Shows what the disk holds in a range, piece by piece in order and without a copy. A hole may be shown in parts.
    ///
    /// # Errors
    ///
    /// When the range ends past the disk; nothing is shown then.
    pub fn visit(
        &self,
        offset: Bytes,
        len: Bytes,
        mut show: impl FnMut(Piece<'_>),
    ) -> Result<(), AccessError> {
        self.check_range(offset, len)?;
        match &self.root {
            Some(root) => root.visit(self.height, offset.0, len.0, &mut show),
            None if len > Bytes::ZERO => show(Piece::Hole(len)),
            None => {}
        }
        Ok(())
    }

    /// Has the processor fetch what an access at these offsets is going to need. Nothing else comes of it: it is for the
    /// next few of a batch, whose waits for memory then run side by side.
    pub fn prefetch(&self, offsets: &[Bytes]) {
        let Some(root) = &self.root else {
            return;
        };
        for offset in offsets.iter().filter(|offset| **offset < self.size) {
            if let Some(page) = root.page(self.height, offset.0) {
                page.prefetch();
            }
        }
    }

    /// Tells in order, until `show` breaks off, which parts of a range are allocated and how long each is. Neighbours may
    /// be alike.
    ///
    /// # Errors
    ///
    /// When the range ends past the disk; nothing is told then.
    pub fn extents(
        &self,
        offset: Bytes,
        len: Bytes,
        mut show: impl FnMut(bool, Bytes) -> ControlFlow<()>,
    ) -> Result<(), AccessError> {
        self.check_range(offset, len)?;
        // That it broke off is its own affair.
        let _broken_off = match &self.root {
            _ if len == Bytes::ZERO => ControlFlow::Continue(()),
            Some(root) => root.extents(self.height, offset.0, len.0, &mut show),
            None => show(false, len),
        };
        Ok(())
    }

    /// Puts `data` on the disk from `offset` on. Blocks are allocated also for data that is zero.
    ///
    /// # Errors
    ///
    /// When the range ends past the disk; nothing is written then.
    pub fn write(&mut self, offset: Bytes, data: &[u8]) -> Result<(), AccessError> {
        self.check_range(offset, Bytes::of_len(data.len()))?;
        if !data.is_empty() {
            let root = self.root.get_or_insert_with(|| Arc::new(Node::empty(self.height)));
            Arc::make_mut(root).write(self.height, offset.0, data);
        }
        Ok(())
    }

    /// Puts `len` bytes on the disk from `offset` on: those of `pages`, of which the first begins with the block that has
    /// `offset`. Pages of whole blocks become the disk's, the rest is copied.
    ///
    /// # Errors
    ///
    /// When the range ends past the disk; nothing is written then.
    ///
    /// # Panics
    ///
    /// When the pages are fewer than the blocks of the range.
    pub fn write_pages(&mut self, offset: Bytes, len: Bytes, pages: &[Page]) -> Result<(), AccessError> {
        let end = self.check_range(offset, len)?.0;
        let mut at = offset.0;
        for page in pages {
            let start = at % BLOCK.0;
            let here = (BLOCK.0 - start).min(end - at);
            if here == BLOCK.0 {
                let root = self.root.get_or_insert_with(|| Arc::new(Node::empty(self.height)));
                Arc::make_mut(root).put(self.height, at, page.clone());
            } else if here > 0 {
                self.write(Bytes(at), &page[tree::index(start)..tree::index(start + here)])?;
            }
            at += here;
        }
        assert!(at == end, "pages up to {at} for a range up to {end}");
        Ok(())
    }

    /// Discards a range: it reads as zeroes, and the blocks that lie in it as a whole are freed. The last block of the
    /// disk counts as whole up to the disk's end.
    ///
    /// # Errors
    ///
    /// When the range ends past the disk; nothing is discarded then.
    pub fn trim(&mut self, offset: Bytes, len: Bytes) -> Result<(), AccessError> {
        self.zero(offset, len)
    }

    /// Zeroes a range: as [`Store::trim`], whose freed blocks also read as zeroes.
    ///
    /// # Errors
    ///
    /// When the range ends past the disk; nothing is zeroed then.
    pub fn zero(&mut self, offset: Bytes, len: Bytes) -> Result<(), AccessError> {
        let end = self.check_range(offset, len)?;
        self.clear(offset.0, end.0);
        Ok(())
    }

    /// Gives the disk another size. What is cut off is gone: growing again shows zeroes there.
    ///
    /// # Errors
    ///
    /// As for [`Store::new`]; the disk is unchanged then.
    pub fn resize(&mut self, size: Bytes) -> Result<(), SizeError> {
        Self::check_size(size)?;
        if size < self.size {
            self.clear(size.0, self.size.0);
        }
        let height = tree::height(size.0);
        while self.height > height {
            self.root = self.root.take().and_then(|root| root.first_child());
            self.height -= 1;
        }
        while self.height < height {
            self.root = self.root.take().map(Node::into_parent);
            self.height += 1;
        }
        self.size = size;
        Ok(())
    }

    /// A second disk with the same content, in constant time. From here on no change of one shows in the other.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { size: self.size, height: self.height, root: self.root.clone() }
    }

    /// Zeroes `start..end`, of which nothing lies past the disk.
    fn clear(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let whole = if end == self.size.0 { end.next_multiple_of(BLOCK.0) } else { end };
        if start == 0 && end == self.size.0 {
            self.root = None;
        } else if let Some(root) = &mut self.root {
            Arc::make_mut(root).clear(self.height, start, whole - start);
            self.root.take_if(|root| root.allocated() == 0);
        }
    }

    fn check_size(size: Bytes) -> Result<(), SizeError> {
        if !size.is_multiple_of(SECTOR) {
            return Err(SizeError::Unaligned { size });
        }
        if size > Self::SIZE_MAX {
            return Err(SizeError::TooLarge { size });
        }
        Ok(())
    }

    fn check_range(&self, offset: Bytes, len: Bytes) -> Result<Bytes, AccessError> {
        let end = offset.checked_add(len).filter(|end| *end <= self.size);
        end.ok_or(AccessError::PastEnd { offset, len, size: self.size })
    }
}
