//! The HTML page of journals: everything is there, whatever a journal says is text, and a large campaign is a small page.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use brim_report::html::{self, Origin};
use brim_trial::event::{KernelLogLine, Lateness, Run, StepEvent, VerdictEvent};
use brim_trial::{Event, FilesystemKind, JournalLine, Nanos, Verdict};
use proptest::prelude::*;

fn journal(name: &str) -> Vec<Event> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).with_extension("jsonl");
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str::<JournalLine>(line).unwrap().event).collect()
}

fn page(events: &[Event]) -> String {
    let origin = Origin { brim: "0.1.0".to_owned(), journals: vec!["a <b>.jsonl".to_owned()] };
    html::page(events, &origin).unwrap()
}

fn plots(page: &str, plot: &str) -> usize {
    page.matches(&format!("data-plot=\"{plot}\"")).count()
}

/// What a browser would run or load, and what ends an element before its time.
fn assert_inert(page: &str) {
    let (head, body) = page.split_once("</head>").unwrap();
    assert_eq!(head.matches("</style>").count(), 1);
    assert_eq!(head.matches("</title>").count(), 1);
    for forbidden in ["<script", "<img", "<link", "<iframe", "javascript:", "</main><", "<b>x"] {
        assert!(!body.to_lowercase().contains(forbidden), "{forbidden}");
    }
    assert_eq!(page.matches("<body>").count() + page.matches("</body>").count(), 2);
    assert!(
        !page.contains("http:") && !page.contains("https:") && !page.contains("url("),
        "it loads nothing"
    );
}

#[test]
fn a_run_has_its_timeline_with_gates_faults_requests_and_counters() {
    let page = page(&journal("timed"));
    assert_inert(&page);
    assert_eq!(plots(&page, "timeline"), 1);
    for part in [
        "steps by writer",
        "held by gate &quot;scrub&quot;",
        "fault &quot;scrub&quot; fired",
        "write requests so far",
        "free for data",
        "metadata.may_use",
        "sync_file_range = ENOSPC",
        "brim run btrfs/scrub-loses-accepted-write --seed 0x1",
        "the disk holds every read that touches block-group-of:blob",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // The table behind the plot has every step that the journal has.
    let steps = journal("timed").iter().filter(|event| matches!(event, Event::Step(_))).count();
    let rows = page.split("class=\"steps\"").nth(1).unwrap().split("</details>").next().unwrap();
    assert_eq!(rows.matches("<tr>").count(), steps + 1);
}

/// A journal of another brim, whose plan says other things: it is read, and told without its plan.
#[test]
fn a_plan_of_another_brim_does_not_spoil_its_journal() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/timed.jsonl");
    let text = fs::read_to_string(path).unwrap().replacen("\"phases\":", "\"stages\":", 1);
    let events: Vec<Event> =
        text.lines().map(|line| serde_json::from_str::<JournalLine>(line).unwrap().event).collect();
    assert!(matches!(&events[0], Event::Run(run) if run.plan.is_none()));
    let page = page(&events);
    assert_eq!(plots(&page, "timeline"), 1);
    assert!(matches!(&journal("timed")[0], Event::Run(run) if run.plan.is_some()));
}

#[test]
fn a_journal_without_times_has_a_page_too() {
    for name in ["reproduced", "out-of-reach", "stuck", "range"] {
        let page = page(&journal(name));
        assert_inert(&page);
        assert_eq!(plots(&page, "timeline"), 0, "{name}");
        assert!(name == "range" || page.contains("This journal has no times"), "{name}");
    }
    assert_eq!(plots(&page(&journal("range")), "map"), 1);
    assert!(page(&[]).contains("Nothing ran"));
}

#[test]
fn a_journal_that_was_cut_short_says_so() {
    let mut events = journal("timed");
    events.pop();
    let page = page(&events);
    assert!(page.contains("This journal has no verdict"));
    // What the trials came to is there all the same.
    assert!(page.contains("reproduced</b>"));
}

/// A fault that never fired, and one that was late.
#[test]
fn faults_that_never_fired_stand_out_and_lateness_is_drawn() {
    let fault = |row: &str, firings, lateness| Event::Fault {
        trial: 1,
        device: None,
        row: row.to_owned(),
        matches: 9,
        firings,
        overdue: false,
        lateness,
    };
    let steps = vec![(Nanos(16_384), 3), (Nanos(65_536), 5)];
    let late = Lateness { count: 8, p50: Nanos(9), p99: Nanos(99), max: Nanos(60_000), steps };
    let mut events = journal("timed");
    let last = events.pop().unwrap();
    events.extend([fault("idle", 0, None), fault("slow", 8, Some(late)), last]);
    let page = page(&events);
    assert_eq!(plots(&page, "lateness"), 1);
    assert_eq!(page.matches("It never fired").count(), 1);
    let plot = page.split("data-plot=\"lateness\"").nth(1).unwrap().split("</svg>").next().unwrap();
    // 16, 33 and 66 µs: the step in between has none, and is there.
    assert_eq!((plot.matches("≤").count(), plot.matches("class=\"bar\"").count()), (3, 2));
}

fn run(kernel: &str, free: u64, record: u64, verdict: Verdict) -> [Event; 2] {
    let params: BTreeMap<String, String> = [
        ("free", format!("{free} blocks")),
        ("record", format!("{record} B")),
        ("size", "128 MiB".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let scenario = "btrfs/x".to_owned();
    let (kernel, rig, filesystem) = (kernel.to_owned(), "host/fuse".to_owned(), FilesystemKind::Btrfs);
    let run = Run {
        scenario: scenario.clone(),
        control: None,
        params: params.clone(),
        rig: rig.clone(),
        kernel: kernel.clone(),
        filesystem,
        seed: 1,
        trials: 3,
        plan: None,
    };
    let hit = verdict == Verdict::Reproduced;
    let event = VerdictEvent {
        scenario,
        control: None,
        params,
        verdict,
        known: None,
        rate: None,
        expected: true,
        trials: 3,
        reproduced: if hit { 1 + u32::try_from(free % 3).unwrap() } else { 0 },
        inconclusive: 0,
        kernel,
        filesystem,
        rig,
        failed_step: Some("pwrite".to_owned()),
        errno: Some(brim_trial::Errno::ENOSPC),
        space: None,
        reason: (verdict == Verdict::Inconclusive).then(|| "data_free is off".to_owned()),
        findings: Vec::new(),
        seed: 1,
        seconds: 0.1,
        command: format!("brim run btrfs/x --set 'free={free} blocks'"),
    };
    [Event::Run(run), Event::Verdict(Box::new(event))]
}

#[test]
fn ten_thousand_cells_are_a_page_of_two_mebibytes() {
    let mut events = Vec::new();
    for kernel in ["6.1.176", "6.12.113", "6.18.44"] {
        for free in 0..170 {
            for record in 1..=20 {
                let verdict = match (free * record) % 33 {
                    0 => Verdict::Reproduced,
                    1 => Verdict::Inconclusive,
                    _ => Verdict::NotReproduced,
                };
                events.extend(run(kernel, free, record * 4096, verdict));
            }
        }
    }
    let page = page(&events);
    assert_inert(&page);
    assert!(page.len() < 2 << 20, "{} bytes", page.len());
    assert_eq!(plots(&page, "map"), 3, "one for each kernel");
    let table = page.split("10200 cells as a table").nth(1).unwrap().split("</table>").next().unwrap();
    assert_eq!(table.matches("<tr>").count(), 10_201, "the table has them all");
    assert!(page.contains("free in blocks (across) × record in B (down); kernel 6.18.44"));
}

/// Not every combination was tried, and what was tried stands where it belongs.
#[test]
fn a_map_need_not_be_a_rectangle() {
    let mut events = Vec::new();
    for (free, record) in [(60, 1), (61, 1), (61, 2), (62, 3)] {
        events.extend(run("6.18", free, record, Verdict::NotReproduced));
    }
    let page = page(&events);
    let plot = page.split("data-plot=\"map\"").nth(1).unwrap().split("</svg>").next().unwrap();
    assert_eq!(plot.matches("class=\"cell ").count(), 4);
    assert!(plot.contains("free 62 blocks") && plot.contains("record 3 B"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// For all text in a journal: it is text in the page.
    #[test]
    fn whatever_a_journal_says_is_text(
        words in "(</?[a-z]{1,6}[ />]|<script>|</title>|</style>|\\PC|[\u{0}-\u{1f}\"'&<>]|<b>x){0,12}",
    ) {
        let mut events = journal("timed");
        for event in &mut events {
            match event {
                Event::Run(run) => {
                    run.scenario = words.clone();
                    run.kernel = words.clone();
                    run.params.insert(words.clone(), words.clone());
                }
                Event::Step(event) => {
                    let StepEvent { step, by, file, .. } = &mut **event;
                    *step = words.clone();
                    *by = Some(words.clone());
                    *file = Some(words.clone());
                }
                Event::Verdict(verdict) => {
                    verdict.command = words.clone();
                    verdict.reason = Some(words.clone());
                }
                Event::Fault { row, .. } => *row = words.clone(),
                Event::Series(series) => series.names = series.names.iter().map(|name| format!("{name} {words}")).collect(),
                _ => {}
            }
        }
        events.push(Event::KernelLog(KernelLogLine { trial: 1, level: 3, text: words.clone() }));
        events.push(Event::Missing { evidence: words.clone(), why: words.clone() });
        let page = page(&events);
        prop_assert!(page.chars().all(|letter| !letter.is_control() || letter == '\n'), "no control characters");
        assert_inert(&page);
    }
}
