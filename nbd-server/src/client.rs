//! An NBD client that keeps many requests in flight on one connection.
//!
//! Requests are sent by whoever submits them; one thread reads the replies and calls the completions, in the order in
//! which the server answers.

mod handshake;
mod pending;
mod reader;

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};

use brim_device::Bytes;
use nbd_wire::{ClientHandshakeError, CommandFlags, ErrorCode, ExportInfo, Request, TransmissionFlags};

use crate::lock;
use crate::socket::Socket;
use handshake::shake_hands;
pub use handshake::{Negotiated, negotiate};
use pending::{InFlight, Pending};
use reader::Reader;

/// Why there is no connection to an export.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The handshake came to nothing.
    #[error(transparent)]
    Handshake(#[from] ClientHandshakeError),
    /// The socket failed.
    #[error("the connection failed during the handshake")]
    Socket(#[from] io::Error),
    /// The server hung up.
    #[error("the server hung up during the handshake")]
    Closed,
    /// The server went on where a request was due. Whoever takes the stream over would not see what it said.
    #[error("the server sent {0} bytes more than the handshake has")]
    TooMuch(usize),
}

/// Why a command was not done, or may not have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The server answered with an error.
    #[error("the server answered {0}")]
    Refused(ErrorCode),
    /// The connection ended first. Whether the command was done is not known.
    #[error("the connection was lost before the answer")]
    Lost,
    /// The protocol has 32 bits for a length. Nothing was sent.
    #[error("{len} is more than one command can carry")]
    TooLong {
        /// Length of the command.
        len: Bytes,
    },
}

impl CommandError {
    /// The errno that says it best: the server's own, `EIO` for a lost connection, `EINVAL` for a command that was
    /// never sent.
    #[must_use]
    pub fn errno(self) -> i32 {
        let code = match self {
            Self::Refused(code) => code,
            Self::Lost => ErrorCode::Eio,
            Self::TooLong { .. } => ErrorCode::Einval,
        };
        // Every value is below 2^31.
        i32::try_from(code.value()).unwrap_or(i32::MAX)
    }
}

/// What to do. Data is borrowed only while it is submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Reads a range; the reply has the data.
    Read {
        /// First byte.
        offset: Bytes,
        /// Bytes from there.
        len: Bytes,
    },
    /// Writes data.
    Write {
        /// First byte.
        offset: Bytes,
        /// What to write.
        data: &'a [u8],
        /// Whether it has to be durable when it is answered.
        fua: bool,
    },
    /// Makes what was answered durable.
    Flush,
    /// Discards a range.
    Trim {
        /// First byte.
        offset: Bytes,
        /// Bytes from there.
        len: Bytes,
        /// Whether it has to be durable when it is answered.
        fua: bool,
    },
    /// Zeroes a range.
    WriteZeroes {
        /// First byte.
        offset: Bytes,
        /// Bytes from there.
        len: Bytes,
        /// Whether it has to be durable when it is answered.
        fua: bool,
        /// Whether the range has to stay allocated, as far as the server can.
        no_hole: bool,
    },
}

/// What a command came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// What was read; empty for every other command.
    pub data: Vec<u8>,
}

/// Is called once with what a command came to, by the client's own thread. It must not wait for anything: no other
/// reply is read until it returns.
pub type Completion = Box<dyn FnOnce(Result<Reply, CommandError>) + Send>;

/// What the server told of the export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The size when the connection was made.
    pub size: Bytes,
    /// What the export can do.
    pub flags: TransmissionFlags,
}

/// A connection to one export. Threads may share it.
///
/// Dropping it says goodbye without waiting for what is in flight: those commands complete with
/// [`CommandError::Lost`] before the drop returns.
#[derive(Debug)]
pub struct Client {
    info: Info,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    socket: Socket,
    pending: Pending,
    /// Taken for each whole message, over the system call too, which is what it is for: messages must not mix.
    sending: Mutex<Vec<u8>>,
}

impl Client {
    /// Makes the handshake for `export` (the empty name is the server's default) on a connected stream, which has to
    /// be in blocking mode. It waits as long as the server takes.
    ///
    /// # Errors
    ///
    /// When the server refuses, is no NBD server, or hangs up.
    pub fn connect(stream: impl Into<Socket>, export: &str) -> Result<Self, ConnectError> {
        let (socket, mut reader) = (stream.into(), Reader::new());
        let ExportInfo { size, flags, .. } = shake_hands(&socket, &mut reader, export)?;
        let shared = Arc::new(Shared { socket, pending: Pending::default(), sending: Mutex::default() });
        let for_reader = Arc::clone(&shared);
        let run = move || reader.run(&for_reader.socket, &for_reader.pending);
        let reader = thread::Builder::new().name("nbd client".to_owned()).spawn(run)?;
        Ok(Self { info: Info { size: Bytes(size), flags }, shared, reader: Some(reader) })
    }

    /// What the server told of the export.
    #[must_use]
    pub const fn info(&self) -> Info {
        self.info
    }

    /// Sends a command and returns when its bytes are with the kernel, which takes as long as the server takes to read
    /// them. `completion` is called exactly once: by the client's thread with the answer, or, when the command cannot be
    /// sent, perhaps by this one before it returns.
    pub fn submit(&self, command: Command<'_>, completion: Completion) {
        let mut request = match header(&command) {
            Ok(request) => request,
            Err(error) => return completion(Err(error)),
        };
        let (data, read_len) = match command {
            Command::Write { data, .. } => (data, 0),
            Command::Read { len, .. } => (&[][..], len.to_len().unwrap_or(usize::MAX)),
            _ => (&[][..], 0),
        };
        // From here on the completion belongs to whoever takes it out of the list: the reader with an answer, or with
        // the end of the connection.
        let Some(cookie) = self.shared.pending.add(InFlight { read_len, completion }) else {
            return;
        };
        request.cookie = cookie;
        if self.shared.send(&request, data).is_err() {
            // The reader sees the end of the stream and completes all that is in flight, this one included.
            self.shared.socket.shutdown();
        }
    }

    /// Reads a range and waits for it.
    ///
    /// # Errors
    ///
    /// As the server answers, or when the connection is lost.
    pub fn read(&self, offset: Bytes, len: Bytes) -> Result<Vec<u8>, CommandError> {
        self.wait_for(Command::Read { offset, len }).map(|reply| reply.data)
    }

    /// Writes data and waits until it is answered.
    ///
    /// # Errors
    ///
    /// As the server answers, or when the connection is lost.
    pub fn write(&self, offset: Bytes, data: &[u8]) -> Result<(), CommandError> {
        self.wait_for(Command::Write { offset, data, fua: false }).map(drop)
    }

    /// Makes what was answered durable.
    ///
    /// # Errors
    ///
    /// As the server answers, or when the connection is lost.
    pub fn flush(&self) -> Result<(), CommandError> {
        self.wait_for(Command::Flush).map(drop)
    }

    /// Discards a range and waits until it is answered.
    ///
    /// # Errors
    ///
    /// As the server answers, or when the connection is lost.
    pub fn trim(&self, offset: Bytes, len: Bytes) -> Result<(), CommandError> {
        self.wait_for(Command::Trim { offset, len, fua: false }).map(drop)
    }

    /// Zeroes a range, by a hole where the server can, and waits until it is answered.
    ///
    /// # Errors
    ///
    /// As the server answers, or when the connection is lost.
    pub fn write_zeroes(&self, offset: Bytes, len: Bytes) -> Result<(), CommandError> {
        self.wait_for(Command::WriteZeroes { offset, len, fua: false, no_hole: false }).map(drop)
    }

    fn wait_for(&self, command: Command<'_>) -> Result<Reply, CommandError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.submit(
            command,
            Box::new(move |result| {
                // The receiver is waiting below.
                let _always_taken = sender.send(result);
            }),
        );
        receiver.recv().unwrap_or(Err(CommandError::Lost))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut goodbye = Vec::with_capacity(Request::SIZE);
        request(nbd_wire::Command::Disconnect, CommandFlags::NONE, Bytes::ZERO, 0).encode(&mut goodbye);
        // Without room in the socket the server learns it from the closing.
        let _learned_anyway = self.shared.socket.try_send(&[IoSlice::new(&goodbye)]);
        self.shared.socket.shutdown();
        // A completion may hold the last handle, and then this is the reader's own thread.
        if let Some(reader) =
            self.reader.take().filter(|reader| reader.thread().id() != thread::current().id())
        {
            // A completion that panicked has told so on stderr.
            let _panicked = reader.join();
        }
    }
}

impl Shared {
    fn send(&self, request: &Request, data: &[u8]) -> io::Result<()> {
        /// Up to this length, copying the payload behind its header is cheaper than a second system call.
        const COPIED_MAX: usize = 64 << 10;
        let mut buffer = lock(&self.sending);
        buffer.clear();
        request.encode(&mut buffer);
        if data.len() <= COPIED_MAX {
            buffer.extend_from_slice(data);
            return self.socket.send_all(&buffer);
        }
        self.socket.send_all(&buffer)?;
        self.socket.send_all(data)
    }
}

fn request(command: nbd_wire::Command, flags: CommandFlags, offset: Bytes, length: u32) -> Request {
    Request { command, flags, cookie: 0, offset: offset.0, length }
}

/// The header of a command, still without its cookie.
fn header(command: &Command<'_>) -> Result<Request, CommandError> {
    let length = |len: Bytes| u32::try_from(len.0).map_err(|_| CommandError::TooLong { len });
    let fua_flag = |fua: bool| if fua { CommandFlags::FUA } else { CommandFlags::NONE };
    Ok(match *command {
        Command::Read { offset, len } => {
            request(nbd_wire::Command::Read, CommandFlags::NONE, offset, length(len)?)
        }
        Command::Write { offset, data, fua } => {
            request(nbd_wire::Command::Write, fua_flag(fua), offset, length(Bytes::of_len(data.len()))?)
        }
        Command::Flush => request(nbd_wire::Command::Flush, CommandFlags::NONE, Bytes::ZERO, 0),
        Command::Trim { offset, len, fua } => {
            request(nbd_wire::Command::Trim, fua_flag(fua), offset, length(len)?)
        }
        Command::WriteZeroes { offset, len, fua, no_hole } => {
            let hole_flag = if no_hole { CommandFlags::NO_HOLE } else { CommandFlags::NONE };
            request(nbd_wire::Command::WriteZeroes, fua_flag(fua) | hole_flag, offset, length(len)?)
        }
    })
}
