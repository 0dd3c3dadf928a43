//! One request against the store, and its reply as bytes.

use std::ops::ControlFlow;

use brim_device::fault::{ErrorName, Op, Outcome, Request};
use brim_device::{AccessError, Bytes, Images, Piece, Store};
use nbd_wire::{ErrorCode, Headers};

use super::{Data, Incoming};
use crate::output::Output;

/// The longest read or write that is served. proto.md, "Size constraints", has clients stay at 32 MiB unless told
/// otherwise; twice that is what nbdkit takes.
pub(crate) const PAYLOAD_MAX: Bytes = Bytes(64 << 20);

/// Why a request cannot be done, for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    error: ErrorCode,
    why: &'static str,
    /// The first byte that is to blame, which has to lie in the range that was asked for.
    at: Option<u64>,
}

impl Refusal {
    pub(crate) const fn new(error: ErrorCode, why: &'static str) -> Self {
        Self { error, why, at: None }
    }

    fn past_end(error: ErrorCode, offset: Bytes, len: Bytes, size: Bytes) -> Self {
        let at = Some(offset.max(size).0).filter(|_| len > Bytes::ZERO);
        Self { error, why: "the range ends past the device", at }
    }

    /// Appends it to `output` as the answer.
    pub(crate) fn put(self, answer: nbd_wire::Answer, output: &mut Vec<u8>) {
        answer.error(self.error, self.why, self.at, output);
    }
}

/// Whether a range lies on a disk of such a size. A range without length is fine anywhere on it, its end included.
pub(super) fn check_range(offset: Bytes, len: Bytes, size: Bytes, error: ErrorCode) -> Result<(), Refusal> {
    let inside = offset.checked_add(len).is_some_and(|end| end <= size);
    if inside { Ok(()) } else { Err(Refusal::past_end(error, offset, len, size)) }
}

/// What proto.md, "Request types", has for a range that leaves the export: `ENOSPC` where it would have to hold data
/// (`NBD_CMD_WRITE`, `NBD_CMD_WRITE_ZEROES`), else `EINVAL`.
pub(super) fn check(incoming: &Incoming<'_>, size: Bytes) -> Result<(), Refusal> {
    let Request { op, offset, len, .. } = incoming.request;
    match op {
        Op::Write | Op::Zeroes => check_range(offset, len, size, ErrorCode::Enospc)?,
        Op::Read | Op::Trim => check_range(offset, len, size, ErrorCode::Einval)?,
        Op::Flush => {}
    }
    let chunks = incoming.how.answer.headers != Headers::Simple;
    let too_long = |error| Err(Refusal::new(error, "the payload is longer than any this server serves"));
    match op {
        // proto.md, "NBD_CMD_READ": with structured replies the server may "reject large read requests up front with
        // NBD_EOVERFLOW", and an unfragmented one where it is too large for one chunk; with simple replies the code is
        // kept for nobody.
        Op::Read if chunks && len > PAYLOAD_MAX => too_long(ErrorCode::Eoverflow),
        Op::Read if chunks && !incoming.how.fragment && len.0 > incoming.how.chunk_max => {
            Err(Refusal::new(ErrorCode::Eoverflow, "the read is too long for one chunk"))
        }
        Op::Read | Op::Write if len > PAYLOAD_MAX => too_long(ErrorCode::Einval),
        _ => Ok(()),
    }
}

/// Executes a request and appends its reply. The disk may have shrunk since the request was checked.
///
/// proto.md, "Ordering of messages and writes": all changes "that the server completes (i.e. replies to) prior to processing
/// an `NBD_CMD_FLUSH`" have to be durable before that is answered. Here it is all that was executed before the flush is, on
/// any connection, answered already or not. What waits at a gate was not executed.
pub(super) fn run(images: &mut Images, incoming: &Incoming<'_>, output: &mut Output) {
    if incoming.request.op == Op::Read {
        return read(images.cached(), incoming, output);
    }
    match change(images, incoming) {
        Ok(()) => incoming.how.answer.done(output.bytes()),
        Err(AccessError::PastEnd { .. }) => {
            shrunk(incoming, images.cached().size()).put(incoming.how.answer, output.bytes());
        }
        Err(_) => Refusal::new(ErrorCode::Eio, "the store refused").put(incoming.how.answer, output.bytes()),
    }
}

/// Executes a request that is no read.
pub(super) fn change(images: &mut Images, incoming: &Incoming<'_>) -> Result<(), AccessError> {
    let Request { op, offset, len, .. } = incoming.request;
    let done = match op {
        Op::Read => Ok(()),
        Op::Write => match incoming.data {
            Data::Bytes(bytes) => images.write(offset, bytes),
            Data::Pages(payload) => payload.write(images, offset, len),
        },
        Op::Flush => {
            images.flush();
            Ok(())
        }
        Op::Trim => images.trim(offset, len),
        Op::Zeroes if keeps_blocks(incoming) => write_zeroes(images, offset, len),
        Op::Zeroes => images.zero(offset, len),
    };
    // After a flush there is nothing that FUA could add, and it has no range.
    if incoming.how.fua { done.and_then(|()| images.persist(offset, len)) } else { done }
}

/// Answers a request with the error of a fault; nothing is done.
pub(super) fn fault_error(incoming: &Incoming<'_>, error: ErrorName, why: &'static str, output: &mut Output) {
    let error = match error {
        ErrorName::Eperm => ErrorCode::Eperm,
        ErrorName::Eio => ErrorCode::Eio,
        ErrorName::Enomem => ErrorCode::Enomem,
        ErrorName::Einval => ErrorCode::Einval,
        ErrorName::Enospc => ErrorCode::Enospc,
        ErrorName::Eoverflow => ErrorCode::Eoverflow,
        ErrorName::Enotsup => ErrorCode::Enotsup,
        ErrorName::Eshutdown => ErrorCode::Eshutdown,
    };
    Refusal::new(error, why).put(incoming.how.answer, output.bytes());
}

/// What a request changes that is done, or done in another way because a row says so: as a request of its own. `None` where
/// that is nothing.
pub(super) fn done_as<'a>(incoming: &Incoming<'a>, outcome: Option<Outcome>) -> Option<Incoming<'a>> {
    let Request { op, offset, len, .. } = incoming.request;
    let request = match outcome {
        None | Some(Outcome::Disconnect) => incoming.request,
        Some(Outcome::Volatile) if op != Op::Flush => return Some(volatile(incoming)),
        Some(Outcome::Torn { keep }) => Request { len: keep.min(len), ..incoming.request },
        Some(Outcome::Misdirect { to }) => Request { offset: to, ..incoming.request },
        Some(Outcome::Flip { .. }) if op == Op::Write => incoming.request,
        // What has rotted was changed, whoever has read it.
        Some(Outcome::Flip { flip, .. }) if flip.at_rest => {
            Request { op: Op::Write, offset, ..incoming.request }
        }
        Some(_) => return None,
    };
    (request.op != Op::Read).then_some(Incoming { request, ..*incoming })
}

/// Does what a row of the fault table wants instead of what a request asks for, and appends the reply.
pub(super) fn instead(images: &mut Images, incoming: &Incoming<'_>, outcome: Outcome, output: &mut Output) {
    let Request { op, offset, len, .. } = incoming.request;
    let elsewhere = |offset, len| {
        let request = Request { offset, len, ..incoming.request };
        Incoming { request, ..*incoming }
    };
    match outcome {
        Outcome::Error(error) => fault_error(incoming, error, "a fault of the table", output),
        Outcome::Drop => incoming.how.answer.done(output.bytes()),
        Outcome::Volatile if op == Op::Flush => incoming.how.answer.done(output.bytes()),
        Outcome::Volatile => run(images, &volatile(incoming), output),
        Outcome::Torn { keep } => {
            let data = incoming.data.prefix(keep);
            run(images, &Incoming { data, ..elsewhere(offset, keep.min(len)) }, output);
        }
        Outcome::Misdirect { to } => {
            // Pages of a payload lie as its own place on the disk has them, so that elsewhere they are bytes.
            let data = incoming.data.to_vec();
            run(images, &Incoming { data: Data::Bytes(&data), ..elsewhere(to, len) }, output);
        }
        Outcome::Flip { flip, seed } => {
            let bits = Outcome::flipped(flip, seed, len);
            let place = |bit: u64| (Bytes(offset.0.saturating_add(bit / 8)), 1 << (bit % 8));
            if op == Op::Write {
                let mut data = incoming.data.to_vec();
                bits.for_each(|bit| flip_in(&mut data, bit));
                run(images, &Incoming { data: Data::Bytes(&data), ..*incoming }, output);
            } else if flip.at_rest {
                bits.map(place).for_each(|(byte, mask)| images.flip(byte, mask));
                run(images, incoming, output);
            } else {
                let mut shown = Images::write_through(images.cached().fork());
                bits.map(place).for_each(|(byte, mask)| shown.flip(byte, mask));
                run(&mut shown, incoming, output);
            }
        }
        // These are not left to be done instead: requests that are held or end their connection never come here.
        _ => run(images, incoming, output),
    }
}

/// The request without FUA.
fn volatile<'a>(incoming: &Incoming<'a>) -> Incoming<'a> {
    let (mut request, mut how) = (incoming.request, incoming.how);
    (request.fua, how.fua) = (false, false);
    Incoming { request, how, ..*incoming }
}

fn flip_in(data: &mut [u8], bit: u64) {
    if let Some(byte) = Bytes(bit / 8).to_len().and_then(|at| data.get_mut(at)) {
        *byte ^= 1 << (bit % 8);
    }
}

/// Whether zeroes are written into blocks, and none is freed (`NBD_CMD_FLAG_NO_HOLE`). A range that is longer than a payload
/// may be is freed all the same: no request of a few bytes shall take more memory than one that carries data, and nothing
/// but memory can run out when the blocks are written again.
pub(super) fn keeps_blocks(incoming: &Incoming<'_>) -> bool {
    incoming.how.no_hole && incoming.request.len <= PAYLOAD_MAX
}

/// Zeroes a range whose blocks have to be there afterwards.
fn write_zeroes(images: &mut Images, offset: Bytes, len: Bytes) -> Result<(), AccessError> {
    const STEP: usize = 64 << 10;
    static ZEROES: [u8; STEP] = [0; STEP];
    // Before anything is done: none of the range may leave the disk.
    images.cached().extents(offset, len, |_, _| ControlFlow::Break(()))?;
    let (mut at, mut left) = (offset.0, len.to_len().unwrap_or(0));
    while left > 0 {
        let here = left.min(STEP);
        images.write(Bytes(at), &ZEROES[..here])?;
        at += Bytes::of_len(here).0;
        left -= here;
    }
    Ok(())
}

/// Executes a read and appends its reply, whose data stay in the pages of the disk.
fn read(store: &Store, incoming: &Incoming<'_>, output: &mut Output) {
    let Request { offset, len, .. } = incoming.request;
    if check_range(offset, len, store.size(), ErrorCode::Einval).is_err() {
        return shrunk(incoming, store.size()).put(incoming.how.answer, output.bytes());
    }
    let most = Bytes(incoming.how.chunk_max).to_len().unwrap_or(usize::MAX);
    let reply = incoming.how.answer.read(incoming.how.fragment, output);
    let mut reply = reply.in_chunks_of(incoming.how.chunk_max);
    let shown = store.visit(offset, len, |piece| match piece {
        Piece::Data(page, range) => {
            for start in range.clone().step_by(most) {
                reply.data((page, start..range.end.min(start.saturating_add(most))));
            }
        }
        Piece::Hole(len) => reply.hole(len.0),
    });
    assert!(shown.is_ok(), "a checked range ends past its store: {shown:?}");
    reply.finish();
}

/// The disk is smaller than it was when the request was checked.
fn shrunk(incoming: &Incoming<'_>, size: Bytes) -> Refusal {
    let Request { op, offset, len, .. } = incoming.request;
    let error = if matches!(op, Op::Write | Op::Zeroes) { ErrorCode::Enospc } else { ErrorCode::Einval };
    let refusal = Refusal::past_end(error, offset, len, size);
    // Of one that went elsewhere, no byte that was asked for is to blame.
    let at = refusal.at.filter(|_| offset.0 == incoming.how.answer.offset);
    Refusal { at, ..refusal }
}
