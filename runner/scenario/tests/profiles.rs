//! What the device profiles of the house come to: each has the figures that its source gives. Clients that ask for the next request
//! as soon as one is answered are played in a time of their own, so that no machine is too slow for it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it is")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs;
use std::path::Path;

use brim_device::fault::{FaultTable, Moment, Op, Request, Row, Then};
use brim_scenario::Profile;
use brim_trial::{Bytes, Nanos};

const SECOND: u64 = 1_000_000_000;

/// A disk of a kind, and who uses it.
struct Play {
    table: FaultTable,
    size: Bytes,
    now: u64,
    random: u64,
}

/// What was seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    requests: f64,
    bytes: f64,
    seconds: f64,
    median_us: f64,
}

impl Play {
    fn of(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    fn with(name: &str, change: impl Fn(&mut Row)) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/devices").join(name);
        let text = fs::read_to_string(path.with_extension("toml")).unwrap();
        let alone = |_: &str| Err("it stands alone".to_owned());
        let profile = Profile::parse(name, &text, &alone).unwrap();
        assert!(!profile.source.trim().is_empty(), "{name} says where its numbers come from");
        let mut table = FaultTable::seeded(1);
        for mut row in profile.faults {
            change(&mut row);
            table.add(row).unwrap();
        }
        Self { table, size: profile.size.unwrap_or(Bytes(1 << 40)), now: 0, random: 1 }
    }

    /// A number below `limit`: `SplitMix64` (Steele, Lea, Flood 2014).
    fn below(&mut self, limit: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    /// `depth` requests of `len` bytes at once, at random places or one behind the other, until so many were answered.
    fn ask(&mut self, op: Op, len: u64, sequential: bool, depth: usize, count: usize) -> Seen {
        let (begun, mut next) = (self.now, 0);
        let mut waiting: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
        let mut took = Vec::new();
        for _ in 0..count {
            if waiting.len() == depth {
                let Reverse((due, asked)) = waiting.pop().unwrap();
                took.push(due - asked);
                self.now = due;
            }
            let places = self.size.0 / len.max(1);
            let offset = if sequential { next } else { self.below(places) * len };
            next = (offset + len) % (places * len.max(1));
            let request = match op {
                Op::Flush => Request::new(op, Bytes::ZERO, Bytes::ZERO),
                _ => Request::new(op, Bytes(offset), Bytes(len)),
            };
            let decision = self.table.decide(Moment { now: Nanos(self.now), size: self.size }, &request);
            assert!(decision.outcome.is_none(), "a profile only makes requests wait");
            waiting.push(Reverse((decision.due.map_or(self.now, |due| due.0), self.now)));
        }
        while let Some(Reverse((due, asked))) = waiting.pop() {
            took.push(due - asked);
            self.now = due;
        }
        took.sort_unstable();
        let number = |number: u64| Nanos(number).to_f64();
        let requests = number(u64::try_from(count).unwrap());
        Seen {
            requests,
            bytes: requests * number(len),
            seconds: number(self.now - begun) / 1e9,
            median_us: number(took[took.len() / 2]) / 1e3,
        }
    }
}

impl Seen {
    fn rate(self) -> f64 {
        self.requests / self.seconds
    }

    fn bytes_per_second(self) -> f64 {
        self.bytes / self.seconds
    }
}

fn near(what: &str, seen: f64, wanted: f64, percent: f64) {
    let off = (seen / wanted - 1.0).abs() * 100.0;
    assert!(off <= percent, "{what}: {seen:.1}, not {wanted:.1}: {off:.1} % off");
}

/// 8.2 ms of seek, half a revolution of 8.33 ms, and 4 KiB at 138 MB/s.
#[test]
fn a_hard_disk_of_7200_rpm() {
    let one = 8.2e-3 + 60.0 / 7200.0 / 2.0 + 4096.0 / 138e6;
    let mut disk = Play::of("hdd-7200");
    near("random reads", disk.ask(Op::Read, 4096, false, 1, 20_000).rate(), 1.0 / one, 1.0);
    near("random writes", disk.ask(Op::Write, 4096, false, 1, 20_000).rate(), 1.0 / one, 1.0);
    // It has one head, and takes requests as they come.
    near("32 in flight", disk.ask(Op::Read, 4096, false, 32, 20_000).rate(), 1.0 / one, 1.0);
    near("in order", disk.ask(Op::Read, 1 << 20, true, 4, 5_000).bytes_per_second(), 138e6, 1.0);
    near("flush", disk.ask(Op::Flush, 0, true, 1, 20_000).median_us, 12_500.0, 2.0);
}

/// 3000 a second while there are credits: 5.4 million of them, which come back at 300 a second.
#[test]
fn a_cloud_disk_with_a_burst_balance() {
    let mut disk = Play::of("cloud-burst");
    near("its latency", disk.ask(Op::Read, 4096, false, 1, 20_000).median_us, 700.0, 2.0);
    near(
        "128 MiB a second",
        disk.ask(Op::Read, 1 << 20, true, 16, 20_000).bytes_per_second(),
        134_217_728.0,
        1.0,
    );
    // Its credits last for more than half an hour: a hundredth of them shows the same.
    let mut disk = Play::with("cloud-burst", |row| {
        if let ("credits", Then::Limit(limit)) = (row.name.as_str(), &mut row.then) {
            assert_eq!((limit.per_second, limit.burst), (300, 5_400_000));
            limit.burst /= 100;
        }
    });
    // 2700 a second more than come back.
    let lasts = 54_000.0 / 2700.0;
    near("in the burst", disk.ask(Op::Read, 4096, false, 64, 50_000).rate(), 3000.0, 1.0);
    let rest = disk.ask(Op::Read, 4096, false, 64, 40_000);
    let wanted = (lasts - 50_000.0 / 3000.0) + (90_000.0 - 3000.0 * lasts) / 300.0;
    near("until it is over, and then", rest.seconds, wanted, 2.0);
    near("after it", disk.ask(Op::Read, 4096, false, 64, 20_000).rate(), 300.0, 1.0);
}

/// Application performance class 1: 1500 reads and 500 writes a second at random, 10 MB/s in order.
#[test]
fn an_sd_card_of_class_a1() {
    let mut disk = Play::of("sd-card-a1");
    near("random reads", disk.ask(Op::Read, 4096, false, 8, 20_000).rate(), 1500.0, 1.0);
    // One write of 200 takes up to 250 ms, while others go on.
    near("random writes", disk.ask(Op::Write, 4096, false, 64, 20_000).rate(), 500.0, 2.0);
    near("in order", disk.ask(Op::Write, 1 << 20, true, 16, 2_000).bytes_per_second(), 10e6, 2.0);
}

/// 1.8 GB/s into a cache of 12 GB, 100 MB/s when that is full.
#[test]
fn a_cheap_ssd_with_a_full_cache() {
    let mut disk = Play::of("ssd-qlc-full");
    near("its latency", disk.ask(Op::Read, 4096, false, 1, 20_000).median_us, 102.3, 3.0);
    disk.now += 1000 * SECOND;
    near("into the cache", disk.ask(Op::Write, 1 << 20, true, 16, 10_000).bytes_per_second(), 1.8e9, 1.0);
    disk.ask(Op::Write, 1 << 20, true, 16, 5_000);
    near("past it", disk.ask(Op::Write, 1 << 20, true, 16, 5_000).bytes_per_second(), 100e6, 1.0);
}
