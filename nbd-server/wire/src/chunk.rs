//! Replies in chunks, as whoever receives them sees them: headers, and what their payloads say.

use crate::bytes::{Fields, Put};
use crate::reply::BadReplyMagic;
use crate::{ErrorCode, Headers, SimpleReply};

/// `NBD_STRUCTURED_REPLY_MAGIC` (proto.md, "Structured reply chunk message").
const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;
/// `NBD_EXTENDED_REPLY_MAGIC` (proto.md of extension-ext-header, "Extended reply chunk message").
const EXTENDED_REPLY_MAGIC: u32 = 0x6e8a_278c;

/// `NBD_REPLY_FLAG_DONE` (proto.md, "Structured reply flags").
const FLAG_DONE: u16 = 1 << 0;
/// What all types of error chunks have set (proto.md, "Structured reply types").
const TYPE_ERROR_BIT: u16 = 1 << 15;

/// The type of a chunk: proto.md, "Structured reply types".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChunkType {
    /// `NBD_REPLY_TYPE_NONE`: no payload, the end of a reply.
    None,
    /// `NBD_REPLY_TYPE_OFFSET_DATA`: a part of what was read.
    OffsetData,
    /// `NBD_REPLY_TYPE_OFFSET_HOLE`: a part of what was read, all zeroes.
    OffsetHole,
    /// `NBD_REPLY_TYPE_BLOCK_STATUS`: extents of one metadata context.
    BlockStatus,
    /// `NBD_REPLY_TYPE_BLOCK_STATUS_EXT`: the same in 64 bits.
    BlockStatusExt,
    /// `NBD_REPLY_TYPE_ERROR`.
    Error,
    /// `NBD_REPLY_TYPE_ERROR_OFFSET`.
    ErrorOffset,
    /// A type this crate does not know.
    Other(u16),
}

impl ChunkType {
    /// The value on the wire.
    #[must_use]
    pub const fn value(self) -> u16 {
        match self {
            Self::None => 0,
            Self::OffsetData => 1,
            Self::OffsetHole => 2,
            Self::BlockStatus => 5,
            Self::BlockStatusExt => 6,
            Self::Error => TYPE_ERROR_BIT | 1,
            Self::ErrorOffset => TYPE_ERROR_BIT | 2,
            Self::Other(value) => value,
        }
    }

    /// The type of a value on the wire.
    #[must_use]
    pub const fn from_value(value: u16) -> Self {
        match value {
            0 => Self::None,
            1 => Self::OffsetData,
            2 => Self::OffsetHole,
            5 => Self::BlockStatus,
            6 => Self::BlockStatusExt,
            0x8001 => Self::Error,
            0x8002 => Self::ErrorOffset,
            other => Self::Other(other),
        }
    }
}

/// The header of one chunk. Its payload follows in the stream and is the caller's to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkHeader {
    /// Whether this is the last chunk of its reply.
    pub done: bool,
    /// What its payload is.
    pub chunk_type: ChunkType,
    /// The name the client gave its request.
    pub cookie: u64,
    /// The offset of the request; only extended headers carry it, in others it is zero.
    pub offset: u64,
    /// Bytes of payload.
    pub length: u64,
}

/// The header of any reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplyHeader {
    /// A reply that is complete, but for the data of a read where replies are simple.
    Simple(SimpleReply),
    /// A chunk of a reply.
    Chunk(ChunkHeader),
}

impl ReplyHeader {
    /// Reads the header at the front of `input` and says how long it was; `None` while it is not complete.
    ///
    /// # Errors
    ///
    /// When the magic is none that such a connection has. The connection must then be dropped.
    pub fn parse(headers: Headers, input: &[u8]) -> Result<Option<(Self, usize)>, BadReplyMagic> {
        let mut fields = Fields(input);
        match (headers, fields.u32()) {
            (_, None) => Ok(None),
            (Headers::Structured, Some(STRUCTURED_REPLY_MAGIC))
            | (Headers::Extended, Some(EXTENDED_REPLY_MAGIC)) => {
                let chunk = ChunkHeader::fields(headers, &mut fields);
                Ok(chunk.map(|chunk| (Self::Chunk(chunk), ChunkHeader::size(headers))))
            }
            (Headers::Extended, Some(found)) => Err(BadReplyMagic { found }),
            (Headers::Simple | Headers::Structured, Some(_)) => {
                let simple = SimpleReply::parse(input)?;
                Ok(simple.map(|reply| (Self::Simple(reply), SimpleReply::SIZE)))
            }
        }
    }
}

impl ChunkHeader {
    /// The length of a header in bytes. Where replies are simple there is none.
    #[must_use]
    pub const fn size(headers: Headers) -> usize {
        match headers {
            Headers::Simple => 0,
            Headers::Structured => 20,
            Headers::Extended => 32,
        }
    }

    fn fields(headers: Headers, fields: &mut Fields<'_>) -> Option<Self> {
        let flags = fields.u16()?;
        let chunk_type = ChunkType::from_value(fields.u16()?);
        let cookie = fields.u64()?;
        let extended = headers == Headers::Extended;
        let offset = if extended { fields.u64()? } else { 0 };
        let length = if extended { fields.u64()? } else { u64::from(fields.u32()?) };
        // "Clients MUST ignore unrecognized flags."
        Some(Self { done: flags & FLAG_DONE != 0, chunk_type, cookie, offset, length })
    }

    /// Appends the header to `output`.
    ///
    /// # Panics
    ///
    /// With a length that the header cannot carry: 2^32 and more where headers are not extended.
    pub fn encode(&self, headers: Headers, output: &mut Vec<u8>) {
        let extended = headers == Headers::Extended;
        output.put_u32(if extended { EXTENDED_REPLY_MAGIC } else { STRUCTURED_REPLY_MAGIC });
        output.put_u16(if self.done { FLAG_DONE } else { 0 });
        output.put_u16(self.chunk_type.value());
        output.put_u64(self.cookie);
        if extended {
            output.put_u64(self.offset);
            output.put_u64(self.length);
        } else {
            let short = u32::try_from(self.length).ok();
            assert!(short.is_some(), "a chunk of {} bytes in a structured reply", self.length);
            output.put_u32(short.unwrap_or_default());
        }
    }

    /// What a payload of this chunk says; `None` when it is not what the type has.
    #[must_use]
    pub fn content<'a>(&self, payload: &'a [u8]) -> Option<Content<'a>> {
        let mut fields = Fields(payload);
        let content = match self.chunk_type {
            ChunkType::None => Content::None,
            ChunkType::OffsetData => {
                let offset = fields.u64()?;
                let data = std::mem::take(&mut fields.0);
                (!data.is_empty()).then_some(Content::Data { offset, data })?
            }
            ChunkType::OffsetHole => {
                let (offset, length) = (fields.u64()?, fields.u32()?);
                (length > 0).then_some(Content::Hole { offset, length })?
            }
            ChunkType::BlockStatus => {
                let context = fields.u32()?;
                let extents = extents(&mut fields, |f| Some((u64::from(f.u32()?), u64::from(f.u32()?))))?;
                Content::Status { context, extents }
            }
            ChunkType::BlockStatusExt => {
                let (context, count) = (fields.u32()?, fields.u32()?);
                let extents = extents(&mut fields, |f| Some((f.u64()?, f.u64()?)))?;
                (u32::try_from(extents.len()) == Ok(count)).then_some(Content::Status { context, extents })?
            }
            ChunkType::Error | ChunkType::ErrorOffset | ChunkType::Other(TYPE_ERROR_BIT..) => {
                let error = Some(fields.u32()?).filter(|value| *value != 0).map(ErrorCode::from_value)?;
                let length = fields.u16()?;
                let message = std::str::from_utf8(fields.bytes(u32::from(length))?).ok()?;
                let offset =
                    if self.chunk_type == ChunkType::ErrorOffset { Some(fields.u64()?) } else { None };
                // "The header length then covers any remaining structured fields at the end."
                fields.0 = &[];
                Content::Error { error, message, offset }
            }
            ChunkType::Other(_) => return None,
        };
        fields.0.is_empty().then_some(content)
    }
}

fn extents(
    fields: &mut Fields<'_>,
    next: impl Fn(&mut Fields<'_>) -> Option<(u64, u64)>,
) -> Option<Vec<Extent>> {
    let mut extents = Vec::new();
    while !fields.0.is_empty() {
        let (length, flags) = next(fields)?;
        (length > 0).then(|| extents.push(Extent { length, flags }))?;
    }
    (!extents.is_empty()).then_some(extents)
}

/// What a chunk says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// Nothing more.
    None,
    /// A part of what was read.
    Data {
        /// Its first byte on the export.
        offset: u64,
        /// It, never empty.
        data: &'a [u8],
    },
    /// A part of what was read, all zeroes.
    Hole {
        /// Its first byte on the export.
        offset: u64,
        /// Its length, never zero.
        length: u32,
    },
    /// What one metadata context has to say, from the offset of the request on.
    Status {
        /// The context's ID.
        context: u32,
        /// Never empty.
        extents: Vec<Extent>,
    },
    /// The request, or a part of it, failed.
    Error {
        /// How.
        error: ErrorCode,
        /// For people; often empty.
        message: &'a str,
        /// Where on the export, when that is known.
        offset: Option<u64>,
    },
}

/// A stretch of the export with one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Its length in bytes, never zero.
    pub length: u64,
    /// What the context defines; only extended headers carry more than 32 bits.
    pub flags: u64,
}
