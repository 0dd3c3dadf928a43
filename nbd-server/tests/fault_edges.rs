//! Where faults, gates, delays and the pool meet: requests that change hands, and numbers at their limits.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]
#![expect(clippy::disallowed_methods, reason = "tests of a race wait for it")]

#[path = "common/start.rs"]
mod common;

use std::time::{Duration, Instant};

use brim_device::fault::{Flip, Latency, Op, Row, Then, When};
use brim_device::log::Position;
use brim_device::{Bytes, Nanos, Store, Survival};
use common::start;
use nbd_server::client::{Client, Command};
use nbd_server::{Disk, DiskOptions, Pool, Release, Server, WhenFull, Which};

const LIMIT: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;
const BLOCK: [u8; 4096] = [9; 4096];

struct Rig {
    server: Server,
    disk: Disk,
    client: Client,
}

fn rig(size: u64, write_cache: bool) -> Rig {
    let options = DiskOptions { write_cache, ..DiskOptions::default() };
    let (server, disk) = (Server::new(), Disk::new_with(Bytes(size), options).unwrap());
    server.add_export("disk", disk.clone()).unwrap();
    let client = Client::connect(server.connect().unwrap(), "").unwrap();
    Rig { server, disk, client }
}

impl Rig {
    fn fault(&self, name: &str, op: Op, then: Then) {
        let when = When { op: op.into(), ..When::default() };
        self.disk.add_fault(Row { name: name.to_owned(), when, then }).unwrap();
    }

    /// With space for so many blocks; what needs more waits.
    fn pool(&self, blocks: u64, when_full: WhenFull) {
        let limit = Bytes(blocks * 4096);
        assert_eq!(self.disk.set_pool(Some(Pool { limit, when_full })), 0);
    }
}

fn write(at: u64) -> Command<'static> {
    Command::Write { offset: Bytes(at), data: &BLOCK, fua: false }
}

/// Let go by one thread while its client hangs up: nobody waits for it for ever.
#[test]
fn what_is_let_go_while_its_client_leaves_is_forgotten() {
    let Rig { server, disk, .. } = rig(MIB, false);
    for (name, then) in
        [("slow", Then::Delay(Latency::Fixed(Nanos(3_000_000_000_000)).into())), ("gate", Then::HOLD)]
    {
        let when = When { op: Op::Write.into(), ..When::default() };
        disk.add_fault(Row { name: name.to_owned(), when, then }).unwrap();
    }
    for round in 0..300u32 {
        let client = Client::connect(server.connect().unwrap(), "").unwrap();
        let _never: Vec<_> = (0..4).map(|at| start(&client, write(at * 4096))).collect();
        assert_eq!(disk.wait_held("gate", 4, LIMIT), 4);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..(round % 50) * 20 {
                    std::hint::spin_loop();
                }
                let _count = disk.release("gate", &Release { which: Which::All, error: None });
            });
            drop(client);
        });
        let until = Instant::now() + LIMIT;
        while (server.connection_count() > 1 || disk.delayed() > 0) && Instant::now() < until {
            std::thread::yield_now();
        }
        assert_eq!((disk.delayed(), disk.held().len()), (0, 0), "round {round}");
        assert!(disk.settle(LIMIT));
    }
}

type Way<'a> = &'a dyn Fn(&Rig);

/// Whatever makes space: what waits for it is done.
#[test]
fn space_from_anywhere_wakes_what_waits_for_it() {
    let by_a_held_trim = |rig: &Rig| {
        let trim = start(&rig.client, Command::Trim { offset: Bytes(0), len: Bytes(4096), fua: false });
        assert_eq!(rig.disk.wait_held("trims", 1, LIMIT), 1);
        assert_eq!(rig.disk.open_gate("trims"), 1);
        assert!(trim.recv_timeout(LIMIT).unwrap().is_ok());
    };
    let by_a_power_cut = |rig: &Rig| assert_eq!(rig.disk.power_cut(), Bytes(4096));
    let by_a_partial_cut = |rig: &Rig| {
        assert_eq!(rig.disk.power_cut_partly(Survival::default(), 1).lost, 8);
    };
    let by_a_snapshot = |rig: &Rig| assert!(rig.disk.restore_snapshot("empty"));
    let by_a_smaller_size = |rig: &Rig| rig.disk.resize(Bytes(MIB - 4096)).unwrap();
    let ways: [(&str, Way<'_>, u64); 5] = [
        ("trim", &by_a_held_trim, 0),
        ("power cut", &by_a_power_cut, 0),
        ("partial cut", &by_a_partial_cut, 0),
        ("snapshot", &by_a_snapshot, 0),
        ("resize", &by_a_smaller_size, MIB - 4096),
    ];
    for (name, way, at) in ways {
        let rig = rig(MIB, true);
        rig.disk.keep_snapshot("empty");
        rig.fault("trims", Op::Trim, Then::HOLD);
        rig.client.write(Bytes(at), &BLOCK).unwrap();
        rig.pool(1, WhenFull::Hold);
        let waits = start(&rig.client, write(8192));
        assert_eq!(rig.disk.wait_held("pool", 1, LIMIT), 1, "{name}");
        way(&rig);
        assert!(waits.recv_timeout(LIMIT).unwrap().is_ok(), "{name}");
        assert_eq!(rig.disk.allocated(), Bytes(4096), "{name}");
    }
}

#[test]
fn the_pool_is_for_requests_with_faults_too() {
    for then in [Then::Flip(Flip { bits: 1, at_rest: false }), Then::Misdirect { by: Bytes(65536) }] {
        let rig = rig(MIB, false);
        rig.pool(1, WhenFull::Error);
        rig.fault("fault", Op::Write, then);
        let written = (0..4).filter(|at| rig.client.write(Bytes(at * 4096), &BLOCK).is_ok()).count();
        assert_eq!((written, rig.disk.allocated()), (1, Bytes(4096)));
    }
    let rig = rig(MIB, false);
    rig.pool(0, WhenFull::Hold);
    rig.fault("bye", Op::Write, Then::Disconnect);
    let answer = start(&rig.client, write(0));
    assert_eq!(rig.disk.wait_held("pool", 1, LIMIT), 1);
    assert_eq!(rig.disk.set_pool(None), 1);
    assert!(answer.recv_timeout(LIMIT).unwrap().is_ok());
    assert!(rig.client.flush().is_err(), "the connection did not end after the answer");
}

/// A fault may be called as the pool's gate is: each lets its own go.
#[test]
fn a_fault_called_pool_is_not_the_pool() {
    let rig = rig(MIB, false);
    rig.fault("pool", Op::Write, Then::HOLD);
    let answer = start(&rig.client, write(0));
    assert_eq!(rig.disk.wait_held("pool", 1, LIMIT), 1);
    assert_eq!(rig.disk.set_pool(Some(Pool { limit: Bytes(MIB), when_full: WhenFull::Hold })), 0);
    assert_eq!(rig.disk.held().len(), 1);
    assert_eq!(rig.disk.open_gate("pool"), 1);
    assert!(answer.recv_timeout(LIMIT).unwrap().is_ok());
}

#[test]
fn what_waits_for_space_keeps_its_place_and_its_number() {
    let rig = rig(MIB, false);
    rig.pool(0, WhenFull::Hold);
    let _answers = [start(&rig.client, write(0)), start(&rig.client, write(4096))];
    assert_eq!(rig.disk.wait_held("pool", 2, LIMIT), 2);
    let held = |rig: &Rig| rig.disk.held().iter().map(|held| (held.id, held.offset)).collect::<Vec<_>>();
    let before = held(&rig);
    assert_eq!(before.iter().map(|(_, offset)| offset.0).collect::<Vec<_>>(), [0, 4096]);
    assert_eq!(rig.disk.release("pool", &Release { which: Which::First(1), error: None }), 0);
    assert_eq!(held(&rig), before);
}

#[test]
fn bits_rot_where_they_are_read_also_far_out() {
    let rig = rig(1 << 62, false);
    rig.fault("rot", Op::Read, Then::Flip(Flip { bits: 1, at_rest: true }));
    let read = rig.client.read(Bytes(1 << 61), Bytes(4096)).unwrap();
    assert_eq!(read.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
}

#[test]
fn a_restored_snapshot_that_is_larger_is_in_the_log() {
    let rig = rig(2 * MIB, false);
    rig.disk.start_log();
    rig.client.write(Bytes(MIB + 4096), &BLOCK).unwrap();
    rig.disk.keep_snapshot("large");
    rig.disk.resize(Bytes(MIB)).unwrap();
    assert!(rig.disk.restore_snapshot("large"));
    let mut fresh = Store::new(Bytes(2 * MIB)).unwrap();
    rig.disk.log().unwrap().replay(&mut fresh, &Position::End).unwrap();
    let mut there = [0; 4096];
    fresh.read(Bytes(MIB + 4096), &mut there).unwrap();
    assert!(there == BLOCK);
}

/// What a partial cut has lost takes no space.
#[test]
fn a_partial_cut_allocates_nothing_for_what_it_lost() {
    let rig = rig(MIB, true);
    rig.client.write(Bytes(0), &[1; 16384]).unwrap();
    let cut = rig.disk.power_cut_partly(Survival::default(), 1);
    assert_eq!((cut.lost, rig.disk.allocated()), (32, Bytes::ZERO));
}

/// A disk that has shrunk below where a request was led to: the client gets an error, and stays in step.
#[test]
fn a_misdirected_read_past_a_smaller_disk_fails() {
    let rig = rig(MIB, false);
    rig.fault("slow", Op::Read, Then::Delay(Latency::Fixed(Nanos(100_000_000)).into()));
    rig.fault("astray", Op::Read, Then::Misdirect { by: Bytes(MIB / 2) });
    let answer = start(&rig.client, Command::Read { offset: Bytes(0), len: Bytes(4096) });
    while rig.disk.delayed() == 0 {
        std::thread::yield_now();
    }
    rig.disk.resize(Bytes(MIB / 4)).unwrap();
    assert_eq!(answer.recv_timeout(LIMIT).unwrap().unwrap_err().errno(), 22);
    assert!(rig.disk.remove_fault("astray").is_some());
    assert!(rig.client.read(Bytes(0), Bytes(512)).is_ok());
}
