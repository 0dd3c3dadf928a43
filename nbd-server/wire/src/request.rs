//! Requests of the transmission phase.

use crate::bytes::{Fields, Put};
use crate::{CommandFlags, ErrorCode, Headers};

/// `NBD_REQUEST_MAGIC` (proto.md, "Request message").
const REQUEST_MAGIC: u32 = 0x2560_9513;
/// `NBD_EXTENDED_REQUEST_MAGIC` (proto.md of extension-ext-header, "Request message").
const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;

/// The type of a request: proto.md, "Request types".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Command {
    /// `NBD_CMD_READ`.
    Read,
    /// `NBD_CMD_WRITE`. In compact requests it is the one command a payload follows.
    Write,
    /// `NBD_CMD_DISC`: the client is going; no reply.
    Disconnect,
    /// `NBD_CMD_FLUSH`.
    Flush,
    /// `NBD_CMD_TRIM`.
    Trim,
    /// `NBD_CMD_CACHE`.
    Cache,
    /// `NBD_CMD_WRITE_ZEROES`.
    WriteZeroes,
    /// `NBD_CMD_BLOCK_STATUS`.
    BlockStatus,
    /// A type this crate does not know. Compact, it has no payload; extended, its flags tell: the stream stays in step.
    Other(u16),
}

impl Command {
    /// The value on the wire.
    #[must_use]
    pub const fn value(self) -> u16 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Disconnect => 2,
            Self::Flush => 3,
            Self::Trim => 4,
            Self::Cache => 5,
            Self::WriteZeroes => 6,
            Self::BlockStatus => 7,
            Self::Other(value) => value,
        }
    }

    /// The command of a value on the wire.
    #[must_use]
    pub const fn from_value(value: u16) -> Self {
        match value {
            0 => Self::Read,
            1 => Self::Write,
            2 => Self::Disconnect,
            3 => Self::Flush,
            4 => Self::Trim,
            5 => Self::Cache,
            6 => Self::WriteZeroes,
            7 => Self::BlockStatus,
            other => Self::Other(other),
        }
    }
}

/// The header of one request. The payload of a write follows it in the stream and is the caller's to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// What is asked.
    pub command: Command,
    /// How it is to be done, unknown bits included.
    pub flags: CommandFlags,
    /// The client's name for this request, repeated in the reply ("handle" in older copies of proto.md).
    pub cookie: u64,
    /// First byte on the export.
    pub offset: u64,
    /// Bytes on the export; for a write also the length of the payload.
    pub length: u32,
}

/// The stream does not start with a request, so it is out of step and no later byte can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request starts with {found:#010x}, as no request of such a connection does")]
pub struct BadRequestMagic {
    /// The first four bytes.
    pub found: u32,
}

impl Request {
    /// The length of a header in bytes (proto.md, "Request message").
    pub const SIZE: usize = 28;

    /// Reads the header at the front of `input`; `None` while fewer than [`Request::SIZE`] bytes are there.
    ///
    /// # Errors
    ///
    /// When the magic is wrong. The connection must then be dropped.
    pub fn parse(input: &[u8]) -> Result<Option<Self>, BadRequestMagic> {
        let header = header::<{ Self::SIZE }>(input, REQUEST_MAGIC)?;
        Ok(header.and_then(|mut fields| Self::fields(&mut fields)))
    }

    fn fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            flags: CommandFlags(fields.u16()?),
            command: Command::from_value(fields.u16()?),
            cookie: fields.u64()?,
            offset: fields.u64()?,
            length: fields.u32()?,
        })
    }

    /// Appends the header to `output`.
    pub fn encode(&self, output: &mut Vec<u8>) {
        output.put_u32(REQUEST_MAGIC);
        output.put_u16(self.flags.0);
        output.put_u16(self.command.value());
        output.put_u64(self.cookie);
        output.put_u64(self.offset);
        output.put_u32(self.length);
    }

    /// How many bytes of payload follow the header.
    #[must_use]
    pub const fn payload_length(&self) -> u32 {
        match self.command {
            Command::Write => self.length,
            _ => 0,
        }
    }

    /// Whether this server's protocol knows the command and every flag on it, in a connection with such headers.
    ///
    /// # Errors
    ///
    /// The code to answer with: `EINVAL` for an unknown command ("if the server receives a request it does not
    /// support, it SHOULD return `EINVAL`") and for an unknown or misplaced flag (proto.md, "Command flags").
    pub fn check(&self, headers: Headers) -> Result<(), ErrorCode> {
        check(self.command, self.flags, headers)
    }
}

/// The header of one extended request. With [`CommandFlags::PAYLOAD_LEN`] a payload follows it in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExtendedRequest {
    /// What is asked.
    pub command: Command,
    /// How it is to be done, unknown bits included.
    pub flags: CommandFlags,
    /// The client's name for this request, repeated in the reply.
    pub cookie: u64,
    /// First byte on the export.
    pub offset: u64,
    /// Bytes of payload where the flags say that there is one, else bytes on the export.
    pub length: u64,
}

impl ExtendedRequest {
    /// The length of a header in bytes (proto.md of extension-ext-header, "Request message").
    pub const SIZE: usize = 32;

    /// Reads the header at the front of `input`; `None` while fewer than [`ExtendedRequest::SIZE`] bytes are there.
    ///
    /// # Errors
    ///
    /// When the magic is wrong. The connection must then be dropped.
    pub fn parse(input: &[u8]) -> Result<Option<Self>, BadRequestMagic> {
        let header = header::<{ Self::SIZE }>(input, EXTENDED_REQUEST_MAGIC)?;
        Ok(header.and_then(|mut fields| Self::fields(&mut fields)))
    }

    fn fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            flags: CommandFlags(fields.u16()?),
            command: Command::from_value(fields.u16()?),
            cookie: fields.u64()?,
            offset: fields.u64()?,
            length: fields.u64()?,
        })
    }

    /// Appends the header to `output`.
    pub fn encode(&self, output: &mut Vec<u8>) {
        output.put_u32(EXTENDED_REQUEST_MAGIC);
        output.put_u16(self.flags.0);
        output.put_u16(self.command.value());
        output.put_u64(self.cookie);
        output.put_u64(self.offset);
        output.put_u64(self.length);
    }

    /// How many bytes of payload follow the header. A write has one also where its flags do not say so: proto.md of
    /// extension-ext-header has that it MUST say so, but QEMU's client (10.0.2) does not, and sends its data all the
    /// same.
    #[must_use]
    pub const fn payload_length(&self) -> u64 {
        let payload =
            matches!(self.command, Command::Write) || self.flags.contains(CommandFlags::PAYLOAD_LEN);
        if payload { self.length } else { 0 }
    }

    /// As [`Request::check`]. Only a write and a query for block status may have a payload.
    ///
    /// # Errors
    ///
    /// The code to answer with.
    pub fn check(&self) -> Result<(), ErrorCode> {
        let flags = match self.command {
            Command::Write | Command::BlockStatus => self.flags.0 & !CommandFlags::PAYLOAD_LEN.0,
            _ => self.flags.0,
        };
        check(self.command, CommandFlags(flags), Headers::Extended)
    }
}

/// The payload of an extended [`Command::BlockStatus`]: which of the contexts are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusQuery {
    /// Bytes on the export.
    pub length: u64,
    /// IDs of contexts.
    pub contexts: Vec<u32>,
}

impl StatusQuery {
    /// Reads a whole payload; `None` when its length is not that of any number of IDs.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        let length = fields.u64()?;
        let mut contexts = Vec::new();
        while !fields.0.is_empty() {
            contexts.push(fields.u32()?);
        }
        Some(Self { length, contexts })
    }

    /// Appends the payload to `output`.
    pub fn encode(&self, output: &mut Vec<u8>) {
        output.put_u64(self.length);
        for context in &self.contexts {
            output.put_u32(*context);
        }
    }
}

/// What follows the magic in the header at the front of `input`, if it is there as a whole.
fn header<const SIZE: usize>(input: &[u8], magic: u32) -> Result<Option<Fields<'_>>, BadRequestMagic> {
    let Some(header) = input.first_chunk::<SIZE>() else {
        return Ok(None);
    };
    let mut fields = Fields(header);
    let found = fields.u32().unwrap_or_default();
    if found == magic { Ok(Some(fields)) } else { Err(BadRequestMagic { found }) }
}

fn check(command: Command, flags: CommandFlags, headers: Headers) -> Result<(), ErrorCode> {
    let chunks = headers != Headers::Simple;
    let known = match command {
        Command::WriteZeroes => CommandFlags::FUA | CommandFlags::NO_HOLE | CommandFlags::FAST_ZERO,
        Command::Read if chunks => CommandFlags::FUA | CommandFlags::DF,
        Command::BlockStatus if chunks => CommandFlags::FUA | CommandFlags::REQ_ONE,
        Command::Read | Command::Write | Command::Flush | Command::Trim | Command::Cache => CommandFlags::FUA,
        Command::Disconnect => return Ok(()),
        Command::BlockStatus | Command::Other(_) => return Err(ErrorCode::Einval),
    };
    if known.contains(flags) { Ok(()) } else { Err(ErrorCode::Einval) }
}
