//! The transmission phase: requests out of the input buffer, into the disk.

use std::io;
use std::sync::Arc;

use brim_device::Bytes;
use brim_device::fault::{self, Op};
use nbd_wire::{Command, ErrorCode, Headers, Request};

use super::input::{INPUT_LEN, Input};
use super::{ConnectionError, OUTPUT_MAX, Output};
use crate::disk::{Disk, Incoming, PAYLOAD_MAX, refuse};
use crate::outbox::Outbox;
use crate::socket::Socket;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    NeedsInput,
    OutputFull,
    Closed,
}

/// A payload that does not fit into the input buffer.
enum Large {
    None,
    /// It is collected here, `filled` bytes so far.
    Collect {
        request: Request,
        data: Vec<u8>,
        filled: usize,
    },
    /// It is longer than any that is served: its bytes go nowhere.
    Drain {
        cookie: u64,
        left: usize,
    },
}

pub(crate) struct Transmission {
    disk: Disk,
    large: Large,
}

impl Transmission {
    pub(crate) fn new(disk: Disk) -> Self {
        Self { disk, large: Large::None }
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    pub(crate) fn process(
        &mut self,
        input: &mut Input,
        outbox: &Arc<Outbox>,
        output: &mut Output,
    ) -> Result<Progress, ConnectionError> {
        while output.pending() < OUTPUT_MAX {
            if !self.large_is_done(input, outbox, output) {
                return Ok(Progress::NeedsInput);
            }
            let Some(request) = Request::parse(input.bytes())? else {
                return Ok(Progress::NeedsInput);
            };
            if request.command == Command::Disconnect {
                return Ok(Progress::Closed);
            }
            let payload = Bytes(u64::from(request.payload_length())).to_len().unwrap_or(usize::MAX);
            let Some(whole) = Request::SIZE.checked_add(payload).filter(|whole| *whole <= INPUT_LEN) else {
                input.consume(Request::SIZE);
                self.large = Large::of(request, payload);
                continue;
            };
            let Some(message) = input.bytes().get(..whole) else {
                return Ok(Progress::NeedsInput);
            };
            self.run(&request, &message[Request::SIZE..], outbox, output);
            input.consume(whole);
        }
        Ok(Progress::OutputFull)
    }

    /// Takes what the socket has, past the input buffer when a large payload is under way.
    pub(crate) fn receive(&mut self, input: &mut Input, socket: &Socket) -> io::Result<Option<usize>> {
        if let Large::Collect { data, filled, .. } = &mut self.large
            && let Some(room) = data.get_mut(*filled..).filter(|room| !room.is_empty())
        {
            let received = socket.try_receive(room)?;
            *filled += received.unwrap_or(0);
            return Ok(received);
        }
        input.receive(socket)
    }

    /// Moves on with a large payload; false when it needs more input.
    fn large_is_done(&mut self, input: &mut Input, outbox: &Arc<Outbox>, output: &mut Output) -> bool {
        match &mut self.large {
            Large::None => return true,
            Large::Drain { cookie, left } => {
                let here = input.bytes().len().min(*left);
                input.consume(here);
                *left -= here;
                if *left > 0 {
                    return false;
                }
                refuse(*cookie, ErrorCode::Einval, &mut output.bytes);
            }
            Large::Collect { data, filled, .. } => {
                let room = &mut data[*filled..];
                let here = input.bytes().len().min(room.len());
                room[..here].copy_from_slice(&input.bytes()[..here]);
                input.consume(here);
                *filled += here;
                if *filled < data.len() {
                    return false;
                }
            }
        }
        if let Large::Collect { request, data, .. } = std::mem::replace(&mut self.large, Large::None) {
            self.run(&request, &data, outbox, output);
        }
        true
    }

    fn run(&self, request: &Request, data: &[u8], outbox: &Arc<Outbox>, output: &mut Output) {
        let op = match request.check(Headers::Simple).map(|()| request.command) {
            Ok(Command::Read) => Op::Read,
            Ok(Command::Write) => Op::Write,
            Ok(Command::Flush) => Op::Flush,
            Ok(Command::Trim) => Op::Trim,
            Ok(Command::WriteZeroes) => Op::Zeroes,
            Ok(_) => return refuse(request.cookie, ErrorCode::Einval, &mut output.bytes),
            Err(error) => return refuse(request.cookie, error, &mut output.bytes),
        };
        // "The offset and length of a flush MUST be zero" is for clients; a server has no use for them.
        let (offset, len) = if op == Op::Flush {
            (Bytes::ZERO, Bytes::ZERO)
        } else {
            (Bytes(request.offset), Bytes(u64::from(request.length)))
        };
        let incoming = Incoming { request: fault::Request { op, offset, len }, data, cookie: request.cookie };
        self.disk.submit(&incoming, outbox, &mut output.bytes);
    }
}

impl Large {
    fn of(request: Request, payload: usize) -> Self {
        if Bytes::of_len(payload) > PAYLOAD_MAX {
            Self::Drain { cookie: request.cookie, left: payload }
        } else {
            Self::Collect { request, data: vec![0; payload], filled: 0 }
        }
    }
}
