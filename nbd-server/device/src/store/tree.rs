//! The tree under the store: leaves of 64 pages under inner nodes of 64 children, all shared by `Arc`.
//!
//! Offsets here are bytes from the start of the subtree in hand, and ranges always lie inside it. A random access misses
//! the processor's cache once for the page's place in its leaf and once for the page: inner nodes are few, a slot is one
//! word, and no reader looks at a count of owners.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::Piece;
use super::page::{PAGE_LEN, Page};
use crate::{BLOCK, Bytes};

/// Slots of every node.
const FAN_OUT: usize = 64;
/// 64 is this power of two.
const FAN_OUT_BITS: u32 = 6;
/// A block is this power of two.
const BLOCK_BITS: u32 = 12;
const _: () = assert!(
    BLOCK.0 == 1 << BLOCK_BITS
        && BLOCK.0 == 4096
        && PAGE_LEN == 4096
        && 1 << FAN_OUT_BITS == FAN_OUT
        && usize::BITS == 64
);

/// A subtree with something allocated in it, of a height that its owner knows.
pub(super) trait Subtree: Clone {
    /// Nothing of it is allocated yet; to be filled at once.
    fn empty(height: u32) -> Self;

    /// Blocks allocated in it.
    fn allocated(&self) -> u64;

    /// Shows the `len` bytes from `start` on, piece by piece in order.
    fn visit(&self, height: u32, start: u64, len: u64, show: &mut impl FnMut(Piece<'_>));

    /// Tells what is allocated in the `len` bytes from `start` on, as far as `show` wants to know.
    fn extents(&self, height: u32, start: u64, len: u64, show: &mut impl Tell) -> ControlFlow<()>;

    /// Writes `data`, which is not empty, and answers how many blocks became allocated.
    fn write(&mut self, height: u32, start: u64, data: &[u8]) -> u64;

    /// Zeroes the `len` bytes from `start` on, which are not all of it, drops what lies in them as a whole, and answers
    /// how many blocks were freed.
    fn clear(&mut self, height: u32, start: u64, len: u64) -> u64;
}

/// Takes whether a range is allocated, and its length.
pub(super) trait Tell: FnMut(bool, Bytes) -> ControlFlow<()> {}
impl<F: FnMut(bool, Bytes) -> ControlFlow<()>> Tell for F {}

/// An inner node. Those right above the leaves have a type of their own, so that no leaf need say that it is one.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Upper(Inner<Node>),
    Lower(Inner<Leaf>),
}

#[derive(Clone, Debug)]
pub(super) struct Inner<T> {
    /// Blocks below.
    allocated: u64,
    children: [Option<Arc<T>>; FAN_OUT],
}

#[derive(Clone, Debug)]
pub(super) struct Leaf {
    allocated: u64,
    pages: [Option<Page>; FAN_OUT],
}

/// The height of the node that a disk of `size` bytes hangs in: levels above the leaves, 1 at least.
pub(super) fn height(size: u64) -> u32 {
    let last = size.div_ceil(BLOCK.0).saturating_sub(1);
    (u64::BITS - last.leading_zeros()).div_ceil(FAN_OUT_BITS).max(2) - 1
}

/// A length or offset within one node's reach as an index. `usize` has 64 bits, asserted above.
pub(super) fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn offset_of(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Bytes below one child of an inner node at `height`.
fn child_span(height: u32) -> u64 {
    BLOCK.0 << (FAN_OUT_BITS * height)
}

/// One slot's part of a range.
struct Part {
    slot: usize,
    /// Within the slot.
    start: u64,
    len: u64,
}

/// Splits the `len` bytes from `start` on at the borders of slots of `span` bytes, which is a power of two.
fn parts(span: u64, start: u64, len: u64) -> impl Iterator<Item = Part> {
    let (mut at, end) = (start, start + len);
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let within = at & (span - 1);
        let len = (span - within).min(end - at);
        let part = Part { slot: index(at >> span.trailing_zeros()), start: within, len };
        at += len;
        Some(part)
    })
}

impl Node {
    /// The same subtree one level higher: the first of 64.
    pub(super) fn into_parent(self: Arc<Self>) -> Arc<Self> {
        let mut inner = Inner { allocated: self.allocated(), children: [const { None }; FAN_OUT] };
        inner.children[0] = Some(self);
        Arc::new(Self::Upper(inner))
    }

    /// The page that has the byte at `at`, if it is allocated.
    pub(super) fn page(&self, height: u32, at: u64) -> Option<&Page> {
        let (mut node, mut height) = (self, height);
        let slot = |height: u32| index(at >> (BLOCK_BITS + FAN_OUT_BITS * height)) % FAN_OUT;
        loop {
            match node {
                Self::Upper(inner) => node = inner.children[slot(height)].as_ref()?,
                Self::Lower(inner) => {
                    return inner.children[slot(1)].as_ref()?.pages[slot(0)].as_ref();
                }
            }
            height -= 1;
        }
    }

    /// Puts a page where the one that has the byte at `at` is, and answers whether none was there.
    pub(super) fn put(&mut self, height: u32, at: u64, page: Page) -> bool {
        let slot = |height: u32| index(at >> (BLOCK_BITS + FAN_OUT_BITS * height)) % FAN_OUT;
        let added = match self {
            Self::Upper(inner) => {
                let empty = || Arc::new(Self::empty(height - 1));
                let child = inner.children[slot(height)].get_or_insert_with(empty);
                Arc::make_mut(child).put(height - 1, at, page)
            }
            Self::Lower(inner) => {
                let empty = || Arc::new(Leaf::empty(0));
                let leaf = Arc::make_mut(inner.children[slot(1)].get_or_insert_with(empty));
                let added = leaf.pages[slot(0)].replace(page).is_none();
                leaf.allocated += u64::from(added);
                added
            }
        };
        let (Self::Upper(Inner { allocated, .. }) | Self::Lower(Inner { allocated, .. })) = self;
        *allocated += u64::from(added);
        added
    }

    /// One level down, when all but the first child is empty or to be forgotten.
    pub(super) fn first_child(&self) -> Option<Arc<Self>> {
        match self {
            Self::Upper(inner) => inner.children[0].clone(),
            Self::Lower(_) => None,
        }
    }
}

impl Subtree for Node {
    fn empty(height: u32) -> Self {
        if height > 1 { Self::Upper(Inner::empty()) } else { Self::Lower(Inner::empty()) }
    }

    fn allocated(&self) -> u64 {
        match self {
            Self::Upper(inner) => inner.allocated,
            Self::Lower(inner) => inner.allocated,
        }
    }

    fn visit(&self, height: u32, start: u64, len: u64, show: &mut impl FnMut(Piece<'_>)) {
        match self {
            Self::Upper(inner) => inner.visit(height, start, len, show),
            Self::Lower(inner) => inner.visit(height, start, len, show),
        }
    }

    fn extents(&self, height: u32, start: u64, len: u64, show: &mut impl Tell) -> ControlFlow<()> {
        match self {
            Self::Upper(inner) => inner.extents(height, start, len, show),
            Self::Lower(inner) => inner.extents(height, start, len, show),
        }
    }

    fn write(&mut self, height: u32, start: u64, data: &[u8]) -> u64 {
        match self {
            Self::Upper(inner) => inner.write(height, start, data),
            Self::Lower(inner) => inner.write(height, start, data),
        }
    }

    fn clear(&mut self, height: u32, start: u64, len: u64) -> u64 {
        match self {
            Self::Upper(inner) => inner.clear(height, start, len),
            Self::Lower(inner) => inner.clear(height, start, len),
        }
    }
}

impl<T: Subtree> Inner<T> {
    const fn empty() -> Self {
        Self { allocated: 0, children: [const { None }; FAN_OUT] }
    }

    fn visit(&self, height: u32, start: u64, len: u64, show: &mut impl FnMut(Piece<'_>)) {
        for Part { slot, start, len } in parts(child_span(height), start, len) {
            match &self.children[slot] {
                Some(child) => child.visit(height - 1, start, len, show),
                None => show(Piece::Hole(Bytes(len))),
            }
        }
    }

    /// A subtree that is allocated as a whole is one piece.
    fn extents(&self, height: u32, start: u64, len: u64, show: &mut impl Tell) -> ControlFlow<()> {
        if self.allocated == 1 << (FAN_OUT_BITS * (height + 1)) {
            return show(true, Bytes(len));
        }
        for Part { slot, start, len } in parts(child_span(height), start, len) {
            match &self.children[slot] {
                Some(child) => child.extents(height - 1, start, len, show)?,
                None => show(false, Bytes(len))?,
            }
        }
        ControlFlow::Continue(())
    }

    fn write(&mut self, height: u32, start: u64, data: &[u8]) -> u64 {
        let mut rest = data;
        let mut added = 0;
        for Part { slot, start, len } in parts(child_span(height), start, offset_of(data.len())) {
            let (here, after) = rest.split_at(index(len));
            let child = self.children[slot].get_or_insert_with(|| Arc::new(T::empty(height - 1)));
            added += Arc::make_mut(child).write(height - 1, start, here);
            rest = after;
        }
        self.allocated += added;
        added
    }

    fn clear(&mut self, height: u32, start: u64, len: u64) -> u64 {
        let span = child_span(height);
        let mut freed = 0;
        for Part { slot, start, len } in parts(span, start, len) {
            let child = &mut self.children[slot];
            freed += match &mut *child {
                Some(part) if len < span => Arc::make_mut(part).clear(height - 1, start, len),
                whole => whole.take().map_or(0, |whole| whole.allocated()),
            };
            child.take_if(|child| child.allocated() == 0);
        }
        self.allocated -= freed;
        freed
    }
}

impl Subtree for Leaf {
    fn empty(_height: u32) -> Self {
        Self { allocated: 0, pages: [const { None }; FAN_OUT] }
    }

    fn allocated(&self) -> u64 {
        self.allocated
    }

    fn visit(&self, _height: u32, start: u64, len: u64, show: &mut impl FnMut(Piece<'_>)) {
        for Part { slot, start, len } in parts(BLOCK.0, start, len) {
            match &self.pages[slot] {
                Some(page) => show(Piece::Data(page, index(start)..index(start + len))),
                None => show(Piece::Hole(Bytes(len))),
            }
        }
    }

    fn extents(&self, _height: u32, start: u64, len: u64, show: &mut impl Tell) -> ControlFlow<()> {
        for Part { slot, len, .. } in parts(BLOCK.0, start, len) {
            show(self.pages[slot].is_some(), Bytes(len))?;
        }
        ControlFlow::Continue(())
    }

    fn write(&mut self, _height: u32, start: u64, data: &[u8]) -> u64 {
        let mut rest = data;
        let mut added = 0;
        for Part { slot, start, len } in parts(BLOCK.0, start, offset_of(data.len())) {
            let (here, after) = rest.split_at(index(len));
            added += u64::from(self.pages[slot].is_none());
            write_page(&mut self.pages[slot], index(start), here);
            rest = after;
        }
        self.allocated += added;
        added
    }

    fn clear(&mut self, _height: u32, start: u64, len: u64) -> u64 {
        let mut freed = 0;
        for Part { slot, start, len } in parts(BLOCK.0, start, len) {
            match &mut self.pages[slot] {
                Some(page) if len < BLOCK.0 => {
                    let range = index(start)..index(start + len);
                    if page[range.clone()].iter().any(|byte| *byte != 0) {
                        page.make_mut()[range].fill(0);
                    }
                }
                whole => freed += u64::from(whole.take().is_some()),
            }
        }
        self.allocated -= freed;
        freed
    }
}

/// Writes `data` into a page from `start` on. What others own is not copied only to be overwritten.
fn write_page(slot: &mut Option<Page>, start: usize, data: &[u8]) {
    match (&mut *slot, <&[u8; PAGE_LEN]>::try_from(data)) {
        (Some(page), Ok(whole)) => match page.get_mut() {
            Some(own) => *own = *whole,
            None => *page = Page::of(whole),
        },
        (None, Ok(whole)) => *slot = Some(Page::of(whole)),
        (page, Err(_)) => {
            let page = page.get_or_insert_with(Page::zeroed);
            page.make_mut()[start..][..data.len()].copy_from_slice(data);
        }
    }
}
