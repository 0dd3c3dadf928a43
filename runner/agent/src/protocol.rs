//! The channel between the executor and the agent: JSON lines both ways over a stream socket, one command at a time.
//! File descriptors go over a second socket, in the order in which the lines speak of them.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use brim_trial::condition::Wanted;
use brim_trial::event::{HeldRequest, RequestCount};
use brim_trial::operation::{DiskWord, Release};
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
    /// Find a region; the reply is [`Reply::Region`].
    Region {
        /// Its name.
        name: String,
    },
    /// Something beside the command that is under way, which is a program. Told by [`Message::Aside`].
    Aside {
        /// Told in the answer.
        id: u64,
        /// What.
        aside: Aside,
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

/// What is to be done while a program runs at the mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aside {
    /// Have the kernel see that the disk has this size.
    Size {
        /// The size.
        size: Bytes,
    },
    /// Find a region.
    Region {
        /// Its name.
        name: String,
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
    /// What is to be looked at beside what always is.
    #[serde(default)]
    pub wanted: Wanted,
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
    /// A [`Command::Aside`] is done: the bytes of a region, or nothing. Or why not.
    Aside {
        /// Which.
        id: u64,
        /// What came of it.
        told: Result<Vec<ByteRange>, String>,
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
    /// To be told what was asked of it since it is there.
    CountRequests,
    /// The bytes of a range as a disk has them at this moment: no request, which no fault sees.
    Peek {
        /// The disk.
        device: String,
        /// The range.
        range: ByteRange,
    },
    /// A word that they are told as it is. For a snapshot to be restored nothing may be mounted.
    Disk(DiskWord),
    /// All gates opened for good, and every [`Ask::Await`] answered: what they wait for will not come.
    GiveUp,
}

/// What the executor did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What it was asked.
    Done,
    /// A mark is in the log.
    Marked,
    /// What the gate holds.
    Held(Vec<HeldRequest>),
    /// What was let go; all of it is done.
    Released(Vec<HeldRequest>),
    /// The gate holds so many requests alone, and none was let go.
    TooFew(u64),
    /// Two hexadecimal digits for each byte.
    Bytes(String),
    /// The disks have these sizes now, by their names.
    Sizes(BTreeMap<String, Bytes>),
    /// How much was lost with the power.
    Lost(Bytes),
    /// What was asked of the disk, by operation.
    Requests(BTreeMap<String, RequestCount>),
    /// The gates are open, so that what was to be waited for will not come.
    GivenUp,
}

/// Bytes as [`Answer::Bytes`] has them.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    let digits = |byte: &u8| [byte >> 4, byte & 0xf].map(|digit| char::from_digit(u32::from(digit), 16));
    bytes.iter().flat_map(digits).flatten().collect()
}

/// What [`to_hex`] was given; `None` where the text is none of its own.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?)).collect()
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
    /// The bytes of a region.
    Region(Vec<ByteRange>),
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
