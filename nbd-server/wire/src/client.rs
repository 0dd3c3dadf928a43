//! The client's half of the handshake, a machine that is fed bytes. It asks for one export with `NBD_OPT_GO`.

use crate::TransmissionFlags;
use crate::bytes::{Fields, Put, wire_length};
use crate::option::{
    BlockSizes, ExportInfo, FIXED_NEWSTYLE, INFO_BLOCK_SIZE, INFO_EXPORT, MAX_NAME_LENGTH, NBD_MAGIC,
    NO_ZEROES, OPT_ABORT, OPT_GO, OPTION_MAGIC, OptionError, REP_ACK, REP_FLAG_ERROR, REP_INFO, REPLY_MAGIC,
    put_option,
};

/// The longest option reply a client takes, in bytes: more than any text a server may add to an error.
const MAX_REPLY_LENGTH: u32 = 64 << 10;

/// What the handshake came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// What the server told of the export.
    pub info: ExportInfo,
}

/// Why a client got no export.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientHandshakeError {
    /// The other side is no NBD server of the newstyle kind.
    #[error("the server does not greet like an NBD server of the fixed newstyle kind")]
    Greeting,
    /// The name is too long for the protocol, or has a NUL in it.
    #[error("{length} bytes of export name are not a name (up to {MAX_NAME_LENGTH} bytes without NUL)")]
    Name {
        /// Bytes of the name.
        length: usize,
    },
    /// The stream is out of step.
    #[error("the server's answer is not an answer to the option that was sent")]
    OutOfStep,
    /// A reply longer than any that makes sense.
    #[error("the server answers the option with {length} bytes")]
    ReplyTooLong {
        /// Bytes of the reply.
        length: u32,
    },
    /// The server agreed without having told the size.
    #[error("the server agreed without telling the export's size")]
    NoExportInfo,
    /// The server said no.
    #[error("{error}{}{message}", if message.is_empty() { "" } else { ": " })]
    Refused {
        /// What it said.
        error: OptionError,
        /// The text it added, often empty.
        message: String,
    },
}

/// The client's half of a fixed newstyle handshake.
///
/// It keeps no bytes: what [`ClientHandshake::receive`] did not use has to be at the front of its next input.
#[derive(Debug)]
pub struct ClientHandshake {
    name: String,
    greeted: bool,
    export: Option<(u64, TransmissionFlags)>,
    block_sizes: Option<BlockSizes>,
}

impl ClientHandshake {
    /// A handshake that will ask for `export`; the empty name is the server's default.
    ///
    /// # Errors
    ///
    /// [`ClientHandshakeError::Name`] for a name that the protocol cannot carry.
    pub fn new(export: &str) -> Result<Self, ClientHandshakeError> {
        if export.len() > MAX_NAME_LENGTH || export.contains('\0') {
            return Err(ClientHandshakeError::Name { length: export.len() });
        }
        Ok(Self { name: export.to_owned(), greeted: false, export: None, block_sizes: None })
    }

    /// Takes what it can from the front of `input`, appends what to send to `output`, and says how many bytes were
    /// used. With `Some`, the transmission phase starts with the next byte.
    ///
    /// # Errors
    ///
    /// When there will be no export. What is in `output` by then is the goodbye.
    pub fn receive(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<(usize, Option<Negotiated>), ClientHandshakeError> {
        let mut rest = input;
        loop {
            let step = if self.greeted { self.reply(rest, output)? } else { self.greeting(rest, output)? };
            let Some((used, done)) = step else {
                return Ok((input.len() - rest.len(), None));
            };
            rest = rest.get(used..).unwrap_or_default();
            if done.is_some() {
                return Ok((input.len() - rest.len(), done));
            }
        }
    }

    fn greeting(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<Step, ClientHandshakeError> {
        let mut fields = Fields(input);
        let (Some(magic), Some(style), Some(flags)) = (fields.u64(), fields.u64(), fields.u16()) else {
            return Ok(None);
        };
        if magic != NBD_MAGIC || style != OPTION_MAGIC || flags & FIXED_NEWSTYLE == 0 {
            return Err(ClientHandshakeError::Greeting);
        }
        // A client may set only what the server has offered (proto.md, "Client flags").
        output.put_u32(u32::from(FIXED_NEWSTYLE | (flags & NO_ZEROES)));
        let mut payload = Vec::with_capacity(8 + self.name.len());
        payload.put_u32(wire_length(self.name.len()));
        payload.extend_from_slice(self.name.as_bytes());
        payload.put_u16(1);
        payload.put_u16(INFO_BLOCK_SIZE);
        put_option(output, OPT_GO, &payload);
        self.greeted = true;
        Ok(Some((input.len() - fields.0.len(), None)))
    }

    fn reply(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<Step, ClientHandshakeError> {
        let mut fields = Fields(input);
        let (Some(magic), Some(option), Some(reply), Some(length)) =
            (fields.u64(), fields.u32(), fields.u32(), fields.u32())
        else {
            return Ok(None);
        };
        if magic != REPLY_MAGIC || option != OPT_GO {
            return Err(ClientHandshakeError::OutOfStep);
        }
        if length > MAX_REPLY_LENGTH {
            return Err(ClientHandshakeError::ReplyTooLong { length });
        }
        let Some(payload) = fields.bytes(length) else {
            return Ok(None);
        };
        let done = match reply {
            REP_ACK => {
                let (size, flags) = self.export.ok_or(ClientHandshakeError::NoExportInfo)?;
                Some(Negotiated { info: ExportInfo { size, flags, block_sizes: self.block_sizes } })
            }
            REP_INFO => {
                self.information(payload).ok_or(ClientHandshakeError::OutOfStep)?;
                None
            }
            error if error & REP_FLAG_ERROR != 0 => {
                put_option(output, OPT_ABORT, &[]);
                let message = String::from_utf8_lossy(payload).into_owned();
                return Err(ClientHandshakeError::Refused { error: OptionError::from_value(error), message });
            }
            _ => return Err(ClientHandshakeError::OutOfStep),
        };
        Ok(Some((input.len() - fields.0.len(), done)))
    }

    /// Kinds of information that were not asked for are to be ignored (proto.md, "`NBD_REP_INFO`").
    fn information(&mut self, payload: &[u8]) -> Option<()> {
        let mut fields = Fields(payload);
        match fields.u16()? {
            INFO_EXPORT => self.export = Some((fields.u64()?, TransmissionFlags(fields.u16()?))),
            INFO_BLOCK_SIZE => {
                self.block_sizes = Some(BlockSizes {
                    minimum: fields.u32()?,
                    preferred: fields.u32()?,
                    maximum: fields.u32()?,
                });
            }
            _ => {}
        }
        Some(())
    }
}

/// Bytes used by one message and perhaps the result, or `None` when the message is not complete yet.
type Step = Option<(usize, Option<Negotiated>)>;
