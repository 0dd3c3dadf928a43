//! What a connection's bytes travel through: its socket, and TLS on that socket once the client has asked for it.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::socket::{Socket, Wait};
use crate::tls::{Session, Tls};

/// A socket, in the clear or not. It waits nowhere but where it is told to.
pub(crate) struct Transport {
    socket: Arc<Socket>,
    session: Option<Box<Session>>,
}

impl Transport {
    pub(crate) fn new(socket: Arc<Socket>) -> Self {
        Self { socket, session: None }
    }

    /// Every byte from here on belongs to TLS, but for those of `clear`, which are sent before.
    pub(crate) fn start_tls(&mut self, tls: &Tls, clear: Vec<u8>) -> io::Result<()> {
        self.session = Some(Box::new(Session::new(tls, clear)?));
        Ok(())
    }

    /// Whether TLS was not started.
    pub(crate) fn is_in_the_clear(&self) -> bool {
        self.session.is_none()
    }

    /// Takes the bytes that are there; `None` when there are none yet, `Some(0)` at the end of the stream. TLS does not
    /// wait for them: it may have to send first.
    pub(crate) fn try_receive(&mut self, buf: &mut [u8], wait: Wait) -> io::Result<Option<usize>> {
        match &mut self.session {
            None => self.socket.try_receive(buf, wait),
            Some(session) => session.try_receive(&self.socket, buf),
        }
    }

    /// As [`Transport::try_receive`], into several places one after the other.
    pub(crate) fn try_receive_into(
        &mut self,
        places: &mut [IoSliceMut<'_>],
        wait: Wait,
    ) -> io::Result<Option<usize>> {
        let Some(session) = &mut self.session else {
            return self.socket.try_receive_into(places, wait);
        };
        let mut received = None;
        for place in places {
            match session.try_receive(&self.socket, place) {
                Ok(Some(count)) => {
                    received = Some(received.unwrap_or(0) + count);
                    if count < place.len() {
                        break;
                    }
                }
                // What is wrong with a session stays so: the next call tells.
                Ok(None) | Err(_) if received.is_some() => break,
                other => return other,
            }
        }
        Ok(received)
    }

    /// Sends what fits now of these pieces, one behind the other; `None` when nothing does.
    pub(crate) fn try_send(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        match &mut self.session {
            None => self.socket.try_send(pieces),
            Some(session) => session.try_send(&self.socket, pieces),
        }
    }

    /// Goes on sending what [`Transport::try_send`] has taken, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match &mut self.session {
            None => Ok(()),
            Some(session) => session.flush(&self.socket),
        }
    }

    /// Whether [`Transport::flush`] has something to do once the socket has room.
    pub(crate) fn wants_write(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.wants_write())
    }

    /// Whether there is input that poll(2) does not know of.
    pub(crate) fn has_input(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.has_input())
    }

    /// Ends both directions.
    pub(crate) fn shutdown(&mut self) {
        if let Some(session) = &mut self.session {
            session.close(&self.socket);
        }
        self.socket.shutdown();
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
