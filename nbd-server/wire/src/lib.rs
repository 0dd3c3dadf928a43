//! NBD, fixed newstyle, as bytes and messages: the handshake of both sides and the transmission phase.
//!
//! Nothing here reads a socket, a clock or a file, and nothing waits. The caller owns the buffers: it hands over the
//! bytes it has, gets back how many were used, and sends what was appended to its output.
//! Facts are cited from the protocol's own text, `doc/proto.md` of github.com/NetworkBlockDevice/nbd.

mod bytes;
mod client;
mod error;
mod flags;
mod option;
mod reply;
mod request;
mod server;

pub use client::{ClientHandshake, ClientHandshakeError, Negotiated};
pub use error::ErrorCode;
pub use flags::{CommandFlags, TransmissionFlags};
pub use option::{BlockSizes, ExportInfo, MAX_NAME_LENGTH, MAX_OPTION_LENGTH, OptionError};
pub use reply::{BadReplyMagic, SimpleReply};
pub use request::{BadRequestMagic, Command, Request};
pub use server::{Exports, Found, Outcome, ServerHandshake, ServerHandshakeError};
