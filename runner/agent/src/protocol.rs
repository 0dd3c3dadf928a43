//! The channel between the executor and the agent: JSON lines both ways over a stream socket, one command at a time.
//! File descriptors go over a second socket, in the order in which the lines speak of them.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use brim_trial::event::HeldRequest;
use brim_trial::operation::Release;
use brim_trial::plan::{Filesystem, Fill};
use brim_trial::{ByteRange, Bytes, Counters, Event, Nanos, Phase, Survival};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Failure, Written};

/// What the agent is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Mount a FUSE filesystem for a disk's file; the reply is [`Reply::Fuse`], with its file descriptor.
    OpenFuse {
        /// The disk's name.
        disk: String,
    },
    /// Put a loop device over the file of a disk.
    AttachLoop {
        /// Its name.
        disk: String,
    },
    /// Give nbd.ko a connection to a disk, which is on the second socket.
    AttachNbd {
        /// Its name.
        disk: String,
        /// The size of the disk.
        size: Bytes,
        /// The transmission flags of the export.
        flags: u16,
    },
    /// Make a filesystem on disks that are attached.
    MakeFilesystem {
        /// Which filesystem.
        filesystem: Filesystem,
        /// The names of the disks.
        disks: Vec<String>,
    },
    /// Mount it.
    Mount(Filesystem),
    /// Fill it until exactly so much is left, or as near as it gets.
    Fill(Fill),
    /// Read the filesystem's counters.
    Counters,
    /// Run the steps of a trial; the reply is [`Reply::Written`].
    Trial(TrialOrder),
    /// Run a program with the mount as its working directory; its three standard streams are on the second socket.
    Program {
        /// Its words.
        command: Vec<String>,
    },
    /// Unmount the filesystem.
    Unmount,
    /// Unmount the filesystem, and take all block devices away. The FUSE filesystems stay, for the next disks of their names.
    Detach,
    /// The answer to a [`Message::Ask`], or why the executor could not do what it was asked.
    Answer {
        /// Of which.
        id: u64,
        /// The answer.
        answer: Result<Answer, String>,
    },
}

/// The steps of one trial.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrialOrder {
    /// Which trial, from 1.
    pub trial: u32,
    /// The seed of what is written.
    pub seed: u64,
    /// What to do.
    pub phases: Vec<Phase>,
    /// How long one step may take.
    pub step_limit: Nanos,
    /// The faults of the disks.
    pub faults: Vec<FaultOrder>,
    /// What the preparation has written.
    #[serde(default, skip_serializing_if = "Written::is_empty")]
    pub written: Written,
}

/// What the agent has to know of a fault.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FaultOrder {
    /// Its name.
    pub name: String,
    /// The disk that it is of.
    pub device: String,
    /// The region that it is about.
    pub region: Option<String>,
    /// Whether a step puts it in force, and not the trial's beginning.
    pub armed: bool,
}

/// What the agent says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// Something was seen.
    Event(Box<Event>),
    /// The first step of a trial begins: now, by `CLOCK_MONOTONIC` of this kernel, in nanoseconds.
    Began {
        /// When.
        at: u64,
    },
    /// A step wants something of the disk, and waits for its [`Command::Answer`]. Several may wait at once.
    Ask {
        /// Told in the answer.
        id: u64,
        /// What.
        ask: Ask,
    },
    /// The command ended.
    Reply(Result<Reply, Failure>),
}

/// What a step wants of the disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Another size.
    Resize {
        /// The disk; the first if `None`.
        device: Option<String>,
        /// The new size.
        size: Bytes,
    },
    /// To be told when a gate holds so many requests.
    Await {
        /// The gate.
        gate: String,
        /// How many.
        count: u64,
    },
    /// Requests let go.
    Release {
        /// The gate.
        gate: String,
        /// Which; if `None` the gate is opened for good.
        some: Option<Release>,
    },
    /// A gate closed again.
    Close {
        /// The gate.
        gate: String,
    },
    /// Faults of one disk put in force, one after the other. Each [`FaultOrder::region`] of them is defined.
    Arm {
        /// The disk.
        device: String,
        /// Their names.
        faults: Vec<String>,
        /// Which bytes the regions are.
        regions: BTreeMap<String, Vec<ByteRange>>,
    },
    /// The content of this moment kept, of all disks, with what of it is durable. They go on; no fault is in force any more.
    CutPower,
    /// What was durable at [`Ask::CutPower`] as the disks' content, and what of the rest survives. Nothing may be mounted.
    RestorePower {
        /// How much of the rest.
        survival: Survival,
        /// What it is drawn from.
        seed: u64,
    },
    /// All gates opened for good, and every [`Ask::Await`] answered: what they wait for will not come.
    GiveUp,
}

/// What the executor did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What it was asked.
    Done,
    /// What the gate holds.
    Held(Vec<HeldRequest>),
    /// What was let go; all of it is done.
    Released(Vec<HeldRequest>),
    /// The gate holds so many requests alone, and none was let go.
    TooFew(u64),
    /// How much was lost with the power.
    Lost(Bytes),
    /// The gates are open, so that what was to be waited for will not come.
    GivenUp,
}

/// How a command ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Nothing more to say.
    Done,
    /// The FUSE file descriptor is on the second socket.
    Fuse,
    /// The mount.
    Mounted {
        /// Its path in the agent's namespace.
        path: String,
    },
    /// The counters.
    Counters(Counters),
    /// What the steps have written.
    Written(Written),
}

/// One end of the line channel.
#[derive(Debug)]
pub struct Lines {
    reader: BufReader<UnixStream>,
}

impl Lines {
    /// Reads lines from `stream`.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self { reader: BufReader::new(stream) }
    }

    /// The next message; `None` when the other side is gone.
    ///
    /// # Errors
    /// The socket failed (also when its read timeout passed), or the line is not a message.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        serde_json::from_str(&line).map(Some).map_err(io::Error::from)
    }

    /// The socket, to set its timeout or to wait on it.
    #[must_use]
    pub fn stream(&self) -> &UnixStream {
        self.reader.get_ref()
    }

    /// Waits for the next line, or the end of the stream, and says whether there is something within `limit`.
    ///
    /// # Errors
    /// The socket failed.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        if !self.reader.buffer().is_empty() {
            return Ok(true);
        }
        let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
        let mut fds = [PollFd::from_borrowed_fd(self.stream().as_fd(), PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&limit)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Sends one message as a line.
///
/// # Errors
/// The socket failed.
pub fn send<T: Serialize>(mut stream: &UnixStream, message: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// The most file descriptors in one message: a program's standard streams.
const FDS_MAX: usize = 3;

/// Sends file descriptors.
///
/// # Errors
/// The socket failed, or there are more than three.
pub fn send_fds(stream: &UnixStream, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many file descriptors for one message"));
    }
    rustix::net::sendmsg(stream.as_fd(), &[IoSlice::new(b"f")], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives the file descriptors of one [`send_fds`].
///
/// # Errors
/// The socket failed, or the other side is gone.
pub fn receive_fds(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let parts = &mut [IoSliceMut::new(&mut byte)];
    let received = rustix::net::recvmsg(stream.as_fd(), parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(fds)
}
