//! Every kind of fault as a client meets it.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]
#![expect(clippy::disallowed_methods, reason = "tests of delays read the clock")]

#[path = "common/start.rs"]
mod common;

use std::time::{Duration, Instant};

use brim_device::fault::{Delay, ErrorName, Flip, Latency, Limit, Op, Row, Then, Unit, When};
use brim_device::{ByteRange, Bytes, Nanos};
use common::start;
use nbd_server::client::{Client, Command, CommandError};
use nbd_server::{Disk, DiskOptions, Pool, Release, Server, WhenFull, Which};

const LIMIT: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;

struct Rig {
    _server: Server,
    disk: Disk,
    client: Client,
}

fn rig(options: DiskOptions) -> Rig {
    let (server, disk) = (Server::new(), Disk::new_with(Bytes(MIB), options).unwrap());
    server.add_export("disk", disk.clone()).unwrap();
    let client = Client::connect(server.connect().unwrap(), "").unwrap();
    Rig { _server: server, disk, client }
}

impl Rig {
    fn new() -> Self {
        rig(DiskOptions::default())
    }

    fn fault(&self, name: &str, when: When, then: Then) {
        self.disk.add_fault(Row { name: name.to_owned(), when, then }).unwrap();
    }

    fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        self.client.read(Bytes(offset), Bytes(len)).unwrap()
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.client.write(Bytes(offset), data).unwrap();
    }
}

fn op(op: Op) -> When {
    When { op: op.into(), ..When::default() }
}

fn fixed(delay: Duration) -> Then {
    Then::Delay(Latency::Fixed(Nanos::from(delay)).into())
}

#[test]
fn a_delayed_request_comes_late_and_stops_nobody() {
    let rig = Rig::new();
    let delay = Duration::from_millis(60);
    rig.fault("slow", op(Op::Write), fixed(delay));
    let begun = Instant::now();
    let late: Vec<_> = (0..50)
        .map(|at| {
            start(&rig.client, Command::Write { offset: Bytes(at * 4096), data: &[9; 4096], fua: false })
        })
        .collect();
    assert_eq!(rig.read(0, 4096), [0; 4096], "a write was done before its time");
    assert!(begun.elapsed() < delay, "a read waited for a delayed write");
    for answer in late {
        assert!(answer.recv_timeout(LIMIT).unwrap().is_ok());
        assert!(begun.elapsed() >= delay);
    }
    // One after the other they would take 3 s.
    assert!(begun.elapsed() < delay * 10, "{:?}", begun.elapsed());
    assert_eq!(rig.read(49 * 4096, 4096), [9; 4096]);
    let faults = rig.disk.faults();
    let lateness = faults[0].lateness.as_ref().unwrap();
    assert_eq!((faults[0].firings, lateness.count), (50, 50));
    assert!(lateness.p50 <= lateness.max && lateness.max < Nanos::from(LIMIT), "{lateness:?}");
}

/// More requests than any peer keeps: they wait as entries, and not as threads.
#[test]
fn ten_thousand_are_delayed_at_once() {
    let rig = Rig::new();
    rig.fault("slow", op(Op::Read), fixed(Duration::from_millis(500)));
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    let begun = Instant::now();
    let late: Vec<_> = (0..10_000u64)
        .map(|at| start(&rig.client, Command::Read { offset: Bytes(at % 256 * 4096), len: Bytes(512) }))
        .collect();
    while rig.disk.delayed() < 10_000 && begun.elapsed() < Duration::from_millis(450) {
        std::thread::yield_now();
    }
    assert!(threads() <= before + 1, "{before} threads became {}", threads());
    for answer in late {
        assert_eq!(answer.recv_timeout(LIMIT).unwrap().unwrap().data.len(), 512);
    }
    assert_eq!(rig.disk.delayed(), 0);
}

#[test]
fn settling_waits_for_what_had_arrived() {
    let rig = Rig::new();
    rig.fault("slow", op(Op::Write), fixed(Duration::from_millis(80)));
    let answer = start(&rig.client, Command::Write { offset: Bytes(0), data: b"late", fua: false });
    while rig.disk.delayed() == 0 {
        std::thread::yield_now();
    }
    assert!(!rig.disk.settle(Duration::from_millis(1)));
    assert!(rig.disk.settle(LIMIT));
    let mut now = [0; 4];
    rig.disk.snapshot().read(Bytes(0), &mut now).unwrap();
    assert_eq!(&now, b"late");
    assert!(answer.recv_timeout(LIMIT).unwrap().is_ok());
}

#[test]
fn delayed_requests_go_with_their_connection() {
    let Rig { _server: server, disk, client } = Rig::new();
    let row = Row { name: "slow".to_owned(), when: When::default(), then: fixed(LIMIT) };
    disk.add_fault(row).unwrap();
    let answer = start(&client, Command::Write { offset: Bytes(0), data: b"never", fua: false });
    while disk.delayed() == 0 {
        std::thread::yield_now();
    }
    drop(client);
    assert_eq!(answer.recv_timeout(LIMIT).unwrap(), Err(CommandError::Lost));
    assert!(disk.settle(LIMIT));
    assert_eq!((disk.delayed(), disk.allocated()), (0, Bytes::ZERO));
    server.shutdown();
}

/// A limit holds for all connections together.
#[test]
fn a_limit_is_kept() {
    let rig = Rig::new();
    rig.fault(
        "rate",
        op(Op::Read),
        Then::Limit(Limit { unit: Unit::Requests, per_second: 1_000, burst: 10 }),
    );
    let begun = Instant::now();
    let answers: Vec<_> =
        (0..110).map(|_| start(&rig.client, Command::Read { offset: Bytes(0), len: Bytes(512) })).collect();
    for answer in answers {
        assert!(answer.recv_timeout(LIMIT).unwrap().is_ok());
    }
    assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
}

#[test]
fn every_error_reaches_the_client() {
    for error in ErrorName::ALL {
        let rig = Rig::new();
        rig.fault("error", op(Op::Write), Then::Error(error));
        let refused = rig.client.write(Bytes(0), b"x").unwrap_err();
        assert_eq!(refused.errno(), errno(error), "{error:?}");
        assert_eq!(rig.disk.allocated(), Bytes::ZERO);
        assert!(rig.client.flush().is_ok());
    }
}

fn errno(error: ErrorName) -> i32 {
    match error {
        ErrorName::Eperm => 1,
        ErrorName::Eio => 5,
        ErrorName::Enomem => 12,
        ErrorName::Einval => 22,
        ErrorName::Enospc => 28,
        ErrorName::Eoverflow => 75,
        ErrorName::Enotsup => 95,
        ErrorName::Eshutdown => 108,
    }
}

#[test]
fn a_dropped_write_is_answered_and_lost() {
    let rig = Rig::new();
    rig.fault("lost", When { nth: Some(2), ..op(Op::Write) }, Then::Drop);
    rig.write(0, b"first");
    rig.write(0, b"LOST.");
    assert_eq!(rig.read(0, 5), b"first");
}

/// A disk that lies about FLUSH loses what it said was durable.
#[test]
fn a_dropped_flush_makes_nothing_durable() {
    let cache = DiskOptions { write_cache: true, ..DiskOptions::default() };
    for (lies, left) in [(false, b"kept"), (true, b"\0\0\0\0")] {
        let rig = rig(cache);
        if lies {
            rig.fault("liar", op(Op::Flush), Then::Drop);
        }
        rig.write(0, b"kept");
        rig.client.flush().unwrap();
        let _lost = rig.disk.power_cut();
        assert_eq!(rig.read(0, 4), left);
    }
}

/// A cache that lies has what was written, until the power is cut: all that FLUSH and FUA were to make durable is lost.
#[test]
fn a_volatile_cache_lies_about_flush_and_fua() {
    let cache = DiskOptions { write_cache: true, ..DiskOptions::default() };
    for (lies, left) in [(false, [1, 2, 3, 0]), (true, [9, 9, 9, 9])] {
        let rig = rig(cache);
        rig.write(0, &[9; 4096 * 4]);
        rig.client.flush().unwrap();
        if lies {
            rig.fault("liar", When::default(), Then::Volatile);
        }
        rig.write(0, &[1; 4096]);
        rig.client.flush().unwrap();
        let done =
            |command: Command<'_>| assert!(start(&rig.client, command).recv_timeout(LIMIT).unwrap().is_ok());
        done(Command::Write { offset: Bytes(4096), data: &[2; 4096], fua: true });
        done(Command::Write { offset: Bytes(8192), data: &[3; 4096], fua: true });
        done(Command::Trim { offset: Bytes(12288), len: Bytes(4096), fua: true });
        let bytes = || [0, 4096, 8192, 12288].map(|offset| rig.read(offset, 1)[0]);
        assert_eq!(bytes(), [1, 2, 3, 0], "while there is power");
        let _lost = rig.disk.power_cut();
        assert_eq!(bytes(), left, "lies: {lies}");
        let fired: u64 = rig.disk.faults().iter().map(|fault| fault.firings).sum();
        assert_eq!(fired, if lies { 4 } else { 0 }, "a write that nobody wants durable is no lie");
    }
}

#[test]
fn a_torn_write_leaves_its_first_sectors() {
    for len in [4096, 256 << 10] {
        let rig = Rig::new();
        rig.fault("torn", op(Op::Write), Then::Torn { sectors: Some(3) });
        rig.write(512, &vec![7; len]);
        let mut expected = vec![7; 3 * 512];
        expected.resize(len, 0);
        assert!(rig.read(512, Bytes::of_len(len).0) == expected, "{len}");
    }
}

#[test]
fn a_misdirected_request_is_done_elsewhere() {
    for len in [4096, 256 << 10] {
        let rig = Rig::new();
        rig.fault("astray", When { nth: Some(1), ..op(Op::Write) }, Then::Misdirect { by: Bytes(512) });
        rig.fault("lost", When { nth: Some(1), ..op(Op::Read) }, Then::Misdirect { by: Bytes(512) });
        rig.write(4096, &vec![7; len]);
        // The first read goes astray in the same way and sees what was written; the second one sees where it is.
        assert!(rig.read(4096, Bytes::of_len(len).0) == vec![7; len], "{len}");
        assert!(rig.read(4608, Bytes::of_len(len).0) == vec![7; len], "{len}");
        assert_eq!(rig.read(4096, 512), [0; 512]);
    }
}

fn ones(data: &[u8]) -> u32 {
    data.iter().map(|byte| byte.count_ones()).sum()
}

#[test]
fn flipped_bits_are_in_the_reply_or_on_the_disk() {
    let once = |op_: Op| When { nth: Some(1), ..op(op_) };
    let rig = Rig::new();
    rig.fault("rays", once(Op::Read), Then::Flip(Flip { bits: 1, at_rest: false }));
    rig.write(0, &[0; 4096]);
    assert_eq!(ones(&rig.read(0, 4096)), 1);
    assert_eq!(ones(&rig.read(0, 4096)), 0, "a flip of one reply stayed");
    assert!(rig.disk.remove_fault("rays").is_some());
    rig.fault("rot", once(Op::Read), Then::Flip(Flip { bits: 1, at_rest: true }));
    assert_eq!(ones(&rig.read(0, 4096)), 1);
    assert_eq!(ones(&rig.read(0, 4096)), 1, "a flip on the disk did not stay");
    for len in [4096, 256 << 10] {
        rig.fault("write", once(Op::Write), Then::Flip(Flip { bits: 1, at_rest: false }));
        rig.write(4096, &vec![0; len]);
        assert_eq!(ones(&rig.read(4096, Bytes::of_len(len).0)), 1);
        assert!(rig.disk.remove_fault("write").is_some());
    }
}

/// Rot is neither written nor flushed: it is there after a power cut, and makes nothing dirty.
#[test]
fn rot_is_durable_and_not_dirty() {
    let rig = rig(DiskOptions { write_cache: true, ..DiskOptions::default() });
    rig.write(0, &[0; 4096]);
    rig.client.flush().unwrap();
    rig.write(4096, &[1; 4096]);
    rig.fault("rot", op(Op::Read), Then::Flip(Flip { bits: 1, at_rest: true }));
    rig.read(0, 4096);
    assert_eq!(rig.disk.dirty(), Bytes(4096));
    assert!(rig.disk.remove_fault("rot").is_some());
    assert_eq!(rig.disk.power_cut(), Bytes(4096));
    assert_eq!(ones(&rig.read(0, 8192)), 1);
}

#[test]
fn a_connection_can_end_with_or_without_the_answer() {
    let rig = Rig::new();
    rig.fault("soft", op(Op::Write), Then::Disconnect);
    assert_eq!(rig.client.write(Bytes(0), b"done"), Ok(()));
    assert_eq!(rig.client.read(Bytes(0), Bytes(4)), Err(CommandError::Lost));
    assert_eq!(rig.disk.allocated(), Bytes(4096));
    let rig = Rig::new();
    rig.fault("hard", op(Op::Write), Then::Close);
    assert_eq!(rig.client.write(Bytes(0), b"lost"), Err(CommandError::Lost));
    assert_eq!(rig.disk.allocated(), Bytes::ZERO);
    let rig = Rig::new();
    rig.fault("hard", op(Op::Write), Then::Close);
    rig.fault("late", op(Op::Write), fixed(Duration::from_millis(20)));
    let begun = Instant::now();
    assert_eq!(rig.client.write(Bytes(0), b"lost"), Err(CommandError::Lost));
    assert!(begun.elapsed() >= Duration::from_millis(20));
}

#[test]
fn a_gate_lets_go_one_by_one_in_any_order_and_with_an_error() {
    let rig = Rig::new();
    rig.fault("gate", op(Op::Write), Then::HOLD);
    let answers: Vec<_> = (0..4u8)
        .map(|count| {
            let answer = start(&rig.client, Command::Write { offset: Bytes(0), data: &[count], fua: false });
            assert_eq!(rig.disk.wait_held("gate", usize::from(count) + 1, LIMIT), usize::from(count) + 1);
            answer
        })
        .collect();
    let ids: Vec<u64> = rig.disk.held().iter().map(|held| held.id).collect();
    let release = |which, error| rig.disk.release("gate", &Release { which, error });
    // Reordered: the third, then the second, so that what the second wrote stays.
    assert_eq!(release(Which::These(vec![ids[2], ids[1], 9999]), None), 2);
    assert_eq!(rig.read(0, 1), [1]);
    assert_eq!(release(Which::First(1), Some(ErrorName::Eio)), 1);
    assert_eq!(answers[0].recv_timeout(LIMIT).unwrap().unwrap_err().errno(), 5);
    assert!(answers[1].recv_timeout(LIMIT).unwrap().is_ok());
    assert!(answers[2].recv_timeout(LIMIT).unwrap().is_ok());
    assert!(answers[3].try_recv().is_err());
    assert_eq!(release(Which::All, None), 1);
    assert!(answers[3].recv_timeout(LIMIT).unwrap().is_ok());
    assert_eq!(rig.read(0, 1), [3]);
    // Released is not open: the next one is held.
    let next = start(&rig.client, Command::Write { offset: Bytes(0), data: &[9], fua: false });
    assert_eq!(rig.disk.wait_held("gate", 1, LIMIT), 1);
    assert_eq!(rig.disk.open_gate("gate"), 1);
    assert!(next.recv_timeout(LIMIT).unwrap().is_ok());
    assert!(rig.disk.close_gate("gate") && !rig.disk.close_gate("nobody"));
    assert!(!rig.disk.faults()[0].open);
}

#[test]
fn a_gate_opens_by_itself_when_its_limit_is_over() {
    let rig = Rig::new();
    let limit = Duration::from_millis(40);
    rig.fault("gate", op(Op::Write), Then::Hold { limit: Some(Nanos::from(limit)) });
    let begun = Instant::now();
    assert_eq!(rig.client.write(Bytes(0), b"x"), Ok(()));
    assert!(begun.elapsed() >= limit);
    let fault = &rig.disk.faults()[0];
    assert!(fault.open && fault.overdue, "{fault:?}");
    assert_eq!(rig.client.write(Bytes(0), b"y"), Ok(()));
}

/// What a gate lets go early still waits for as long as another row has it wait.
#[test]
fn time_at_a_gate_counts_for_a_delay() {
    let rig = Rig::new();
    let delay = Duration::from_millis(60);
    rig.fault("slow", op(Op::Write), fixed(delay));
    rig.fault("gate", op(Op::Write), Then::HOLD);
    let begun = Instant::now();
    let answer = start(&rig.client, Command::Write { offset: Bytes(0), data: b"x", fua: false });
    assert_eq!(rig.disk.wait_held("gate", 1, LIMIT), 1);
    assert_eq!(rig.disk.open_gate("gate"), 1);
    assert_eq!(rig.disk.delayed(), 1);
    assert!(answer.recv_timeout(LIMIT).unwrap().is_ok());
    assert!(begun.elapsed() >= delay && begun.elapsed() < delay * 10);
}

#[test]
fn a_pool_runs_dry() {
    let rig = Rig::new();
    let pool = |blocks: u64, when_full| Some(Pool { limit: Bytes(blocks * 4096), when_full });
    assert_eq!(rig.disk.set_pool(pool(2, WhenFull::Error)), 0);
    rig.write(0, &[1; 4096]);
    rig.write(4000, &[2; 200]);
    assert_eq!(rig.client.write(Bytes(8192), &[3; 1]).unwrap_err().errno(), 28);
    // What is there can be written again, also across its edge.
    rig.write(0, &[4; 8192]);
    rig.client.trim(Bytes(0), Bytes(4096)).unwrap();
    rig.write(8192, &[3; 1]);

    assert_eq!(rig.disk.set_pool(pool(2, WhenFull::Hold)), 0);
    let first = start(&rig.client, Command::Write { offset: Bytes(0), data: &[5; 4096], fua: false });
    let second = start(&rig.client, Command::Write { offset: Bytes(65536), data: &[6; 4096], fua: false });
    assert_eq!(rig.disk.wait_held("pool", 2, LIMIT), 2);
    assert_eq!(rig.disk.set_pool(pool(3, WhenFull::Hold)), 1);
    assert!(first.recv_timeout(LIMIT).unwrap().is_ok());
    assert!(second.try_recv().is_err());
    // A trim gives space as well.
    rig.client.trim(Bytes(4096), Bytes(4096)).unwrap();
    assert!(second.recv_timeout(LIMIT).unwrap().is_ok());
    assert_eq!(rig.disk.allocated(), Bytes(3 * 4096));
    assert_eq!(rig.disk.set_pool(None), 0);
    rig.write(1 << 19, &vec![1; 1 << 18]);
}

#[test]
fn snapshots_are_kept_and_restored_while_serving() {
    let rig = Rig::new();
    rig.write(0, b"one");
    rig.disk.keep_snapshot("before");
    rig.write(0, b"two");
    let fork = rig.disk.fork_snapshot("before").unwrap();
    assert!(rig.disk.restore_snapshot("before") && !rig.disk.restore_snapshot("nobody"));
    assert_eq!(rig.read(0, 3), b"one");
    rig.write(0, b"six");
    let mut kept = [0; 3];
    fork.snapshot().read(Bytes(0), &mut kept).unwrap();
    assert_eq!(&kept, b"one");
    assert_eq!(rig.disk.snapshots(), ["before"]);
    assert!(rig.disk.forget_snapshot("before") && !rig.disk.forget_snapshot("before"));
    assert!(rig.disk.fork_snapshot("before").is_none());
}

/// A delay with a tail is cut, and rows are taken away while they delay.
#[test]
fn rows_come_and_go_under_load() {
    let rig = Rig::new();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut round = 0u8;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                round = round.wrapping_add(1);
                let answers: Vec<_> = (0..32u64)
                    .map(|at| {
                        let data = [round; 512];
                        start(
                            &rig.client,
                            Command::Write { offset: Bytes(at * 4096), data: &data, fua: false },
                        )
                    })
                    .collect();
                for answer in answers {
                    assert!(answer.recv_timeout(LIMIT).unwrap().is_ok());
                }
                for at in 0..32 {
                    assert_eq!(rig.read(at * 4096, 512), [round; 512]);
                }
            }
            round
        });
        let range = Some(ByteRange { offset: Bytes(0), length: Bytes(64 << 10) });
        for round in 0..300u32 {
            let latency = Latency::Exponential { mean: Nanos(50_000) };
            let delay = Delay { latency, at_most: Some(Nanos(500_000)) };
            let when = When { range, ..When::default() };
            rig.fault("slow", when, Then::Delay(delay));
            rig.fault("gate", When { every: Some(7), ..op(Op::Write) }, Then::HOLD);
            if round % 3 == 0 {
                let _first = rig.disk.wait_held("gate", 1, Duration::from_millis(2));
            }
            assert!(rig.disk.remove_fault("gate").is_some());
            assert!(rig.disk.remove_fault("slow").is_some());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(writer.join().unwrap() > 0);
    });
    assert!(rig.disk.held().is_empty());
    assert!(rig.disk.settle(LIMIT));
}
