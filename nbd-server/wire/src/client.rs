//! The client's half of the handshake, a machine that is fed bytes. It asks for one export with `NBD_OPT_GO`,
//! over TLS if it is told to.

use crate::TransmissionFlags;
use crate::bytes::{Fields, Put, wire_length};
use crate::option::{
    BlockSizes, ExportInfo, FIXED_NEWSTYLE, INFO_BLOCK_SIZE, INFO_EXPORT, MAX_NAME_LENGTH, NBD_MAGIC,
    NO_ZEROES, OPT_ABORT, OPT_GO, OPT_STARTTLS, OPTION_MAGIC, OptionError, REP_ACK, REP_FLAG_ERROR, REP_INFO,
    REPLY_MAGIC, put_option,
};

/// The longest option reply a client takes, in bytes: more than any text a server may add to an error.
const MAX_REPLY_LENGTH: u32 = 64 << 10;

/// What the handshake came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// What the server told of the export.
    pub info: ExportInfo,
}

/// Where the handshake stands after some input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientOutcome {
    /// It goes on with more input.
    More,
    /// The server waits for a TLS handshake. The next call takes what arrives through TLS, at first nothing, and what
    /// it has to send goes the same way.
    StartTls,
    /// The transmission phase starts with the next byte.
    Transmission(Negotiated),
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
    /// Bytes in the clear behind the acknowledgement of `NBD_OPT_STARTTLS`: not from the server that TLS will show.
    #[error("the server sent more in the clear after it had agreed to TLS")]
    PlaintextAfterStartTls,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    /// `NBD_OPT_STARTTLS` is not answered yet.
    StartTls,
    /// TLS is there, and nothing was said through it yet.
    Secured,
    /// `NBD_OPT_GO` is not answered yet.
    Go,
}

/// The client's half of a fixed newstyle handshake.
///
/// It keeps no bytes: what [`ClientHandshake::receive`] did not use has to be at the front of its next input.
#[derive(Debug)]
pub struct ClientHandshake {
    name: String,
    tls: bool,
    state: State,
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
        let name = export.to_owned();
        Ok(Self { name, tls: false, state: State::Greeting, export: None, block_sizes: None })
    }

    /// Asks for TLS first, and for no export without it.
    #[must_use]
    pub fn with_tls(self) -> Self {
        Self { tls: true, ..self }
    }

    /// Takes what it can from the front of `input`, appends what to send to `output`, and says how many bytes were
    /// used and where that leads.
    ///
    /// # Errors
    ///
    /// When there will be no export. What is in `output` by then is the goodbye.
    pub fn receive(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<(usize, ClientOutcome), ClientHandshakeError> {
        let mut rest = input;
        loop {
            let step = match self.state {
                State::Greeting => self.greeting(rest, output)?,
                State::Secured => {
                    self.go(output);
                    Some((0, ClientOutcome::More))
                }
                State::StartTls | State::Go => self.reply(rest, output)?,
            };
            let Some((used, outcome)) = step else {
                return Ok((input.len() - rest.len(), ClientOutcome::More));
            };
            rest = rest.get(used..).unwrap_or_default();
            if outcome != ClientOutcome::More {
                return Ok((input.len() - rest.len(), outcome));
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
        if self.tls {
            put_option(output, OPT_STARTTLS, &[]);
            self.state = State::StartTls;
        } else {
            self.go(output);
        }
        Ok(Some((input.len() - fields.0.len(), ClientOutcome::More)))
    }

    fn go(&mut self, output: &mut Vec<u8>) {
        let mut payload = Vec::with_capacity(8 + self.name.len());
        payload.put_u32(wire_length(self.name.len()));
        payload.extend_from_slice(self.name.as_bytes());
        payload.put_u16(1);
        payload.put_u16(INFO_BLOCK_SIZE);
        put_option(output, OPT_GO, &payload);
        self.state = State::Go;
    }

    fn reply(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<Step, ClientHandshakeError> {
        let mut fields = Fields(input);
        let (Some(magic), Some(option), Some(reply), Some(length)) =
            (fields.u64(), fields.u32(), fields.u32(), fields.u32())
        else {
            return Ok(None);
        };
        let asked = if self.state == State::StartTls { OPT_STARTTLS } else { OPT_GO };
        if magic != REPLY_MAGIC || option != asked {
            return Err(ClientHandshakeError::OutOfStep);
        }
        if length > MAX_REPLY_LENGTH {
            return Err(ClientHandshakeError::ReplyTooLong { length });
        }
        let Some(payload) = fields.bytes(length) else {
            return Ok(None);
        };
        let outcome = match reply {
            REP_ACK if asked == OPT_STARTTLS => self.start_tls(fields.0)?,
            REP_ACK => {
                let (size, flags) = self.export.ok_or(ClientHandshakeError::NoExportInfo)?;
                let info = ExportInfo { size, flags, block_sizes: self.block_sizes };
                ClientOutcome::Transmission(Negotiated { info })
            }
            REP_INFO if asked == OPT_GO => {
                self.information(payload).ok_or(ClientHandshakeError::OutOfStep)?;
                ClientOutcome::More
            }
            error if error & REP_FLAG_ERROR != 0 => {
                put_option(output, OPT_ABORT, &[]);
                let message = String::from_utf8_lossy(payload).into_owned();
                return Err(ClientHandshakeError::Refused { error: OptionError::from_value(error), message });
            }
            _ => return Err(ClientHandshakeError::OutOfStep),
        };
        Ok(Some((input.len() - fields.0.len(), outcome)))
    }

    /// The server cannot have anything to say before the TLS handshake: `rest` is not to be trusted.
    fn start_tls(&mut self, rest: &[u8]) -> Result<ClientOutcome, ClientHandshakeError> {
        if !rest.is_empty() {
            return Err(ClientHandshakeError::PlaintextAfterStartTls);
        }
        self.state = State::Secured;
        Ok(ClientOutcome::StartTls)
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

/// Bytes used by one message and where that leads, or `None` when the message is not complete yet.
type Step = Option<(usize, ClientOutcome)>;
