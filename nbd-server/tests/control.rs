//! Every order to a running server, by its control socket.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]
#![expect(clippy::disallowed_methods, reason = "tests of waits read the clock")]

#[path = "common/start.rs"]
mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use brim_device::control::{
    Answer, Command, Fault, Held, LINE_MAX, Order, PartlyCut, Pool, Refusal, Region, Reply, Status, WhenFull,
    Which,
};
use brim_device::fault::{ErrorName, Latency, Op, Row, Then, When};
use brim_device::{ByteRange, Bytes, Cut, Nanos, Ratio};
use common::start;
use nbd_server::client::{self, Client, CommandError};
use nbd_server::control::{AskError, ControlClient};
use nbd_server::{Disk, DiskOptions, ExportOptions, ListenError, Listener, Server};

const LIMIT: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;

/// Where the reply to a request is going to be.
type Answered = Receiver<Result<client::Reply, CommandError>>;

struct Rig {
    client: Client,
    control: ControlClient,
    path: PathBuf,
    _listener: Listener,
    server: Server,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (server, path) = (Server::new(), dir.path().join("control.sock"));
        let options = DiskOptions { write_cache: true, seed: 1 };
        server.add_export("disk", Disk::new_with(Bytes(MIB), options).unwrap()).unwrap();
        server.add_export("other", Disk::new(Bytes(2 * MIB)).unwrap()).unwrap();
        let listener = server.listen_control(&path).unwrap();
        let client = Client::connect(server.connect().unwrap(), "").unwrap();
        let control = ControlClient::connect(&path).unwrap();
        Self { client, control, path, _listener: listener, server, _dir: dir }
    }

    fn ask(&mut self, command: Command) -> Answer {
        self.control.ask(command.into()).unwrap()
    }

    fn done(&mut self, command: Command) {
        assert_eq!(self.ask(command), Answer::Done);
    }

    fn refused(&mut self, command: Command) -> Refusal {
        refused(self.control.ask(command.into()))
    }

    fn fault(&mut self, name: &str, op: Op, then: Then) {
        let when = When { op: op.into(), ..When::default() };
        self.done(Command::AddFault(Box::new(Row { name: name.to_owned(), when, then })));
    }

    fn faults(&mut self) -> Vec<Fault> {
        match self.ask(Command::Faults) {
            Answer::Faults(faults) => faults,
            other => panic!("{other:?}"),
        }
    }

    fn held(&mut self) -> Vec<Held> {
        match self.ask(Command::Held) {
            Answer::Held(held) => held,
            other => panic!("{other:?}"),
        }
    }

    fn stats(&mut self) -> Status {
        match self.ask(Command::Stats) {
            Answer::Stats(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    fn wait_held(&mut self, gate: &str, count: usize) {
        let command = Command::WaitHeld { gate: gate.to_owned(), count, limit: Nanos::from(LIMIT) };
        assert_eq!(self.ask(command), Answer::Waiting(u64::try_from(count).unwrap()));
    }

    fn write(&self, block: u64, value: u8) {
        self.client.write(Bytes(block * 4096), &[value; 4096]).unwrap();
    }

    fn start_write(&self, block: u64, value: u8) -> Answered {
        let data = [value; 4096];
        start(&self.client, client::Command::Write { offset: Bytes(block * 4096), data: &data, fua: false })
    }

    fn block(&self, block: u64) -> u8 {
        self.client.read(Bytes(block * 4096), Bytes(4096)).unwrap()[0]
    }
}

fn refused(result: Result<Answer, AskError>) -> Refusal {
    match result {
        Err(AskError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn fixed(delay: Duration) -> Then {
    Then::Delay(Latency::Fixed(Nanos::from(delay)).into())
}

fn named(name: &str) -> String {
    name.to_owned()
}

#[test]
fn rows_come_and_go() {
    let mut rig = Rig::new();
    rig.fault("bad", Op::Write, Then::Error(ErrorName::Enospc));
    assert!(rig.client.write(Bytes(0), &[1; 512]).is_err());
    let faults = rig.faults();
    assert_eq!((faults[0].row.name.as_str(), faults[0].matches, faults[0].firings), ("bad", 1, 1));
    let row = Box::new(faults[0].row.clone());
    let twice = rig.refused(Command::AddFault(row.clone()));
    assert!(twice.error.contains("\"bad\" is there already") && twice.hint.is_some());
    assert_eq!(
        rig.ask(Command::RemoveFault { name: named("bad") }),
        Answer::Removed(Box::new(faults[0].clone()))
    );
    rig.write(0, 1);
    rig.done(Command::AddFault(row));
    let unknown = rig.refused(Command::RemoveFault { name: named("worse") });
    assert_eq!(unknown.error, "there is no fault \"worse\"");
    assert_eq!(unknown.hint.as_deref(), Some("faults: \"bad\""));
}

#[test]
fn regions_are_named_and_moved() {
    let mut rig = Rig::new();
    let when = When { region: Some(named("log")), ..When::default() };
    let row = Box::new(Row { name: named("bad"), when, then: Then::Error(ErrorName::Eio) });
    let unknown = rig.refused(Command::AddFault(row.clone()));
    assert_eq!(unknown.hint.as_deref(), Some("there are no regions"));
    for (at, other) in [(4, 5), (5, 4)] {
        let ranges = vec![ByteRange { offset: Bytes(at * 4096), length: Bytes(4096) }];
        rig.done(Command::SetRegion { name: named("log"), ranges: ranges.clone() });
        if at == 4 {
            rig.done(Command::AddFault(row.clone()));
        }
        assert!(rig.client.write(Bytes(at * 4096), &[1; 512]).is_err());
        rig.write(other, 1);
        assert_eq!(rig.ask(Command::Regions), Answer::Regions(vec![Region { name: named("log"), ranges }]));
    }
}

#[test]
fn seeds_are_told() {
    let mut rig = Rig::new();
    assert_eq!(rig.stats().seed, 1);
    rig.done(Command::Reseed { seed: 42 });
    assert_eq!(rig.stats().seed, 42);
}

#[test]
fn held_requests_go_as_they_are_told() {
    let mut rig = Rig::new();
    rig.fault("gate", Op::Write, Then::HOLD);
    let answers: Vec<_> = (0..5).map(|block| rig.start_write(block, 7)).collect();
    rig.wait_held("gate", 5);
    let held = rig.held();
    assert!(held.iter().all(|held| held.gate == "gate" && held.op == Op::Write && held.len == Bytes(4096)));
    assert_eq!(rig.stats().held, 5);
    let release = |which, error| Command::Release { gate: named("gate"), which, error };
    assert_eq!(rig.ask(release(Which::First(1), None)), Answer::Released(1));
    let ids = Which::These(vec![held[3].id, held[2].id]);
    assert_eq!(rig.ask(release(ids.clone(), Some(ErrorName::Enospc))), Answer::Released(2));
    assert!(rig.refused(release(ids, None)).error.contains("does not wait at \"gate\""));
    assert_eq!((0..5).map(|block| rig.block(block)).collect::<Vec<_>>(), [7, 0, 0, 0, 0]);
    assert_eq!(rig.ask(Command::OpenGate { gate: named("gate") }), Answer::Released(2));
    assert_eq!((0..5).map(|block| rig.block(block)).collect::<Vec<_>>(), [7, 7, 0, 0, 7]);
    let failed = |answer: &Answered| answer.recv_timeout(LIMIT).unwrap().is_err();
    assert_eq!(answers.iter().map(failed).collect::<Vec<_>>(), [false, false, true, true, false]);
    rig.write(0, 8);
    rig.done(Command::CloseGate { gate: named("gate") });
    let answer = rig.start_write(0, 9);
    rig.wait_held("gate", 1);
    assert_eq!(rig.ask(Command::OpenAllGates), Answer::Released(1));
    assert!(answer.recv_timeout(LIMIT).unwrap().is_ok());
    assert_eq!(rig.block(0), 9);
    let unknown = rig.refused(Command::OpenGate { gate: named("gaet") });
    assert_eq!(unknown.error, "there is no gate \"gaet\"");
    assert_eq!(unknown.hint.as_deref(), Some("gates: \"gate\""));
}

#[test]
fn a_wait_that_is_over_is_refused() {
    let mut rig = Rig::new();
    rig.fault("gate", Op::Write, Then::HOLD);
    let wait = |gate, limit| Command::WaitHeld { gate: named(gate), count: 1, limit };
    let refusal = rig.refused(wait("gate", Nanos(60_000_000)));
    assert_eq!(refusal.error, "0 of 1 requests wait at \"gate\" after 60ms");
    assert!(rig.refused(wait("other", Nanos(0))).error.contains("no gate"));
}

#[test]
fn power_goes() {
    let mut rig = Rig::new();
    rig.write(0, 1);
    rig.client.flush().unwrap();
    rig.write(0, 2);
    assert_eq!(rig.stats().dirty, Bytes(4096));
    assert_eq!(rig.ask(Command::PowerCut { partly: None }), Answer::LostBytes(Bytes(4096)));
    assert_eq!((rig.block(0), rig.stats().dirty), (1, Bytes(0)));
    rig.write(0, 3);
    let (all, none) = (Ratio::ONE, Ratio::ZERO);
    let partly = |kept, torn| Command::PowerCut { partly: Some(PartlyCut { kept, torn, seed: 7 }) };
    assert_eq!(rig.ask(partly(all, none)), Answer::CutSectors(Cut { lost: 0, kept: 8, torn: 0 }));
    assert_eq!(rig.block(0), 3);
    assert!(rig.refused(partly(all, all)).error.contains("more than 1"));
}

#[test]
fn the_disk_changes_its_size() {
    let mut rig = Rig::new();
    for size in [2 * MIB, MIB / 2] {
        rig.done(Command::Resize { size: Bytes(size) });
        assert_eq!(rig.stats().size, Bytes(size));
        let again = Client::connect(rig.server.connect().unwrap(), "disk").unwrap();
        assert_eq!(again.info().size, Bytes(size));
    }
    assert!(rig.refused(Command::Resize { size: Bytes(1000) }).error.contains("512"));
}

#[test]
fn space_runs_out_and_comes_back() {
    let mut rig = Rig::new();
    let pool = |limit, when_full| Command::SetPool(Pool { limit: Bytes(limit), when_full });
    assert_eq!(rig.ask(pool(4096, WhenFull::Error)), Answer::Released(0));
    rig.write(0, 1);
    assert!(rig.client.write(Bytes(4096), &[1; 4096]).is_err());
    assert_eq!(rig.ask(pool(4096, WhenFull::Hold)), Answer::Released(0));
    let answers = [rig.start_write(1, 1), rig.start_write(2, 1)];
    rig.wait_held("pool", 2);
    assert_eq!(rig.ask(pool(8192, WhenFull::Hold)), Answer::Released(1));
    assert_eq!(rig.stats().pool, Some(Pool { limit: Bytes(8192), when_full: WhenFull::Hold }));
    assert_eq!(rig.ask(Command::RemovePool), Answer::Released(1));
    for answer in answers {
        assert!(answer.recv_timeout(LIMIT).unwrap().is_ok());
    }
    assert_eq!(rig.stats().pool, None);
}

#[test]
fn snapshots_and_forks() {
    let mut rig = Rig::new();
    let name = || named("before");
    rig.write(0, 1);
    rig.done(Command::KeepSnapshot { name: name() });
    rig.write(0, 2);
    assert!(matches!(rig.ask(Command::Fork { to: named("now"), of: None }), Answer::Forked(_)));
    assert!(matches!(rig.ask(Command::Fork { to: named("then"), of: Some(name()) }), Answer::Forked(_)));
    rig.write(0, 3);
    for (export, value) in [("now", 2), ("then", 1)] {
        let fork = Client::connect(rig.server.connect().unwrap(), export).unwrap();
        assert_eq!(fork.read(Bytes(0), Bytes(1)).unwrap(), [value]);
    }
    assert_eq!(rig.ask(Command::Snapshots), Answer::Snapshots(vec![name()]));
    rig.done(Command::RestoreSnapshot { name: name() });
    assert_eq!(rig.block(0), 1);
    rig.done(Command::ForgetSnapshot { name: name() });
    assert_eq!(rig.ask(Command::Snapshots), Answer::Snapshots(vec![]));
    for command in [
        Command::RestoreSnapshot { name: name() },
        Command::ForgetSnapshot { name: name() },
        Command::Fork { to: named("new"), of: Some(name()) },
    ] {
        let refusal = rig.refused(command);
        assert_eq!(refusal.error, "there is no snapshot \"before\"");
        assert_eq!(refusal.hint.as_deref(), Some("there are no snapshots"));
    }
    let taken = rig.refused(Command::Fork { to: named("other"), of: None });
    assert!(taken.error.contains("there already") && taken.hint.is_some());
}

#[test]
fn exports_are_listed_addressed_and_removed() {
    let mut rig = Rig::new();
    let options = ExportOptions { read_only: true, ..ExportOptions::default() };
    rig.server.add_export_with("third", Disk::new(Bytes(512)).unwrap(), options).unwrap();
    let Answer::Exports(exports) = rig.ask(Command::Exports) else { panic!("no exports") };
    let told: Vec<_> =
        exports.iter().map(|export| (export.name.as_str(), export.size.0, export.read_only)).collect();
    assert_eq!(told, [("disk", MIB, false), ("other", 2 * MIB, false), ("third", 512, true)]);
    let on = |export: &str, command| Order { export: Some(named(export)), ..Order::from(command) };
    let other = rig.control.ask(on("other", Command::Stats)).unwrap();
    assert!(matches!(other, Answer::Stats(status) if status.export == "other" && !status.write_cache));
    let refusal = refused(rig.control.ask(on("fourth", Command::Stats)));
    assert_eq!(refusal.hint.as_deref(), Some("exports: \"disk\", \"other\", \"third\""));
    for name in ["disk", "other", "third"] {
        rig.done(Command::RemoveExport { name: named(name) });
    }
    assert!(rig.refused(Command::RemoveExport { name: named("disk") }).error.contains("no export"));
    assert_eq!(rig.refused(Command::Stats).error, "the server has no export");
    // Connections that have the disk keep it.
    rig.write(0, 1);
}

#[test]
fn marks_need_a_log() {
    let mut rig = Rig::new();
    let mark = || Command::Mark { text: named("here") };
    assert!(rig.refused(mark()).hint.unwrap().contains("--log"));
    let disk = rig.server.remove_export("disk").unwrap();
    disk.start_log();
    rig.server.add_export("logged", disk.clone()).unwrap();
    let on = Order { export: Some(named("logged")), ..Order::from(mark()) };
    assert_eq!(rig.control.ask(on).unwrap(), Answer::Done);
    assert_eq!(disk.log().unwrap().len(), 1);
    let long = Command::Mark { text: "x".repeat(480) };
    assert!(
        refused(rig.control.ask(Order { export: Some(named("logged")), ..Order::from(long) })).hint.is_none()
    );
}

#[test]
fn statistics_are_live() {
    let mut rig = Rig::new();
    rig.fault("slow", Op::Write, fixed(Duration::from_millis(20)));
    let late = rig.start_write(0, 1);
    rig.client.read(Bytes(0), Bytes(512)).unwrap();
    while rig.stats().delayed == 0 {}
    let status = rig.stats();
    assert_eq!((status.requests.read.bytes, status.requests.write.requests), (Bytes(512), 1));
    assert_eq!((status.size, status.write_cache, status.connections), (Bytes(MIB), true, 1));
    assert!(late.recv_timeout(LIMIT).unwrap().is_ok());
    while rig.stats().faults[0].lateness.is_none() {}
    assert_eq!(rig.faults()[0].lateness.as_ref().unwrap().count, 1);
}

#[test]
fn an_answer_means_that_earlier_requests_are_done() {
    let mut rig = Rig::new();
    let delay = Duration::from_millis(150);
    rig.fault("slow", Op::Write, fixed(delay));
    for command in [Command::Settle, Command::KeepSnapshot { name: named("a") }, Command::Faults] {
        let _late = rig.start_write(0, 5);
        while rig.stats().delayed == 0 {}
        rig.ask(command);
        assert_eq!((rig.stats().delayed, rig.block(0)), (0, 5));
    }
    // What a gate lets go is delayed first.
    rig.fault("gate", Op::Write, Then::HOLD);
    let _late = rig.start_write(1, 6);
    rig.wait_held("gate", 1);
    assert_eq!(rig.ask(Command::OpenGate { gate: named("gate") }), Answer::Released(1));
    assert_eq!((rig.stats().delayed, rig.block(1)), (0, 6));
}

#[test]
fn what_would_take_too_long_is_refused() {
    let mut rig = Rig::new();
    rig.fault("stuck", Op::Write, fixed(Duration::from_secs(3600)));
    let _never = rig.start_write(0, 5);
    while rig.stats().delayed == 0 {}
    let limited = |command| Order { limit: Some(Nanos(20_000_000)), ..Order::from(command) };
    let begun = Instant::now();
    let refusal = refused(rig.control.ask(limited(Command::KeepSnapshot { name: named("a") })));
    assert!(begun.elapsed() < Duration::from_secs(5), "the limit is kept");
    assert!(refusal.error.starts_with("nothing was done"), "{refusal}");
    assert!(refusal.error.ends_with("after 20ms (1 in all)"), "{refusal}");
    let refusal = refused(rig.control.ask(limited(Command::RemoveFault { name: named("stuck") })));
    assert!(refusal.error.starts_with("it is done, but"), "{refusal}");
    assert_eq!(rig.stats().faults, []);
    // Held is not late: a gate has a name.
    rig.fault_now("gate", Then::HOLD);
    let _held = start(&rig.client, client::Command::Flush);
    rig.wait_held("gate", 1);
}

impl Rig {
    /// Adds a row while a request is stuck: through the library, which waits for nothing.
    fn fault_now(&self, name: &str, then: Then) {
        let disk = self.server.remove_export("disk").unwrap();
        let when = When { op: Op::Flush.into(), ..When::default() };
        disk.add_fault(Row { name: named(name), when, then }).unwrap();
        self.server.remove_export("other").unwrap();
        self.server.add_export("disk", disk).unwrap();
    }
}

#[test]
fn clients_do_not_wait_for_one_another() {
    let mut rig = Rig::new();
    rig.fault("gate", Op::Write, Then::HOLD);
    let path = rig.path.clone();
    let waiting = thread::spawn(move || {
        let command = Command::WaitHeld { gate: named("gate"), count: 1, limit: Nanos::from(LIMIT) };
        ControlClient::connect(path).unwrap().ask(command.into()).unwrap()
    });
    for _ in 0..20 {
        assert_eq!(rig.stats().held, 0);
    }
    let _held = rig.start_write(0, 1);
    assert_eq!(waiting.join().unwrap(), Answer::Waiting(1));
}

#[test]
fn nothing_is_left_of_clients_that_went_or_of_the_server() {
    let mut rig = Rig::new();
    rig.fault("gate", Op::Write, Then::HOLD);
    let wait = Command::WaitHeld { gate: named("gate"), count: 1, limit: Nanos(3_600_000_000_000) };
    let mut gone = UnixStream::connect(&rig.path).unwrap();
    gone.write_all(Order::from(wait.clone()).to_line().as_bytes()).unwrap();
    drop(gone);
    // One waits still when the server ends.
    let mut stays = UnixStream::connect(&rig.path).unwrap();
    stays.write_all(Order::from(wait).to_line().as_bytes()).unwrap();
    assert_eq!(rig.stats().held, 0);
    let begun = Instant::now();
    rig.server.shutdown();
    assert!(begun.elapsed() < Duration::from_secs(10), "a client that waits holds the server up");
    assert_eq!(stays.read(&mut [0; 64]).unwrap(), 0);
    assert!(!rig.path.exists(), "the socket's file is left");
    assert!(rig.server.listen_control(&rig.path).is_ok_and(|listener| listener.path().is_some()));
}

#[test]
fn garbage_is_answered_and_the_connection_goes_on() {
    let rig = Rig::new();
    let mut stream = BufReader::new(UnixStream::connect(&rig.path).unwrap());
    let mut line = |sent: &[u8]| {
        stream.get_mut().write_all(sent).unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        Reply::parse(line.as_bytes()).unwrap()
    };
    let error = |reply: Reply| reply.result.unwrap_err().error;
    assert!(error(line(b"open the gate\n")).starts_with("column 1: expected value"));
    assert!(error(line(b"\xff\x00\xfe\n")).starts_with("column "));
    assert!(error(line(b"{\"id\":5,\"do\":\"fly\"}\r\n")).contains("unknown variant `fly`"));
    // Empty lines are no orders.
    assert_eq!(
        line(b"\n \r\n{\"id\":8,\"do\":\"settle\"}\n"),
        Reply { id: Some(8), result: Ok(Answer::Done) }
    );
    let long = [b"{\"do\":\"".to_vec(), vec![b'x'; 3 * LINE_MAX], b"\"}\n".to_vec()].concat();
    assert_eq!(error(line(&long)), "the line is longer than 1048576 bytes");
    let longest = [vec![b' '; LINE_MAX - 15], b"{\"do\":\"settle\"}".to_vec()].concat();
    let mut fits = longest.clone();
    fits.remove(0);
    fits.push(b'\n');
    assert_eq!(line(&fits).result, Ok(Answer::Done));
    assert!(error(line(&[&longest[..], b"\n"].concat())).contains("longer"));
    // Several at once, the last one without an end, from a client that says no more.
    stream.get_mut().write_all(b"{\"id\":1,\"do\":\"settle\"}\n{\"id\":2,\"do\":\"settle\"}").unwrap();
    stream.get_mut().shutdown(Shutdown::Write).unwrap();
    let replies: Vec<_> =
        stream.lines().map(|line| Reply::parse(line.unwrap().as_bytes()).unwrap().id).collect();
    assert_eq!(replies, [Some(1), Some(2)]);
}

#[test]
fn the_socket_is_for_its_user_and_replaces_nothing_of_others() {
    let rig = Rig::new();
    assert_eq!(std::fs::metadata(&rig.path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(rig.server.listen_control(&rig.path), Err(ListenError::InUse { .. })));
    let file = rig.path.with_extension("txt");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(rig.server.listen_control(&file), Err(ListenError::NotASocket { .. })));
    // Nobody listens on what a server that was killed leaves.
    let stale = rig.path.with_extension("stale");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let listener = rig.server.listen_control(&stale).unwrap();
    assert!(ControlClient::connect(&stale).is_ok());
    drop(listener);
    assert!(!stale.exists());
}
