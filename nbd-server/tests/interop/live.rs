//! Rows that come and go a hundred times a second under fio, which verifies what it wrote.

#![expect(clippy::disallowed_methods, reason = "the load lasts as long as it is told to, by the clock")]
#![expect(clippy::print_stdout, reason = "what a long run did is worth a line")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use brim_device::control::{Answer, Command, Status};
use brim_device::fault::{Latency, Limit, Op, Ops, Row, Seek, Then, Unit, When};
use brim_device::{Nanos, Ratio};
use libtest_mimic::Failed;
use nbd_server::control::ControlClient;

use super::{Rig, succeed};

/// For how long, in seconds; `BRIM_LIVE_SECONDS` says otherwise.
const SECONDS: u64 = 5;

/// Between two changes of the table.
const BEAT: Duration = Duration::from_millis(10);

/// What may happen to requests without harm to what they read and write.
fn row(beat: u64) -> Row {
    let (op, then): (Ops, Then) = match beat % 6 {
        0 => (Op::Write.into(), Then::Delay(Latency::Fixed(Nanos(300_000)).into())),
        1 => (Op::Read.into(), Then::Delay(Latency::Uniform { min: Nanos(0), max: Nanos(2_000_000) }.into())),
        2 => (Op::Write.into(), Then::HOLD),
        3 => (None.into(), Then::Hold { limit: Some(Nanos(3_000_000)) }),
        4 => (None.into(), Then::Limit(Limit { unit: Unit::Requests, per_second: 50_000, burst: 8 })),
        _ => {
            let (min, max) = (Nanos(1000), Nanos(20_000));
            (None.into(), Then::Seek(Seek { min, max, rpm: 4_000_000, bytes_per_second: 4 << 30 }))
        }
    };
    let probability = (beat % 6 < 4).then_some(Ratio(200_000_000));
    Row { name: format!("row {beat}"), when: When { op, probability, ..When::default() }, then }
}

/// Adds a row and takes it out again, until it is told to end. How often, and how often a row did something.
fn meddle(control: &mut ControlClient, end: &AtomicBool) -> (u64, u64) {
    let (mut beats, mut firings) = (0, 0);
    let begun = Instant::now();
    while !end.load(Ordering::Relaxed) {
        let row = row(beats);
        let name = row.name.clone();
        assert_eq!(control.ask(Command::AddFault(Box::new(row)).into()).unwrap(), Answer::Done);
        beats += 1;
        let next = begun + BEAT * u32::try_from(beats).unwrap();
        thread::sleep(next.saturating_duration_since(Instant::now()));
        match control.ask(Command::RemoveFault { name }.into()).unwrap() {
            Answer::Removed(fault) => firings += fault.firings,
            other => panic!("{other:?}"),
        }
    }
    (beats, firings)
}

fn status(control: &mut ControlClient) -> Status {
    match control.ask(Command::Stats.into()).unwrap() {
        Answer::Stats(status) => *status,
        other => panic!("{other:?}"),
    }
}

pub(super) fn check(rig: &Rig) -> Result<(), Failed> {
    let seconds =
        std::env::var("BRIM_LIVE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let path = rig.dir.path().join("control.sock");
    let _listener = rig.server.listen_control(&path)?;
    let end = AtomicBool::new(false);
    let (mut watch, mut control) = (ControlClient::connect(&path)?, ControlClient::connect(&path)?);
    let uri = format!("--uri={}", rig.uri);
    let until = Instant::now() + Duration::from_secs(seconds);
    let begun = Instant::now();
    let (rounds, (beats, firings)) = thread::scope(|scope| {
        let meddling = scope.spawn(|| meddle(&mut control, &end));
        let mut rounds = Ok(0);
        while Instant::now() < until && rounds.is_ok() {
            rounds = fio(&uri).and_then(|()| rounds.map(|rounds| rounds + 1));
        }
        end.store(true, Ordering::Relaxed);
        (rounds, meddling.join().unwrap())
    });
    let rounds = rounds?;
    let left = status(&mut watch);
    assert_eq!((left.held, left.delayed, left.faults.len()), (0, 0, 0), "something is left");
    let rate = beats / begun.elapsed().as_secs().max(1);
    let (writes, reads) = (left.requests.write.requests, left.requests.read.requests);
    assert!(firings > 0 && writes > 0 && reads > 0);
    println!(
        "{rounds} rounds: {writes} writes, {reads} reads, {beats} rows ({rate} a second), {firings} firings"
    );
    Ok(())
}

/// Writes all of a range in any order, 64 at a time, and reads it back.
fn fio(uri: &str) -> Result<(), Failed> {
    let arguments = [
        "--name=live",
        "--ioengine=nbd",
        uri,
        "--rw=randwrite",
        "--bs=4k-32k",
        "--size=32m",
        "--iodepth=64",
        "--verify=crc32c",
        "--do_verify=1",
        "--verify_fatal=1",
        "--verify_state_save=0",
        "--randrepeat=0",
    ];
    succeed("fio", &arguments).map(|_| ())
}
