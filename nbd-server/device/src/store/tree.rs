//! The tree under the store: inner nodes of 64 slots over blocks of 4 KiB, all shared by `Arc`.
//!
//! Offsets here are bytes from the start of the subtree in hand, and ranges always lie inside it.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::Piece;
use crate::{BLOCK, Bytes};

/// Slots of an inner node.
const FAN_OUT: usize = 64;
/// 64 is this power of two.
const FAN_OUT_BITS: u32 = 6;
const BLOCK_LEN: usize = 4096;
const _: () = assert!(BLOCK.0 == 4096 && 1 << FAN_OUT_BITS == FAN_OUT && usize::BITS == 64);

type Block = [u8; BLOCK_LEN];

/// A subtree with something allocated in it.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    Inner(Arc<Inner>),
    Block(Arc<Block>),
}

#[derive(Clone, Debug)]
pub(super) struct Inner {
    /// Blocks below, never none.
    allocated: u64,
    slots: [Option<Slot>; FAN_OUT],
}

impl Slot {
    pub(super) fn allocated_blocks(&self) -> u64 {
        match self {
            Self::Inner(inner) => inner.allocated,
            Self::Block(_) => 1,
        }
    }

    /// The same subtree one level higher: the first of 64.
    pub(super) fn into_parent(self) -> Self {
        let mut inner = Inner { allocated: self.allocated_blocks(), slots: [const { None }; FAN_OUT] };
        inner.slots[0] = Some(self);
        Self::Inner(Arc::new(inner))
    }

    /// One level down, when all but the first child is empty or to be forgotten.
    pub(super) fn into_first(self) -> Option<Self> {
        match self {
            Self::Inner(inner) => inner.slots[0].clone(),
            Self::Block(_) => None,
        }
    }
}

/// Levels of inner nodes a disk of `size` bytes needs.
pub(super) fn height(size: u64) -> u32 {
    let last = size.div_ceil(BLOCK.0).saturating_sub(1);
    (u64::BITS - last.leading_zeros()).div_ceil(FAN_OUT_BITS)
}

/// A length or offset within one node's reach as an index. `usize` has 64 bits, asserted above.
pub(super) fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn offset_of(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Bytes below one child of a node at `height`, which is at least 1.
fn child_span(height: u32) -> u64 {
    BLOCK.0 << (FAN_OUT_BITS * (height - 1))
}

/// One child's part of a range.
struct Part {
    child: usize,
    /// Within the child.
    start: u64,
    len: u64,
}

/// Splits `start..end` at the borders of children.
fn parts(height: u32, start: u64, end: u64) -> impl Iterator<Item = Part> {
    let span = child_span(height);
    let mut at = start;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let within = at % span;
        let len = (span - within).min(end - at);
        let part = Part { child: index(at / span), start: within, len };
        at += len;
        Some(part)
    })
}

/// Shows the `len` bytes from `start` on, piece by piece in order.
pub(super) fn visit(
    slot: Option<&Slot>,
    height: u32,
    start: u64,
    len: u64,
    show: &mut impl FnMut(Piece<'_>),
) {
    match slot {
        None => show(Piece::Hole(Bytes(len))),
        Some(Slot::Block(block)) => show(Piece::Data(&block[index(start)..index(start + len)])),
        Some(Slot::Inner(inner)) => {
            for part in parts(height, start, start + len) {
                visit(inner.slots[part.child].as_ref(), height - 1, part.start, part.len, show);
            }
        }
    }
}

/// Tells what is allocated in the `len` bytes from `start` on, as far as `show` wants to know. A subtree that is
/// allocated as a whole is one piece.
pub(super) fn extents(
    slot: Option<&Slot>,
    height: u32,
    start: u64,
    len: u64,
    show: &mut impl FnMut(bool, Bytes) -> ControlFlow<()>,
) -> ControlFlow<()> {
    match slot {
        Some(Slot::Inner(inner)) if inner.allocated < 1 << (FAN_OUT_BITS * height) => {
            for part in parts(height, start, start + len) {
                extents(inner.slots[part.child].as_ref(), height - 1, part.start, part.len, show)?;
            }
            ControlFlow::Continue(())
        }
        slot => show(slot.is_some(), Bytes(len)),
    }
}

/// Writes `data`, which is not empty, and answers how many blocks became allocated.
pub(super) fn write(slot: &mut Option<Slot>, height: u32, start: u64, data: &[u8]) -> u64 {
    if height == 0 {
        return write_block(slot, index(start), data);
    }
    let empty = || Slot::Inner(Arc::new(Inner { allocated: 0, slots: [const { None }; FAN_OUT] }));
    let Slot::Inner(inner) = slot.get_or_insert_with(empty) else {
        unreachable!("a block where a node of height {height} belongs");
    };
    let inner = Arc::make_mut(inner);
    let mut rest = data;
    let mut added = 0;
    for part in parts(height, start, start + offset_of(data.len())) {
        let (here, after) = rest.split_at(index(part.len));
        added += write(&mut inner.slots[part.child], height - 1, part.start, here);
        rest = after;
    }
    inner.allocated += added;
    added
}

fn write_block(slot: &mut Option<Slot>, start: usize, data: &[u8]) -> u64 {
    let added = u64::from(slot.is_none());
    match (slot.as_mut(), <&Block>::try_from(data)) {
        (Some(Slot::Block(block)), Ok(whole)) => match Arc::get_mut(block) {
            Some(own) => *own = *whole,
            // Shared: the old content need not be copied only to be overwritten.
            None => *block = Arc::new(*whole),
        },
        (Some(Slot::Block(block)), Err(_)) => {
            Arc::make_mut(block)[start..][..data.len()].copy_from_slice(data);
        }
        (Some(Slot::Inner(_)), _) => unreachable!("a node where a block belongs"),
        (None, Ok(whole)) => *slot = Some(Slot::Block(Arc::new(*whole))),
        (None, Err(_)) => {
            let mut block = [0; BLOCK_LEN];
            block[start..][..data.len()].copy_from_slice(data);
            *slot = Some(Slot::Block(Arc::new(block)));
        }
    }
    added
}

/// Zeroes `start..end`, which is not empty and not all of this subtree, drops what lies in it as a whole, and answers
/// how many blocks were freed.
pub(super) fn clear(slot: &mut Option<Slot>, height: u32, start: u64, end: u64) -> u64 {
    match slot {
        None => 0,
        Some(Slot::Block(block)) => {
            if start == 0 && end == BLOCK.0 {
                *slot = None;
                return 1;
            }
            let range = index(start)..index(end);
            if block[range.clone()].iter().any(|byte| *byte != 0) {
                Arc::make_mut(block)[range].fill(0);
            }
            0
        }
        Some(Slot::Inner(shared)) => {
            let freed = clear_children(shared, height, start, end);
            if shared.allocated == 0 {
                *slot = None;
            }
            freed
        }
    }
}

fn clear_children(shared: &mut Arc<Inner>, height: u32, start: u64, end: u64) -> u64 {
    let mut freed = 0;
    for part in parts(height, start, end) {
        if shared.slots[part.child].is_none() {
            continue;
        }
        let inner = Arc::make_mut(shared);
        let child = &mut inner.slots[part.child];
        let below = if part.len == child_span(height) {
            child.take().map_or(0, |whole| whole.allocated_blocks())
        } else {
            clear(child, height - 1, part.start, part.start + part.len)
        };
        inner.allocated -= below;
        freed += below;
    }
    freed
}
