//! Gates: a held request stops nobody else, is answered out of order, and goes away with its connection.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

#[path = "common/start.rs"]
mod common;

use std::time::Duration;

use brim_device::Bytes;
use brim_device::fault::{Op, Row, Then, When};
use common::start;
use nbd_server::client::{Client, Command, CommandError, Reply};
use nbd_server::{Disk, Server};
use proptest::prelude::*;

const LIMIT: Duration = Duration::from_secs(30);

fn gate(name: &str, op: Option<Op>, nth: Option<u64>) -> Row {
    Row { name: name.to_owned(), when: When { op: op.into(), nth, ..When::default() }, then: Then::HOLD }
}

fn serve() -> (Server, Disk, Client) {
    let (server, disk) = (Server::new(), Disk::new(Bytes(1 << 20)).unwrap());
    server.add_export("disk", disk.clone()).unwrap();
    let client = Client::connect(server.connect().unwrap(), "").unwrap();
    (server, disk, client)
}

#[test]
fn a_held_write_stops_nobody_and_is_answered_when_the_gate_opens() {
    let (_server, disk, client) = serve();
    disk.add_fault(gate("commit", Some(Op::Write), Some(2))).unwrap();
    client.write(Bytes(0), b"first").unwrap();
    let answer = start(&client, Command::Write { offset: Bytes(0), data: b"SECOND", fua: true });
    assert_eq!(disk.wait_held("commit", 1, LIMIT), 1);

    let held = disk.held();
    assert_eq!(held.len(), 1);
    assert_eq!((held[0].gate.as_str(), held[0].op), ("commit", Op::Write));
    assert_eq!((held[0].offset, held[0].len), (Bytes(0), Bytes(6)));

    client.write(Bytes(4096), b"third").unwrap();
    client.flush().unwrap();
    assert_eq!(client.read(Bytes(0), Bytes(6)).unwrap(), b"first\0");
    assert!(answer.try_recv().is_err());

    assert_eq!(disk.open_gate("commit"), 1);
    // Opening executes: the data is there before the reply is.
    let mut now = [0; 6];
    disk.snapshot().read(Bytes(0), &mut now).unwrap();
    assert_eq!(&now, b"SECOND");
    assert_eq!(answer.recv_timeout(LIMIT).unwrap(), Ok(Reply::default()));
    assert!(disk.held().is_empty());
    let faults = disk.faults();
    assert_eq!((faults[0].matches, faults[0].firings), (3, 1));
    assert_eq!(disk.open_gate("commit"), 0);
    assert_eq!(disk.open_gate("nobody"), 0);
}

#[test]
fn hundreds_wait_at_a_gate_and_no_other_gate_opens() {
    let (_server, disk, client) = serve();
    disk.add_fault(gate("reads", Some(Op::Read), None)).unwrap();
    disk.add_fault(gate("flushes", Some(Op::Flush), None)).unwrap();
    client.write(Bytes(0), &[5; 4096]).unwrap();
    let reads: Vec<_> =
        (0..500).map(|_| start(&client, Command::Read { offset: Bytes(0), len: Bytes(4096) })).collect();
    let flush = start(&client, Command::Flush);
    assert_eq!(disk.wait_held("reads", 500, LIMIT), 500);
    assert_eq!(disk.wait_held("flushes", 1, LIMIT), 1);
    // A read sees the disk of the moment it is released.
    client.write(Bytes(0), &[6; 4096]).unwrap();
    assert_eq!(disk.open_gate("reads"), 500);
    for read in reads {
        assert_eq!(read.recv_timeout(LIMIT).unwrap().unwrap().data, [6; 4096]);
    }
    // An open gate stays open, and the other one closed.
    let later = start(&client, Command::Read { offset: Bytes(0), len: Bytes(1) });
    assert_eq!(later.recv_timeout(LIMIT).unwrap().unwrap().data, [6]);
    assert!(flush.try_recv().is_err());
    assert_eq!(disk.open_all_gates(), 1);
    assert!(flush.recv_timeout(LIMIT).unwrap().is_ok());
    assert_eq!(client.read(Bytes(0), Bytes(1)).unwrap(), [6]);
}

#[test]
fn a_large_write_is_held_whole() {
    let (server, disk) = (Server::new(), Disk::new(Bytes(40 << 20)).unwrap());
    server.add_export("", disk.clone()).unwrap();
    let client = Client::connect(server.connect().unwrap(), "").unwrap();
    disk.add_fault(gate("big", Some(Op::Write), None)).unwrap();
    let data = vec![3; 32 << 20];
    let answer = start(&client, Command::Write { offset: Bytes(1), data: &data, fua: false });
    assert_eq!(disk.wait_held("big", 1, LIMIT), 1);
    assert_eq!(disk.allocated(), Bytes(0));
    assert_eq!(client.read(Bytes(0), Bytes(2)).unwrap(), [0, 0]);
    assert_eq!(disk.open_gate("big"), 1);
    assert!(answer.recv_timeout(LIMIT).unwrap().is_ok());
    assert!(client.read(Bytes(1), Bytes(32 << 20)).unwrap() == data);
}

#[test]
fn waiting_for_a_gate_that_holds_nothing_ends() {
    let (_server, disk, _client) = serve();
    disk.add_fault(gate("quiet", None, None)).unwrap();
    assert_eq!(disk.wait_held("quiet", 1, Duration::from_millis(20)), 0);
}

#[test]
fn a_lost_connection_drops_what_it_held_and_every_completion_hears_of_it() {
    let (server, disk, client) = serve();
    disk.add_fault(gate("all", Some(Op::Write), None)).unwrap();
    let other = Client::connect(server.connect().unwrap(), "disk").unwrap();
    let lost: Vec<_> =
        (0..9).map(|_| start(&client, Command::Write { offset: Bytes(0), data: b"x", fua: false })).collect();
    let kept = start(&other, Command::Write { offset: Bytes(1), data: b"y", fua: false });
    assert_eq!(disk.wait_held("all", 10, LIMIT), 10);
    drop(client);
    for answer in lost {
        assert_eq!(answer.recv().unwrap(), Err(CommandError::Lost));
        assert!(answer.recv().is_err(), "called twice");
    }
    while disk.held().len() > 1 {
        std::thread::yield_now();
    }
    assert_eq!(disk.open_all_gates(), 1);
    assert!(kept.recv_timeout(LIMIT).unwrap().is_ok());
    assert_eq!(other.read(Bytes(0), Bytes(2)).unwrap(), b"\0y");
}

#[test]
fn shutdown_drops_held_requests_and_ends_every_connection() {
    let (server, disk, client) = serve();
    disk.add_fault(gate("all", None, None)).unwrap();
    let answer = start(&client, Command::Write { offset: Bytes(0), data: b"x", fua: false });
    assert_eq!(disk.wait_held("all", 1, LIMIT), 1);
    server.shutdown();
    assert!(disk.held().is_empty());
    assert_eq!(answer.recv_timeout(LIMIT).unwrap(), Err(CommandError::Lost));
    assert_eq!(client.flush(), Err(CommandError::Lost));
    assert_eq!(disk.allocated(), Bytes(0));
    assert!(server.connect().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// For all nth: exactly the nth write is held, and all others are answered.
    #[test]
    fn the_nth_write_is_held(nth in 1..40u64, writes in 1..40u64) {
        let (_server, disk, client) = serve();
        disk.add_fault(gate("nth", Some(Op::Write), Some(nth))).unwrap();
        let answers: Vec<_> = (1..=writes)
            .map(|count| start(&client, Command::Write { offset: Bytes(count * 4096), data: b"w", fua: false }))
            .collect();
        let expected = usize::from(nth <= writes);
        for (answer, count) in answers.iter().zip(1..) {
            if count != nth {
                prop_assert!(answer.recv_timeout(LIMIT).unwrap().is_ok());
            }
        }
        prop_assert_eq!(disk.wait_held("nth", expected, LIMIT), expected);
        let held = disk.held();
        prop_assert_eq!(held.len(), expected);
        prop_assert!(held.iter().all(|held| held.offset == Bytes(nth * 4096)));
        prop_assert_eq!(disk.open_all_gates(), expected);
        for answer in answers {
            let _first_or_none = answer.recv_timeout(LIMIT);
        }
        prop_assert_eq!(disk.allocated(), Bytes(writes * 4096));
    }
}
