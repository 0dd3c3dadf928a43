//! NBD, fixed newstyle, as bytes and messages: the handshake of both sides and the transmission phase.
//!
//! Nothing here reads a socket, a clock or a file, and nothing waits. The caller owns the buffers: it hands over the
//! bytes it has, gets back how many were used, and sends what was appended to its output.
//! Facts are cited from the protocol's own text, `doc/proto.md` of github.com/NetworkBlockDevice/nbd, on
//! master and, for extended headers, on the branch extension-ext-header.

mod answer;
mod bytes;
mod chunk;
mod client;
mod context;
mod error;
mod flags;
mod headers;
mod option;
mod reply;
mod request;
mod server;
mod sink;

pub use answer::{Answer, CHUNK_DATA_MAX, ReadAnswer, StatusAnswer};
pub use chunk::{ChunkHeader, ChunkType, Content, Extent, ReplyHeader};
pub use client::{ClientHandshake, ClientHandshakeError, ClientOutcome, Negotiated};
pub use error::ErrorCode;
pub use flags::{CommandFlags, TransmissionFlags};
pub use headers::{Headers, Terms};
pub use option::{BlockSizes, BlockSizesError, ExportInfo, MAX_NAME_LENGTH, MAX_OPTION_LENGTH, OptionError};
pub use reply::{BadReplyMagic, SimpleReply};
pub use request::{BadRequestMagic, Command, ExtendedRequest, Request, StatusQuery};
pub use server::{Exports, Found, Outcome, ServerHandshake, ServerHandshakeError, TlsPolicy};
pub use sink::Sink;
