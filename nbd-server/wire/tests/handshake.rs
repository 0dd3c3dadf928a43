//! The handshake against bytes written down from proto.md, with input cut at every place.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

use nbd_wire::{
    BlockSizes, ClientHandshake, ClientHandshakeError, ClientOutcome, ExportInfo, Exports, Found, Headers,
    MAX_OPTION_LENGTH, Negotiated, OptionError, Outcome, ServerHandshake, ServerHandshakeError, Terms,
    TransmissionFlags,
};

const INFO: ExportInfo = ExportInfo {
    size: 0x0102_0304_0506_0708,
    flags: TransmissionFlags(0x016d),
    block_sizes: Some(BlockSizes { minimum: 1, preferred: 4096, maximum: 32 << 20 }),
};

/// Two exports, of which `disk` is the default.
struct Two;

impl Exports for Two {
    type Export = u8;

    fn find(&self, name: &str) -> Option<Found<u8>> {
        let (name, export) = match name {
            "" | "disk" => ("disk", 1),
            "twö" => ("twö", 2),
            _ => return None,
        };
        Some(Found { export, name: name.to_owned(), info: INFO })
    }

    fn names(&self) -> Vec<String> {
        vec!["disk".to_owned(), "twö".to_owned()]
    }

    fn contexts(&self) -> &[&str] {
        &["base:allocation", "x-test:a", "x-test:b"]
    }
}

type Served = (Vec<u8>, Result<Outcome<u8>, ServerHandshakeError>, usize);

/// Feeds `input` in two pieces, cut at `cut`, as a connection would: what is not used comes again.
fn serve_cut(input: &[u8], cut: usize) -> Served {
    let mut handshake = ServerHandshake::new();
    let mut output = Vec::new();
    let mut used = 0;
    for end in [cut, input.len()] {
        match handshake.receive(&input[used..end], &Two, &mut output) {
            Ok((count, outcome)) => {
                used += count;
                if outcome != Outcome::More || end == input.len() {
                    return (output, Ok(outcome), used);
                }
            }
            // How far it got before it hung up is nobody's business.
            Err(error) => return (output, Err(error), 0),
        }
    }
    unreachable!("the second piece ends the input")
}

/// Serves `input` cut at every place and requires the same each time.
fn serve(input: &[u8]) -> Served {
    let whole = serve_cut(input, input.len());
    for cut in 0..input.len() {
        assert_eq!(serve_cut(input, cut), whole, "cut at {cut}");
    }
    whole
}

fn client_flags(flags: u32) -> Vec<u8> {
    flags.to_be_bytes().to_vec()
}

fn option(number: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [b"IHAVEOPT", &number.to_be_bytes()[..], &length.to_be_bytes(), payload].concat()
}

fn reply(option: u32, kind: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let magic = [0x00, 0x03, 0xe8, 0x89, 0x04, 0x55, 0x65, 0xa9];
    [&magic[..], &option.to_be_bytes(), &kind.to_be_bytes(), &length.to_be_bytes(), payload].concat()
}

fn go_payload(name: &str, wanted: &[u16]) -> Vec<u8> {
    let mut payload = u32::try_from(name.len()).unwrap().to_be_bytes().to_vec();
    payload.extend_from_slice(name.as_bytes());
    payload.extend_from_slice(&u16::try_from(wanted.len()).unwrap().to_be_bytes());
    payload.extend(wanted.iter().flat_map(|kind| kind.to_be_bytes()));
    payload
}

const INFO_EXPORT: &[u8] = &[0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0x01, 0x6d];
const INFO_BLOCK_SIZE: &[u8] = &[0, 3, 0, 0, 0, 1, 0, 0, 0x10, 0, 2, 0, 0, 0];
const ERR_UNSUP: u32 = 0x8000_0001;
const ERR_INVALID: u32 = 0x8000_0003;
const ERR_UNKNOWN: u32 = 0x8000_0006;
const ERR_TOO_BIG: u32 = 0x8000_0009;

#[test]
fn the_greeting_is_fixed_newstyle_without_zeroes() {
    let mut output = Vec::new();
    ServerHandshake::greet(&mut output);
    assert_eq!(output, b"NBDMAGICIHAVEOPT\x00\x03");
}

#[test]
fn export_name_answers_size_flags_and_zeroes() {
    let start = &INFO_EXPORT[2..];
    let (output, outcome, _) = serve(&[client_flags(1), option(1, b"disk")].concat());
    assert_eq!(output, [start, &[0; 124]].concat());
    assert_eq!(outcome, Ok(Outcome::Transmission(Two.find("disk").unwrap(), Terms::default())));

    let (output, outcome, _) = serve(&[client_flags(3), option(1, b"")].concat());
    assert_eq!(output, start);
    assert_eq!(outcome, Ok(Outcome::Transmission(Two.find("disk").unwrap(), Terms::default())));
}

#[test]
fn export_name_has_no_error_reply() {
    let (output, outcome, _) = serve(&[client_flags(3), option(1, b"none")].concat());
    assert_eq!(outcome, Err(ServerHandshakeError::NoSuchExport { name: "none".to_owned() }));
    assert!(output.is_empty());
    let (_, outcome, _) = serve(&[client_flags(3), option(1, &[0xff])].concat());
    assert_eq!(outcome, Err(ServerHandshakeError::BadName { length: 1 }));
    let long = [client_flags(3), b"IHAVEOPT\0\0\0\x01\xff\xff\xff\xff".to_vec()].concat();
    assert_eq!(serve(&long).1, Err(ServerHandshakeError::BadName { length: u32::MAX }));
}

#[test]
fn go_tells_what_was_asked_and_leaves_the_rest_of_the_input() {
    let handshake = [client_flags(3), option(7, &go_payload("twö", &[1, 3, 77]))].concat();
    let input = [&handshake[..], b"next"].concat();
    let (output, outcome, used) = serve(&input);
    let told = [
        reply(7, 3, INFO_EXPORT),
        reply(7, 3, "\0\x01twö".as_bytes()),
        reply(7, 3, INFO_BLOCK_SIZE),
        reply(7, 1, b""),
    ];
    assert_eq!(output, told.concat());
    assert_eq!(outcome, Ok(Outcome::Transmission(Two.find("twö").unwrap(), Terms::default())));
    assert_eq!(used, handshake.len());
}

#[test]
fn info_goes_on_haggling_and_abort_ends_it() {
    let input = [client_flags(3), option(6, &go_payload("", &[])), option(2, b"")].concat();
    let (output, outcome, _) = serve(&input);
    assert_eq!(output, [reply(6, 3, INFO_EXPORT), reply(6, 1, b""), reply(2, 1, b"")].concat());
    assert_eq!(outcome, Ok(Outcome::Aborted));
}

#[test]
fn list_names_every_export() {
    let (output, outcome, _) = serve(&[client_flags(3), option(3, b"")].concat());
    let entries = [reply(3, 2, b"\0\0\0\x04disk"), reply(3, 2, "\0\0\0\x04twö".as_bytes()), reply(3, 1, b"")];
    assert_eq!(output, entries.concat());
    assert_eq!(outcome, Ok(Outcome::More));
    assert_eq!(serve(&[client_flags(3), option(3, b"x")].concat()).0, reply(3, ERR_INVALID, b""));
}

#[test]
fn structured_replies_are_agreed_upon_and_show_in_the_flags() {
    let input = [client_flags(3), option(8, b""), option(7, &go_payload("disk", &[]))].concat();
    let (output, outcome, _) = serve(&input);
    let told = [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0x01, 0xed];
    assert_eq!(output, [reply(8, 1, b""), reply(7, 3, &told), reply(7, 1, b"")].concat());
    let Ok(Outcome::Transmission(found, terms)) = outcome else { panic!("{outcome:?}") };
    assert!(found.info.flags.contains(TransmissionFlags::SEND_DF));
    assert_eq!(terms, Terms { headers: Headers::Structured, contexts: vec![] });
    let (output, ..) = serve(&[client_flags(3), option(8, b"x"), option(1, b"disk")].concat());
    assert_eq!(output, [&reply(8, ERR_INVALID, b""), &INFO_EXPORT[2..]].concat());
}

/// proto.md of extension-ext-header, "Option types".
#[test]
fn extended_headers_take_precedence_over_structured_replies() {
    let set = option(10, b"\0\0\0\x04disk\0\0\0\x01\0\0\0\x08x-test:b");
    let go = option(7, &go_payload("disk", &[]));
    let input = [client_flags(3), option(11, b"x"), option(8, b""), option(11, b""), option(8, b"")].concat();
    let (output, outcome, _) = serve(&[input, set, go.clone()].concat());
    let refused =
        [reply(11, ERR_INVALID, b""), reply(8, 1, b""), reply(11, 1, b""), reply(8, 0x8000_000a, b"")];
    // SEND_DF, and with contexts BLOCK_STATUS_PAYLOAD.
    let flags = &INFO_EXPORT[..10];
    let told = [reply(10, 4, b"\0\0\0\x02x-test:b"), reply(10, 1, b"")].concat();
    let info = reply(7, 3, &[flags, &[0x11, 0xed]].concat());
    assert_eq!(output, [refused.concat(), told, info, reply(7, 1, b"")].concat());
    let Ok(Outcome::Transmission(_, terms)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(terms, Terms { headers: Headers::Extended, contexts: vec![2] });

    let (output, ..) = serve(&[client_flags(3), option(11, b""), go].concat());
    let info = reply(7, 3, &[flags, &[0x01, 0xed]].concat());
    assert_eq!(output, [reply(11, 1, b""), info, reply(7, 1, b"")].concat());
    let (_, outcome, _) = serve(&[client_flags(3), option(11, b""), option(1, b"disk")].concat());
    assert_eq!(outcome, Err(ServerHandshakeError::ExportNameAfterExtendedHeaders));
}

#[test]
fn an_unknown_option_is_skipped_and_refused() {
    let unknown = option(0xfeed, &[9; 50]);
    let (output, ..) = serve(&[client_flags(3), unknown, option(4, b""), option(2, b"")].concat());
    assert_eq!(output, [reply(0xfeed, ERR_UNSUP, b""), reply(4, ERR_UNSUP, b""), reply(2, 1, b"")].concat());
}

#[test]
fn a_payload_that_is_too_long_is_skipped_in_pieces() {
    let length = MAX_OPTION_LENGTH + 1;
    let mut handshake = ServerHandshake::new();
    let mut output = Vec::new();
    let header = [client_flags(3), b"IHAVEOPT\0\0\0\x07".to_vec(), length.to_be_bytes().to_vec()].concat();
    assert_eq!(handshake.receive(&header, &Two, &mut output), Ok((header.len(), Outcome::More)));
    let mut left = usize::try_from(length).unwrap();
    while left > 0 {
        assert!(output.is_empty());
        let piece = left.min(1000);
        assert_eq!(handshake.receive(&vec![0; piece], &Two, &mut output), Ok((piece, Outcome::More)));
        left -= piece;
    }
    assert_eq!(output, reply(7, ERR_TOO_BIG, b""));
}

#[test]
fn malformed_and_unknown_names_are_refused_and_haggling_goes_on() {
    for payload in [
        &b""[..],
        b"\0\0\0",
        b"\0\0\0\x05disk\0\0",
        b"\0\0\0\x04disk\0\x01",
        b"\0\0\0\x04disk\0\0x",
        b"\xff\xff\xff\xffdisk\0\0",
        b"\0\0\0\x02\xff\xfe\0\0",
        b"\0\0\0\x02a\0\0\0",
    ] {
        for number in [6, 7] {
            let (output, outcome, _) = serve(&[client_flags(3), option(number, payload)].concat());
            assert_eq!(output, reply(number, ERR_INVALID, b""), "{payload:?}");
            assert_eq!(outcome, Ok(Outcome::More));
        }
    }
    let (output, ..) = serve(&[client_flags(3), option(7, &go_payload("none", &[]))].concat());
    assert_eq!(output, reply(7, ERR_UNKNOWN, b""));
}

#[test]
fn a_client_out_of_step_is_hung_up_on() {
    assert_eq!(serve(&client_flags(4)).1, Err(ServerHandshakeError::ClientFlags { flags: 4 }));
    let input = [client_flags(3), b"IHAVEOPS\0\0\0\x02\0\0\0\0".to_vec()].concat();
    let found = u64::from_be_bytes(*b"IHAVEOPS");
    assert_eq!(serve(&input).1, Err(ServerHandshakeError::OptionMagic { found }));
}

/// Feeds a client byte by byte, and answers what it sent and what came of it.
fn ask(name: &str, input: &[u8]) -> (Vec<u8>, Result<Option<ExportInfo>, ClientHandshakeError>) {
    let mut handshake = ClientHandshake::new(name).unwrap();
    let (mut output, mut start) = (Vec::new(), 0);
    for end in 1..=input.len() {
        match handshake.receive(&input[start..end], &mut output) {
            Ok((_, ClientOutcome::Transmission(negotiated))) => return (output, Ok(Some(negotiated.info))),
            Ok((used, _)) => start += used,
            Err(error) => return (output, Err(error)),
        }
    }
    (output, Ok(None))
}

const GREETING: &[u8] = b"NBDMAGICIHAVEOPT\x00\x03";

#[test]
fn the_client_asks_with_go() {
    let replies =
        [GREETING.to_vec(), reply(7, 3, INFO_EXPORT), reply(7, 3, INFO_BLOCK_SIZE), reply(7, 1, b"")];
    let (output, result) = ask("disk", &replies.concat());
    assert_eq!(output, [client_flags(3), option(7, b"\0\0\0\x04disk\0\x01\0\x03")].concat());
    assert_eq!(result, Ok(Some(INFO)));
}

#[test]
fn the_client_declines_zeroes_only_when_that_is_offered() {
    let (output, _) = ask("", b"NBDMAGICIHAVEOPT\x00\x01");
    assert_eq!(output[..4], [0, 0, 0, 1]);
}

#[test]
fn the_client_says_goodbye_when_refused() {
    let (output, result) = ask("none", &[GREETING.to_vec(), reply(7, ERR_UNKNOWN, b"no such disk")].concat());
    let message = "no such disk".to_owned();
    let error = ClientHandshakeError::Refused { error: OptionError::UnknownExport, message };
    assert_eq!(error.to_string(), "the server has no such export: no such disk");
    assert_eq!(result, Err(error));
    assert!(output.ends_with(&option(2, b"")));
}

#[test]
fn the_client_refuses_what_is_no_server() {
    let old = [b"NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53".to_vec(), vec![0; 136]].concat();
    assert_eq!(ask("", &old).1, Err(ClientHandshakeError::Greeting));
    assert_eq!(ask("", b"NBDMAGICIHAVEOPT\x00\x00").1, Err(ClientHandshakeError::Greeting));
    let error = |replies: &[u8]| ask("", &[GREETING, replies].concat()).1.unwrap_err();
    assert_eq!(error(&reply(7, 1, b"")), ClientHandshakeError::NoExportInfo);
    assert_eq!(error(&reply(6, 1, b"")), ClientHandshakeError::OutOfStep);
    assert_eq!(error(&reply(7, 3, b"\0")), ClientHandshakeError::OutOfStep);
    assert_eq!(error(&reply(7, 3, &vec![0; 70_000])), ClientHandshakeError::ReplyTooLong { length: 70_000 });
    assert!(ClientHandshake::new("a\0b").is_err());
    assert!(ClientHandshake::new(&"x".repeat(4097)).is_err());
}

#[test]
fn both_halves_understand_each_other() {
    let (mut server, mut client) = (ServerHandshake::new(), ClientHandshake::new("").unwrap());
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    ServerHandshake::greet(&mut to_client);
    assert_eq!(client.receive(&to_client, &mut to_server), Ok((18, ClientOutcome::More)));
    to_client.clear();
    let (used, outcome) = server.receive(&to_server, &Two, &mut to_client).unwrap();
    assert_eq!(
        (used, outcome),
        (to_server.len(), Outcome::Transmission(Two.find("").unwrap(), Terms::default()))
    );
    let told = client.receive(&to_client, &mut to_server).unwrap();
    let negotiated = ClientOutcome::Transmission(Negotiated { info: INFO });
    assert_eq!(told, (to_client.len(), negotiated));
}

/// Kept next to the known answers: what arbitrary bytes may not do.
mod arbitrary {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// For all inputs and cuts: the server does not panic, uses no more than there is, and the cut does not show.
        #[test]
        fn bytes_never_panic_the_server(
            flags in prop_oneof![Just(3u32), any::<u32>()],
            options in prop::collection::vec((0u32..12, prop::collection::vec(any::<u8>(), 0..40)), 0..4),
            tail in prop::collection::vec(any::<u8>(), 0..40),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut input = client_flags(flags);
            input.extend(options.iter().flat_map(|(number, payload)| option(*number, payload)));
            input.extend(tail);
            let whole = serve_cut(&input, input.len());
            prop_assert!(whole.2 <= input.len());
            prop_assert_eq!(serve_cut(&input, cut.index(input.len())), whole);
        }

        /// For all inputs: the client does not panic.
        #[test]
        fn bytes_never_panic_the_client(
            replies in prop::collection::vec((0u32..9, any::<u32>(), prop::collection::vec(any::<u8>(), 0..20)), 0..4),
            tail in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let known = replies.iter().flat_map(|(option, kind, payload)| reply(*option, *kind, payload));
            let _result = ask("x", &[GREETING.to_vec(), known.collect(), tail.clone()].concat());
            let _result = ask("x", &tail);
        }
    }
}
