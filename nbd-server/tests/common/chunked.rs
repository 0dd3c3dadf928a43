//! A small client that takes replies in chunks and checks them as a strict client would: right cookies, no overlap,
//! nothing outside the request, all of it covered.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nbd_server::Server;
use nbd_wire::{
    ChunkHeader, Command, CommandFlags, Content, ErrorCode, ExtendedRequest, Extent, Headers, ReplyHeader,
    Request, SimpleReply,
};

const OPT_GO: u32 = 7;
const OPT_STRUCTURED_REPLY: u32 = 8;
const OPT_EXTENDED_HEADERS: u32 = 11;

/// A string as options have it: behind its length.
fn name(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

/// What one request came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) error: Option<(ErrorCode, String, Option<u64>)>,
    /// What was read, with the holes filled in.
    pub(crate) data: Vec<u8>,
    /// The bytes of the export that came as holes.
    pub(crate) holes: u64,
    /// Content chunks of a read.
    pub(crate) chunks: usize,
    /// Block status by context.
    pub(crate) status: BTreeMap<u32, Vec<Extent>>,
}

impl Answered {
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        self.error.as_ref().map(|(code, ..)| *code)
    }
}

struct Expected {
    command: Command,
    offset: u64,
    length: u64,
    /// Of a read: which bytes have come.
    covered: Vec<bool>,
    answered: Answered,
}

pub(crate) struct Chunked {
    pub(crate) stream: UnixStream,
    headers: Headers,
    /// Transmission flags.
    pub(crate) flags: u16,
    /// IDs of the contexts that were agreed upon, by name.
    pub(crate) contexts: BTreeMap<String, u32>,
    cookie: u64,
    waiting: BTreeMap<u64, Expected>,
    done: BTreeMap<u64, Answered>,
}

impl Chunked {
    /// Connects to the default export.
    pub(crate) fn connect(server: &Server, headers: Headers, contexts: &[&str]) -> Self {
        Self::connect_to(server, "", headers, contexts)
    }

    pub(crate) fn connect_to(server: &Server, export: &str, headers: Headers, contexts: &[&str]) -> Self {
        let mut stream = server.connect().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.read_exact(&mut [0; 18]).unwrap();
        stream.write_all(&3u32.to_be_bytes()).unwrap();
        let (waiting, done) = (BTreeMap::new(), BTreeMap::new());
        let mut client =
            Self { stream, headers, flags: 0, contexts: BTreeMap::new(), cookie: 0, waiting, done };
        match headers {
            Headers::Simple => {}
            Headers::Structured => drop(client.option(OPT_STRUCTURED_REPLY, &[])),
            Headers::Extended => drop(client.option(OPT_EXTENDED_HEADERS, &[])),
        }
        if !contexts.is_empty() {
            client.set_contexts(export, contexts);
        }
        let told = client.option(OPT_GO, &[&name(export)[..], &[0; 2]].concat());
        let (_, info) = told.iter().find(|(kind, _)| *kind == 3).unwrap();
        client.flags = u16::from_be_bytes([info[10], info[11]]);
        client
    }

    fn set_contexts(&mut self, export: &str, contexts: &[&str]) {
        let mut payload = name(export);
        payload.extend(u32::try_from(contexts.len()).unwrap().to_be_bytes());
        for context in contexts {
            payload.extend(name(context));
        }
        for (_, told) in self.option(10, &payload).iter().filter(|(kind, _)| *kind == 4) {
            let name = String::from_utf8(told[4..].to_vec()).unwrap();
            self.contexts.insert(name, u32::from_be_bytes(*told.first_chunk().unwrap()));
        }
    }

    /// Sends an option and takes its replies up to the acknowledgement.
    fn option(&mut self, number: u32, payload: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let length = u32::try_from(payload.len()).unwrap();
        let header = [&b"IHAVEOPT"[..], &number.to_be_bytes(), &length.to_be_bytes(), payload];
        self.stream.write_all(&header.concat()).unwrap();
        let mut replies = Vec::new();
        loop {
            let mut header = [0; 20];
            self.stream.read_exact(&mut header).unwrap();
            let word = |at: usize| u32::from_be_bytes(*header[at..].first_chunk().unwrap());
            let mut payload = vec![0; usize::try_from(word(16)).unwrap()];
            self.stream.read_exact(&mut payload).unwrap();
            assert!(word(12) < 1 << 31, "option {number} was refused with {:#x}", word(12));
            if word(12) == 1 {
                return replies;
            }
            replies.push((word(12), payload));
        }
    }

    /// Sends a request and answers its cookie.
    pub(crate) fn send(
        &mut self,
        command: Command,
        flags: CommandFlags,
        (offset, length): (u64, u64),
        data: &[u8],
    ) -> u64 {
        self.cookie += 1;
        let cookie = self.cookie;
        let mut bytes = Vec::new();
        if self.headers == Headers::Extended {
            ExtendedRequest { command, flags, cookie, offset, length }.encode(&mut bytes);
        } else {
            let length = u32::try_from(length).unwrap();
            Request { command, flags, cookie, offset, length }.encode(&mut bytes);
        }
        bytes.extend_from_slice(data);
        self.stream.write_all(&bytes).unwrap();
        let covered = if command == Command::Read && length < 1 << 30 {
            vec![false; usize::try_from(length).unwrap()]
        } else {
            Vec::new()
        };
        let answered = Answered { data: vec![0xee; covered.len()], ..Answered::default() };
        self.waiting.insert(cookie, Expected { command, offset, length, covered, answered });
        cookie
    }

    /// Takes replies until that request is answered.
    pub(crate) fn receive(&mut self, cookie: u64) -> Answered {
        self.receive_any(Some(cookie)).1
    }

    /// Takes replies until that request is answered, or any.
    pub(crate) fn receive_any(&mut self, wanted: Option<u64>) -> (u64, Answered) {
        loop {
            let cookie = wanted.or_else(|| self.done.keys().next().copied());
            if let Some((cookie, answered)) = cookie.and_then(|cookie| self.done.remove_entry(&cookie)) {
                return (cookie, answered);
            }
            self.reply();
        }
    }

    pub(crate) fn ask(
        &mut self,
        command: Command,
        flags: CommandFlags,
        offset: u64,
        length: u64,
    ) -> Answered {
        let cookie = self.send(command, flags, (offset, length), &[]);
        self.receive(cookie)
    }

    pub(crate) fn read(&mut self, offset: u64, length: u64) -> Answered {
        self.ask(Command::Read, CommandFlags::NONE, offset, length)
    }

    pub(crate) fn send_write(&mut self, offset: u64, data: &[u8]) -> u64 {
        let extended = self.headers == Headers::Extended;
        let flags = if extended { CommandFlags::PAYLOAD_LEN } else { CommandFlags::NONE };
        self.send(Command::Write, flags, (offset, u64::try_from(data.len()).unwrap()), data)
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Answered {
        let cookie = self.send_write(offset, data);
        self.receive(cookie)
    }

    fn reply(&mut self) {
        // No header is shorter.
        let mut bytes = vec![0; SimpleReply::SIZE];
        self.stream.read_exact(&mut bytes).unwrap();
        let header = loop {
            if let Some((header, _)) = ReplyHeader::parse(self.headers, &bytes).unwrap() {
                break header;
            }
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            bytes.extend(byte);
        };
        match header {
            ReplyHeader::Simple(simple) => {
                let mut expected = self.waiting.remove(&simple.cookie).unwrap();
                if expected.command == Command::Read {
                    assert_eq!(self.headers, Headers::Simple, "a simple reply to a read");
                    if simple.error.is_none() {
                        self.stream.read_exact(&mut expected.answered.data).unwrap();
                    }
                }
                let error = simple.error.map(|code| (code, String::new(), None));
                self.done.insert(simple.cookie, Answered { error, ..expected.answered });
            }
            ReplyHeader::Chunk(chunk) => {
                let mut payload = vec![0; usize::try_from(chunk.length).unwrap()];
                self.stream.read_exact(&mut payload).unwrap();
                self.chunk(chunk, &payload);
            }
        }
    }

    fn chunk(&mut self, chunk: ChunkHeader, payload: &[u8]) {
        let expected = self.waiting.get_mut(&chunk.cookie).unwrap();
        if self.headers == Headers::Extended {
            assert_eq!(chunk.offset, expected.offset, "extended replies repeat the offset");
        }
        match chunk.content(payload).unwrap() {
            Content::None => assert!(chunk.done),
            Content::Data { offset, data } => expected.cover(offset, data),
            Content::Hole { offset, length } => {
                expected.answered.holes += u64::from(length);
                expected.cover(offset, &vec![0; usize::try_from(length).unwrap()]);
            }
            Content::Status { context, extents } => {
                assert!(expected.answered.status.insert(context, extents).is_none(), "{context} twice");
            }
            Content::Error { error, message, offset } => {
                let (start, length) = (expected.offset, expected.length);
                let inside = |at: u64| at.checked_sub(start).is_some_and(|at| at < length);
                assert!(offset.is_none_or(inside), "{offset:?} is not in {length} bytes at {start}");
                expected.answered.error = Some((error, message.to_owned(), offset));
            }
        }
        if chunk.done {
            let expected = self.waiting.remove(&chunk.cookie).unwrap();
            let whole = expected.covered.iter().all(|covered| *covered);
            assert!(whole || expected.answered.error.is_some(), "a part of the read is missing");
            self.done.insert(chunk.cookie, expected.answered);
        }
    }
}

impl Expected {
    fn cover(&mut self, offset: u64, data: &[u8]) {
        let start = usize::try_from(offset.checked_sub(self.offset).unwrap()).unwrap();
        let covered = &mut self.covered[start..][..data.len()];
        assert!(!covered.contains(&true), "chunks overlap at {offset}");
        covered.fill(true);
        self.answered.data[start..][..data.len()].copy_from_slice(data);
        self.answered.chunks += 1;
    }
}
