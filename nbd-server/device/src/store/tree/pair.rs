//! Two trees of one height side by side: what one takes over from the other, and where they differ.
//!
//! What they share is never walked: a subtree or a page that both own is the same.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use super::{
    Inner, Leaf, Node, PAGE_LEN, Page, Part, Subtree, child_span, clear_page, index, parts, write_page,
};
use crate::{BLOCK, Bytes};

/// A subtree beside another one of its height.
pub(crate) trait Pair: Subtree {
    /// Takes over the `len` bytes from `start` on, which are not all of it.
    fn copy(&mut self, theirs: &Self, height: u32, start: u64, len: u64);

    /// Tells what is allocated in the `len` bytes from `start` on and what differs, as far as `show` wants to know.
    fn compare(
        &self,
        theirs: &Self,
        height: u32,
        range: Range<u64>,
        show: &mut impl TellBoth,
    ) -> ControlFlow<()>;

    /// Blocks that differ.
    fn differing(&self, theirs: &Self) -> u64;
}

/// Takes whether a range is allocated, whether it differs, and its length.
pub(crate) trait TellBoth: FnMut(bool, bool, Bytes) -> ControlFlow<()> {}
impl<F: FnMut(bool, bool, Bytes) -> ControlFlow<()>> TellBoth for F {}

/// One place in both trees.
pub(crate) type Both<'a, T> = (Option<&'a Arc<T>>, Option<&'a Arc<T>>);

/// Takes over the `len` bytes from `start` on, which are not all of what can be in this place.
pub(crate) fn copy<T: Pair>(
    ours: &mut Option<Arc<T>>,
    theirs: Option<&Arc<T>>,
    height: u32,
    start: u64,
    len: u64,
) {
    match (&mut *ours, theirs) {
        (None, None) => {}
        (Some(ours), Some(theirs)) if Arc::ptr_eq(ours, theirs) => {}
        (Some(ours), None) => {
            let _freed = Arc::make_mut(ours).clear(height, start, len);
        }
        (ours, Some(theirs)) => {
            let ours = ours.get_or_insert_with(|| Arc::new(T::empty(height)));
            Arc::make_mut(ours).copy(theirs, height, start, len);
        }
    }
    ours.take_if(|ours| ours.allocated() == 0);
}

/// As [`Pair::compare`], for what is in one place.
pub(crate) fn compare<T: Pair>(
    both: Both<'_, T>,
    height: u32,
    range: Range<u64>,
    show: &mut impl TellBoth,
) -> ControlFlow<()> {
    let (start, len) = (range.start, range.end - range.start);
    match both {
        (None, None) => show(false, false, Bytes(len)),
        (Some(ours), Some(theirs)) if !Arc::ptr_eq(ours, theirs) => ours.compare(theirs, height, range, show),
        (Some(ours), theirs) => {
            let alone = theirs.is_none();
            ours.extents(height, start, len, &mut |allocated, len| show(allocated, allocated && alone, len))
        }
        (None, Some(theirs)) => {
            theirs.extents(height, start, len, &mut |allocated, len| show(false, allocated, len))
        }
    }
}

/// As [`Pair::differing`], for what is in one place.
pub(crate) fn differing<T: Pair>(both: Both<'_, T>) -> u64 {
    match both {
        (Some(ours), Some(theirs)) if Arc::ptr_eq(ours, theirs) => 0,
        (Some(ours), Some(theirs)) => ours.differing(theirs),
        (Some(alone), None) | (None, Some(alone)) => alone.allocated(),
        (None, None) => 0,
    }
}

impl Pair for Node {
    fn copy(&mut self, theirs: &Self, height: u32, start: u64, len: u64) {
        match (self, theirs) {
            (Self::Upper(ours), Self::Upper(theirs)) => ours.copy(theirs, height, start, len),
            (Self::Lower(ours), Self::Lower(theirs)) => ours.copy(theirs, height, start, len),
            _ => unreachable!("trees of one height have the same nodes"),
        }
    }

    fn compare(
        &self,
        theirs: &Self,
        height: u32,
        range: Range<u64>,
        show: &mut impl TellBoth,
    ) -> ControlFlow<()> {
        match (self, theirs) {
            (Self::Upper(ours), Self::Upper(theirs)) => ours.compare(theirs, height, range, show),
            (Self::Lower(ours), Self::Lower(theirs)) => ours.compare(theirs, height, range, show),
            _ => unreachable!("trees of one height have the same nodes"),
        }
    }

    fn differing(&self, theirs: &Self) -> u64 {
        match (self, theirs) {
            (Self::Upper(ours), Self::Upper(theirs)) => ours.differing(theirs),
            (Self::Lower(ours), Self::Lower(theirs)) => ours.differing(theirs),
            _ => unreachable!("trees of one height have the same nodes"),
        }
    }
}

impl<T: Pair> Inner<T> {
    fn copy(&mut self, theirs: &Self, height: u32, start: u64, len: u64) {
        let span = child_span(height);
        let count = |child: &Option<Arc<T>>| child.as_ref().map_or(0, |child| child.allocated());
        for Part { slot, start, len } in parts(span, start, len) {
            let (ours, theirs) = (&mut self.children[slot], theirs.children[slot].as_ref());
            self.allocated -= count(ours);
            if len == span {
                *ours = theirs.cloned();
            } else {
                copy(ours, theirs, height - 1, start, len);
            }
            self.allocated += count(ours);
        }
    }

    fn compare(
        &self,
        theirs: &Self,
        height: u32,
        range: Range<u64>,
        show: &mut impl TellBoth,
    ) -> ControlFlow<()> {
        for Part { slot, start, len } in parts(child_span(height), range.start, range.end - range.start) {
            let both = (self.children[slot].as_ref(), theirs.children[slot].as_ref());
            compare(both, height - 1, start..start + len, show)?;
        }
        ControlFlow::Continue(())
    }

    fn differing(&self, theirs: &Self) -> u64 {
        let both = self.children.iter().zip(&theirs.children);
        both.map(|(ours, theirs)| differing((ours.as_ref(), theirs.as_ref()))).sum()
    }
}

impl Pair for Leaf {
    fn copy(&mut self, theirs: &Self, _height: u32, start: u64, len: u64) {
        for Part { slot, start, len } in parts(BLOCK.0, start, len) {
            let ours = &mut self.pages[slot];
            self.allocated -= u64::from(ours.is_some());
            copy_page(ours, theirs.pages[slot].as_ref(), index(start)..index(start + len));
            self.allocated += u64::from(ours.is_some());
        }
    }

    fn compare(
        &self,
        theirs: &Self,
        _height: u32,
        range: Range<u64>,
        show: &mut impl TellBoth,
    ) -> ControlFlow<()> {
        for Part { slot, len, .. } in parts(BLOCK.0, range.start, range.end - range.start) {
            let (ours, theirs) = (self.pages[slot].as_ref(), theirs.pages[slot].as_ref());
            show(ours.is_some(), !is_same(ours, theirs), Bytes(len))?;
        }
        ControlFlow::Continue(())
    }

    fn differing(&self, theirs: &Self) -> u64 {
        let both = self.pages.iter().zip(&theirs.pages);
        both.map(|(ours, theirs)| u64::from(!is_same(ours.as_ref(), theirs.as_ref()))).sum()
    }
}

fn is_same(ours: Option<&Page>, theirs: Option<&Page>) -> bool {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => ours.is(theirs),
        (None, None) => true,
        _ => false,
    }
}

/// Takes over a part of a page. One that is the same page in the end is shared, also where only a part was asked for.
fn copy_page(ours: &mut Option<Page>, theirs: Option<&Page>, range: Range<usize>) {
    match (ours.as_mut(), theirs) {
        (Some(page), None) if range.len() < PAGE_LEN => clear_page(page, range),
        (_, None) => *ours = None,
        (page, Some(theirs)) if is_equal_outside(page.as_deref(), theirs, &range) => {
            *ours = Some(theirs.clone());
        }
        (_, Some(theirs)) => write_page(ours, range.start, &theirs[range]),
    }
}

fn is_equal_outside(ours: Option<&Page>, theirs: &Page, range: &Range<usize>) -> bool {
    [0..range.start, range.end..PAGE_LEN].into_iter().all(|outside| match ours {
        Some(ours) => ours[outside.clone()] == theirs[outside],
        None => theirs[outside].iter().all(|byte| *byte == 0),
    })
}
