//! Lines from a socket, of bounded length.

use std::io;

use brim_device::control::LINE_MAX;

use crate::socket::Socket;

/// How much is asked of the socket at a time.
const CHUNK: usize = 16 << 10;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A line without its end. The last one may have had none.
    Whole(&'a [u8]),
    /// More than [`LINE_MAX`] bytes, which were thrown away.
    TooLong,
}

/// The lines that come from a socket.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    socket: &'a Socket,
    /// What has come, from the line on that was last handed out.
    buffer: Vec<u8>,
    /// The bytes of `buffer` that were handed out.
    used: usize,
    ended: bool,
}

impl<'a> Lines<'a> {
    pub(super) const fn new(socket: &'a Socket) -> Self {
        Self { socket, buffer: Vec::new(), used: 0, ended: false }
    }

    /// Waits for the next line; `None` when the client sends no more.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let mut searched = 0;
        let mut too_long = false;
        loop {
            if let Some(at) = find_end(&self.buffer, searched) {
                self.used = at + 1;
                return Ok(Some(self.line(at, too_long)));
            }
            if self.ended {
                self.used = self.buffer.len();
                let there = too_long || !self.buffer.is_empty();
                return Ok(there.then(|| self.line(self.used, too_long)));
            }
            if self.buffer.len() >= LINE_MAX {
                too_long = true;
                self.buffer.clear();
            }
            searched = self.buffer.len();
            self.receive()?;
        }
    }

    fn line(&self, end: usize, too_long: bool) -> Line<'_> {
        if too_long || end >= LINE_MAX { Line::TooLong } else { Line::Whole(&self.buffer[..end]) }
    }

    fn receive(&mut self) -> io::Result<()> {
        let before = self.buffer.len();
        self.buffer.resize(before + CHUNK, 0);
        let received = self.socket.receive(&mut self.buffer[before..]);
        self.buffer.truncate(before + received.as_ref().copied().unwrap_or(0));
        self.ended = received? == 0;
        Ok(())
    }
}

fn find_end(buffer: &[u8], from: usize) -> Option<usize> {
    let rest = buffer.get(from..)?;
    rest.iter().position(|byte| *byte == b'\n').map(|at| from + at)
}
