//! What other threads leave for a connection's thread: replies of released requests, requests to do later, and the order to stop.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::event::EventfdFlags;

use crate::disk::{End, Parked};
use crate::lock;
use crate::socket::Socket;

/// A bell that can be waited for with poll(2).
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(crate) fn ring(&self) {
        // The one error a valid eventfd has here is EAGAIN, when 2^64 − 2 rings are unheard: it rings already.
        let _rings_already = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    pub(crate) fn quiet(&self) {
        // EAGAIN means that it did not ring.
        let _was_quiet = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[derive(Debug, Default)]
struct Letters {
    replies: Vec<u8>,
    delayed: Vec<Parked>,
    end: Option<End>,
    stop: bool,
}

/// The letter box of one connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    letters: Mutex<Letters>,
    bell: Bell,
    socket: Arc<Socket>,
}

impl Outbox {
    pub(crate) fn new(socket: Arc<Socket>) -> io::Result<Self> {
        Ok(Self { letters: Mutex::default(), bell: Bell::new()?, socket })
    }

    /// Leaves whole replies, encoded, and whether the connection ends after them. A connection listens for this while requests of its own are held.
    pub(crate) fn post(&self, replies: &[u8], end: Option<End>) {
        let mut letters = lock(&self.letters);
        letters.replies.extend_from_slice(replies);
        letters.end = letters.end.or(end);
        drop(letters);
        self.bell.ring();
    }

    /// Leaves a request that is to be done when its time has come.
    pub(crate) fn delay(&self, parked: Parked) {
        lock(&self.letters).delayed.push(parked);
        self.bell.ring();
    }

    /// Tells the connection to end.
    pub(crate) fn stop(&self) {
        lock(&self.letters).stop = true;
        self.bell.ring();
        // It may wait for its client and for nothing else.
        self.socket.shutdown();
    }

    /// Moves the replies to `output`, and answers with the requests that are to be done later, and how the connection ends if a
    /// row of the fault table has ended it; `None` when it is to stop.
    pub(crate) fn collect(&self, output: &mut Vec<u8>) -> Option<(Vec<Parked>, Option<End>)> {
        self.bell.quiet();
        let mut letters = lock(&self.letters);
        output.append(&mut letters.replies);
        let delayed = std::mem::take(&mut letters.delayed);
        (!letters.stop).then_some((delayed, letters.end))
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }
}
