//! A command that is done on the thread that gives it, without a connection: what is not to be put aside needs none.

use brim_device::Bytes;
use brim_device::fault::{Op, Request};
use nbd_wire::{Answer, Headers};

use super::{Data, Disk, How, Incoming, PAYLOAD_MAX, execute, later};
use crate::client::{Command, Reply};
use crate::lock;

impl Disk {
    /// Does a command at once, for a client in the disk's own process; `None` where it has to go over a connection: one that
    /// waits, fails or is logged (there are rows in the fault table, a pool, a log), or that is wrong. Nothing is done then.
    #[must_use]
    pub fn direct(&self, command: &Command<'_>) -> Option<Reply> {
        let incoming = incoming(command)?;
        let Request { op, offset, len, .. } = incoming.request;
        let mut state = lock(&self.shared.state);
        let is_plain = state.faults.is_empty() && state.pool.is_none() && state.log.is_none();
        let is_right = execute::check(&incoming, state.images.cached().size()).is_ok() && len <= PAYLOAD_MAX;
        if !is_plain || !is_right {
            return None;
        }
        let mut data = Vec::new();
        let mut freed = None;
        let done = if op == Op::Read {
            data = vec![0; len.to_len()?];
            state.images.cached().read(offset, &mut data)
        } else {
            freed = state.before_it_frees(&incoming);
            execute::change(&mut state.images, &incoming)
        };
        if done.is_ok() {
            state.stats.count(&incoming.request);
        }
        drop(state);
        later::let_go(freed);
        done.is_ok().then_some(Reply { data })
    }
}

/// The command as a connection would hand it over.
fn incoming<'a>(command: &Command<'a>) -> Option<Incoming<'a>> {
    let (op, offset, len, fua, no_hole) = match *command {
        Command::Read { offset, len } => (Op::Read, offset, len, false, false),
        Command::Write { offset, data, fua } => (Op::Write, offset, Bytes::of_len(data.len()), fua, false),
        Command::Flush => (Op::Flush, Bytes::ZERO, Bytes::ZERO, false, false),
        Command::Trim { offset, len, fua } => (Op::Trim, offset, len, fua, false),
        Command::WriteZeroes { offset, len, fua, no_hole } => (Op::Zeroes, offset, len, fua, no_hole),
    };
    let data = match *command {
        Command::Write { data, .. } => Data::Bytes(data),
        _ => Data::Bytes(&[]),
    };
    // As over a connection, where a length has 32 bits.
    u32::try_from(len.0).ok()?;
    let answer = Answer { headers: Headers::Simple, cookie: 0, offset: offset.0 };
    let how = How { answer, fragment: true, chunk_max: u64::MAX, no_hole, fua };
    Some(Incoming { request: Request { op, offset, len, fua }, data, how })
}
