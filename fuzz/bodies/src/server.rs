//! The whole server on a socket pair: it answers every request that is whole, in order and with the right data, and
//! then closes, whatever comes.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use brim_device::fault::{Row, Then, When};
use brim_device::{Bytes, Store};
use nbd_server::{Disk, ExportOptions, Server};
use nbd_wire::{
    Command, CommandFlags, Content, ErrorCode, ExtendedRequest, Headers, ReplyHeader, Request, StatusQuery,
};

use crate::input::Input;
use crate::options::{GREETING, OPT_GO, put_option, told};

/// Five blocks, the last of which ends with the disk's end.
const SIZE: usize = 4 * 4096 + 512;
/// A socket takes as much at once, so that nobody needs to read meanwhile.
const INPUT_MAX: usize = 64 << 10;
/// Far longer than any answer takes.
const LIMIT: Duration = Duration::from_secs(20);

/// The handshake that goes before the fuzzer's bytes, by the bits of the first of them.
struct Opening {
    headers: Headers,
    contexts: bool,
    export: &'static str,
}

impl Opening {
    /// `None` for no handshake at all.
    fn of(choice: u8) -> Option<Self> {
        let headers = match choice & 3 {
            0 => Headers::Simple,
            1 => Headers::Structured,
            2 => Headers::Extended,
            _ => return None,
        };
        let export = ["disk", "read-only", "gate", "disk"][usize::from(choice >> 2 & 3)];
        Some(Self { headers, contexts: choice & 16 != 0 && headers != Headers::Simple, export })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut stream = vec![0, 0, 0, 3];
        match self.headers {
            Headers::Simple => {}
            Headers::Structured => put_option(&mut stream, 8, &[]),
            Headers::Extended => put_option(&mut stream, 11, &[]),
        }
        let name =
            [&u32::try_from(self.export.len()).unwrap().to_be_bytes()[..], self.export.as_bytes()].concat();
        if self.contexts {
            let queries = [&[0, 0, 0, 1, 0, 0, 0, 15][..], b"base:allocation"].concat();
            put_option(&mut stream, 10, &[&name[..], &queries].concat());
        }
        put_option(&mut stream, OPT_GO, &[&name[..], &[0, 0]].concat());
        stream
    }
}

/// A disk with data, holes and a block that is zero.
fn store() -> (Store, Vec<u8>) {
    let (mut store, mut model) = (Store::new(Bytes::of_len(SIZE)).unwrap(), vec![0; SIZE]);
    for (offset, len, byte) in [(100, 50, 0xaa), (4096, 4096, 0), (SIZE - 600, 600, 0xbb)] {
        store.write(Bytes::of_len(offset), &vec![byte; len]).unwrap();
        model[offset..][..len].fill(byte);
    }
    (store, model)
}

/// A handshake as the first byte says, and then whatever comes.
pub fn server(data: &[u8]) {
    let mut input = Input::new(data);
    let (opening, cut) = (Opening::of(input.u8()), usize::from(input.u8()) * 16);
    let sent = input.take(INPUT_MAX);
    let (server, (store, model)) = (Server::new(), store());
    let (disk, gated) = (Disk::from_store(store.fork()), Disk::from_store(store));
    let gate = Row {
        name: "gate".to_owned(),
        when: When { op: None.into(), nth: Some(2), ..When::default() },
        then: Then::HOLD,
    };
    gated.add_fault(gate).unwrap();
    let read_only = ExportOptions { read_only: true, ..ExportOptions::default() };
    server.add_export("disk", disk.clone()).unwrap();
    server.add_export_with("read-only", disk.clone(), read_only).unwrap();
    server.add_export("gate", gated.clone()).unwrap();

    let (ours, theirs) = UnixStream::pair().unwrap();
    server.serve(theirs).unwrap();
    let received = talk(ours, opening.as_ref().map(Opening::bytes).as_deref(), sent, cut);
    // Its thread may still be on its way out.
    server.shutdown();
    assert!(disk.held().is_empty() && gated.held().is_empty(), "held for a client that has gone");

    let behind_greeting = received.strip_prefix(GREETING).unwrap();
    if let Some(opening) = opening.filter(|opening| opening.export != "gate") {
        let (_, replies) = told(behind_greeting);
        let end = Session { opening, replies, model }.check(sent);
        let mut content = vec![0; SIZE];
        disk.snapshot().read(Bytes::ZERO, &mut content).unwrap();
        assert!(content == end, "the disk is not what was answered");
    }
}

/// Sends all, then hears the server out.
fn talk(mut stream: UnixStream, opening: Option<&[u8]>, sent: &[u8], cut: usize) -> Vec<u8> {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    let (first, second) = sent.split_at(cut.min(sent.len()));
    let first = [opening.unwrap_or_default(), first].concat();
    for part in [&first[..], second] {
        hung_up_or(stream.write_all(part));
    }
    hung_up_or(stream.shutdown(Shutdown::Write));
    let mut received = Vec::new();
    hung_up_or(stream.read_to_end(&mut received).map(drop));
    received
}

/// A server may hang up on what it is sent, but not be silent.
fn hung_up_or(result: io::Result<()>) {
    let Err(error) = result else {
        return;
    };
    let hung_up = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset, io::ErrorKind::NotConnected];
    assert!(hung_up.contains(&error.kind()), "the server neither answers nor closes: {error}");
}

/// A request, whichever headers it came in.
#[derive(Debug)]
struct Asked<'a> {
    command: Command,
    flags: CommandFlags,
    cookie: u64,
    offset: u64,
    length: u64,
    known: bool,
    payload: &'a [u8],
}

/// How the requests of a stream end.
enum End {
    /// No whole request is left, or the client said goodbye.
    Orderly,
    /// The server has to hang up.
    OutOfStep,
}

struct Session<'a> {
    opening: Opening,
    replies: &'a [u8],
    model: Vec<u8>,
}

impl Session<'_> {
    /// Goes through requests and replies together; answers what the disk has to be in the end.
    fn check(mut self, mut sent: &[u8]) -> Vec<u8> {
        loop {
            match self.request(&mut sent) {
                Err(End::Orderly) => {
                    assert!(self.replies.is_empty(), "{} bytes nobody asked for", self.replies.len());
                    return self.model;
                }
                // Answers may be lost with the connection; what they were for is done.
                Err(End::OutOfStep) => return self.model,
                Ok(asked) => self.reply(&asked, sent),
            }
        }
    }

    fn request<'a>(&self, sent: &mut &'a [u8]) -> Result<Asked<'a>, End> {
        let extended = self.opening.headers == Headers::Extended;
        let (mut asked, size, payload) = if extended {
            let request = ExtendedRequest::parse(sent).map_err(|_| End::OutOfStep)?.ok_or(End::Orderly)?;
            let ExtendedRequest { command, flags, cookie, offset, length } = request;
            let known = request.check().is_ok();
            let asked = Asked { command, flags, cookie, offset, length, known, payload: &[] };
            (asked, ExtendedRequest::SIZE, request.payload_length())
        } else {
            let request = Request::parse(sent).map_err(|_| End::OutOfStep)?.ok_or(End::Orderly)?;
            let Request { command, flags, cookie, offset, length } = request;
            let (length, known) = (u64::from(length), request.check(self.opening.headers).is_ok());
            let asked = Asked { command, flags, cookie, offset, length, known, payload: &[] };
            (asked, Request::SIZE, u64::from(request.payload_length()))
        };
        let payload = u32::try_from(payload).map_err(|_| End::OutOfStep)?;
        if asked.command == Command::Disconnect {
            return Err(End::Orderly);
        }
        let payload = usize::try_from(payload).unwrap();
        asked.payload = sent[size..].get(..payload).ok_or(End::Orderly)?;
        *sent = &sent[size + payload..];
        Ok(asked)
    }

    /// Takes the reply to one request off and checks it.
    fn reply(&mut self, asked: &Asked<'_>, behind: &[u8]) {
        let answered = self.take(asked);
        let Some(answered) = answered else {
            // Then the connection must have been cut off by a later request.
            assert!(self.breaks(behind), "no answer to {asked:?}");
            self.replies = &[];
            return self.change(asked);
        };
        assert_eq!(answered.as_ref().err().copied(), self.due(asked).err(), "{asked:?}");
        if let Ok(data) = answered
            && asked.command == Command::Read
        {
            let start = usize::try_from(asked.offset).unwrap();
            assert!(data == self.model[start..][..data.len()], "{asked:?} has other data");
        }
        self.change(asked);
    }

    /// Whether the server has to hang up on what follows.
    fn breaks(&self, mut sent: &[u8]) -> bool {
        loop {
            match self.request(&mut sent) {
                Ok(_) => {}
                Err(end) => return matches!(end, End::OutOfStep),
            }
        }
    }

    /// How proto.md has a request answered.
    fn due(&self, asked: &Asked<'_>) -> Result<(), ErrorCode> {
        let Asked { command, flags, offset, mut length, known, payload, .. } = *asked;
        let changes = matches!(command, Command::Write | Command::Trim | Command::WriteZeroes);
        let full = if matches!(command, Command::Write | Command::WriteZeroes) {
            ErrorCode::Enospc
        } else {
            ErrorCode::Einval
        };
        if !known {
            return Err(ErrorCode::Einval);
        }
        if changes && self.opening.export == "read-only" {
            return Err(ErrorCode::Eperm);
        }
        if command == Command::Flush {
            return Ok(());
        }
        if command == Command::BlockStatus {
            if flags.contains(CommandFlags::PAYLOAD_LEN) {
                let query = StatusQuery::parse(payload).ok_or(ErrorCode::Einval)?;
                let selected: &[u32] = if self.opening.contexts { &[0] } else { &[] };
                if query.contexts.len() > selected.len() || query.contexts.iter().any(|id| *id != 0) {
                    return Err(ErrorCode::Einval);
                }
                length = query.length;
                if query.contexts.is_empty() {
                    return Err(ErrorCode::Einval);
                }
            }
            if !self.opening.contexts || length == 0 {
                return Err(ErrorCode::Einval);
            }
        }
        let inside = offset.checked_add(length).is_some_and(|end| end <= Bytes::of_len(SIZE).0);
        if inside { Ok(()) } else { Err(full) }
    }

    /// Does to the model what the request does to the disk, if anything.
    fn change(&mut self, asked: &Asked<'_>) {
        let done = self.due(asked).is_ok();
        let (Ok(start), Ok(len)) = (usize::try_from(asked.offset), usize::try_from(asked.length)) else {
            return;
        };
        match asked.command {
            Command::Write if done => self.model[start..][..len].copy_from_slice(asked.payload),
            Command::Trim | Command::WriteZeroes if done => self.model[start..][..len].fill(0),
            _ => {}
        }
    }

    /// The data of a reply, or its error; `None` where no whole reply is left.
    fn take(&mut self, asked: &Asked<'_>) -> Option<Result<Vec<u8>, ErrorCode>> {
        let mut data = Vec::new();
        let mut covered = 0;
        let mut error = None;
        if asked.command == Command::Read {
            data = vec![0xee; usize::try_from(asked.length).unwrap_or(0).min(SIZE)];
        }
        loop {
            let (header, size) = ReplyHeader::parse(self.opening.headers, self.replies).unwrap()?;
            let rest = &self.replies[size..];
            match header {
                ReplyHeader::Simple(simple) => {
                    assert_eq!(simple.cookie, asked.cookie);
                    assert!(asked.command != Command::Read || self.opening.headers == Headers::Simple);
                    if let Some(error) = simple.error {
                        self.replies = rest;
                        return Some(Err(error));
                    }
                    let (read, rest) = rest.split_at_checked(data.len())?;
                    self.replies = rest;
                    return Some(Ok(read.to_vec()));
                }
                ReplyHeader::Chunk(chunk) => {
                    assert_eq!(chunk.cookie, asked.cookie);
                    let payload = rest.get(..usize::try_from(chunk.length).unwrap())?;
                    self.replies = &rest[payload.len()..];
                    match chunk.content(payload).unwrap() {
                        Content::None => {}
                        Content::Data { offset, data: piece } => {
                            let at = usize::try_from(offset.checked_sub(asked.offset).unwrap()).unwrap();
                            data[at..][..piece.len()].copy_from_slice(piece);
                            covered += piece.len();
                        }
                        Content::Hole { offset, length } => {
                            let at = usize::try_from(offset.checked_sub(asked.offset).unwrap()).unwrap();
                            let length = usize::try_from(length).unwrap();
                            data[at..][..length].fill(0);
                            covered += length;
                        }
                        Content::Status { context, extents } => {
                            assert_eq!((asked.command, context), (Command::BlockStatus, 0));
                            let told: u64 = extents.iter().map(|extent| extent.length).sum();
                            assert!(asked.offset + told <= Bytes::of_len(SIZE).0);
                        }
                        Content::Error { error: code, .. } => error = Some(code),
                    }
                    if chunk.done {
                        assert!(error.is_some() || covered == data.len(), "{covered} bytes for {asked:?}");
                        return Some(error.map_or(Ok(data), Err));
                    }
                }
            }
        }
    }
}
