//! The thread that reads replies.

use std::io;

use nbd_wire::SimpleReply;

use super::pending::{InFlight, Pending};
use super::{CommandError, Reply};
use crate::socket::Socket;

const BUFFER_LEN: usize = 256 << 10;

/// Bytes that have arrived and are not used yet.
pub(super) struct Reader {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// Completes what is in flight however the reader ends, be it by a completion that panics.
struct LoseAtEnd<'a>(&'a Pending, &'a Socket);

impl Drop for LoseAtEnd<'_> {
    fn drop(&mut self) {
        // First the socket, so that a sender that waits for room gives up.
        self.1.shutdown();
        self.0.lose();
    }
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; BUFFER_LEN], start: 0, end: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start.saturating_add(count));
    }

    /// Waits for more bytes; 0 at the end of the stream.
    pub(super) fn receive(&mut self, socket: &Socket) -> io::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let count = socket.receive(&mut self.buffer[self.end..])?;
        self.end += count;
        Ok(count)
    }

    /// Reads replies until the connection ends.
    pub(super) fn run(mut self, socket: &Socket, pending: &Pending) {
        let _end = LoseAtEnd(pending, socket);
        while let Some((completion, result)) = self.next(socket, pending) {
            completion(result);
        }
    }

    /// The next answer; `None` at the end of the stream, and when the server broke the protocol, after which no byte
    /// of it can be trusted.
    fn next(
        &mut self,
        socket: &Socket,
        pending: &Pending,
    ) -> Option<(super::Completion, Result<Reply, CommandError>)> {
        let reply = loop {
            match SimpleReply::parse(self.bytes()).ok()? {
                Some(reply) => break reply,
                None if self.receive(socket).ok()? == 0 => return None,
                None => {}
            }
        };
        self.consume(SimpleReply::SIZE);
        let InFlight { read_len, completion } = pending.take(reply.cookie)?;
        if let Some(code) = reply.error {
            return Some((completion, Err(CommandError::Refused(code))));
        }
        let Some(data) = self.data(socket, read_len) else {
            completion(Err(CommandError::Lost));
            return None;
        };
        Some((completion, Ok(Reply { data })))
    }

    fn data(&mut self, socket: &Socket, len: usize) -> Option<Vec<u8>> {
        let here = self.bytes().get(..len).unwrap_or(self.bytes());
        let mut filled = here.len();
        let mut data = Vec::with_capacity(len);
        data.extend_from_slice(here);
        data.resize(len, 0);
        self.consume(filled);
        while filled < len {
            let count = socket.receive(&mut data[filled..]).ok().filter(|count| *count > 0)?;
            filled += count;
        }
        Some(data)
    }
}
