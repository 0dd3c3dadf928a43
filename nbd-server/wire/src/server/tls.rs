//! `NBD_OPT_STARTTLS`, and what is refused before it.

use super::{Outcome, ServerHandshake, ServerHandshakeError};
use crate::headers::Headers;
use crate::option::{OPT_ABORT, OPT_EXPORT_NAME, OPT_STARTTLS, OptionError, REP_ACK, put_reply};

/// Whether a session may be upgraded to TLS, or has to be (proto.md, "Server-side requirements").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TlsPolicy {
    /// There is no TLS: NOTLS.
    #[default]
    Off,
    /// A client may have it and need not, whichever export it wants: SELECTIVETLS.
    Optional,
    /// Before it a client gets nothing: FORCEDTLS.
    Required,
}

/// How the bytes of a session travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Security {
    /// In the clear so far.
    Plain(TlsPolicy),
    Tls,
}

impl ServerHandshake {
    /// "The server MUST operate in NOTLS mode unless … the client replied with `NBD_FLAG_C_FIXED_NEWSTYLE`" (proto.md,
    /// "Server-side requirements"), and where TLS is required that leaves nothing to serve.
    pub(super) fn without_fixed_newstyle(&mut self) -> Result<(), ServerHandshakeError> {
        if self.security == Security::Plain(TlsPolicy::Required) {
            return Err(ServerHandshakeError::TlsRequired);
        }
        self.security = Security::Plain(TlsPolicy::Off);
        Ok(())
    }

    /// "If the server receives any other option, including `NBD_OPT_INFO` and unsupported options, it MUST reply with
    /// `NBD_REP_ERR_TLS_REQD`"; what cannot be refused "MUST terminate the session" (proto.md, "FORCEDTLS mode").
    pub(super) fn wants_tls_first(&self, option: u32) -> Result<bool, ServerHandshakeError> {
        if self.security != Security::Plain(TlsPolicy::Required) {
            return Ok(false);
        }
        match option {
            OPT_STARTTLS | OPT_ABORT => Ok(false),
            OPT_EXPORT_NAME => Err(ServerHandshakeError::TlsRequired),
            _ => Ok(true),
        }
    }

    /// `rest` is what arrived behind the option. "It MUST immediately upgrade the session" is for clients, which
    /// cannot have anything to say before the acknowledgement: such bytes were in the clear, whoever wrote them, and
    /// must not be taken for what the other end of the TLS session says.
    pub(super) fn start_tls<E>(
        &mut self,
        payload: &[u8],
        rest: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<Outcome<E>, ServerHandshakeError> {
        let refusal = match self.security {
            Security::Tls => Some(OptionError::Invalid),
            Security::Plain(TlsPolicy::Off) => Some(OptionError::Policy),
            Security::Plain(_) if !payload.is_empty() => Some(OptionError::Invalid),
            Security::Plain(_) => None,
        };
        if let Some(error) = refusal {
            put_reply(output, OPT_STARTTLS, error.value(), &[]);
            return Ok(Outcome::More);
        }
        if !rest.is_empty() {
            return Err(ServerHandshakeError::PlaintextAfterStartTls);
        }
        put_reply(output, OPT_STARTTLS, REP_ACK, &[]);
        // "When this command succeeds, the server MUST NOT preserve any negotiation state" (proto.md, "Option types").
        self.headers = Headers::Simple;
        self.contexts = None;
        self.security = Security::Tls;
        Ok(Outcome::StartTls)
    }
}
