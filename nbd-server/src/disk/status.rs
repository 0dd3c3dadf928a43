//! What `NBD_CMD_BLOCK_STATUS` and `NBD_CMD_CACHE` tell of a disk. Asking changes nothing: it is counted nowhere and no fault sees it.

use std::ops::ControlFlow;

use brim_device::fault::FaultTable;
use brim_device::{ByteRange, Bytes, Images};
use nbd_wire::{Answer, ErrorCode, Headers, StatusAnswer};

use super::execute::check_range;
use super::{Disk, Refusal};
use crate::lock;

/// The metadata contexts of every export, in the order of their IDs.
pub(crate) const CONTEXTS: [&str; 2] = ["base:allocation", "brim:state"];

/// More extents than this are left for the next request. "A server SHOULD NOT send more than 2^20" (proto.md,
/// "Structured reply types"); this many are half a megabyte.
const EXTENTS_MAX: u32 = 1 << 16;

/// `NBD_STATE_HOLE` and `NBD_STATE_ZERO` (proto.md, "`base:allocation` metadata context").
const HOLE_AND_ZERO: u32 = 1 << 0 | 1 << 1;

/// Bits of `brim:state`; docs/nbd.md describes them.
const ALLOCATED: u32 = 1 << 0;
const DIRTY: u32 = 1 << 1;
const FAULT_MAY_FIRE: u32 = 1 << 2;

/// A query for the status of a range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StatusRequest<'a> {
    pub(crate) answer: Answer,
    pub(crate) offset: Bytes,
    pub(crate) len: Bytes,
    /// One extent for each context.
    pub(crate) one: bool,
    /// The longest list of extents, in bytes.
    pub(crate) chunk_max: u64,
    /// By their index in [`CONTEXTS`].
    pub(crate) contexts: &'a [u32],
}

/// What a context says of blocks.
enum Context<'a> {
    Allocation,
    /// With where a row of the fault table could act.
    State(&'a Faulty),
}

impl<'a> Context<'a> {
    fn of(id: u32, faulty: &'a Faulty) -> Self {
        if id == 0 { Self::Allocation } else { Self::State(faulty) }
    }

    /// Tells the flags of a range that is alike in all but the faults, part by part.
    fn tell(
        &self,
        (allocated, dirty): (bool, bool),
        range: ByteRange,
        mut show: impl FnMut(Bytes, u32) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let set = |flag, yes| if yes { flag } else { 0 };
        match self {
            Self::Allocation => show(range.length, set(HOLE_AND_ZERO, !allocated)),
            Self::State(faulty) => faulty.parts(range, |len, faulty| {
                show(len, set(ALLOCATED, allocated) | set(DIRTY, dirty) | set(FAULT_MAY_FIRE, faulty))
            }),
        }
    }
}

/// Where rows of the fault table could still act on a request: ranges in order, apart from one another.
#[derive(Debug, PartialEq, Eq)]
struct Faulty(Vec<ByteRange>);

impl Faulty {
    fn of(faults: &FaultTable, asked: ByteRange) -> Self {
        let all = faults.active().flat_map(|ranges| ranges.unwrap_or_else(|| vec![asked]));
        Self(ByteRange::union(all.filter_map(|range| range.overlap(asked)).collect()))
    }

    /// Tells whether a row could act on the parts of a range, in order.
    fn parts(
        &self,
        range: ByteRange,
        mut show: impl FnMut(Bytes, bool) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut at = range.offset;
        let first = self.0.partition_point(|faulty| faulty.end() <= at);
        for faulty in self.0[first..].iter().map_while(|faulty| faulty.overlap(range)) {
            if at < faulty.offset {
                show(Bytes(faulty.offset.0 - at.0), false)?;
            }
            show(faulty.length, true)?;
            at = faulty.end();
        }
        if at < range.end() {
            show(Bytes(range.end().0 - at.0), false)?;
        }
        ControlFlow::Continue(())
    }
}

impl Disk {
    /// Answers with what the contexts say of this moment.
    pub(crate) fn block_status(&self, request: &StatusRequest<'_>, output: &mut Vec<u8>) {
        let state = lock(&self.shared.state);
        let asked = ByteRange { offset: request.offset, length: request.len };
        let (images, faulty) = (state.images.fork(), Faulty::of(&state.faults, asked));
        drop(state);
        if let Err(refusal) = check(request, images.cached().size()) {
            return refusal.put(request.answer, output);
        }
        for (index, id) in request.contexts.iter().enumerate() {
            let mut status = request.answer.status(*id, output);
            fill(&mut status, request, &images, &Context::of(*id, &faulty));
            status.finish(index + 1 == request.contexts.len());
        }
    }

    /// Answers `NBD_CMD_CACHE`: everything is in memory already, so that only the range can be wrong.
    pub(crate) fn cache(&self, answer: Answer, len: Bytes, output: &mut Vec<u8>) {
        match check_range(Bytes(answer.offset), len, self.size(), ErrorCode::Einval) {
            Ok(()) => answer.done(output),
            Err(refusal) => refusal.put(answer, output),
        }
    }
}

fn check(request: &StatusRequest<'_>, size: Bytes) -> Result<(), Refusal> {
    if request.contexts.is_empty() {
        return Err(Refusal::new(ErrorCode::Einval, "no metadata context was selected"));
    }
    // An extent "has a non-zero length", so that there is nothing to say of no bytes.
    if request.len == Bytes::ZERO {
        return Err(Refusal::new(ErrorCode::Einval, "the range is empty"));
    }
    check_range(request.offset, request.len, size, ErrorCode::Einval)
}

fn fill(status: &mut StatusAnswer<'_>, request: &StatusRequest<'_>, images: &Images, context: &Context<'_>) {
    let fits = request.chunk_max / if request.answer.headers == Headers::Extended { 16 } else { 8 };
    let most = if request.one { 1 } else { u32::try_from(fits).unwrap_or(EXTENTS_MAX).clamp(1, EXTENTS_MAX) };
    let mut at = request.offset;
    let told = images.extents(request.offset, request.len, |allocated, dirty, len| {
        let range = ByteRange { offset: at, length: len };
        at = range.end();
        context.tell((allocated, dirty), range, |len, flags| {
            if status.count() == most && status.is_new(flags) {
                return ControlFlow::Break(());
            }
            status.extent(len.0, flags);
            ControlFlow::Continue(())
        })
    });
    assert!(told.is_ok(), "a checked range ends past its store: {told:?}");
}
