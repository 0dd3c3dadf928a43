//! Messages in and out: a batch of requests, replies of each kind, a handshake.
//!
//! `cargo bench -p nbd-wire`. Read ratios within one run: machines differ, and so do minutes.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to say")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nbd_wire::{
    Answer, ClientHandshake, ClientOutcome, Command, CommandFlags, ExportInfo, Exports, ExtendedRequest,
    Found, Headers, Outcome, ReplyHeader, Request, ServerHandshake, SimpleReply, TransmissionFlags,
};

/// As many as a busy client has in flight.
const BATCH: u64 = 64;
const BLOCK: u64 = 4096;
const HEADERS: [Headers; 3] = [Headers::Simple, Headers::Structured, Headers::Extended];

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("64 requests");
    group.throughput(Throughput::Elements(BATCH));
    let (mut compact, mut extended) = (Vec::new(), Vec::new());
    for cookie in 0..BATCH {
        let (command, flags, offset) = (Command::Read, CommandFlags::NONE, cookie * BLOCK);
        Request { command, flags, cookie, offset, length: 4096 }.encode(&mut compact);
        ExtendedRequest { command, flags, cookie, offset, length: BLOCK }.encode(&mut extended);
    }
    group.bench_function("parse compact", |b| {
        b.iter(|| {
            let mut rest = black_box(&compact[..]);
            while let Some(request) = Request::parse(rest).unwrap() {
                black_box(request.check(Headers::Simple)).unwrap();
                rest = &rest[Request::SIZE..];
            }
        });
    });
    group.bench_function("parse extended", |b| {
        b.iter(|| {
            let mut rest = black_box(&extended[..]);
            while let Some(request) = ExtendedRequest::parse(rest).unwrap() {
                black_box(request.check()).unwrap();
                rest = &rest[ExtendedRequest::SIZE..];
            }
        });
    });
    group.finish();
}

fn replies(c: &mut Criterion) {
    let mut group = c.benchmark_group("64 replies");
    group.throughput(Throughput::Elements(BATCH));
    let mut output = Vec::new();
    for headers in HEADERS {
        let mut encode = || {
            output.clear();
            for cookie in 0..BATCH {
                black_box(Answer { headers, cookie, offset: cookie * BLOCK }).done(&mut output);
            }
        };
        encode();
        group
            .bench_function(BenchmarkId::new("encode done", format!("{headers:?}")), |b| b.iter(&mut encode));
        group.bench_function(BenchmarkId::new("parse done", format!("{headers:?}")), |b| {
            b.iter(|| {
                let mut rest = black_box(&output[..]);
                while let Some((header, size)) = ReplyHeader::parse(headers, rest).unwrap() {
                    black_box(header);
                    rest = &rest[size..];
                }
            });
        });
    }
    let mut simple = Vec::new();
    SimpleReply { cookie: 1, error: None }.encode(&mut simple);
    group.bench_function("parse a simple reply", |b| b.iter(|| SimpleReply::parse(black_box(&simple))));
    group.finish();
}

fn reads(c: &mut Criterion) {
    let mut group = c.benchmark_group("read of 64 KiB");
    group.throughput(Throughput::Bytes(16 * BLOCK));
    let data = [0x5a; 4096];
    let mut output = Vec::with_capacity(1 << 20);
    for headers in HEADERS {
        let answer = Answer { headers, cookie: 1, offset: 0 };
        group.bench_function(BenchmarkId::new("data", format!("{headers:?}")), |b| {
            b.iter(|| {
                output.clear();
                let mut reply = answer.read(true, &mut output);
                for _ in 0..16 {
                    reply.data(black_box(&data));
                }
                reply.finish();
            });
        });
        group.bench_function(BenchmarkId::new("data and holes", format!("{headers:?}")), |b| {
            b.iter(|| {
                output.clear();
                let mut reply = answer.read(true, &mut output);
                for _ in 0..8 {
                    reply.data(black_box(&data));
                    reply.hole(black_box(BLOCK));
                }
                reply.finish();
            });
        });
    }
    group.finish();
}

struct One;

impl Exports for One {
    type Export = ();

    fn find(&self, name: &str) -> Option<Found<()>> {
        let info = ExportInfo { size: 1 << 30, flags: TransmissionFlags(0x0d6d), block_sizes: None };
        Some(Found { export: (), name: name.to_owned(), info })
    }

    fn names(&self) -> Vec<String> {
        vec![String::new()]
    }
}

fn handshake(c: &mut Criterion) {
    c.bench_function("handshake, both sides", |b| {
        let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
        b.iter(|| {
            to_client.clear();
            to_server.clear();
            let (mut client, mut server) = (ClientHandshake::new("disk").unwrap(), ServerHandshake::new());
            ServerHandshake::greet(&mut to_client);
            let (used, _) = client.receive(&to_client, &mut to_server).unwrap();
            to_client.drain(..used);
            let (_, outcome) = server.receive(&to_server, &One, &mut to_client).unwrap();
            assert!(matches!(outcome, Outcome::Transmission(..)));
            let (_, negotiated) = client.receive(&to_client, &mut to_server).unwrap();
            assert!(matches!(negotiated, ClientOutcome::Transmission(_)));
        });
    });
}

criterion_group!(benches, requests, replies, reads, handshake);
criterion_main!(benches);
