//! The volatile write cache, as a client sees it who loses power.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

#[path = "common/chunked.rs"]
#[expect(dead_code, reason = "what other tests ask for")]
mod chunked;
#[path = "common/start.rs"]
mod common;

use std::time::Duration;

use brim_device::fault::{Op, Row, Then, When};
use brim_device::{Bytes, Store};
use chunked::Chunked;
use common::start;
use nbd_server::client::{Client, Command, Reply};
use nbd_server::{Disk, DiskOptions, Server};
use nbd_wire::{Command as Wire, CommandFlags, Headers};
use proptest::prelude::*;

const LIMIT: Duration = Duration::from_secs(30);
const SIZE: u64 = 1 << 20;

fn serve(write_cache: bool) -> (Server, Disk, Client) {
    let disk = Disk::new_with(Bytes(SIZE), DiskOptions { write_cache, ..DiskOptions::default() }).unwrap();
    let server = Server::new();
    server.add_export("", disk.clone()).unwrap();
    let client = Client::connect(server.connect().unwrap(), "").unwrap();
    (server, disk, client)
}

fn done(client: &Client, command: Command<'_>) {
    assert_eq!(start(client, command).recv_timeout(LIMIT).unwrap(), Ok(Reply::default()));
}

fn gate(name: &str, op: Op) -> Row {
    Row {
        name: name.to_owned(),
        when: When { op: Some(op).into(), nth: Some(1), ..When::default() },
        then: Then::HOLD,
    }
}

fn first(store: &Store) -> [u8; 3] {
    let mut bytes = [0; 3];
    store.read(Bytes(0), &mut bytes).unwrap();
    bytes
}

#[test]
fn without_a_cache_what_was_answered_is_durable() {
    let (_server, disk, client) = serve(false);
    client.write(Bytes(0), b"new").unwrap();
    assert_eq!((disk.options(), disk.dirty()), (DiskOptions::default(), Bytes(0)));
    assert_eq!(first(&disk.durable()), *b"new");
    assert_eq!(disk.power_cut(), Bytes(0));
    assert_eq!(client.read(Bytes(0), Bytes(3)).unwrap(), b"new");
}

#[test]
fn a_power_cut_loses_what_was_not_flushed() {
    let (server, disk, client) = serve(true);
    assert!(disk.options().write_cache);
    client.write(Bytes(0), b"old").unwrap();
    client.flush().unwrap();
    client.write(Bytes(0), b"new").unwrap();
    client.write(Bytes(8192), b"new").unwrap();
    assert_eq!(client.read(Bytes(0), Bytes(3)).unwrap(), b"new");
    assert_eq!((first(&disk.snapshot()), first(&disk.durable())), (*b"new", *b"old"));
    assert_eq!((disk.dirty(), disk.power_cut(), disk.dirty()), (Bytes(8192), Bytes(8192), Bytes(0)));
    assert_eq!(client.read(Bytes(0), Bytes(3)).unwrap(), b"old");
    assert_eq!(client.read(Bytes(8192), Bytes(3)).unwrap(), [0; 3]);
    // The same connection goes on, and a flush on another one covers what it writes.
    client.write(Bytes(0), b"new").unwrap();
    let other = Client::connect(server.connect().unwrap(), "").unwrap();
    other.flush().unwrap();
    assert_eq!(disk.power_cut(), Bytes(0));
    assert_eq!(client.read(Bytes(0), Bytes(3)).unwrap(), b"new");
}

#[test]
fn fua_makes_its_own_range_durable_and_nothing_else() {
    let (_server, disk, client) = serve(true);
    client.write(Bytes(0), &vec![1; 32768]).unwrap();
    client.flush().unwrap();
    client.write(Bytes(0), &vec![2; 32768]).unwrap();
    let (offset, len) = (Bytes(1000), Bytes(1000));
    done(&client, Command::Write { offset, data: &[3; 1000], fua: true });
    done(&client, Command::Trim { offset: Bytes(8192), len: Bytes(4096), fua: true });
    done(&client, Command::WriteZeroes { offset: Bytes(16384), len, fua: true, no_hole: true });
    done(&client, Command::WriteZeroes { offset: Bytes(24576), len: Bytes(4096), fua: true, no_hole: true });
    client.trim(Bytes(28672), Bytes(4096)).unwrap();
    let mut expected = vec![1; 32768];
    expected[1000..2000].fill(3);
    for zeroes in [8192..12288, 16384..17384, 24576..28672] {
        expected[zeroes].fill(0);
    }
    // Two blocks were made durable as a whole.
    assert_eq!(disk.power_cut(), Bytes(6 * 4096));
    assert!(client.read(Bytes(0), Bytes(32768)).unwrap() == expected);
    // The trimmed block is freed there too, the zeroed one is not.
    assert_eq!(disk.allocated(), Bytes(7 * 4096));
}

#[test]
fn a_flush_that_passes_a_held_write_does_not_cover_it() {
    let (_server, disk, client) = serve(true);
    disk.add_fault(gate("late", Op::Write)).unwrap();
    let late = start(&client, Command::Write { offset: Bytes(0), data: b"new", fua: false });
    assert_eq!(disk.wait_held("late", 1, LIMIT), 1);
    client.flush().unwrap();
    assert_eq!(disk.open_gate("late"), 1);
    assert!(late.recv_timeout(LIMIT).unwrap().is_ok());
    assert_eq!((first(&disk.snapshot()), first(&disk.durable())), (*b"new", [0; 3]));
    assert_eq!(disk.power_cut(), Bytes(4096));
    assert_eq!(client.read(Bytes(0), Bytes(3)).unwrap(), [0; 3]);
}

#[test]
fn a_held_flush_covers_what_is_there_when_it_is_released() {
    let (_server, disk, client) = serve(true);
    disk.add_fault(gate("flush", Op::Flush)).unwrap();
    let flush = start(&client, Command::Flush);
    assert_eq!(disk.wait_held("flush", 1, LIMIT), 1);
    client.write(Bytes(0), b"new").unwrap();
    assert_eq!(disk.dirty(), Bytes(4096));
    assert_eq!(disk.open_gate("flush"), 1);
    assert!(flush.recv_timeout(LIMIT).unwrap().is_ok());
    assert_eq!((disk.dirty(), first(&disk.durable())), (Bytes(0), *b"new"));
}

#[test]
fn a_power_cut_leaves_held_requests_which_act_when_they_are_released() {
    let (_server, disk, client) = serve(true);
    client.write(Bytes(0), b"---").unwrap();
    disk.add_fault(gate("commit", Op::Write)).unwrap();
    let commit = start(&client, Command::Write { offset: Bytes(0), data: b"new", fua: true });
    assert_eq!(disk.wait_held("commit", 1, LIMIT), 1);
    assert_eq!(disk.power_cut(), Bytes(4096));
    assert_eq!(disk.held().len(), 1);
    assert_eq!(disk.open_all_gates(), 1);
    assert!(commit.recv_timeout(LIMIT).unwrap().is_ok());
    assert_eq!((disk.power_cut(), client.read(Bytes(0), Bytes(3)).unwrap()), (Bytes(0), b"new".to_vec()));
}

#[test]
fn a_fork_can_lose_its_power_alone() {
    let (_server, disk, client) = serve(true);
    client.write(Bytes(0), b"old").unwrap();
    client.flush().unwrap();
    client.write(Bytes(0), b"new").unwrap();
    let fork = disk.fork();
    assert_eq!((fork.dirty(), fork.power_cut()), (Bytes(4096), Bytes(4096)));
    assert_eq!((first(&fork.snapshot()), first(&disk.snapshot())), (*b"old", *b"new"));
    let settled = Disk::from_store(fork.snapshot());
    assert_eq!((settled.options(), first(&settled.durable())), (DiskOptions::default(), *b"old"));
    assert_eq!(disk.dirty(), Bytes(4096));
}

#[test]
fn a_new_size_is_durable_and_flushes_nothing() {
    let (_server, disk, client) = serve(true);
    client.write(Bytes(0), b"new").unwrap();
    client.write(Bytes(SIZE - 512), &[1; 512]).unwrap();
    disk.resize(Bytes(SIZE / 2)).unwrap();
    assert_eq!((disk.dirty(), disk.durable().size()), (Bytes(4096), Bytes(SIZE / 2)));
    disk.resize(Bytes(SIZE)).unwrap();
    assert_eq!((disk.power_cut(), disk.size()), (Bytes(4096), Bytes(SIZE)));
    assert_eq!(disk.allocated(), Bytes(0));
}

/// `brim:state`, in what is dirty and what is allocated.
#[test]
fn block_status_tells_what_is_dirty() {
    let (server, disk, client) = serve(true);
    client.write(Bytes(0), &[1; 16384]).unwrap();
    client.flush().unwrap();
    client.write(Bytes(4096), &[2; 1]).unwrap();
    client.trim(Bytes(8192), Bytes(4096)).unwrap();
    client.write(Bytes(32768), &[3; 4097]).unwrap();
    let contexts = ["base:allocation", "brim:state"];
    let mut asking = Chunked::connect_to(&server, "", Headers::Structured, &contexts);
    let [allocation, state] = contexts.map(|name| asking.contexts[name]);
    let mut told = |context| {
        let answered = asking.ask(Wire::BlockStatus, CommandFlags::NONE, 0, SIZE);
        let extents = answered.status[&context].iter();
        extents.map(|extent| (extent.length / 4096, extent.flags)).collect::<Vec<_>>()
    };
    assert_eq!(told(state), [(1, 1), (1, 3), (1, 2), (1, 1), (4, 0), (2, 3), (246, 0)]);
    let allocated = [(2, 0), (1, 3), (1, 0), (4, 3), (2, 0), (246, 3)];
    assert_eq!(told(allocation), allocated);
    assert_eq!(disk.dirty(), Bytes(4 * 4096));
    client.flush().unwrap();
    assert_eq!(told(state), [(2, 1), (1, 0), (1, 1), (4, 0), (2, 1), (246, 0)]);
    assert_eq!(told(allocation), allocated);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Write { offset: u64, len: u64, byte: u8, fua: bool },
    Zero { offset: u64, len: u64, trim: bool, fua: bool },
    Flush,
    PowerCut,
}

fn step() -> impl Strategy<Value = Step> {
    let range = || (prop_oneof![0..32768u64, (0..64u64).prop_map(|at| at * 512)], 0..9000u64, any::<bool>());
    prop_oneof![
        4 => (range(), any::<u8>()).prop_map(|((offset, len, fua), byte)| Step::Write { offset, len, byte, fua }),
        2 => (range(), any::<bool>()).prop_map(|((offset, len, fua), trim)| Step::Zero { offset, len, trim, fua }),
        1 => Just(Step::Flush),
        1 => Just(Step::PowerCut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// For all orders of requests on two connections, with power cuts between them: a cut leaves what was flushed since
    /// it was written, or written with FUA, and without a cache everything.
    #[test]
    fn what_is_left_is_what_was_made_durable(cache: bool, steps in prop::collection::vec(step(), 1..40)) {
        let (server, disk, client) = serve(cache);
        let clients = [client, Client::connect(server.connect().unwrap(), "").unwrap()];
        let (mut cached, mut durable) = (vec![0; 49152], vec![0; 49152]);
        for (step, client) in steps.iter().zip(clients.iter().cycle()) {
            let command = match *step {
                Step::Write { offset, len, byte, fua } => {
                    let data = vec![byte; usize::try_from(len).unwrap()];
                    done(client, Command::Write { offset: Bytes(offset), data: &data, fua });
                    Some((offset, len, byte, fua))
                }
                Step::Zero { offset, len, trim, fua } => {
                    let (at, size) = (Bytes(offset), Bytes(len));
                    let no_hole = len % 2 == 0;
                    done(client, if trim {
                        Command::Trim { offset: at, len: size, fua }
                    } else {
                        Command::WriteZeroes { offset: at, len: size, fua, no_hole }
                    });
                    Some((offset, len, 0, fua))
                }
                Step::Flush => {
                    client.flush().unwrap();
                    durable.clone_from(&cached);
                    None
                }
                Step::PowerCut => {
                    let dirty = disk.dirty();
                    prop_assert_eq!(disk.power_cut(), dirty);
                    cached.clone_from(&durable);
                    None
                }
            };
            if let Some((offset, len, byte, fua)) = command {
                let range = usize::try_from(offset).unwrap()..usize::try_from(offset + len).unwrap();
                cached[range.clone()].fill(byte);
                if fua || !cache {
                    durable[range].fill(byte);
                }
            }
            let mut left = vec![1; durable.len()];
            disk.durable().read(Bytes(0), &mut left).unwrap();
            prop_assert!(left == durable, "{step:?} leaves something else");
            prop_assert!(client.read(Bytes(0), Bytes::of_len(cached.len())).unwrap() == cached);
        }
    }
}
