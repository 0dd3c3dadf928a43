//! Any interleaving of requests, on any number of connections of every kind, against a model of the disk.
//!
//! Half of the disks have a write cache, which no reply may tell of; what is durable in the end is checked too.
//!
//! A case is a number: it says the disks, the exports, the connections and what each asks for; threads and the kernel
//! say the order. `BRIM_MODEL_SECONDS=3600` goes on for as long, and `BRIM_MODEL_CASE=17` starts with that case.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

#[path = "common/chunked.rs"]
#[expect(dead_code, reason = "what other tests ask for one by one is in flight together here")]
mod client;
#[path = "interleavings/dice.rs"]
mod dice;
#[path = "interleavings/history.rs"]
mod history;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use brim_device::fault::{Row, Then, When};
use brim_device::{Bytes, Store};
use client::{Answered, Chunked};
use dice::{Dice, bounds};
use history::{Event, Value, What, check, check_durable};
use nbd_server::{Disk, DiskOptions, ExportOptions, Server};
use nbd_wire::{Command, CommandFlags, ErrorCode, Headers};

/// Requests of one connection, and of these in flight.
const REQUESTS: usize = 60;
const IN_FLIGHT: usize = 12;
/// A cell is as long, so that it shows a whole tag.
const CELL_MIN: u64 = 8;
/// `NBD_STATE_ZERO`.
const STATE_ZERO: u64 = 1 << 1;

fn as_len(value: u64) -> usize {
    usize::try_from(value).unwrap()
}

fn as_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap()
}

/// A tag as the bytes of a range: each byte says its place too.
fn fill(tag: Value, offset: u64, end: u64) -> Vec<u8> {
    let bytes = tag.to_be_bytes();
    (offset..end).map(|at| bytes[as_len(at % 8)]).collect()
}

/// What a cell's bytes say; `None` for a mixture.
fn value(bytes: &[u8], offset: u64) -> Option<Value> {
    let mut tag = [0; 8];
    for (at, byte) in (offset..).zip(bytes).take(8) {
        tag[as_len(at % 8)] = *byte;
    }
    let tag = Value::from_be_bytes(tag);
    (fill(tag, offset, offset + as_u64(bytes.len())) == bytes).then_some(tag)
}

/// What all connections of a case share.
struct Shared {
    case: u64,
    bounds: Vec<u64>,
    clock: AtomicU64,
    tags: AtomicU64,
}

impl Shared {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn cells(&self) -> usize {
        self.bounds.len() - 1
    }

    fn size(&self) -> u64 {
        self.bounds[self.cells()]
    }

    /// The values of cells from their bytes.
    fn values(&self, first: usize, end: usize, data: &[u8]) -> Vec<Option<Value>> {
        let start = self.bounds[first];
        let cells = self.bounds[first..=end].windows(2);
        let bytes = cells.map(|cell| (cell[0], &data[as_len(cell[0] - start)..as_len(cell[1] - start)]));
        bytes
            .map(|(offset, bytes)| {
                let value = value(bytes, offset);
                assert!(value.is_some(), "case {}: the cell at {offset} is a mixture: {bytes:?}", self.case);
                value
            })
            .collect()
    }
}

/// With more than this to come, a client reads before it writes: a server that has much to send looks at no request, and two
/// that only write would wait for each other.
const OWED_MAX: u64 = 64 << 10;

/// A request in flight.
struct Sent {
    command: Command,
    first: usize,
    end: usize,
    tag: Value,
    when: u64,
    fua: bool,
    /// The error it has to be answered with.
    due: Option<ErrorCode>,
}

/// What was seen, so that a test of nothing does not pass.
#[derive(Debug, Default)]
struct Seen {
    tags: usize,
    zeroes: usize,
    refused: usize,
    overtaken: usize,
    fragments: usize,
    statuses: usize,
    /// Cells that a power cut would have changed.
    dirty: usize,
}

struct Connection<'a> {
    shared: &'a Shared,
    client: Chunked,
    headers: Headers,
    read_only: bool,
    dice: Dice,
    waiting: BTreeMap<u64, Sent>,
    events: Vec<Event>,
    seen: Seen,
}

impl Connection<'_> {
    fn run(mut self) -> (Vec<Event>, Seen) {
        let mut left = REQUESTS;
        while left > 0 || !self.waiting.is_empty() {
            let idle = self.waiting.is_empty() || (self.waiting.len() < IN_FLIGHT && !self.dice.one_in(3));
            if left > 0 && idle && self.owed() < OWED_MAX {
                left -= 1;
                self.send();
            } else {
                self.receive();
            }
        }
        (self.events, self.seen)
    }

    /// Bytes that are to be read and have not come.
    fn owed(&self) -> u64 {
        let reads = self.waiting.values().filter(|sent| sent.command == Command::Read);
        reads.map(|sent| self.shared.bounds[sent.end] - self.shared.bounds[sent.first]).sum()
    }

    fn send(&mut self) {
        let chunks = self.headers != Headers::Simple;
        let command = match self.dice.below(16) {
            0..5 => Command::Read,
            5..10 => Command::Write,
            10 => Command::WriteZeroes,
            11 => Command::Trim,
            12 => Command::Flush,
            13 => Command::Cache,
            _ if chunks => Command::BlockStatus,
            _ => Command::Read,
        };
        let cells = self.shared.cells();
        let first = self.dice.index(cells);
        let most = if self.dice.one_in(4) { cells - first } else { (cells - first).min(4) };
        let end = first + 1 + self.dice.index(most);
        let (mut offset, stop) = (self.shared.bounds[first], self.shared.bounds[end]);
        let mut length = stop - offset;
        let changes = matches!(command, Command::Write | Command::WriteZeroes | Command::Trim);
        let mut due = (changes && self.read_only).then_some(ErrorCode::Eperm);
        if command == Command::Flush {
            (offset, length) = (0, 0);
        } else if self.dice.one_in(20) {
            offset = self.shared.size() - length + 1;
            let full = matches!(command, Command::Write | Command::WriteZeroes);
            due = due.or(Some(if full { ErrorCode::Enospc } else { ErrorCode::Einval }));
        }
        let tag = self.shared.tags.fetch_add(1, Ordering::Relaxed);
        let data = if command == Command::Write { fill(tag, offset, offset + length) } else { Vec::new() };
        let flags = self.flags(command);
        let when = self.shared.tick();
        let cookie = self.client.send(command, flags, (offset, length), &data);
        let fua = flags.contains(CommandFlags::FUA);
        self.waiting.insert(cookie, Sent { command, first, end, tag, when, fua, due });
    }

    /// Any flags that leave a request what it is.
    fn flags(&mut self, command: Command) -> CommandFlags {
        let chunks = self.headers != Headers::Simple;
        let extended = self.headers == Headers::Extended;
        let mut flags = if extended && command == Command::Write {
            CommandFlags::PAYLOAD_LEN
        } else {
            CommandFlags::NONE
        };
        let may = match command {
            Command::WriteZeroes => vec![CommandFlags::FUA, CommandFlags::NO_HOLE, CommandFlags::FAST_ZERO],
            Command::Read if chunks => vec![CommandFlags::FUA, CommandFlags::DF],
            Command::BlockStatus => vec![CommandFlags::REQ_ONE],
            _ => vec![CommandFlags::FUA],
        };
        for flag in may {
            if self.dice.one_in(3) {
                flags = flags | flag;
            }
        }
        flags
    }

    fn receive(&mut self) {
        let (cookie, answered) = self.client.receive_any(None);
        let done = self.shared.tick();
        self.seen.overtaken += usize::from(self.waiting.keys().next().is_some_and(|first| *first < cookie));
        let Sent { command, first, end, tag, when: sent, fua, due } = self.waiting.remove(&cookie).unwrap();
        assert_eq!(answered.code(), due, "case {}: {command:?}", self.shared.case);
        if due.is_some() {
            self.seen.refused += 1;
            return;
        }
        let what = match command {
            Command::Write => What::Put { value: tag, fua },
            Command::WriteZeroes | Command::Trim => What::Put { value: 0, fua },
            Command::Flush => What::Flush,
            Command::Read => {
                self.seen.fragments += usize::from(answered.chunks > 1);
                What::See(self.shared.values(first, end, &answered.data))
            }
            Command::BlockStatus => What::See(self.status(first, end, &answered)),
            _ => return,
        };
        if let What::See(values) = &what {
            self.seen.tags += values.iter().flatten().filter(|value| **value != 0).count();
            self.seen.zeroes += values.iter().flatten().filter(|value| **value == 0).count();
        }
        self.events.push(Event { what, first, end, sent, done });
    }

    /// What block status says of content: cells that lie in what is zero are.
    fn status(&mut self, first: usize, end: usize, answered: &Answered) -> Vec<Option<Value>> {
        let bounds = &self.shared.bounds;
        let (start, stop) = (bounds[first], bounds[end]);
        let mut values = vec![None; end - first];
        let [extents] = answered.status.values().collect::<Vec<_>>()[..] else {
            panic!("one context was selected: {answered:?}");
        };
        let mut at = start;
        for extent in extents {
            let until = at + extent.length;
            for (value, cell) in values.iter_mut().zip(bounds[first..=end].windows(2)) {
                if extent.flags & STATE_ZERO != 0 && at <= cell[0] && cell[1] <= until {
                    *value = Some(0);
                }
            }
            at = until;
        }
        assert!(start < at && at <= stop, "case {}: status of {start} to {at} of {stop}", self.shared.case);
        self.seen.statuses += values.iter().flatten().count();
        values
    }
}

/// The disks of a case, and under which names they are offered: the first under two more.
fn serve(disks: &[Disk], behind_again: &Disk) -> Server {
    let server = Server::new();
    for (index, disk) in disks.iter().enumerate() {
        server.add_export(&index.to_string(), disk.clone()).unwrap();
    }
    let read_only = ExportOptions { read_only: true, ..ExportOptions::default() };
    server.add_export_with("read-only", disks[0].clone(), read_only).unwrap();
    server.add_export("again", behind_again.clone()).unwrap();
    server
}

/// Plays one case. With `broken`, one export is not the disk that the model takes it for.
fn play(case: u64, broken: bool, total: &mut Seen) -> Result<(), String> {
    let mut dice = Dice::new(case, 0);
    // A long disk has reads that are copied without the lock.
    let size = if dice.one_in(4) { 192 << 10 } else { 5 * 4096 + 512 };
    let shared =
        Shared { case, bounds: bounds(size, &mut dice), clock: AtomicU64::new(1), tags: AtomicU64::new(1) };
    let disk = |index| {
        let write_cache = (case + index) % 2 == 1;
        Disk::new_with(Bytes(size), DiskOptions { write_cache, ..DiskOptions::default() }).unwrap()
    };
    let disks: Vec<Disk> = (0..=dice.below(2)).map(disk).collect();
    let server = serve(&disks, &if broken { disks[0].fork() } else { disks[0].clone() });
    let connections = if broken { 2 } else { 1 + dice.below(6) };
    let gates = dice.one_in(2);
    let mut histories: Vec<Vec<Event>> = vec![Vec::new(); disks.len()];
    thread::scope(|scope| {
        let connection = |stream: u64| {
            let mut dice = Dice::new(case, 1 + stream);
            let mut export = [0, 0, 1, 2, 3][dice.index(5)];
            if broken {
                export = [0, 3][as_len(stream)];
            }
            // Cases with one disk have no second.
            let export = if export == 1 { disks.len() - 1 } else { export };
            let name = ["0", "1", "read-only", "again"][export];
            let headers = [Headers::Simple, Headers::Structured, Headers::Extended][dice.index(3)];
            let contexts = if headers == Headers::Simple { &[][..] } else { &["base:allocation"] };
            let client = Chunked::connect_to(&server, name, headers, contexts);
            let (waiting, events, seen) = (BTreeMap::new(), Vec::new(), Seen::default());
            let (shared, read_only) = (&shared, name == "read-only");
            let connection = Connection { shared, client, headers, read_only, dice, waiting, events, seen };
            (usize::from(export == 1), scope.spawn(move || connection.run()))
        };
        let workers: Vec<(usize, ScopedJoinHandle<'_, _>)> = (0..connections).map(connection).collect();
        if gates {
            hold_and_release(&disks, &mut dice, || workers.iter().all(|(_, worker)| worker.is_finished()));
        }
        for (disk, worker) in workers {
            let (events, seen) = worker.join().unwrap();
            histories[disk].extend(events);
            total.add(&seen);
        }
    });
    for (disk, mut events) in disks.iter().zip(histories) {
        let values = |store: &Store| {
            let mut all = vec![0; as_len(size)];
            store.read(Bytes(0), &mut all).unwrap();
            shared.values(0, shared.cells(), &all)
        };
        let (left, durable) = (values(&disk.snapshot()), values(&disk.durable()));
        total.dirty += left.iter().zip(&durable).filter(|(left, durable)| left != durable).count();
        check_durable(&events, &durable).map_err(|why| format!("case {case}: durable, {why}"))?;
        let what = What::See(left);
        events.push(Event { what, first: 0, end: shared.cells(), sent: shared.tick(), done: shared.tick() });
        check(&events, shared.cells()).map_err(|why| format!("case {case}: {why}"))?;
    }
    Ok(())
}

/// Has requests wait at gates and let go out of turn, until there are no more.
fn hold_and_release(disks: &[Disk], dice: &mut Dice, finished: impl Fn() -> bool) {
    let mut count = 0;
    while !finished() {
        for disk in disks {
            count += 1;
            let when = When { nth: Some(1 + dice.below(4)), ..When::default() };
            if count < 200 {
                disk.add_fault(Row { name: format!("gate {count}"), when, then: Then::HOLD }).unwrap();
                // A request that comes in this time is held; that none does is as well.
                let _held = disk.wait_held(&format!("gate {count}"), 1, Duration::from_micros(500));
            }
            let _released = disk.open_all_gates();
        }
        thread::yield_now();
    }
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.tags += other.tags;
        self.zeroes += other.zeroes;
        self.refused += other.refused;
        self.overtaken += other.overtaken;
        self.fragments += other.fragments;
        self.statuses += other.statuses;
        self.dirty += other.dirty;
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// For all cases: there is an order of the requests that explains every reply.
#[test]
#[expect(clippy::disallowed_methods, reason = "the one test that runs for a time that was asked for")]
fn some_order_explains_every_reply() {
    let limit = Duration::from_secs(setting("BRIM_MODEL_SECONDS").unwrap_or(2));
    let (start, first) = (Instant::now(), setting("BRIM_MODEL_CASE").unwrap_or(0));
    let mut seen = Seen::default();
    let mut case = first;
    // A slow machine takes some cases too.
    while case < first + 20 || start.elapsed() < limit {
        if let Err(why) = play(case, false, &mut seen) {
            panic!("{why}\nBRIM_MODEL_CASE={case} starts with it");
        }
        case += 1;
    }
    let Seen { tags, zeroes, refused, overtaken, fragments, statuses, dirty } = seen;
    assert!(
        [tags, zeroes, refused, overtaken, fragments, statuses, dirty].iter().all(|count| *count > 0),
        "{seen:?}"
    );
}

/// Two exports that the model takes for one disk are two: it has to tell.
#[test]
fn an_export_of_another_disk_is_found_out() {
    let found = (0..20).filter(|case| play(*case, true, &mut Seen::default()).is_err()).count();
    // Where later writes cover the lost ones, there is nothing to see.
    assert!(found >= 10, "{found} of 20");
}
