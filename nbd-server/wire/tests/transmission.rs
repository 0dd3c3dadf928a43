//! Requests and replies against bytes written down from proto.md, and round trips.

use nbd_wire::{
    BadReplyMagic, BadRequestMagic, Command, CommandFlags, ErrorCode, Headers, Request, SimpleReply,
};
use proptest::prelude::*;

const WRITE: [u8; 28] = [
    0x25, 0x60, 0x95, 0x13, // magic
    0, 1, // FUA
    0, 1, // write
    0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 7, // cookie
    0, 0, 0, 0, 0, 0, 0x10, 0, // offset
    0, 0, 2, 0, // length
];

#[test]
fn a_write_is_read_as_written_down() {
    let request = Request {
        command: Command::Write,
        flags: CommandFlags::FUA,
        cookie: 0xdead_beef_0000_0007,
        offset: 4096,
        length: 512,
    };
    assert_eq!(Request::parse(&WRITE), Ok(Some(request)));
    assert_eq!(request.payload_length(), 512);
    let mut output = Vec::new();
    request.encode(&mut output);
    assert_eq!(output, WRITE);
    for cut in 0..WRITE.len() {
        assert_eq!(Request::parse(&WRITE[..cut]), Ok(None), "cut at {cut}");
    }
}

#[test]
fn a_reply_is_written_as_written_down() {
    let mut output = Vec::new();
    SimpleReply { cookie: 7, error: None }.encode(&mut output);
    SimpleReply { cookie: 8, error: Some(ErrorCode::Enospc) }.encode(&mut output);
    assert_eq!(output[..16], [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    assert_eq!(output[16..], [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0, 8]);
    for cut in 0..16 {
        assert_eq!(SimpleReply::parse(&output[..cut]), Ok(None), "cut at {cut}");
    }
}

#[test]
fn a_wrong_magic_is_an_error() {
    assert_eq!(Request::parse(&[0; 28]), Err(BadRequestMagic { found: 0 }));
    assert_eq!(SimpleReply::parse(&[0xff; 16]), Err(BadReplyMagic { found: u32::MAX }));
}

#[test]
fn error_codes_have_the_values_of_the_specification() {
    let values = ErrorCode::ALL.map(ErrorCode::value);
    assert_eq!(values, [1, 5, 12, 22, 28, 75, 95, 108]);
    assert_eq!(ErrorCode::ALL.map(|code| ErrorCode::from_value(code.value())), ErrorCode::ALL);
    assert_eq!(ErrorCode::from_value(9999), ErrorCode::Einval);
}

/// The commands that take each flag: proto.md, "Command flags".
#[test]
fn unknown_commands_and_flags_are_invalid() {
    let check = |command, flags| {
        Request { command, flags: CommandFlags(flags), cookie: 0, offset: 0, length: 0 }
            .check(Headers::Simple)
            .is_ok()
    };
    for command in [Command::Read, Command::Write, Command::Flush, Command::Trim, Command::WriteZeroes] {
        assert!(check(command, 0));
        assert!(check(command, CommandFlags::FUA.0));
        assert_eq!(check(command, CommandFlags::NO_HOLE.0), command == Command::WriteZeroes);
        assert_eq!(check(command, CommandFlags::FAST_ZERO.0), command == Command::WriteZeroes);
        for unknown in [2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15] {
            assert!(!check(command, 1 << unknown), "{command:?} with flag {unknown}");
        }
    }
    assert!(check(Command::Disconnect, 0));
    assert!(check(Command::Cache, 0) && !check(Command::Cache, CommandFlags::NO_HOLE.0));
    assert!(!check(Command::Other(7), 0));
}

proptest! {
    /// For all requests: what is encoded is what is parsed.
    #[test]
    fn requests_make_the_round_trip(
        flags: u16, command: u16, cookie: u64, offset: u64, length: u32, tail in prop::collection::vec(any::<u8>(), 0..9),
    ) {
        let command = Command::from_value(command);
        let request = Request { command, flags: CommandFlags(flags), cookie, offset, length };
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        prop_assert_eq!(bytes.len(), Request::SIZE);
        bytes.extend(tail);
        prop_assert_eq!(Request::parse(&bytes), Ok(Some(request)));
    }

    /// For all replies: what is encoded is what is parsed.
    #[test]
    fn replies_make_the_round_trip(cookie: u64, error in prop::option::of(prop::sample::select(&ErrorCode::ALL[..]))) {
        let reply = SimpleReply { cookie, error };
        let mut bytes = Vec::new();
        reply.encode(&mut bytes);
        prop_assert_eq!(bytes.len(), SimpleReply::SIZE);
        prop_assert_eq!(SimpleReply::parse(&bytes), Ok(Some(reply)));
    }

    /// For all bytes: parsing does not panic.
    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..64), magic: bool) {
        if magic && bytes.len() >= 4 {
            bytes[..4].copy_from_slice(&WRITE[..4]);
        }
        let parsed = Request::parse(&bytes);
        prop_assert_eq!(matches!(parsed, Ok(None)), bytes.len() < Request::SIZE);
        let _reply = SimpleReply::parse(&bytes);
    }
}
