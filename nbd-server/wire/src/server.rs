//! The server's half of the handshake, a machine that is fed bytes.

mod answers;
mod tls;

use crate::bytes::{Fields, Put, wire_length};
use crate::headers::{Headers, Terms};
use crate::option::{
    ExportInfo, FIXED_NEWSTYLE, MAX_OPTION_LENGTH, NBD_MAGIC, NO_ZEROES, OPT_ABORT, OPT_EXPORT_NAME,
    OPT_EXTENDED_HEADERS, OPT_GO, OPT_INFO, OPT_LIST, OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT,
    OPT_STARTTLS, OPT_STRUCTURED_REPLY, OPTION_MAGIC, OptionError, REP_ACK, parse_name, put_reply,
};
use tls::Security;
pub use tls::TlsPolicy;

/// The exports a handshake may choose from.
pub trait Exports {
    /// What the server needs to serve the one that was chosen.
    type Export;

    /// The export a client calls `name`; the empty name means the default one (proto.md, "`NBD_OPT_EXPORT_NAME`").
    fn find(&self, name: &str) -> Option<Found<Self::Export>>;

    /// All names, for `NBD_OPT_LIST`.
    fn names(&self) -> Vec<String>;

    /// The metadata contexts that every export has. A context's index is its ID.
    fn contexts(&self) -> &[&str] {
        &[]
    }
}

/// An export that was found under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<E> {
    /// What the server needs to serve it.
    pub export: E,
    /// The name it goes by, also when it was asked for as the default.
    pub name: String,
    /// What the client is told.
    pub info: ExportInfo,
}

/// Where the handshake stands after some input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<E> {
    /// It goes on with more input.
    More,
    /// The transmission phase starts with the next byte, on these terms.
    Transmission(Found<E>, Terms),
    /// The client has its acknowledgement, and every byte after that belongs to TLS, either way. The handshake goes on
    /// with what arrives through it; nothing else may be given to it from here on.
    StartTls,
    /// The client said goodbye. Send what there is and close.
    Aborted,
}

/// Why a server has to hang up on a client (proto.md, "Termination of the session during option haggling").
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerHandshakeError {
    /// "The server MUST close the TCP connection if it does not recognize the client's flags."
    #[error("the client set unknown flags: {flags:#010x}")]
    ClientFlags {
        /// All that it sent.
        flags: u32,
    },
    /// The stream is out of step.
    #[error("an option starts with {found:#018x}")]
    OptionMagic {
        /// The first eight bytes.
        found: u64,
    },
    /// `NBD_OPT_EXPORT_NAME` has no error reply.
    #[error("the client wants the export {name:?}, which does not exist")]
    NoSuchExport {
        /// As it was asked for.
        name: String,
    },
    /// "Once extended headers are successfully requested, a client MUST NOT use `NBD_OPT_EXPORT_NAME`."
    #[error("the client wants an export in the old way after it agreed to extended headers")]
    ExportNameAfterExtendedHeaders,
    /// Without TLS there is nothing for this client, and no reply that could say so.
    #[error("the client wants an export without TLS, which is required")]
    TlsRequired,
    /// Bytes in the clear behind `NBD_OPT_STARTTLS`: somebody may have put them there for the client.
    #[error("the client sent more in the clear after it had asked for TLS")]
    PlaintextAfterStartTls,
    /// `NBD_OPT_EXPORT_NAME` has no error reply.
    #[error("the client wants an export whose name of {length} bytes is no name")]
    BadName {
        /// Bytes of the name.
        length: u32,
    },
}

/// The options that are not answered with `NBD_REP_ERR_UNSUP`.
const KNOWN: [u32; 10] = [
    OPT_EXPORT_NAME,
    OPT_ABORT,
    OPT_LIST,
    OPT_STARTTLS,
    OPT_INFO,
    OPT_GO,
    OPT_STRUCTURED_REPLY,
    OPT_LIST_META_CONTEXT,
    OPT_SET_META_CONTEXT,
    OPT_EXTENDED_HEADERS,
];

#[derive(Debug)]
enum State {
    ClientFlags,
    Option,
    /// The rest of a payload nobody will read, and what to answer after it.
    Skip {
        option: u32,
        left: u32,
        error: OptionError,
    },
}

/// The server's half of a fixed newstyle handshake.
///
/// It keeps no bytes: what [`ServerHandshake::receive`] did not use has to be at the front of its next input, which
/// needs a buffer of no more than 16 bytes and [`MAX_OPTION_LENGTH`].
#[derive(Debug)]
pub struct ServerHandshake {
    state: State,
    no_zeroes: bool,
    security: Security,
    headers: Headers,
    /// The contexts that were selected last, and for which export.
    contexts: Option<(String, Vec<u32>)>,
}

impl Default for ServerHandshake {
    fn default() -> Self {
        Self::new()
    }
}

impl ServerHandshake {
    /// A handshake without TLS that waits for the client's flags.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_tls(TlsPolicy::Off)
    }

    /// A handshake that waits for the client's flags.
    #[must_use]
    pub const fn with_tls(policy: TlsPolicy) -> Self {
        Self {
            state: State::ClientFlags,
            no_zeroes: false,
            security: Security::Plain(policy),
            headers: Headers::Simple,
            contexts: None,
        }
    }

    /// Appends what the server says first (proto.md, "Newstyle negotiation").
    pub fn greet(output: &mut Vec<u8>) {
        output.put_u64(NBD_MAGIC);
        output.put_u64(OPTION_MAGIC);
        output.put_u16(FIXED_NEWSTYLE | NO_ZEROES);
    }

    /// Takes what it can from the front of `input`, appends the answers to `output`, and says how many bytes were
    /// used and where that leads.
    ///
    /// # Errors
    ///
    /// When the client broke a rule that leaves nothing but to hang up. What is in `output` by then is still owed.
    pub fn receive<X: Exports>(
        &mut self,
        input: &[u8],
        exports: &X,
        output: &mut Vec<u8>,
    ) -> Result<(usize, Outcome<X::Export>), ServerHandshakeError> {
        let mut fields = Fields(input);
        let used = |fields: &Fields<'_>| input.len() - fields.0.len();
        loop {
            match self.step(&mut fields, exports, output)? {
                None => return Ok((used(&fields), Outcome::More)),
                Some(Outcome::More) => {}
                Some(outcome) => return Ok((used(&fields), outcome)),
            }
        }
    }

    /// One message, or `None` when it is not complete yet.
    fn step<X: Exports>(
        &mut self,
        fields: &mut Fields<'_>,
        exports: &X,
        output: &mut Vec<u8>,
    ) -> Result<Option<Outcome<X::Export>>, ServerHandshakeError> {
        match self.state {
            State::ClientFlags => self.client_flags(fields),
            State::Skip { option, left, error } => {
                let here = left.min(wire_length(fields.0.len()));
                if here > 0 {
                    fields.bytes(here);
                } else if left > 0 {
                    return Ok(None);
                }
                self.state = State::Skip { option, left: left - here, error };
                if left == here {
                    put_reply(output, option, error.value(), &[]);
                    self.state = State::Option;
                }
                Ok(Some(Outcome::More))
            }
            State::Option => self.option(fields, exports, output),
        }
    }

    fn client_flags<E>(
        &mut self,
        fields: &mut Fields<'_>,
    ) -> Result<Option<Outcome<E>>, ServerHandshakeError> {
        let Some(flags) = fields.u32() else {
            return Ok(None);
        };
        if flags & !u32::from(FIXED_NEWSTYLE | NO_ZEROES) != 0 {
            return Err(ServerHandshakeError::ClientFlags { flags });
        }
        if flags & u32::from(FIXED_NEWSTYLE) == 0 {
            self.without_fixed_newstyle()?;
        }
        self.no_zeroes = flags & u32::from(NO_ZEROES) != 0;
        self.state = State::Option;
        Ok(Some(Outcome::More))
    }

    fn option<X: Exports>(
        &mut self,
        fields: &mut Fields<'_>,
        exports: &X,
        output: &mut Vec<u8>,
    ) -> Result<Option<Outcome<X::Export>>, ServerHandshakeError> {
        let mut ahead = Fields(fields.0);
        let (Some(magic), Some(option), Some(length)) = (ahead.u64(), ahead.u32(), ahead.u32()) else {
            return Ok(None);
        };
        if magic != OPTION_MAGIC {
            return Err(ServerHandshakeError::OptionMagic { found: magic });
        }
        if let Some(error) = self.refusal(option, length)? {
            if option == OPT_SET_META_CONTEXT {
                self.contexts = None;
            }
            *fields = ahead;
            self.state = State::Skip { option, left: length, error };
            return Ok(Some(Outcome::More));
        }
        let Some(payload) = ahead.bytes(length) else {
            return Ok(None);
        };
        *fields = ahead;
        match option {
            OPT_EXPORT_NAME => self.export_name(payload, exports, output).map(Some),
            OPT_ABORT => {
                put_reply(output, option, REP_ACK, &[]);
                Ok(Some(Outcome::Aborted))
            }
            OPT_STARTTLS => self.start_tls(payload, fields.0, output).map(Some),
            OPT_LIST => {
                answers::list(payload, exports, output);
                Ok(Some(Outcome::More))
            }
            OPT_STRUCTURED_REPLY | OPT_EXTENDED_HEADERS => {
                let answer = self.use_headers(option, payload);
                put_reply(output, option, answer.map_or_else(OptionError::value, |()| REP_ACK), &[]);
                Ok(Some(Outcome::More))
            }
            OPT_LIST_META_CONTEXT | OPT_SET_META_CONTEXT => {
                if let Err(error) = self.meta_context(option, payload, exports, output) {
                    put_reply(output, option, error.value(), &[]);
                }
                Ok(Some(Outcome::More))
            }
            _ => Ok(Some(self.info(option, payload, exports, output))),
        }
    }

    /// Why an option is refused whatever its payload says.
    fn refusal(&self, option: u32, length: u32) -> Result<Option<OptionError>, ServerHandshakeError> {
        if self.wants_tls_first(option)? {
            return Ok(Some(OptionError::TlsRequired));
        }
        let known = KNOWN.contains(&option);
        if known && length <= MAX_OPTION_LENGTH {
            return Ok(None);
        }
        if option == OPT_EXPORT_NAME {
            return Err(ServerHandshakeError::BadName { length });
        }
        Ok(Some(if known { OptionError::TooBig } else { OptionError::Unsupported }))
    }

    /// The old way in: no reply packet, just size, flags and 124 zeroes that a client may decline.
    fn export_name<X: Exports>(
        &self,
        payload: &[u8],
        exports: &X,
        output: &mut Vec<u8>,
    ) -> Result<Outcome<X::Export>, ServerHandshakeError> {
        if self.headers == Headers::Extended {
            return Err(ServerHandshakeError::ExportNameAfterExtendedHeaders);
        }
        let Some(name) = parse_name(payload) else {
            return Err(ServerHandshakeError::BadName { length: wire_length(payload.len()) });
        };
        let Some(found) = self.find(name, exports) else {
            return Err(ServerHandshakeError::NoSuchExport { name: name.to_owned() });
        };
        output.put_u64(found.info.size);
        output.put_u16(found.info.flags.0);
        if !self.no_zeroes {
            output.extend_from_slice(&[0; 124]);
        }
        Ok(self.enter(found))
    }
}
