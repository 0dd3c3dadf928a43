//! One request against the store, and its reply as bytes.

use brim_device::fault::{Op, Request};
use brim_device::{Bytes, Piece, Store};
use nbd_wire::{ErrorCode, SimpleReply};

use super::{Incoming, LONG_READ};

/// The longest read or write that is served. proto.md, "Block size constraints", has clients stay at 32 MiB unless
/// told otherwise; twice that is what nbdkit takes.
pub(crate) const PAYLOAD_MAX: Bytes = Bytes(64 << 20);

/// What proto.md, "Request types", has for a range that leaves the export: `ENOSPC` where it would have to hold data
/// (`NBD_CMD_WRITE`, `NBD_CMD_WRITE_ZEROES`), else `EINVAL`. A request without length is fine anywhere on the disk, its
/// end included.
pub(super) fn check(request: &Request, size: Bytes) -> Result<(), ErrorCode> {
    let inside = request.offset.checked_add(request.len).is_some_and(|end| end <= size);
    match request.op {
        Op::Write | Op::Zeroes if !inside => Err(ErrorCode::Enospc),
        Op::Read | Op::Trim if !inside => Err(ErrorCode::Einval),
        Op::Read | Op::Write if request.len > PAYLOAD_MAX => Err(ErrorCode::Einval),
        _ => Ok(()),
    }
}

pub(super) fn is_long_read(request: &Request) -> bool {
    request.op == Op::Read && request.len >= LONG_READ
}

/// Appends an error reply.
pub(crate) fn refuse(cookie: u64, error: ErrorCode, output: &mut Vec<u8>) {
    SimpleReply { cookie, error: Some(error) }.encode(output);
}

/// Executes a request and appends its reply. The disk may have shrunk since the request was checked.
pub(super) fn run(store: &mut Store, incoming: &Incoming<'_>, output: &mut Vec<u8>) {
    let Request { op, offset, len } = incoming.request;
    let (done, past_end) = match op {
        Op::Read => return read(store, incoming, output),
        Op::Write => (store.write(offset, incoming.data), ErrorCode::Enospc),
        // Whatever was answered is in the store, which is all the permanence there is: nothing is left to flush, and
        // FUA asks for nothing more.
        Op::Flush => (Ok(()), ErrorCode::Eio),
        Op::Trim => (store.trim(offset, len), ErrorCode::Einval),
        Op::Zeroes => (store.zero(offset, len), ErrorCode::Enospc),
    };
    SimpleReply { cookie: incoming.cookie, error: done.err().map(|_| past_end) }.encode(output);
}

/// Executes a read and appends its reply with the data.
pub(super) fn read(store: &Store, incoming: &Incoming<'_>, output: &mut Vec<u8>) {
    let Request { offset, len, .. } = incoming.request;
    let start = output.len();
    SimpleReply { cookie: incoming.cookie, error: None }.encode(output);
    output.reserve(len.to_len().unwrap_or(0));
    let shown = store.visit(offset, len, |piece| match piece {
        Piece::Data(data) => output.extend_from_slice(data),
        Piece::Hole(len) => output.resize(output.len().saturating_add(len.to_len().unwrap_or(0)), 0),
    });
    if shown.is_err() {
        output.truncate(start);
        refuse(incoming.cookie, ErrorCode::Einval, output);
    }
}
