//! The input buffer: bytes that have arrived and are not used yet.

use std::io;

use crate::socket::Wait;
use crate::transport::Transport;

/// Room for a few hundred small requests, which are then one batch: docs/nbd.md, "The data path".
pub(crate) const INPUT_LEN: usize = 256 << 10;

pub(crate) struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; INPUT_LEN], start: 0, end: 0 }
    }

    /// What has arrived and is not consumed.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start.saturating_add(count));
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// The first `len` places of the buffer, for somebody who receives past it. Only while it is empty.
    pub(crate) fn spare(&mut self, len: usize) -> &mut [u8] {
        assert!(self.start == self.end, "{} bytes are in the input buffer", self.end - self.start);
        self.start = 0;
        self.end = 0;
        &mut self.buffer[..len]
    }

    /// So many bytes were put into [`Input::spare`].
    pub(crate) fn took(&mut self, count: usize) {
        self.end = count;
    }

    /// Takes what the socket has and fits; `Some(0)` at the end of the stream.
    pub(crate) fn receive(&mut self, socket: &mut Transport, wait: Wait) -> io::Result<Option<usize>> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let room = &mut self.buffer[self.end..];
        assert!(
            !room.is_empty(),
            "an input buffer of {INPUT_LEN} bytes is full and nothing was taken from it"
        );
        let received = socket.try_receive(room, wait)?;
        self.end += received.unwrap_or(0);
        Ok(received)
    }
}
