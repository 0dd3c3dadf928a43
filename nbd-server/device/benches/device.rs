//! The pure parts of the disk: blocks in and out, fork, trim and zero of large ranges, the write
//! cache, the fault table.
//!
//! `cargo bench -p brim-device`. Read ratios within one run: machines differ, and so do minutes.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to say")]

use std::hint::black_box;

use brim_device::fault::{FaultTable, Moment, Op, Request, Row, Then, When};
use brim_device::{BLOCK, ByteRange, Bytes, Images, Store};
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// A disk of `size` with its first `written` MiB written.
fn store(size: u64, written: u64) -> Store {
    let mut store = Store::new(Bytes(size)).unwrap();
    let data = vec![0x5a; 1 << 20];
    for at in 0..written {
        store.write(Bytes(at * MIB), &data).unwrap();
    }
    store
}

fn blocks(c: &mut Criterion) {
    let mut group = c.benchmark_group("4 KiB");
    let mut store = store(TIB, 256);
    let data = vec![0xa5; 4096];
    let mut buffer = vec![0; 4096];
    let mut at = 0;
    let mut next = move || {
        at = (at + 7919 * BLOCK.0) % (256 * MIB);
        Bytes(at)
    };
    group.bench_function("read", |b| b.iter(|| store.read(next(), black_box(&mut buffer)).unwrap()));
    group.bench_function("read of a hole", |b| {
        b.iter(|| store.read(Bytes(TIB / 2), black_box(&mut buffer)).unwrap());
    });
    group.bench_function("overwrite", |b| b.iter(|| store.write(next(), black_box(&data)).unwrap()));
    group.finish();
}

fn whole(c: &mut Criterion) {
    let mut group = c.benchmark_group("1 TiB disk");
    for written in [0, 64, 1024] {
        let full = store(TIB, written);
        let name = |what: &str| BenchmarkId::new(what, format!("{written} MiB written"));
        group.bench_function(name("fork"), |b| b.iter(|| black_box(full.fork())));
        // The fork's blocks are shared, so that what is measured is the range and not the memory given back.
        group.bench_function(name("trim of all"), |b| {
            b.iter_batched_ref(
                || full.fork(),
                |fork| fork.trim(Bytes(0), Bytes(TIB)).unwrap(),
                BatchSize::SmallInput,
            );
        });
        group.bench_function(name("zero of all"), |b| {
            b.iter_batched_ref(
                || full.fork(),
                |fork| fork.zero(Bytes(0), Bytes(TIB)).unwrap(),
                BatchSize::SmallInput,
            );
        });
        group.bench_function(name("first write after a fork"), |b| {
            let data = [1; 4096];
            b.iter_batched_ref(
                || full.fork(),
                |fork| fork.write(Bytes(0), &data).unwrap(),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// 4 KiB at a time, at random places of 256 MiB, into a disk with a volatile cache.
fn cache(c: &mut Criterion) {
    let mut group = c.benchmark_group("write cache");
    let data = vec![0xa5; 4096];
    let mut at = 0;
    let mut next = move || {
        at = (at + 7919 * BLOCK.0) % (256 * MIB);
        Bytes(at)
    };
    let mut images = Images::write_back(store(TIB, 256));
    group.bench_function("write", |b| {
        b.iter(|| images.write(next(), black_box(&data)).unwrap());
    });
    group.bench_function("write and flush", |b| {
        b.iter(|| {
            images.write(next(), black_box(&data)).unwrap();
            images.flush();
        });
    });
    group.bench_function("write with FUA", |b| {
        b.iter(|| {
            let offset = next();
            images.write(offset, black_box(&data)).unwrap();
            images.persist(offset, BLOCK).unwrap();
        });
    });
    group.bench_function("flush of nothing", |b| b.iter(|| images.flush()));
    for at in 0..16 {
        images.write(Bytes(at * 16 * MIB), &data).unwrap();
    }
    group.bench_function("count of 16 dirty blocks", |b| b.iter(|| black_box(images.dirty())));
    group.finish();
}

fn faults(c: &mut Criterion) {
    let mut group = c.benchmark_group("fault table");
    for rows in [0, 1, 100] {
        let mut table = FaultTable::default();
        for row in 0..rows {
            // No request of this benchmark is a trim.
            let when = When { op: Some(Op::Trim).into(), nth: None, ..When::default() };
            table.add(Row { name: format!("row {row}"), when, then: Then::HOLD }).unwrap();
        }
        let request = Request::new(Op::Read, Bytes(0), BLOCK);
        group.bench_function(format!("{rows} rows that do not match"), |b| {
            b.iter(|| table.decide(Moment::default(), black_box(&request)));
        });
    }
    let request = Request::new(Op::Read, Bytes(0), BLOCK);
    let mut table = FaultTable::default();
    for row in 0..100 {
        let range = Some(ByteRange { offset: Bytes((row + 1) * MIB), length: BLOCK });
        let when = When { range, ..When::default() };
        table.add(Row { name: format!("row {row}"), when, then: Then::HOLD }).unwrap();
    }
    group.bench_function("100 rows about other places", |b| {
        b.iter(|| table.decide(Moment::default(), black_box(&request)));
    });
    let mut table = FaultTable::default();
    for row in 0..100 {
        let when = When { op: Some(Op::Read).into(), nth: Some(u64::MAX), ..When::default() };
        table.add(Row { name: format!("row {row}"), when, then: Then::HOLD }).unwrap();
    }
    group.bench_function("100 rows that count and do not fire", |b| {
        b.iter(|| table.decide(Moment::default(), black_box(&request)));
    });
    group.finish();
}

criterion_group!(benches, blocks, whole, cache, faults);
criterion_main!(benches);
