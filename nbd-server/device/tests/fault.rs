//! The fault table against a count kept beside it.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

use brim_device::fault::{
    Bucket, Decision, Delay, ErrorName, FaultTable, Flip, Latency, Limit, Moment, Op, Outcome, Request, Row,
    RowError, Seek, Sizes, Then, Unit, When,
};
use brim_device::{ByteRange, Bytes, Nanos, Ratio};
use proptest::prelude::*;

const SIZE: Bytes = Bytes(1 << 30);

fn at(now: u64) -> Moment {
    Moment { now: Nanos(now), size: SIZE }
}

fn with(name: &str, when: When, then: Then) -> Row {
    Row { name: name.to_owned(), when, then }
}

fn row(name: &str, op: Option<Op>, nth: Option<u64>) -> Row {
    with(name, When { op: op.into(), nth, ..When::default() }, Then::HOLD)
}

fn request(op: Op) -> Request {
    Request::new(op, Bytes(0), Bytes(4096))
}

fn write_to(offset: u64, len: u64) -> Request {
    Request::new(Op::Write, Bytes(offset), Bytes(len))
}

fn range(offset: u64, length: u64) -> ByteRange {
    ByteRange { offset: Bytes(offset), length: Bytes(length) }
}

/// The name of the row that holds a request, if one does.
fn holder(table: &mut FaultTable, request: &Request) -> Option<String> {
    let Decision { outcome, .. } = table.decide(at(0), request);
    let (id, outcome) = outcome?;
    assert!(matches!(outcome, Outcome::Hold { .. }), "{outcome:?}");
    table.entries().iter().find(|entry| entry.id() == id).map(|entry| entry.row.name.clone())
}

fn one(when: When, then: Then) -> FaultTable {
    let mut table = FaultTable::seeded(7);
    table.add(with("row", when, then)).unwrap();
    table
}

/// How long a request that comes at `now` takes.
fn wait(table: &mut FaultTable, now: u64, request: &Request) -> u64 {
    table.decide(at(now), request).due.map_or(0, |due| due.0 - now)
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(prop::sample::select(&Op::ALL[..]), 0..60)
}

fn conditions() -> impl Strategy<Value = Vec<(Option<Op>, Option<u64>)>> {
    let op = prop::option::of(prop::sample::select(&Op::ALL[..]));
    prop::collection::vec((op, prop::option::of(1..20u64)), 0..5)
}

fn table(conditions: &[(Option<Op>, Option<u64>)]) -> FaultTable {
    let mut table = FaultTable::new();
    for (index, (op, nth)) in conditions.iter().enumerate() {
        table.add(row(&format!("row {index}"), *op, *nth)).unwrap();
    }
    table
}

proptest! {
    /// For all rows and requests: a row matches its operation, fires for its nth match or each, and the first that
    /// fires settles the request.
    #[test]
    fn the_first_row_that_fires_settles(conditions in conditions(), ops in ops()) {
        let mut table = table(&conditions);
        let mut matches = vec![0; conditions.len()];
        let mut firings = vec![0; conditions.len()];
        for op in ops {
            let mut expected = None;
            for (index, (wanted, nth)) in conditions.iter().enumerate() {
                if wanted.is_some_and(|wanted| wanted != op) {
                    continue;
                }
                matches[index] += 1;
                if expected.is_none() && nth.is_none_or(|nth| nth == matches[index]) {
                    firings[index] += 1;
                    expected = Some(format!("row {index}"));
                }
            }
            prop_assert_eq!(holder(&mut table, &request(op)), expected);
        }
        for (index, entry) in table.entries().iter().enumerate() {
            prop_assert_eq!((entry.matches, entry.firings), (matches[index], firings[index]));
        }
    }

    /// For all rows and requests: two tables decide alike, and a row added behind changes nothing for those before it.
    #[test]
    fn decisions_are_deterministic(conditions in conditions(), ops in ops()) {
        let (mut one, mut more) = (table(&conditions), table(&conditions));
        more.add(row("more", None, None)).unwrap();
        for op in ops {
            let expected = holder(&mut one, &request(op)).unwrap_or_else(|| "more".to_owned());
            prop_assert_eq!(holder(&mut more, &request(op)), Some(expected));
        }
        for (one, more) in one.entries().iter().zip(more.entries()) {
            prop_assert_eq!((one.matches, one.firings), (more.matches, more.firings));
        }
    }

    /// For all tables: with all gates open everything passes, and is still counted.
    #[test]
    fn open_gates_count_and_hold_nothing(conditions in conditions(), ops in ops()) {
        let mut table = table(&conditions);
        table.open_all();
        for op in &ops {
            prop_assert!(table.decide(at(0), &request(*op)).is_pass());
        }
        for (entry, (wanted, _)) in table.entries().iter().zip(&conditions) {
            let matching = ops.iter().filter(|op| wanted.is_none_or(|wanted| wanted == **op)).count();
            prop_assert_eq!((entry.matches, entry.firings), (Bytes::of_len(matching).0, 0));
        }
    }
}

#[test]
fn one_gate_opens_and_the_others_hold() {
    let mut table = table(&[(Some(Op::Write), None), (None, None)]);
    assert_eq!(holder(&mut table, &request(Op::Write)).as_deref(), Some("row 0"));
    assert!(table.open("row 0"));
    assert!(!table.open("nobody"));
    assert_eq!(holder(&mut table, &request(Op::Write)).as_deref(), Some("row 1"));
    assert!(table.close("row 0"));
    assert_eq!(holder(&mut table, &request(Op::Write)).as_deref(), Some("row 0"));
}

#[test]
fn rows_that_cannot_work_are_refused() {
    let mut table = FaultTable::new();
    table.add(row("gate", None, None)).unwrap();
    let error = table.add(row("gate", None, None)).unwrap_err();
    assert_eq!(error, RowError::DuplicateName { name: "gate".to_owned() });
    let error = table.add(row("never", None, Some(0))).unwrap_err();
    assert_eq!(error, RowError::NthZero { name: "never".to_owned() });
    assert_eq!(table.entries().len(), 1);
}

#[test]
fn rows_are_read_as_they_are_written() {
    let text = r#"{ "name": "commit", "when": { "op": ["write"], "nth": 1 }, "then": { "hold": {} } }"#;
    let commit = row("commit", Some(Op::Write), Some(1));
    assert_eq!(serde_json::from_str::<Row>(text).unwrap(), commit);
    let back = serde_json::to_string(&commit).unwrap();
    assert_eq!(back, r#"{"name":"commit","when":{"op":["write"],"nth":1},"then":{"hold":{}}}"#);
    let bare = serde_json::from_str::<Row>(r#"{ "name": "all", "then": { "hold": {} } }"#).unwrap();
    assert_eq!(bare, row("all", None, None));
    for wrong in [
        r#"{ "name": "x", "then": "drop", "wen": {} }"#,
        r#"{ "name": "x", "then": "drop", "when": { "opp": ["write"] } }"#,
        r#"{ "name": "x", "then": "held" }"#,
        r#"{ "name": "x", "then": { "hold": { "limt": 3 } } }"#,
        r#"{ "name": "x", "then": "drop", "when": { "probability": -0.5 } }"#,
        r#"{ "name": "x" }"#,
    ] {
        assert!(serde_json::from_str::<Row>(wrong).is_err(), "{wrong}");
    }
}

/// Every row that can be written is read back as it was.
#[test]
fn all_rows_make_the_round_trip() {
    let when = When {
        op: [Op::Read, Op::Write].into_iter().collect(),
        fua: Some(true),
        range: Some(range(4096, 8192)),
        region: Some("superblock".to_owned()),
        size: Some(Sizes { min: Some(Bytes(512)), max: None }),
        while_gate: Some("gate".to_owned()),
        nth: Some(1),
        every: Some(2),
        between: Some((3, 4)),
        probability: Ratio::from_f64(0.25),
        times: Some(9),
    };
    for then in every_then() {
        let row = with("row", when.clone(), then);
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), row, "{text}");
    }
}

fn latencies() -> Vec<Latency> {
    let bucket = |latency, count| Bucket { latency: Nanos(latency), count };
    vec![
        Latency::Fixed(Nanos(100)),
        Latency::Uniform { min: Nanos(1_000), max: Nanos(2_000) },
        Latency::Normal { mean: Nanos(1_000_000), deviation: Nanos(100_000) },
        Latency::Exponential { mean: Nanos(1_000_000) },
        Latency::Lognormal { median: Nanos(1_000_000), sigma: Ratio::from_f64(0.5).unwrap() },
        Latency::Pareto { min: Nanos(1_000_000), shape: Ratio::from_f64(3.0).unwrap() },
        Latency::Histogram(vec![bucket(1_000, 3), bucket(9_000, 1)]),
    ]
}

fn every_then() -> Vec<Then> {
    let seek = Seek { min: Nanos(1), max: Nanos(9), rpm: 7200, bytes_per_second: 1 << 20 };
    let mut all: Vec<Then> = latencies().into_iter().map(|latency| Then::Delay(latency.into())).collect();
    all.extend([
        Then::HOLD,
        Then::Hold { limit: Some(Nanos(5)) },
        Then::Limit(Limit { unit: Unit::Bytes, per_second: 1 << 20, burst: 4096 }),
        Then::Seek(seek),
        Then::Error(ErrorName::Enospc),
        Then::Drop,
        Then::Volatile,
        Then::Torn { sectors: Some(3) },
        Then::Misdirect { by: Bytes(4096) },
        Then::Flip(Flip { bits: 3, at_rest: true }),
        Then::Disconnect,
        Then::Close,
    ]);
    all
}

#[test]
fn a_row_is_about_what_it_touches() {
    let when = When { range: Some(range(4096, 4096)), ..When::default() };
    let mut table = one(when, Then::HOLD);
    for (request, held) in [
        (write_to(0, 4096), false),
        (write_to(0, 4097), true),
        (write_to(8191, 1), true),
        (write_to(8192, 512), false),
        (Request::new(Op::Flush, Bytes(0), Bytes(0)), false),
        (Request::new(Op::Trim, Bytes(0), Bytes(1 << 20)), true),
        (Request::new(Op::Read, Bytes(5000), Bytes(0)), false),
    ] {
        assert_eq!(holder(&mut table, &request).is_some(), held, "{request:?}");
    }
    let size = Some(Sizes { min: Some(Bytes(8192)), max: Some(Bytes(16384)) });
    let mut table = one(When { size, ..When::default() }, Then::HOLD);
    for (len, held) in [(8191, false), (8192, true), (16384, true), (16385, false)] {
        assert_eq!(holder(&mut table, &write_to(0, len)).is_some(), held, "{len}");
    }
    let mut table = one(When { fua: Some(true), ..When::default() }, Then::HOLD);
    assert_eq!(holder(&mut table, &write_to(0, 512)), None);
    assert!(holder(&mut table, &Request { fua: true, ..write_to(0, 512) }).is_some());
}

#[test]
fn rows_follow_their_region() {
    let mut table = FaultTable::new();
    let about = |name: &str| When { region: Some(name.to_owned()), ..When::default() };
    let error = table.add(with("row", about("superblock"), Then::HOLD)).unwrap_err();
    assert_eq!(error.to_string(), r#"fault "row" is about region "superblock", which nobody has defined"#);
    table.set_region("superblock", vec![range(65536, 4096), range(64 << 20, 4096)]);
    table.add(with("row", about("superblock"), Then::HOLD)).unwrap();
    assert!(holder(&mut table, &write_to(64 << 20, 512)).is_some());
    assert!(holder(&mut table, &write_to(0, 4096)).is_none());
    table.set_region("superblock", vec![range(0, 4096)]);
    assert!(holder(&mut table, &write_to(64 << 20, 512)).is_none());
    assert!(holder(&mut table, &write_to(0, 4096)).is_some());
}

#[test]
fn counts_pick_matches() {
    let fires = |when: When| -> Vec<u64> {
        let mut table = one(when, Then::HOLD);
        (1..=10).filter(|_| holder(&mut table, &request(Op::Write)).is_some()).collect::<Vec<u64>>()
    };
    assert_eq!(fires(When { every: Some(3), ..When::default() }), [3, 6, 9]);
    assert_eq!(fires(When { between: Some((2, 4)), ..When::default() }), [2, 3, 4]);
    assert_eq!(fires(When { nth: Some(7), ..When::default() }), [7]);
    assert_eq!(fires(When { times: Some(2), ..When::default() }), [1, 2]);
    assert_eq!(
        fires(When { every: Some(2), between: Some((3, 9)), times: Some(2), ..When::default() }),
        [4, 6]
    );
}

#[test]
fn a_row_acts_while_a_gate_is_closed() {
    let mut table = FaultTable::new();
    let when = When { while_gate: Some("gate".to_owned()), op: Op::Read.into(), ..When::default() };
    let error = table.add(with("eio", when.clone(), Then::Error(ErrorName::Eio))).unwrap_err();
    assert!(matches!(error, RowError::UnknownGate { .. }), "{error}");
    table.add(row("gate", Some(Op::Write), None)).unwrap();
    table.add(with("eio", when, Then::Error(ErrorName::Eio))).unwrap();
    let eio = |table: &mut FaultTable| !table.decide(at(0), &request(Op::Read)).is_pass();
    assert!(eio(&mut table));
    assert!(table.open("gate"));
    assert!(!eio(&mut table));
    assert!(table.close("gate"));
    assert!(eio(&mut table));
    assert!(table.remove("gate").is_some());
    assert!(!eio(&mut table));
}

/// As many fire as the probability has it, within five standard deviations.
#[test]
fn a_probability_is_kept() {
    for (probability, least, most) in [(0.5, 4_750, 5_250), (0.01, 50, 150), (1.0, 10_000, 10_000)] {
        let when = When { probability: Ratio::from_f64(probability), ..When::default() };
        let mut table = one(when, Then::HOLD);
        let fired = (0..10_000).filter(|_| holder(&mut table, &request(Op::Write)).is_some()).count();
        assert!((least..=most).contains(&fired), "{fired} of 10000 at {probability}");
    }
}

#[test]
fn delays_add_up_and_the_first_outcome_settles() {
    let mut table = FaultTable::new();
    let delay = |nanos| Then::Delay(Latency::Fixed(Nanos(nanos)).into());
    table.add(with("one", When::default(), delay(1_000))).unwrap();
    table.add(with("eio", When::default(), Then::Error(ErrorName::Eio))).unwrap();
    table.add(with("two", When::default(), delay(500))).unwrap();
    table.add(with("gate", When::default(), Then::HOLD)).unwrap();
    let decision = table.decide(at(10), &request(Op::Read));
    assert_eq!(decision.due, Some(Nanos(1_510)));
    assert_eq!(decision.delayed_by.len(), 2);
    assert!(matches!(decision.outcome, Some((_, Outcome::Error(ErrorName::Eio)))));
    let firings: Vec<u64> = table.entries().iter().map(|entry| entry.firings).collect();
    assert_eq!(firings, [1, 1, 1, 0]);
}

#[test]
fn a_delay_can_be_cut() {
    let delay = Delay { latency: Latency::Fixed(Nanos(5_000)), at_most: Some(Nanos(300)) };
    let mut table = one(When::default(), Then::Delay(delay));
    assert_eq!(wait(&mut table, 0, &request(Op::Read)), 300);
}

/// The middle of what is drawn is where each distribution has it, to 3 % of 20000 draws.
#[test]
fn distributions_have_their_median() {
    let medians = [100, 1_500, 1_000_000, 693_147, 1_000_000, 1_259_921, 1_000];
    for (latency, median) in latencies().into_iter().zip(medians) {
        let mut table = one(When::default(), Then::Delay(latency.clone().into()));
        let mut drawn: Vec<u64> = (0..20_000).map(|_| wait(&mut table, 0, &request(Op::Read))).collect();
        drawn.sort_unstable();
        let middle = drawn[drawn.len() / 2];
        assert!(middle.abs_diff(median) * 100 <= median * 3, "{latency:?}: {middle} and not {median}");
    }
}

/// 100 requests a second with a burst of 10: ten at once, then one each 10 ms; after a pause the burst is there again.
#[test]
fn a_limit_lets_a_burst_through_and_then_its_rate() {
    let limit = Limit { unit: Unit::Requests, per_second: 100, burst: 10 };
    let mut table = one(When::default(), Then::Limit(limit));
    let waits: Vec<u64> = (0..13).map(|_| wait(&mut table, 0, &request(Op::Read))).collect();
    assert_eq!(waits[..10], [0; 10]);
    assert_eq!(waits[10..], [10_000_000, 20_000_000, 30_000_000]);
    let later = 10_000_000_000;
    let waits: Vec<u64> = (0..11).map(|_| wait(&mut table, later, &request(Op::Read))).collect();
    assert_eq!((&waits[..10], waits[10]), (&[0; 10][..], 10_000_000));
}

#[test]
fn a_limit_of_bytes_takes_as_long_as_the_bytes_do() {
    let limit = Limit { unit: Unit::Bytes, per_second: 4_096_000, burst: 0 };
    let mut table = one(When::default(), Then::Limit(limit));
    assert_eq!(wait(&mut table, 0, &write_to(0, 4096)), 1_000_000);
    assert_eq!(wait(&mut table, 0, &write_to(0, 8192)), 3_000_000);
    assert_eq!(wait(&mut table, 2_999_999, &Request::new(Op::Flush, Bytes(0), Bytes(0))), 1);
}

/// What goes on where the last one ended only transfers; all else moves the head, one after the other.
#[test]
fn a_head_goes_from_one_request_to_the_next() {
    let seek = Seek { min: Nanos(1_000_000), max: Nanos(9_000_000), rpm: 6_000, bytes_per_second: 4_096_000 };
    let mut table = one(When::default(), Then::Seek(seek));
    assert_eq!(wait(&mut table, 0, &write_to(0, 4096)), 1_000_000);
    assert_eq!(wait(&mut table, 0, &write_to(4096, 4096)), 2_000_000);
    // A quarter of the way is half of the rest to the longest seek; a revolution takes 10 ms.
    let far = wait(&mut table, 1 << 40, &write_to((1 << 28) + 8192, 4096));
    assert!((6_000_000..=16_000_001).contains(&far), "{far}");
    let behind = wait(&mut table, 1 << 40, &write_to((1 << 28) + 8192 + 4096, 4096));
    assert_eq!(behind, far + 1_000_000);
}

#[test]
fn outcomes_stay_within_the_request_and_the_disk() {
    let mut torn = one(When::default(), Then::Torn { sectors: None });
    let mut kept = std::collections::BTreeSet::new();
    for _ in 0..1000 {
        match torn.decide(at(0), &write_to(0, 4096)).outcome {
            Some((_, Outcome::Torn { keep })) => kept.insert(keep.0),
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(kept.into_iter().collect::<Vec<_>>(), (0..8).map(|sector| sector * 512).collect::<Vec<_>>());
    let mut table = one(When::default(), Then::Misdirect { by: Bytes(1 << 20) });
    for (offset, to) in [(0, 1 << 20), (SIZE.0 - 4096, (1 << 20) - 4096), (SIZE.0 - (1 << 20) - 2048, 0)] {
        let outcome = table.decide(at(0), &write_to(offset, 4096)).outcome;
        assert!(
            matches!(outcome, Some((_, Outcome::Misdirect { to: Bytes(at) })) if at == to),
            "{outcome:?}"
        );
    }
    let flip = Flip { bits: 100, at_rest: false };
    let bits: Vec<u64> = Outcome::flipped(flip, 9, Bytes(512)).collect();
    assert!(bits.len() == 100 && bits.iter().all(|bit| *bit < 4096), "{bits:?}");
    assert_eq!(Outcome::flipped(flip, 9, Bytes(0)).count(), 0);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let any = When::default;
    let op = |op: Op| When { op: op.into(), ..When::default() };
    let delay = |latency: Latency| Then::Delay(latency.into());
    for (when, then, message) in [
        (
            op(Op::Read),
            Then::Drop,
            "fault \"row\" is about read, but drop can act on write, flush, trim, zeroes only",
        ),
        (
            op(Op::Flush),
            Then::Misdirect { by: Bytes(512) },
            "fault \"row\" is about flush, but misdirect can act on read, write, trim, zeroes only",
        ),
        (When { times: Some(0), ..any() }, Then::Drop, "fault \"row\" can never fire: it fires zero times"),
        (
            When { probability: Some(Ratio::ZERO), ..any() },
            Then::Drop,
            "fault \"row\" can never fire: it fires zero times",
        ),
        (
            When { probability: Ratio::from_f64(1.5), ..any() },
            Then::Drop,
            "fault \"row\" cannot fire: a probability is at most 1",
        ),
        (
            When { between: Some((4, 3)), ..any() },
            Then::Drop,
            "fault \"row\" can never fire: the last match of `between` is before the first",
        ),
        (
            When { range: Some(range(0, 0)), ..any() },
            Then::Drop,
            "fault \"row\" can never fire: its range is empty",
        ),
        (
            any(),
            Then::Misdirect { by: Bytes(1000) },
            "fault \"row\" cannot misdirect: it is not done in whole sectors",
        ),
        (
            any(),
            Then::Flip(Flip { bits: 65537, at_rest: false }),
            "fault \"row\" cannot flip: it flips more than 65536 bits",
        ),
        (any(), Then::Flip(Flip { bits: 0, at_rest: false }), "fault \"row\" cannot flip: it flips no bit"),
        (
            any(),
            delay(Latency::Histogram(Vec::new())),
            "fault \"row\" cannot delay: the histogram has no counts",
        ),
        (
            any(),
            delay(Latency::Uniform { min: Nanos(2), max: Nanos(1) }),
            "fault \"row\" cannot delay: the longest is below the shortest",
        ),
        (
            any(),
            Then::Limit(Limit { unit: Unit::Bytes, per_second: 0, burst: 1 }),
            "fault \"row\" cannot limit: a rate of zero lets nothing through: hold requests instead",
        ),
    ] {
        let error = FaultTable::new().add(with("row", when, then)).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

/// Where it would go to its own place, nothing is done to it and nothing fires.
#[test]
fn a_request_is_not_led_to_its_own_place() {
    for (by, request) in [
        (SIZE.0, write_to(4096, 512)),
        (4096, Request::new(Op::Write, Bytes(0), SIZE)),
        (4096, write_to(0, SIZE.0 - 512)),
    ] {
        let mut table = one(When::default(), Then::Misdirect { by: Bytes(by) });
        assert!(table.decide(at(0), &request).is_pass(), "{request:?}");
        assert_eq!((table.entries()[0].matches, table.entries()[0].firings), (1, 0));
    }
}

/// A row about two places at once is about what touches both, whichever other rows there are.
#[test]
fn other_rows_do_not_change_what_a_row_is_about() {
    let both = || When { range: Some(range(0, 4096)), region: Some("far".to_owned()), ..When::default() };
    for others in 0..2 {
        let mut table = FaultTable::new();
        table.set_region("far", vec![range(8192, 4096)]);
        table.add(with("both", both(), Then::HOLD)).unwrap();
        for _ in 0..others {
            let near = When { range: Some(range(0, 512)), ..When::default() };
            table.add(with("near", near, Then::Error(ErrorName::Eio))).unwrap();
        }
        assert_eq!(holder(&mut table, &write_to(0, 12288)).as_deref(), Some("both"));
        assert_eq!(table.entries()[0].matches, 1);
    }
}

/// A cache can lie only to who wants something durable.
#[test]
fn a_volatile_row_fires_for_flush_and_fua_alone() {
    let mut table = one(When::default(), Then::Volatile);
    for op in Op::ALL {
        for fua in [false, true] {
            let outcome =
                table.decide(at(0), &Request { fua, ..Request::new(op, Bytes(0), Bytes(512)) }).outcome;
            let fires = op == Op::Flush || fua && op != Op::Read;
            assert_eq!(outcome.is_some(), fires, "{op:?} {fua}");
        }
    }
    assert_eq!(table.entries()[0].firings, 5);
}

#[test]
fn the_longest_seek_is_not_a_short_one() {
    let seek = Seek { min: Nanos(u64::MAX), max: Nanos(u64::MAX), rpm: 1, bytes_per_second: 1 };
    let mut table = one(When::default(), Then::Seek(seek));
    assert_eq!(table.decide(at(5), &write_to(4096, 512)).due, Some(Nanos(u64::MAX)));
}

/// The same seed and the same requests make the same decisions, in every release: the number below changes only when what a
/// seed means changes, and then the changelog says so.
#[test]
fn decisions_have_a_fingerprint() {
    let mut table = FaultTable::seeded(0x2a);
    let odds = || When { probability: Ratio::from_f64(0.3), ..When::default() };
    // What has come since the number was taken stays out of it.
    let rows = every_then().into_iter().filter(|then| *then != Then::Volatile);
    for (index, then) in rows.enumerate() {
        table.add(with(&format!("row {index}"), odds(), then)).unwrap();
    }
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for step in 0..5_000u64 {
        let op = Op::ALL[usize::try_from(step % 5).unwrap()];
        let decision = table.decide(at(step * 10_000), &Request::new(op, Bytes(step * 4096), Bytes(8192)));
        for byte in format!("{:?} {:?}", decision.due, decision.outcome.map(|(_, outcome)| outcome)).bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    let kept = include_str!("fingerprints/decisions.txt").trim();
    assert_eq!(format!("{hash:#018x}"), kept, "if this is meant to change, say so in CHANGELOG.md");
}

proptest! {
    /// For all rows: another row before, behind or taken away moves none of their dice.
    #[test]
    fn no_row_moves_the_dice_of_another(ops in ops(), before in 0..8usize) {
        let odds = |name: &str| {
            let when = When { probability: Ratio::from_f64(0.5), ..When::default() };
            with(name, when, Then::Delay(Latency::Exponential { mean: Nanos(1_000_000) }.into()))
        };
        let (mut alone, mut among) = (FaultTable::seeded(5), FaultTable::seeded(5));
        alone.add(odds("it")).unwrap();
        for index in 0..before {
            among.add(with(&format!("other {index}"), When::default(), Then::Error(ErrorName::Eio))).unwrap();
        }
        among.add(odds("it")).unwrap();
        for (step, op) in ops.into_iter().enumerate() {
            if step == 20 {
                among.remove("other 0");
            }
            let (one, other) = (alone.decide(at(0), &request(op)), among.decide(at(0), &request(op)));
            prop_assert_eq!(one.due, other.due);
        }
    }
}
