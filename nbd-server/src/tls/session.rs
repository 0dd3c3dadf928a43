//! TLS on one connection, without waiting: ciphertext is moved when the socket has it or takes it.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use rustls::ServerConnection;

use super::Tls;
use crate::socket::{Socket, Wait};

/// Room for ciphertext that has arrived: several records of 16 KiB in one system call.
const ARRIVED_LEN: usize = 128 << 10;

/// With this much ciphertext unsent, nothing more is encrypted.
const UNSENT_MAX: usize = 256 << 10;

/// The server's end of one TLS session.
pub(crate) struct Session {
    connection: ServerConnection,
    /// Replies from before TLS that the socket has not taken yet. They go first.
    clear: Vec<u8>,
    /// Ciphertext from `start` to `end` is not decrypted yet.
    arrived: Vec<u8>,
    start: usize,
    end: usize,
    /// Decrypted bytes that nobody has fetched.
    decrypted: usize,
    /// The client has said that it will send no more.
    client_closed: bool,
}

impl Session {
    pub(crate) fn new(tls: &Tls, clear: Vec<u8>) -> io::Result<Self> {
        let mut connection = ServerConnection::new(Arc::clone(&tls.config)).map_err(io::Error::other)?;
        connection.set_buffer_limit(Some(UNSENT_MAX));
        let arrived = vec![0; ARRIVED_LEN];
        Ok(Self { connection, clear, arrived, start: 0, end: 0, decrypted: 0, client_closed: false })
    }

    /// Takes what has arrived and fits; `None` when nothing has, `Some(0)` when the client has closed the session.
    /// A stream that ends without that may have been cut off by somebody else, and is an error.
    pub(crate) fn try_receive(&mut self, socket: &Socket, buf: &mut [u8]) -> io::Result<Option<usize>> {
        let mut filled = 0;
        loop {
            let fetched = self.fetch(&mut buf[filled..])?;
            filled += fetched;
            if filled == buf.len() || (self.client_closed && self.decrypted == 0) {
                return Ok(Some(filled));
            }
            if self.start == self.end {
                if filled > 0 {
                    return Ok(Some(filled));
                }
                match socket.try_receive(&mut self.arrived, Wait::No)? {
                    None => return Ok(None),
                    Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Some(count) => (self.start, self.end) = (0, count),
                }
            }
            if let Err(error) = self.decrypt() {
                // The client is told why, if it still listens.
                let _client_gone = self.flush(socket);
                return Err(error);
            }
        }
    }

    /// Encrypts and sends what the socket takes now; `None` when it takes nothing. What was encrypted counts as sent,
    /// and [`Session::flush`] goes on with it.
    pub(crate) fn try_send(&mut self, socket: &Socket, data: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        self.flush(socket)?;
        if self.wants_write() {
            return Ok(None);
        }
        let count = self.connection.writer().write_vectored(data)?;
        self.flush(socket)?;
        Ok(Some(count))
    }

    /// Sends ciphertext until there is none, or the socket takes no more.
    pub(crate) fn flush(&mut self, socket: &Socket) -> io::Result<()> {
        while !self.clear.is_empty() {
            let Some(count) = socket.try_send(&[IoSlice::new(&self.clear)])? else {
                return Ok(());
            };
            self.clear.drain(..count);
        }
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Ciphertext(socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether something is encrypted and unsent.
    pub(crate) fn wants_write(&self) -> bool {
        !self.clear.is_empty() || self.connection.wants_write()
    }

    /// Whether [`Session::try_receive`] has something to say that poll(2) does not know of.
    pub(crate) fn has_input(&self) -> bool {
        self.decrypted > 0 || self.start < self.end || self.client_closed
    }

    /// Tells the client that nothing more comes.
    pub(crate) fn close(&mut self, socket: &Socket) {
        self.connection.send_close_notify();
        // A client that takes no more learns it from the end of the stream.
        let _learned_anyway = self.flush(socket);
    }

    fn fetch(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.decrypted == 0 {
            return Ok(0);
        }
        let count = self.connection.reader().read(buf)?;
        self.decrypted -= count;
        Ok(count)
    }

    /// Decrypts some of what has arrived.
    fn decrypt(&mut self) -> io::Result<()> {
        let mut ciphertext = &self.arrived[self.start..self.end];
        self.start += self.connection.read_tls(&mut ciphertext)?;
        let state = self
            .connection
            .process_new_packets()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.decrypted = state.plaintext_bytes_to_read();
        self.client_closed = state.peer_has_closed();
        Ok(())
    }
}

/// The socket as rustls writes to it: all records that fit, in one system call.
struct Ciphertext<'a>(&'a Socket);

impl Write for Ciphertext<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(data)])
    }

    fn write_vectored(&mut self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        Ok(rustix::io::retry_on_intr(|| sendmsg(self.0, data, &mut SendAncillaryBuffer::default(), flags))?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
