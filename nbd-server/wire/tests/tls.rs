//! `NBD_OPT_STARTTLS` against proto.md, "TLS support", with input cut at every place.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

use nbd_wire::{
    ClientHandshake, ClientHandshakeError, ClientOutcome, ExportInfo, Exports, Found, Headers, OptionError,
    Outcome, ServerHandshake, ServerHandshakeError, Terms, TlsPolicy, TransmissionFlags,
};

const INFO: ExportInfo = ExportInfo { size: 512, flags: TransmissionFlags::HAS_FLAGS, block_sizes: None };

struct One;

impl Exports for One {
    type Export = ();

    fn find(&self, name: &str) -> Option<Found<()>> {
        let found = Found { export: (), name: "disk".to_owned(), info: INFO };
        ["", "disk"].contains(&name).then_some(found)
    }

    fn names(&self) -> Vec<String> {
        vec!["disk".to_owned()]
    }

    fn contexts(&self) -> &[&str] {
        &["base:allocation"]
    }
}

const EXPORT_NAME: u32 = 1;
const ABORT: u32 = 2;
const LIST: u32 = 3;
const STARTTLS: u32 = 5;
const INFO_: u32 = 6;
const GO: u32 = 7;
const STRUCTURED_REPLY: u32 = 8;
const SET_META_CONTEXT: u32 = 10;
const EXTENDED_HEADERS: u32 = 11;
const ACK: u32 = 1;
const ERR_POLICY: u32 = 0x8000_0002;
const ERR_INVALID: u32 = 0x8000_0003;
const ERR_TLS_REQD: u32 = 0x8000_0005;

fn option(number: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [&b"IHAVEOPT"[..], &number.to_be_bytes(), &length.to_be_bytes(), payload].concat()
}

fn reply(option: u32, kind: u32) -> Vec<u8> {
    let magic = 0x0003_e889_0455_65a9_u64.to_be_bytes();
    [&magic[..], &option.to_be_bytes(), &kind.to_be_bytes(), &[0; 4]].concat()
}

/// Asks for every context of the default export.
fn contexts() -> Vec<u8> {
    let name = b"base:allocation";
    let payload = [&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 15][..], name].concat();
    option(SET_META_CONTEXT, &payload)
}

type Told = Result<Outcome<()>, ServerHandshakeError>;

/// Feeds options in two pieces, after client flags, and answers what was said and what came of it.
fn cut_at(policy: TlsPolicy, input: &[u8], cut: usize) -> (Vec<u8>, Told) {
    let (mut handshake, mut output, mut used) = (ServerHandshake::with_tls(policy), Vec::new(), 0);
    for end in [cut, input.len()] {
        match handshake.receive(&input[used..end], &One, &mut output) {
            Ok((count, Outcome::More)) => used += count,
            Ok((_, outcome)) => return (output, Ok(outcome)),
            Err(error) => return (output, Err(error)),
        }
    }
    (output, Ok(Outcome::More))
}

fn serve(policy: TlsPolicy, options: &[Vec<u8>]) -> (Vec<u8>, Told) {
    let input = [&[0, 0, 0, 3], &options.concat()[..]].concat();
    let whole = cut_at(policy, &input, input.len());
    for cut in 0..input.len() {
        assert_eq!(cut_at(policy, &input, cut), whole, "cut at {cut}");
    }
    whole
}

#[test]
fn without_tls_the_option_is_refused_and_haggling_goes_on() {
    let (said, told) = serve(TlsPolicy::Off, &[option(STARTTLS, b""), option(GO, &[0; 6])]);
    assert!(said.starts_with(&reply(STARTTLS, ERR_POLICY)));
    assert!(matches!(told, Ok(Outcome::Transmission(..))));
}

#[test]
fn where_it_is_required_nothing_else_is_answered_before_it() {
    for number in [LIST, INFO_, GO, STRUCTURED_REPLY, 9, SET_META_CONTEXT, EXTENDED_HEADERS, 4, 0xfeed] {
        for payload in [&b""[..], &[0; 6], &[7; 9000]] {
            let (said, told) = serve_coarsely(TlsPolicy::Required, &[option(number, payload)]);
            assert_eq!((said, told), (reply(number, ERR_TLS_REQD), Ok(Outcome::More)), "option {number}");
        }
    }
    let (said, told) = serve(TlsPolicy::Required, &[option(ABORT, b"")]);
    assert_eq!((said, told), (reply(ABORT, ACK), Ok(Outcome::Aborted)));
    for name in [&b""[..], b"disk", &[b'x'; 9000]] {
        let (said, told) = serve_coarsely(TlsPolicy::Required, &[option(EXPORT_NAME, name)]);
        assert_eq!((said, told), (vec![], Err(ServerHandshakeError::TlsRequired)));
    }
}

/// As [`serve`], cut in a few places: for long inputs.
fn serve_coarsely(policy: TlsPolicy, options: &[Vec<u8>]) -> (Vec<u8>, Told) {
    let input = [&[0, 0, 0, 3], &options.concat()[..]].concat();
    let whole = cut_at(policy, &input, input.len());
    for cut in (0..input.len()).step_by(input.len().div_ceil(40)) {
        assert_eq!(cut_at(policy, &input, cut), whole, "cut at {cut}");
    }
    whole
}

#[test]
fn where_it_is_optional_a_client_may_do_without() {
    let (_, told) = serve(TlsPolicy::Optional, &[option(LIST, b""), option(GO, &[0; 6])]);
    assert!(matches!(told, Ok(Outcome::Transmission(..))));
    let (_, told) = serve(TlsPolicy::Optional, &[option(EXPORT_NAME, b"disk")]);
    assert!(matches!(told, Ok(Outcome::Transmission(..))));
}

#[test]
fn the_option_has_no_data_and_is_the_last_word_in_the_clear() {
    for policy in [TlsPolicy::Optional, TlsPolicy::Required] {
        let (said, told) = serve(policy, &[option(STARTTLS, b"x")]);
        assert_eq!((said, told), (reply(STARTTLS, ERR_INVALID), Ok(Outcome::More)));
        let (said, told) = serve(policy, &[option(STARTTLS, b"")]);
        assert_eq!((said, told), (reply(STARTTLS, ACK), Ok(Outcome::StartTls)));
        // What somebody may have written behind it for the client is not looked at, not even one byte.
        for more in [&option(GO, &[0; 6])[..], &option(ABORT, b""), b"I", b"\x16\x03\x01"] {
            let input = [&[0, 0, 0, 3], &option(STARTTLS, b"")[..], more].concat();
            let (said, told) = cut_at(policy, &input, input.len());
            assert_eq!((said, told), (vec![], Err(ServerHandshakeError::PlaintextAfterStartTls)));
        }
    }
}

#[test]
fn through_tls_all_starts_anew_and_it_is_not_asked_for_twice() {
    let before = [option(STRUCTURED_REPLY, b""), contexts(), option(STARTTLS, b"")].concat();
    let mut handshake = ServerHandshake::with_tls(TlsPolicy::Optional);
    let mut output = Vec::new();
    let input = [&[0, 0, 0, 3], &before[..]].concat();
    let told = handshake.receive(&input, &One, &mut output).unwrap();
    assert_eq!(told, (input.len(), Outcome::StartTls));

    // No state is kept: contexts need structured replies again.
    output.clear();
    let after = [contexts(), option(STARTTLS, b""), option(GO, &[0; 6])].concat();
    let (used, outcome) = handshake.receive(&after, &One, &mut output).unwrap();
    assert_eq!(used, after.len());
    let refused = [reply(SET_META_CONTEXT, ERR_INVALID), reply(STARTTLS, ERR_INVALID)].concat();
    assert!(output.starts_with(&refused));
    let Outcome::Transmission(found, terms) = outcome else { panic!("{outcome:?}") };
    assert_eq!((found.name.as_str(), terms), ("disk", Terms::default()));
}

#[test]
fn required_tls_lets_everything_through_afterwards() {
    let mut handshake = ServerHandshake::with_tls(TlsPolicy::Required);
    let mut output = Vec::new();
    let input = [&[0, 0, 0, 3], &option(STARTTLS, b"")[..]].concat();
    assert_eq!(handshake.receive(&input, &One, &mut output).unwrap().1, Outcome::StartTls);
    let after = [option(LIST, b""), option(EXTENDED_HEADERS, b""), contexts(), option(GO, &[0; 6])].concat();
    let Outcome::Transmission(_, terms) = handshake.receive(&after, &One, &mut output).unwrap().1 else {
        panic!("no transmission")
    };
    assert_eq!(terms, Terms { headers: Headers::Extended, contexts: vec![0] });
}

/// "The server MUST operate in NOTLS mode unless … the client replied with `NBD_FLAG_C_FIXED_NEWSTYLE`."
#[test]
fn a_client_without_fixed_newstyle_has_no_tls() {
    let input = [&[0, 0, 0, 0], &option(STARTTLS, b"")[..]].concat();
    let (said, _) = cut_at(TlsPolicy::Optional, &input, input.len());
    assert_eq!(said, reply(STARTTLS, ERR_POLICY));
    let told = cut_at(TlsPolicy::Required, &input, input.len());
    assert_eq!(told, (vec![], Err(ServerHandshakeError::TlsRequired)));
}

const GREETING: &[u8] = b"NBDMAGICIHAVEOPT\x00\x03";

#[test]
fn the_client_says_nothing_of_the_export_before_tls() {
    let mut client = ClientHandshake::new("secret").unwrap().with_tls();
    let mut output = Vec::new();
    assert_eq!(client.receive(GREETING, &mut output), Ok((18, ClientOutcome::More)));
    assert_eq!(output, [&[0, 0, 0, 3], &option(STARTTLS, b"")[..]].concat());
    output.clear();
    assert_eq!(client.receive(&reply(STARTTLS, ACK), &mut output), Ok((20, ClientOutcome::StartTls)));
    assert!(output.is_empty());
    assert_eq!(client.receive(&[], &mut output), Ok((0, ClientOutcome::More)));
    assert_eq!(output, option(GO, b"\0\0\0\x06secret\0\x01\0\x03"));
}

#[test]
fn the_client_takes_no_other_answer_and_no_bytes_behind_it() {
    let told = |answer: &[u8]| {
        let mut client = ClientHandshake::new("secret").unwrap().with_tls();
        let mut output = Vec::new();
        let told = client.receive(&[GREETING, answer].concat(), &mut output);
        assert!(!output.windows(6).any(|window| window == b"secret"));
        told.unwrap_err()
    };
    let refused = ClientHandshakeError::Refused { error: OptionError::Policy, message: String::new() };
    assert_eq!(told(&reply(STARTTLS, ERR_POLICY)), refused);
    assert_eq!(told(&reply(GO, ACK)), ClientHandshakeError::OutOfStep);
    assert_eq!(told(&reply(STARTTLS, 3)), ClientHandshakeError::OutOfStep);
    let more = [reply(STARTTLS, ACK), reply(GO, ACK)].concat();
    assert_eq!(told(&more), ClientHandshakeError::PlaintextAfterStartTls);
}
