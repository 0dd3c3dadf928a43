//! Replies as a server writes them, in whichever headers the connection has.

use crate::bytes::{Put, wire_length};
use crate::sink::Sink;
use crate::{ChunkHeader, ChunkType, ErrorCode, Headers, SimpleReply};

/// The longest data of one chunk, in bytes. "A server MUST NOT send a chunk where any variable-length portion of the
/// chunk is larger than any advertised maximum payload size" (proto.md, "Structured reply types"), and 32 MiB is that
/// by default.
pub const CHUNK_DATA_MAX: u64 = 32 << 20;

/// Where the length is in a structured and in an extended header.
const STRUCTURED_LENGTH_AT: usize = 16;
const EXTENDED_LENGTH_AT: usize = 24;
/// Where the lower half of the flags is, in either.
const FLAGS_AT: usize = 5;

/// What the answer to a request needs to know of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    /// The headers of the connection.
    pub headers: Headers,
    /// The name the client gave its request.
    pub cookie: u64,
    /// The offset in the request, which extended headers repeat.
    pub offset: u64,
}

impl Answer {
    /// Appends that all went well, with nothing to show for it. Not for reads.
    pub fn done(self, output: &mut Vec<u8>) {
        match self.headers {
            // "A simple reply MAY be used as a reply to any request other than NBD_CMD_READ" (proto.md, "Simple reply
            // message"), and it is the shorter one.
            Headers::Simple | Headers::Structured => {
                SimpleReply { cookie: self.cookie, error: None }.encode(output);
            }
            Headers::Extended => self.header(ChunkType::None, true, 0, output),
        }
    }

    /// Appends that the request failed: at a byte of its range, when `at` says so, and why in words for people, where
    /// the headers have room for that.
    ///
    /// # Panics
    ///
    /// With a message of more than 4096 bytes.
    pub fn error(self, error: ErrorCode, message: &str, at: Option<u64>, output: &mut Vec<u8>) {
        if self.headers == Headers::Simple {
            return SimpleReply { cookie: self.cookie, error: Some(error) }.encode(output);
        }
        let length = u16::try_from(message.len()).ok().filter(|length| *length <= 4096);
        assert!(length.is_some(), "an error message of {} bytes", message.len());
        let length = length.unwrap_or_default();
        let (chunk_type, fixed) = match at {
            Some(_) => (ChunkType::ErrorOffset, 14),
            None => (ChunkType::Error, 6),
        };
        self.header(chunk_type, true, fixed + u64::from(length), output);
        output.put_u32(error.value());
        output.put_u16(length);
        output.extend_from_slice(message.as_bytes());
        if let Some(at) = at {
            output.put_u64(at);
        }
    }

    /// Starts the answer to a read, which can be done. With `fragment` it may come in several chunks.
    pub fn read<S: Sink>(self, fragment: bool, sink: &mut S) -> ReadAnswer<'_, S> {
        if self.headers == Headers::Simple {
            SimpleReply { cookie: self.cookie, error: None }.encode(sink.bytes());
        }
        let (at, run) = (self.offset, Run::None);
        ReadAnswer { answer: self, fragment, most: CHUNK_DATA_MAX, at, run, sink }
    }

    /// Starts what one metadata context has to say. Such answers are in chunks only.
    ///
    /// # Panics
    ///
    /// Where replies are simple.
    pub fn status(self, context: u32, output: &mut Vec<u8>) -> StatusAnswer<'_> {
        let chunk_type = match self.headers {
            Headers::Simple => None,
            Headers::Structured => Some(ChunkType::BlockStatus),
            Headers::Extended => Some(ChunkType::BlockStatusExt),
        };
        assert!(chunk_type.is_some(), "block status for a connection with simple replies");
        let start = output.len();
        self.header(chunk_type.unwrap_or(ChunkType::None), false, 0, output);
        output.put_u32(context);
        let count_at = output.len();
        if self.headers == Headers::Extended {
            output.put_u32(0);
        }
        StatusAnswer { answer: self, start, count_at, count: 0, open: None, output }
    }

    fn header(self, chunk_type: ChunkType, done: bool, length: u64, output: &mut Vec<u8>) {
        let Self { headers, cookie, offset } = self;
        ChunkHeader { done, chunk_type, cookie, offset, length }.encode(headers, output);
    }

    /// Fills in what was not known when the header at `start` was written.
    fn close(self, start: usize, done: bool, length: u64, output: &mut [u8]) {
        if self.headers == Headers::Extended {
            output[start + EXTENDED_LENGTH_AT..][..8].copy_from_slice(&length.to_be_bytes());
        } else {
            // No answer of this crate has a chunk as long as 32 bits can say.
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            output[start + STRUCTURED_LENGTH_AT..][..4].copy_from_slice(&length.to_be_bytes());
        }
        output[start + FLAGS_AT] = u8::from(done);
    }
}

/// What was put down last and may still grow.
#[derive(Clone, Copy, Debug)]
enum Run {
    None,
    /// A hole of so many bytes, of which nothing is written yet.
    Hole(u64),
    /// A data chunk of so many bytes, whose header is at `start`.
    Data {
        start: usize,
        length: u64,
    },
}

/// The answer to a read under way: pieces in order, then [`ReadAnswer::finish`].
#[derive(Debug)]
pub struct ReadAnswer<'a, S> {
    answer: Answer,
    fragment: bool,
    /// Bytes of data that one chunk may have.
    most: u64,
    /// Where the next piece is on the export.
    at: u64,
    run: Run,
    sink: &'a mut S,
}

impl<S: Sink> ReadAnswer<'_, S> {
    /// The same with at most so many bytes of data in a chunk, which is at least one and not above [`CHUNK_DATA_MAX`]. No
    /// piece may be longer.
    #[must_use]
    pub fn in_chunks_of(mut self, most: u64) -> Self {
        self.most = most.clamp(1, CHUNK_DATA_MAX);
        self
    }

    /// The next piece is data.
    pub fn data(&mut self, data: S::Data<'_>) {
        if self.answer.headers == Headers::Simple {
            return self.sink.data(data);
        }
        let added = S::length(&data);
        match self.run {
            Run::Data { length, .. } if length + added <= self.most => {}
            // "If the area being read contains both data and a hole, the server MUST use NBD_REPLY_TYPE_OFFSET_DATA with
            // the zeroes explicitly present."
            Run::Hole(length) if !self.fragment => self.open(length),
            _ => {
                self.close(false);
                self.open(0);
            }
        }
        self.sink.data(data);
        self.grow(added);
    }

    /// The next piece is `length` bytes of zeroes that nothing is allocated for.
    pub fn hole(&mut self, length: u64) {
        match self.run {
            _ if self.answer.headers == Headers::Simple => self.sink.zeroes(length),
            Run::Data { .. } if !self.fragment => {
                self.sink.zeroes(length);
                self.grow(length);
            }
            // A hole's length has 32 bits on the wire.
            Run::Hole(before) if u32::try_from(before.saturating_add(length)).is_ok() => {
                self.run = Run::Hole(before + length);
                self.at += length;
            }
            _ => {
                self.close(false);
                self.run = Run::Hole(length);
                self.at += length;
            }
        }
    }

    /// Ends the answer: that was all.
    pub fn finish(mut self) {
        match self.run {
            _ if self.answer.headers == Headers::Simple => {}
            Run::None => self.answer.header(ChunkType::None, true, 0, self.sink.bytes()),
            _ => self.close(true),
        }
    }

    /// Starts a data chunk with the last `zeroes` bytes, which were a hole.
    fn open(&mut self, zeroes: u64) {
        let bytes = self.sink.bytes();
        let start = bytes.len();
        self.answer.header(ChunkType::OffsetData, false, 0, bytes);
        bytes.put_u64(self.at - zeroes);
        self.sink.zeroes(zeroes);
        self.run = Run::Data { start, length: zeroes };
    }

    fn grow(&mut self, added: u64) {
        self.at += added;
        if let Run::Data { length, .. } = &mut self.run {
            *length += added;
        }
    }

    fn close(&mut self, done: bool) {
        match std::mem::replace(&mut self.run, Run::None) {
            Run::None => {}
            Run::Hole(length) => {
                let bytes = self.sink.bytes();
                self.answer.header(ChunkType::OffsetHole, done, 12, bytes);
                bytes.put_u64(self.at - length);
                bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
            }
            // An offset is before the data.
            Run::Data { start, length } => self.answer.close(start, done, 8 + length, self.sink.bytes()),
        }
    }
}

/// What one metadata context has to say: extents in order, then [`StatusAnswer::finish`].
#[derive(Debug)]
pub struct StatusAnswer<'a> {
    answer: Answer,
    start: usize,
    /// Where extended headers have the number of extents.
    count_at: usize,
    count: u32,
    /// The last extent, while it may still grow.
    open: Option<(u64, u32)>,
    output: &'a mut Vec<u8>,
}

impl StatusAnswer<'_> {
    /// The next `length` bytes have these flags. Joined to the extent before where that has the same.
    pub fn extent(&mut self, length: u64, flags: u32) {
        match &mut self.open {
            Some((grown, same)) if *same == flags => *grown += length,
            _ => {
                self.put_open();
                self.open = Some((length, flags));
            }
        }
    }

    /// Extents so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count + u32::from(self.open.is_some())
    }

    /// Whether the next bytes, with these flags, would make one extent more.
    #[must_use]
    pub fn is_new(&self, flags: u32) -> bool {
        self.open.is_none_or(|(_, same)| same != flags)
    }

    /// Ends the chunk. With `done` it is the last of the reply.
    pub fn finish(mut self, done: bool) {
        self.put_open();
        if self.answer.headers == Headers::Extended {
            self.output[self.count_at..][..4].copy_from_slice(&self.count.to_be_bytes());
        }
        let length = self.output.len() - self.start - ChunkHeader::size(self.answer.headers);
        self.answer.close(self.start, done, u64::from(wire_length(length)), self.output);
    }

    fn put_open(&mut self) {
        let Some((length, flags)) = self.open.take() else {
            return;
        };
        if self.answer.headers == Headers::Extended {
            self.output.put_u64(length);
            self.output.put_u64(u64::from(flags));
        } else {
            // A compact request cannot ask for more than 2^32 − 1 bytes, and no extent says more than was asked for.
            self.output.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
            self.output.put_u32(flags);
        }
        self.count += 1;
    }
}
