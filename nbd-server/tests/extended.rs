//! Extended headers: what only 64 bits and payloads of their own can say.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

#[path = "common/chunked.rs"]
mod client;

use std::io::{Read, Write};

use brim_device::Bytes;
use client::{Answered, Chunked};
use nbd_server::{Disk, Server};
use nbd_wire::{
    Command, CommandFlags, ErrorCode, ExtendedRequest, Extent, Headers, StatusQuery, TransmissionFlags,
};

const CONTEXTS: [&str; 2] = ["base:allocation", "brim:state"];
const NONE: CommandFlags = CommandFlags::NONE;
const PIB: u64 = 1 << 50;

fn serve() -> (Server, Disk) {
    let (server, disk) = (Server::new(), Disk::new(Bytes(PIB)).unwrap());
    server.add_export("disk", disk.clone()).unwrap();
    (server, disk)
}

/// A pebibyte in one request: what 32 bits need 262144 for.
#[test]
fn lengths_have_64_bits() {
    let (server, disk) = serve();
    let mut client = Chunked::connect(&server, Headers::Extended, &CONTEXTS[..1]);
    assert_eq!(client.write(PIB / 2, &[7; 4096]).error, None);
    let whole = client.ask(Command::BlockStatus, NONE, 0, PIB);
    let extents = [(PIB / 2, 3), (4096, 0), (PIB / 2 - 4096, 3)];
    let extents = extents.map(|(length, flags)| Extent { length, flags }).to_vec();
    assert_eq!(whole.status[&0], extents);
    assert_eq!(client.ask(Command::Cache, NONE, 0, PIB).error, None);
    assert_eq!(client.read(0, PIB).code(), Some(ErrorCode::Eoverflow));
    let past = client.ask(Command::Trim, NONE, 4096, PIB).error.unwrap();
    assert_eq!((past.0, past.2), (ErrorCode::Einval, Some(PIB)));
    assert_eq!(client.ask(Command::WriteZeroes, NONE, 1, PIB - 1).error, None);
    assert_eq!(disk.allocated(), Bytes(0));
    assert_eq!(client.ask(Command::Trim, NONE, 0, PIB).error, None);
    assert_eq!(client.ask(Command::Flush, NONE, 0, 0).error, None);
}

fn query(client: &mut Chunked, length: u64, contexts: &[u32]) -> Answered {
    let mut payload = Vec::new();
    StatusQuery { length, contexts: contexts.to_vec() }.encode(&mut payload);
    status_with(client, &payload)
}

fn status_with(client: &mut Chunked, payload: &[u8]) -> Answered {
    let length = u64::try_from(payload.len()).unwrap();
    let cookie = client.send(Command::BlockStatus, CommandFlags::PAYLOAD_LEN, (0, length), payload);
    client.receive(cookie)
}

#[test]
fn a_payload_picks_contexts() {
    let (server, _disk) = serve();
    let mut client = Chunked::connect(&server, Headers::Extended, &CONTEXTS);
    assert_ne!(client.flags & TransmissionFlags::BLOCK_STATUS_PAYLOAD.0, 0);
    let hole = |flags| vec![Extent { length: PIB, flags }];
    for (contexts, flags) in [(&[0][..], &[(0, 3)][..]), (&[1], &[(1, 0)]), (&[1, 0], &[(1, 0), (0, 3)])] {
        let told = query(&mut client, PIB, contexts);
        let expected = flags.iter().map(|(context, flags)| (*context, hole(*flags))).collect();
        assert_eq!((told.error, told.status), (None, expected));
    }
    for contexts in [&[][..], &[0, 0], &[2], &[0, 1, 2], &[0; 500]] {
        assert_eq!(query(&mut client, 4096, contexts).code(), Some(ErrorCode::Einval), "{contexts:?}");
    }
    for length in [0, 7, 9, 13, 300_000] {
        let told = status_with(&mut client, &vec![0; length]);
        assert_eq!(told.code(), Some(ErrorCode::Einval), "{length} bytes of payload");
    }
    let mut none = Chunked::connect(&server, Headers::Extended, &[]);
    assert_eq!(none.flags & TransmissionFlags::BLOCK_STATUS_PAYLOAD.0, 0);
    assert_eq!(query(&mut none, 4096, &[0]).code(), Some(ErrorCode::Einval));
    assert_eq!(none.read(0, 1).error, None);
}

/// "In all other cases, a server SHOULD gracefully consume length bytes of payload" (proto.md of extension-ext-header,
/// "Request message"): the next request is understood.
#[test]
fn payloads_nobody_asked_for_are_consumed() {
    let (server, disk) = serve();
    let mut client = Chunked::connect(&server, Headers::Extended, &CONTEXTS);
    for length in [1, 4096, 300_000, (64 << 20) + 1] {
        for command in [Command::Read, Command::Trim, Command::Flush, Command::Other(99)] {
            let at = (0, u64::try_from(length).unwrap());
            let cookie = client.send(command, CommandFlags::PAYLOAD_LEN, at, &vec![1; length]);
            assert_eq!(client.receive(cookie).code(), Some(ErrorCode::Einval));
        }
    }
    // QEMU's client does not say that a write has a payload.
    let bare = client.send(Command::Write, NONE, (4096, 3), b"abc");
    assert_eq!(client.receive(bare).error, None);
    assert_eq!(client.write(0, b"still in step").error, None);
    assert_eq!((client.read(0, 13).data, disk.stats().write.requests), (b"still in step".to_vec(), 2));
}

/// A payload that 32 bits cannot count, or compact headers after the handshake: the connection ends, the server does not.
#[test]
fn who_is_out_of_step_is_hung_up_on() {
    let (server, _disk) = serve();
    let (flags, length) = (CommandFlags::PAYLOAD_LEN, 1 << 32);
    let request = ExtendedRequest { command: Command::Write, flags, cookie: 1, offset: 0, length };
    let mut endless = Vec::new();
    request.encode(&mut endless);
    for bytes in [endless, b"\x25\x60\x95\x13 a compact request, says the magic".to_vec()] {
        let mut client = Chunked::connect(&server, Headers::Extended, &[]);
        client.stream.write_all(&bytes).unwrap();
        assert_eq!(client.stream.read(&mut [0; 9]).unwrap_or(0), 0);
    }
    assert_eq!(Chunked::connect(&server, Headers::Extended, &[]).read(0, 1).error, None);
}
