//! Stream sockets of either family, without a signal when the peer has gone.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags};

/// Whether to wait for what has not arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Yes,
    No,
}

impl Wait {
    const fn flags(self) -> RecvFlags {
        match self {
            Self::Yes => RecvFlags::empty(),
            Self::No => RecvFlags::DONTWAIT,
        }
    }
}

/// A connected stream socket, UNIX or TCP. It is used in blocking mode.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
}

#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self { stream: Stream::Unix(stream) }
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        // Replies are sent in batches already; waiting for more would only delay them. A kernel that refuses leaves
        // a slow connection, not a wrong one.
        let _slow_only = stream.set_nodelay(true);
        Self { stream: Stream::Tcp(stream) }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        match socket.stream {
            Stream::Unix(stream) => stream.into(),
            Stream::Tcp(stream) => stream.into(),
        }
    }
}

impl Socket {
    /// Waits for bytes; 0 at the end of the stream.
    pub(crate) fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.try_receive(buf, Wait::Yes).map(Option::unwrap_or_default)
    }

    /// Takes the bytes that are there; `None` when there are none yet and they are not waited for, `Some(0)` at the end
    /// of the stream.
    pub(crate) fn try_receive(&self, buf: &mut [u8], wait: Wait) -> io::Result<Option<usize>> {
        let flags = wait.flags();
        would_block(retry(|| rustix::net::recv(self, &mut *buf, flags).map(|(count, _)| count)))
    }

    /// As [`Socket::try_receive`], into several places one after the other.
    pub(crate) fn try_receive_into(
        &self,
        places: &mut [IoSliceMut<'_>],
        wait: Wait,
    ) -> io::Result<Option<usize>> {
        let mut control = RecvAncillaryBuffer::default();
        let flags = wait.flags();
        would_block(retry(|| {
            rustix::net::recvmsg(self, places, &mut control, flags).map(|message| message.bytes)
        }))
    }

    /// Sends what fits now of these pieces, one behind the other; `None` when nothing does.
    pub(crate) fn try_send(&self, pieces: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let mut control = SendAncillaryBuffer::default();
        would_block(retry(|| rustix::net::sendmsg(self, pieces, &mut control, flags)))
    }

    /// Sends all, waiting as long as it takes.
    pub(crate) fn send_all(&self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let sent = retry(|| rustix::net::send(self, data, SendFlags::NOSIGNAL))?;
            data = data.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Ends both directions, which wakes whoever waits on this socket.
    pub(crate) fn shutdown(&self) {
        // A socket whose peer has gone is shut down already.
        let _gone_already = match &self.stream {
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

fn would_block(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
