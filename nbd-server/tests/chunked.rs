//! Replies in chunks, as a strict client takes them.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

#[path = "common/chunked.rs"]
mod client;

use std::time::Duration;

use brim_device::Bytes;
use brim_device::fault::{Op, Row, Then, When};
use client::Chunked;
use nbd_server::{Disk, Server};
use nbd_wire::{Command, CommandFlags, ErrorCode, Headers};
use proptest::prelude::*;

const LIMIT: Duration = Duration::from_secs(30);
const CHUNKED: [Headers; 2] = [Headers::Structured, Headers::Extended];
const NONE: CommandFlags = CommandFlags::NONE;

fn serve(size: u64) -> (Server, Disk) {
    let (server, disk) = (Server::new(), Disk::new(Bytes(size)).unwrap());
    server.add_export("disk", disk.clone()).unwrap();
    (server, disk)
}

#[test]
fn holes_are_told_as_holes_and_unfragmented_reads_in_one_chunk() {
    for headers in CHUNKED {
        let (server, _disk) = serve(1 << 20);
        let mut client = Chunked::connect(&server, headers, &[]);
        assert_eq!(client.write(8192, &[7; 4096]).error, None);
        let read = client.read(0, 1 << 20);
        assert_eq!((read.chunks, read.holes), (3, (1 << 20) - 4096));
        assert!(read.data.iter().enumerate().all(|(at, byte)| *byte == if at / 4096 == 2 { 7 } else { 0 }));
        let whole = client.ask(Command::Read, CommandFlags::DF, 0, 1 << 20);
        assert_eq!((whole.chunks, whole.holes, whole.data), (1, 0, read.data));
        let hole = client.ask(Command::Read, CommandFlags::DF, 1 << 19, 1 << 19);
        assert_eq!((hole.chunks, hole.holes), (1, 1 << 19));
        let nothing = client.read(77, 0);
        assert_eq!((nothing.error, nothing.chunks), (None, 0));
    }
}

/// The advertised maximum is 32 MiB: longer data is split, or refused where it must not be.
#[test]
fn long_reads_are_split_and_longer_ones_refused() {
    for headers in CHUNKED {
        let (server, disk) = serve(80 << 20);
        let mut client = Chunked::connect(&server, headers, &[]);
        let data: Vec<u8> = (0..40u32 << 20).map(|at| at.to_le_bytes()[usize::from(at % 3 == 0)]).collect();
        assert_eq!(client.write(1, &data).error, None);
        let read = client.read(1, 40 << 20);
        assert_eq!(read.chunks, 2);
        assert!(read.data == data);
        assert!(client.ask(Command::Read, CommandFlags::DF, 1, 32 << 20).data == data[..32 << 20]);
        let refused = client.ask(Command::Read, CommandFlags::DF, 0, (32 << 20) + 1);
        assert_eq!((refused.code(), refused.chunks), (Some(ErrorCode::Eoverflow), 0));
        assert_eq!(client.read(0, (64 << 20) + 1).code(), Some(ErrorCode::Eoverflow));
        let refused = client.write(0, &vec![1; (64 << 20) + 1]);
        assert_eq!(refused.code(), Some(ErrorCode::Einval));
        assert_eq!(disk.stats().write.requests, 1);
        assert_eq!(client.read(1, 9).data, data[..9]);
    }
}

/// The edge table over chunks: the same codes as with simple replies, the first byte past the end, and words.
#[test]
fn errors_tell_where_and_why() {
    for headers in CHUNKED {
        let (server, _disk) = serve(132_096);
        let mut client = Chunked::connect(&server, headers, &[]);
        for (offset, at) in [(132_000, 132_096), (132_096, 132_096), (1 << 40, 1 << 40)] {
            let mut told = Vec::new();
            for command in [Command::Read, Command::Trim, Command::WriteZeroes] {
                told.push(client.ask(command, NONE, offset, 512).error.unwrap());
            }
            told.push(client.write(offset, &[1; 512]).error.unwrap());
            let codes = [ErrorCode::Einval, ErrorCode::Einval, ErrorCode::Enospc, ErrorCode::Enospc];
            for ((code, why, told_at), expected) in told.into_iter().zip(codes) {
                assert_eq!((code, told_at), (expected, Some(at)));
                assert_eq!(why, "the range ends past the device");
            }
        }
        let nowhere = client.read(132_097, 0).error.unwrap();
        assert_eq!((nowhere.0, nowhere.2), (ErrorCode::Einval, None));
        for (command, flags) in [(Command::Other(99), 0), (Command::Read, 1 << 9), (Command::Trim, 4)] {
            let refused = client.ask(command, CommandFlags(flags), 0, 512).error.unwrap();
            assert_eq!((refused.0, refused.2), (ErrorCode::Einval, None));
            assert!(refused.1.contains("does not know"), "{}", refused.1);
        }
        assert_eq!(client.ask(Command::Flush, CommandFlags::FUA, 0, 0).error, None);
    }
}

#[test]
fn held_requests_are_answered_in_chunks_too() {
    for headers in CHUNKED {
        let (server, disk) = serve(1 << 20);
        for (name, op) in [("reads", Op::Read), ("writes", Op::Write)] {
            let when = When { op: Some(op).into(), nth: None, ..When::default() };
            disk.add_fault(Row { name: name.to_owned(), when, then: Then::HOLD }).unwrap();
        }
        let mut client = Chunked::connect(&server, headers, &[]);
        let read = client.send(Command::Read, NONE, (0, 16384), &[]);
        let whole = client.send(Command::Read, CommandFlags::DF, (0, 16384), &[]);
        let cut_off = client.send(Command::Read, NONE, (1 << 19, 4096), &[]);
        let write = client.send_write(4096, b"now");
        assert_eq!(disk.wait_held("reads", 3, LIMIT), 3);
        assert_eq!(disk.wait_held("writes", 1, LIMIT), 1);
        assert_eq!(client.ask(Command::Trim, NONE, 0, 512).error, None);
        assert_eq!(disk.open_gate("writes"), 1);
        assert_eq!(client.receive(write).error, None);
        disk.resize(Bytes(1 << 18)).unwrap();
        assert_eq!(disk.open_gate("reads"), 3);
        let (read, whole) = (client.receive(read), client.receive(whole));
        assert_eq!((read.chunks, read.holes, &read.data[4096..4099]), (3, 12288, &b"now"[..]));
        assert_eq!((whole.chunks, whole.data), (1, read.data));
        let cut_off = client.receive(cut_off).error.unwrap();
        assert_eq!((cut_off.0, cut_off.2), (ErrorCode::Einval, Some(1 << 19)));
    }
}

const BASE: &str = "base:allocation";
const STATE: &str = "brim:state";

fn status(client: &mut Chunked, name: &str, flags: CommandFlags, at: (u64, u64)) -> Vec<(u64, u64)> {
    let answered = client.ask(Command::BlockStatus, flags, at.0, at.1);
    assert_eq!(answered.error, None);
    assert_eq!(answered.status.len(), client.contexts.len(), "one chunk for each context");
    answered.status[&client.contexts[name]].iter().map(|extent| (extent.length, extent.flags)).collect()
}

#[test]
fn block_status_tells_data_holes_and_faults() {
    for headers in CHUNKED {
        let (server, disk) = serve(1 << 20);
        let mut client = Chunked::connect(&server, headers, &[BASE, STATE, "qemu:nothing"]);
        assert_eq!(client.contexts.len(), 2);
        assert_eq!(client.write(8192, &[7; 5000]).error, None);
        let whole = (0, 1 << 20);
        let rest = (1 << 20) - 16384;
        assert_eq!(status(&mut client, BASE, NONE, whole), [(8192, 3), (8192, 0), (rest, 3)]);
        assert_eq!(status(&mut client, STATE, NONE, whole), [(8192, 0), (8192, 1), (rest, 0)]);
        // An unaligned range is answered to the byte, and REQ_ONE with one extent of it.
        assert_eq!(status(&mut client, BASE, NONE, (8000, 9000)), [(192, 3), (8192, 0), (616, 3)]);
        assert_eq!(status(&mut client, BASE, CommandFlags::REQ_ONE, (9000, 100)), [(100, 0)]);
        assert_eq!(status(&mut client, STATE, CommandFlags::REQ_ONE, whole), [(8192, 0)]);

        // Bit 2: a row could still fire for a request here.
        let row = |name: &str, op: Option<Op>, nth| Row {
            name: name.to_owned(),
            when: When { op: op.into(), nth, ..When::default() },
            then: Then::HOLD,
        };
        disk.add_fault(row("flushes", Some(Op::Flush), None)).unwrap();
        assert_eq!(status(&mut client, STATE, CommandFlags::REQ_ONE, whole), [(8192, 0)]);
        disk.add_fault(row("second write", Some(Op::Write), Some(2))).unwrap();
        assert_eq!(status(&mut client, STATE, NONE, whole), [(8192, 4), (8192, 5), (rest, 4)]);
        assert_eq!(client.write(0, b"1").error, None);
        let second = client.send_write(0, b"2");
        assert_eq!(disk.wait_held("second write", 1, LIMIT), 1);
        assert_eq!(status(&mut client, STATE, NONE, (0, 4096)), [(4096, 1)], "it fired, for the only time");
        assert_eq!(disk.open_all_gates(), 1);
        assert_eq!(client.receive(second).error, None);
        disk.add_fault(row("all", None, None)).unwrap();
        assert_eq!(status(&mut client, STATE, NONE, (0, 4096)), [(4096, 5)]);
        assert_eq!(disk.open_gate("all"), 0);
        assert_eq!(status(&mut client, STATE, NONE, (0, 4096)), [(4096, 1)], "an open gate holds nothing");
        assert_eq!(status(&mut client, BASE, NONE, whole).len(), 4);
        // Asking is no request of the disk.
        assert_eq!(disk.stats().read.requests, 0);
    }
}

#[test]
fn block_status_is_refused_without_contexts_length_or_disk() {
    for headers in CHUNKED {
        let (server, _disk) = serve(1 << 20);
        let mut none = Chunked::connect(&server, headers, &["base:", "x-nobody:knows"]);
        assert!(none.contexts.is_empty());
        assert_eq!(none.ask(Command::BlockStatus, NONE, 0, 512).code(), Some(ErrorCode::Einval));
        let mut client = Chunked::connect(&server, headers, &[BASE]);
        assert_eq!(client.ask(Command::BlockStatus, NONE, 0, 0).code(), Some(ErrorCode::Einval));
        let past = client.ask(Command::BlockStatus, NONE, (1 << 20) - 1, 2).error.unwrap();
        assert_eq!((past.0, past.2), (ErrorCode::Einval, Some(1 << 20)));
        assert_eq!(client.ask(Command::BlockStatus, CommandFlags::DF, 0, 1).code(), Some(ErrorCode::Einval));
        assert_eq!(status(&mut client, BASE, NONE, (0, 1)), [(1, 3)]);
    }
}

/// More extents than one answer has: the rest is for the next request, and every answer makes progress.
#[test]
fn block_status_of_a_scattered_disk_comes_in_parts() {
    let mut store = brim_device::Store::new(Bytes(1 << 30)).unwrap();
    for block in 0..70_000 {
        store.write(Bytes(block * 8192), &[1]).unwrap();
    }
    let server = Server::new();
    server.add_export("", Disk::from_store(store)).unwrap();
    for headers in CHUNKED {
        let mut client = Chunked::connect(&server, headers, &[BASE]);
        let (mut at, mut data, mut answers) = (0, 0, 0);
        while at < 1 << 30 {
            let extents = status(&mut client, BASE, NONE, (at, (1 << 30) - at));
            assert!(extents.len() <= 1 << 16);
            at += extents.iter().map(|(length, _)| length).sum::<u64>();
            data += extents.iter().filter(|(_, flags)| *flags == 0).map(|(length, _)| length).sum::<u64>();
            answers += 1;
        }
        assert_eq!((at, data, answers), (1 << 30, 70_000 * 4096, 3));
    }
}

#[derive(Clone, Debug)]
struct Touch {
    offset: u64,
    len: u64,
    /// 0 reads, 1 reads unfragmented, 2 trims, 3 zeroes, above that writes bytes of this value.
    what: u8,
}

/// So little that all of it fits into the buffers between the two: the client sends all before it takes an answer.
const SIZE: u64 = 64 << 10;

fn touch() -> impl Strategy<Value = Touch> {
    (0..SIZE, 1..=9000u64, prop_oneof![0..4u8, any::<u8>()]).prop_map(|(offset, len, what)| Touch {
        offset,
        len: len.min(SIZE - offset),
        what,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// For all requests sent in one go and answered in chunks: the disk is a vector.
    #[test]
    fn the_server_is_a_vector(touches in prop::collection::vec(touch(), 1..40), headers in 0..CHUNKED.len()) {
        let (server, _disk) = serve(SIZE);
        let mut client = Chunked::connect(&server, CHUNKED[headers], &[]);
        let mut model = vec![0; usize::try_from(SIZE).unwrap()];
        let mut sent = Vec::new();
        for Touch { offset, len, what } in touches {
            let range = &mut model[usize::try_from(offset).unwrap()..][..usize::try_from(len).unwrap()];
            let at = (offset, len);
            let (cookie, expected) = match what {
                0 => (client.send(Command::Read, NONE, at, &[]), range.to_vec()),
                1 => (client.send(Command::Read, CommandFlags::DF, at, &[]), range.to_vec()),
                2 | 3 => {
                    range.fill(0);
                    let command = if what == 2 { Command::Trim } else { Command::WriteZeroes };
                    (client.send(command, NONE, at, &[]), vec![])
                }
                value => {
                    range.fill(value);
                    (client.send_write(offset, range), vec![])
                }
            };
            sent.push((cookie, expected));
        }
        for (cookie, expected) in sent {
            let answered = client.receive(cookie);
            prop_assert_eq!(answered.error, None);
            prop_assert!(answered.data == expected);
        }
    }
}
