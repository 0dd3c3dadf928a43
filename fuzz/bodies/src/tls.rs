//! The handshake where TLS can be had: nothing of worth happens in the clear that must not.

use nbd_wire::{ClientHandshake, ClientOutcome, Outcome, ServerHandshake, TlsPolicy};

use crate::handshake::All;
use crate::input::Input;
use crate::options::{Told, told};

/// The server's half, with TLS optional or required, fed anything in the clear and then anything through TLS.
///
/// Where TLS is required, no export is told of, listed or entered before it; TLS starts once; and what a client has sent
/// behind its wish for TLS, before it could know the answer, is never taken for something said through TLS.
pub fn server_tls(data: &[u8]) {
    let mut input = Input::new(data);
    let required = input.bool();
    let count = usize::from(input.u8());
    let (clear, secured) = (input.take(count), input.rest());
    let policy = if required { TlsPolicy::Required } else { TlsPolicy::Optional };
    let mut handshake = ServerHandshake::with_tls(policy);
    let mut output = Vec::new();
    let step = handshake.receive(clear, &All, &mut output);
    if required {
        // Not in the headers, which repeat the number of an option, whatever that spells.
        let (replies, _) = told(&output);
        let named = |reply: &Told<'_>| reply.payload.windows(4).any(|word| word == b"disk");
        assert!(!replies.iter().any(named), "an export is told of in the clear");
        assert!(!matches!(step, Ok((_, Outcome::Transmission(..)))), "an export is entered in the clear");
    }
    let Ok((used, Outcome::StartTls)) = step else {
        return;
    };
    assert_eq!(used, clear.len(), "something in the clear is left for TLS");
    let again = handshake.receive(secured, &All, &mut output);
    assert!(!matches!(again, Ok((_, Outcome::StartTls))), "TLS within TLS");
}

/// The client's half that wants TLS, fed anything in the clear and then anything through TLS: it enters no export in the
/// clear, and keeps the export's name to itself until then.
pub fn client_tls(data: &[u8]) {
    let mut input = Input::new(data);
    let count = usize::from(input.u8());
    let (clear, secured) = (input.take(count), input.rest());
    let Ok(handshake) = ClientHandshake::new("a secret name") else {
        unreachable!("a name of 13 bytes");
    };
    let mut handshake = handshake.with_tls();
    let mut output = Vec::new();
    let step = handshake.receive(clear, &mut output);
    assert!(!output.windows(6).any(|word| word == b"secret"), "the name is told in the clear");
    match step {
        Ok((_, ClientOutcome::Transmission(_))) => panic!("an export is entered in the clear"),
        Ok((used, ClientOutcome::StartTls)) => {
            assert_eq!(used, clear.len(), "something in the clear is left for TLS");
            let again = handshake.receive(secured, &mut output);
            assert!(!matches!(again, Ok((_, ClientOutcome::StartTls))), "TLS within TLS");
        }
        _ => {}
    }
}
