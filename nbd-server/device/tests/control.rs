//! The lines of the control protocol, and the text for Prometheus.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

use std::collections::{BTreeMap, BTreeSet};

use brim_device::control::{
    Answer, Command, Count, Fault, LatenessSummary, Order, PartlyCut, Pool, Refusal, Reply, Stats, Status,
    WhenFull, Which, prometheus,
};
use brim_device::fault::{ErrorName, FaultTable, Latency, Lateness, Moment, Op, Request, Row, Then, When};
use brim_device::{ByteRange, Bytes, Nanos, Ratio};
use proptest::prelude::*;

fn row(name: &str, then: Then) -> Row {
    Row { name: name.to_owned(), when: When { op: Op::Write.into(), ..When::default() }, then }
}

#[test]
fn a_line_is_written_as_the_manual_has_it() {
    let gate = || "commit".to_owned();
    let lines = [
        (
            Command::AddFault(Box::new(row("slow", Then::Delay(Latency::Fixed(Nanos(10_000_000)).into())))),
            r#"{"add_fault":{"name":"slow","when":{"op":["write"]},"then":{"delay":{"latency":{"fixed":10000000}}}}}"#,
        ),
        (Command::Faults, r#""faults""#),
        (
            Command::WaitHeld { gate: gate(), count: 2, limit: Nanos(5) },
            r#"{"wait_held":{"gate":"commit","count":2,"limit":5}}"#,
        ),
        (
            Command::Release { gate: gate(), which: Which::First(2), error: Some(ErrorName::Eio) },
            r#"{"release":{"gate":"commit","which":{"first":2},"error":"EIO"}}"#,
        ),
        (
            Command::PowerCut {
                partly: Some(PartlyCut { kept: Ratio(500_000_000), torn: Ratio::ZERO, seed: 7 }),
            },
            r#"{"power_cut":{"partly":{"kept":0.5,"torn":0.0,"seed":7}}}"#,
        ),
        (
            Command::SetPool(Pool { limit: Bytes(4096), when_full: WhenFull::Hold }),
            r#"{"set_pool":{"limit":4096,"when_full":"hold"}}"#,
        ),
    ];
    for (command, text) in lines {
        let order = Order { id: Some(7), export: Some("disk".to_owned()), limit: None, command };
        let line = format!("{{\"id\":7,\"export\":\"disk\",\"do\":{text}}}\n");
        assert_eq!(order.to_line(), line);
        assert_eq!(Order::parse(line.as_bytes()), Ok(order));
    }
}

#[test]
fn the_lines_of_the_manual_are_lines_of_the_protocol() {
    let manual = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/control.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let blocks = manual.split("```json\n").skip(1).filter_map(|block| block.split("```").next());
    let mut table = FaultTable::new();
    table.set_region("superblock", Vec::new());
    let mut shown = BTreeSet::new();
    for line in blocks.flat_map(str::lines) {
        if !line.contains("\"do\"") {
            assert!(Reply::parse(line.as_bytes()).is_ok(), "{line}: {:?}", Reply::parse(line.as_bytes()));
            continue;
        }
        let order = Order::parse(line.as_bytes()).unwrap_or_else(|reply| panic!("{line}: {reply:?}"));
        if let Command::AddFault(row) = &order.command {
            assert_eq!(table.add((**row).clone()), Ok(()), "{line}");
        }
        let word = serde_json::to_value(&order.command).unwrap();
        let name = word.as_str().or_else(|| word.as_object()?.keys().next().map(String::as_str));
        shown.insert(name.unwrap().to_owned());
    }
    // What the parser knows is in its complaint about what it does not know.
    let known = Order::parse(b"{\"do\":\"fly\"}").unwrap_err().result.unwrap_err().error;
    let known: BTreeSet<String> = known.split('`').skip(3).step_by(2).map(ToOwned::to_owned).collect();
    assert_eq!(shown, known);
}

#[test]
fn what_is_absent_has_a_default() {
    let parse = |text: &str| Order::parse(text.as_bytes()).unwrap();
    let order = parse(r#"{"do":{"wait_held":{"gate":"g"}}}"#);
    assert_eq!((order.id, order.export.as_deref(), order.limit), (None, None, None));
    let limit = Nanos(30_000_000_000);
    assert_eq!(order.command, Command::WaitHeld { gate: "g".to_owned(), count: 1, limit });
    let release = parse(r#"{"do":{"release":{"gate":"g"}}}"#).command;
    assert_eq!(release, Command::Release { gate: "g".to_owned(), which: Which::All, error: None });
    assert_eq!(parse(r#"{"do":{"power_cut":{}}}"#).command, Command::PowerCut { partly: None });
}

#[test]
fn what_is_no_order_is_answered_with_its_column() {
    let refused = |line: &[u8]| {
        let reply = Order::parse(line).unwrap_err();
        let refusal = reply.result.unwrap_err();
        assert!(refusal.hint.unwrap().contains("docs/control.md"));
        (reply.id, refusal.error)
    };
    let (id, error) = refused(br#"{"id":3,"do":{"resize":{"siez":4096}}}"#);
    assert_eq!(id, Some(3));
    assert!(error.starts_with("column 30: unknown field `siez`, expected `size`"), "{error}");
    let (id, error) = refused(b"make it slow");
    assert!(id.is_none() && error.starts_with("column 1: expected value"), "{error}");
    for line in [
        &b""[..],
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        br#"{"do":"fly"}"#,
        br#"{"do":"stats","id":-1}"#,
        br#"{"do":"stats","what":1}"#,
        br#"{"do":"stats","do":"stats"}"#,
        br#"{"do":{"resize":{"size":"1 MiB"}}}"#,
        br#"{"do":"stats"} {"do":"stats"}"#,
    ] {
        assert!(refused(line).1.starts_with("column "), "{line:?}");
    }
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    let behind = [br#"{"do":"stats","id":1,"x":"#, &deep[..], b"}"].concat();
    for deep in [deep, behind] {
        assert!(refused(&deep).1.starts_with("column "));
    }
}

#[test]
fn a_reply_is_one_or_the_other() {
    let refusal = Refusal::new("no").hint("yes");
    let reply = Reply { id: Some(1), result: Err(refusal) };
    assert_eq!(reply.to_line(), "{\"id\":1,\"error\":\"no\",\"hint\":\"yes\"}\n");
    let done = Reply { id: None, result: Ok(Answer::Done) };
    assert_eq!(done.to_line(), "{\"ok\":\"done\"}\n");
    for reply in [reply, done] {
        assert_eq!(Reply::parse(reply.to_line().as_bytes()), Ok(reply));
    }
    assert!(Reply::parse(b"{\"id\":1}").is_err());
    assert!(Reply::parse(b"{\"ok\":\"done\",\"error\":\"no\"}").is_err());
}

fn commands() -> impl Strategy<Value = Command> {
    let name = || ".*";
    let ranges = prop::collection::vec(
        any::<(u64, u64)>()
            .prop_map(|(offset, length)| ByteRange { offset: Bytes(offset), length: Bytes(length) }),
        0..4,
    );
    let ratio = || (0..=1_000_000_000u64).prop_map(Ratio);
    let which = prop_oneof![
        Just(Which::All),
        any::<usize>().prop_map(Which::First),
        prop::collection::vec(any::<u64>(), 0..4).prop_map(Which::These),
    ];
    let error = prop::option::of(prop::sample::select(ErrorName::ALL.to_vec()));
    let plain =
        [Command::Faults, Command::Regions, Command::Held, Command::OpenAllGates, Command::RemovePool];
    let others = [Command::Snapshots, Command::Exports, Command::Stats, Command::Settle];
    prop_oneof![
        prop::sample::select([plain.to_vec(), others.to_vec()].concat()),
        (name(), any::<u64>(), ratio()).prop_map(|(name, nth, probability)| {
            let probability = Some(probability);
            let when = When { nth: Some(nth), probability, region: Some(name.clone()), ..When::default() };
            Command::AddFault(Box::new(Row { name, when, then: Then::Hold { limit: Some(Nanos(nth)) } }))
        }),
        name().prop_map(|name| Command::RemoveFault { name }),
        (name(), ranges).prop_map(|(name, ranges)| Command::SetRegion { name, ranges }),
        any::<u64>().prop_map(|seed| Command::Reseed { seed }),
        (name(), any::<usize>(), any::<u64>()).prop_map(|(gate, count, limit)| Command::WaitHeld {
            gate,
            count,
            limit: Nanos(limit)
        }),
        (name(), which, error).prop_map(|(gate, which, error)| Command::Release { gate, which, error }),
        (ratio(), ratio(), any::<u64>()).prop_map(|(kept, torn, seed)| Command::PowerCut {
            partly: Some(PartlyCut { kept, torn, seed })
        }),
        any::<u64>().prop_map(|size| Command::Resize { size: Bytes(size) }),
        (name(), prop::option::of(name())).prop_map(|(to, of)| Command::Fork { to, of }),
    ]
}

proptest! {
    /// For all orders: what is written is one line, and is read as the same order.
    #[test]
    fn an_order_is_read_as_it_was_written(
        id in any::<Option<u64>>(),
        export in any::<Option<String>>(),
        limit in any::<Option<u64>>(),
        command in commands(),
    ) {
        let order = Order { id, export, limit: limit.map(Nanos), command };
        let line = order.to_line();
        prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
        prop_assert_eq!(Order::parse(line.as_bytes()), Ok(order));
    }

    /// For all lines that somebody damaged: an order, or a reply that can be sent.
    #[test]
    fn damage_is_answered(command in commands(), cut in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut line = Order::from(command).to_line().into_bytes();
        let at = cut.index(line.len());
        line[at] = byte;
        for line in [&line[..], &line[..at]] {
            if let Err(reply) = Order::parse(line) {
                let line = reply.to_line();
                prop_assert_eq!(Reply::parse(line.as_bytes()), Ok(reply));
            }
        }
    }
}

/// One line of the text format with a sample: the name, the labels, the value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Reads a sample as strictly as the format allows: nothing but what it has to have.
fn sample(line: &str) -> Sample {
    let (name, rest) = line.split_once('{').unwrap();
    let is_name = |name: &str| {
        let first = name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
        first && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    };
    assert!(is_name(name), "{line}");
    let (mut labels, mut letters) = (BTreeMap::new(), rest.chars());
    loop {
        let label: String = letters.by_ref().take_while(|letter| *letter != '=').collect();
        assert!(is_name(&label), "{line}");
        assert_eq!(letters.next(), Some('"'));
        let mut value = String::new();
        loop {
            match letters.next().unwrap() {
                '"' => break,
                '\\' => value.push(match letters.next().unwrap() {
                    'n' => '\n',
                    escaped @ ('\\' | '"') => escaped,
                    other => panic!("\\{other} is no escape in {line}"),
                }),
                letter => value.push(letter),
            }
        }
        assert!(labels.insert(label, value).is_none(), "{line}");
        match letters.next().unwrap() {
            ',' => {}
            '}' => break,
            other => panic!("{other} behind a label in {line}"),
        }
    }
    assert_eq!(letters.next(), Some(' '));
    (name.to_owned(), labels, letters.as_str().parse().unwrap())
}

/// Reads a text strictly: every family has its help and its type before its samples, once, and its samples together.
fn samples(text: &str) -> Vec<Sample> {
    assert!(text.ends_with('\n') && !text.contains("\n\n"));
    let (mut seen, mut series, mut all) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    let mut lines = text.lines().peekable();
    while let Some(help) = lines.next() {
        let (family, _) = help.strip_prefix("# HELP ").unwrap().split_once(' ').unwrap();
        let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {family} ")).unwrap();
        assert!(["counter", "gauge", "histogram"].contains(&kind));
        assert_eq!(family.ends_with("_total"), kind == "counter", "{family}");
        assert!(seen.insert(family.to_owned()), "{family} is there twice");
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (name, labels, value) = sample(line);
            let suffix = name.strip_prefix(family).unwrap();
            let right = if kind == "histogram" { &["_bucket", "_sum", "_count"][..] } else { &[""] };
            assert!(right.contains(&suffix), "{line}");
            assert!(series.insert((name.clone(), labels.clone())), "{line} is there twice");
            all.push((name, labels, value));
        }
    }
    all
}

/// A summary of these, in nanoseconds, made as a table makes it.
fn late_by(late: &[u64]) -> LatenessSummary {
    let mut table = FaultTable::new();
    table.add(row("slow", Then::Delay(Latency::Fixed(Nanos(1)).into()))).unwrap();
    let moment = Moment { now: Nanos(0), size: Bytes(1 << 20) };
    let decision = table.decide(moment, &Request::new(Op::Write, Bytes(0), Bytes(4096)));
    for lateness in late {
        table.was_late(decision.delayed_by[0], Nanos(*lateness));
    }
    Fault::from(&table.entries()[0]).lateness.unwrap()
}

fn status(export: &str, faults: Vec<Fault>) -> Status {
    let requests = Stats { write: Count { requests: 3, bytes: Bytes(12288) }, ..Stats::default() };
    Status {
        export: export.to_owned(),
        size: Bytes(1 << 20),
        allocated: Bytes(12288),
        dirty: Bytes(4096),
        write_cache: true,
        pool: None,
        without_space: 5,
        seed: 0,
        connections: 1,
        held: 2,
        delayed: 1,
        requests,
        faults,
    }
}

#[test]
fn statistics_are_what_prometheus_reads() {
    let awkward = "a \"quoted\" \\ name\nof two lines";
    let fault = |name: &str, lateness| Fault {
        row: row(name, Then::HOLD),
        matches: 5,
        firings: 2,
        open: false,
        overdue: false,
        lateness,
    };
    let late = late_by(&[0, 10_000, 10_001, 999_999_999, 2_000_000_000, 70_000]);
    let disks = [status("", vec![fault("slow", Some(late)), fault(awkward, None)]), status(awkward, vec![])];
    let all = samples(&prometheus(&disks));
    let value = |name: &str, wanted: &[(&str, &str)]| {
        let labels: BTreeMap<_, _> = wanted.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let found = all.iter().find(|(other, with, _)| other == name && *with == labels);
        found.unwrap_or_else(|| panic!("{name} {labels:?} is not in {all:?}")).2
    };
    let is = |name: &str, labels: &[(&str, &str)], wanted: f64| {
        assert!((value(name, labels) - wanted).abs() < 1e-12, "{name}: {}", value(name, labels));
    };
    for export in ["", awkward] {
        is("brim_requests_total", &[("export", export), ("op", "write")], 3.0);
        is("brim_request_bytes_total", &[("export", export), ("op", "write")], 12288.0);
        is("brim_requests_total", &[("export", export), ("op", "flush")], 0.0);
        is("brim_held", &[("export", export)], 2.0);
        is("brim_delayed", &[("export", export)], 1.0);
        is("brim_dirty_bytes", &[("export", export)], 4096.0);
        is("brim_allocated_bytes", &[("export", export)], 12288.0);
        is("brim_size_bytes", &[("export", export)], 1_048_576.0);
        is("brim_without_space_total", &[("export", export)], 5.0);
    }
    is("brim_fault_matches_total", &[("export", ""), ("fault", awkward)], 5.0);
    is("brim_fault_firings_total", &[("export", ""), ("fault", "slow")], 2.0);
    let of = [("export", ""), ("fault", "slow")];
    is("brim_lateness_seconds_count", &of, 6.0);
    is("brim_lateness_seconds_sum", &of, 3.000_090_000);
    for (le, count) in
        [("0.00001", 2.0), ("0.00002", 3.0), ("0.0001", 4.0), ("0.5", 4.0), ("1", 5.0), ("+Inf", 6.0)]
    {
        is("brim_lateness_seconds_bucket", &[of[0], of[1], ("le", le)], count);
    }
    let buckets = all.iter().filter(|(name, ..)| name == "brim_lateness_seconds_bucket");
    assert!(buckets.clone().is_sorted_by_key(|(.., count)| *count), "buckets are cumulative");
    assert_eq!(buckets.count(), Lateness::BOUNDS.len() + 1);
}
