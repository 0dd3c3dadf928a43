//! The HTML page of a campaign: its maps, curves, kernels and groups are there, and whatever a campaign says is text.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::fs;
use std::path::Path;

use brim_campaign::{CampaignResult, Head};
use brim_report::html::{self, Kept, Origin};
use brim_trial::event::Lateness;
use brim_trial::{Event, JournalLine, Nanos};
use serde_json::{Value, json};

const SIGNATURE: &str = "pwrite/ENOSPC/data";

fn journal() -> Vec<Event> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/timed.jsonl");
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str::<JournalLine>(line).unwrap().event).collect()
}

/// A cell of `sweep`, with how many of its trials reproduced.
fn cell(sweep: usize, row: usize, (kernel, free): (&str, u32), (hits, trials): (u32, u32)) -> Value {
    let rate = f64::from(hits) / f64::from(trials);
    let signatures = if hits > 0 { json!({ SIGNATURE: hits }) } else { json!({}) };
    json!({
        "id": format!("{sweep}-{kernel}-{free}"), "sweep": sweep, "row": row,
        "scenario": "btrfs/x", "params": { "free": format!("{free} blocks") }, "kernel": kernel,
        "command": format!("brim run btrfs/x --kernel {kernel} --set 'free={free} blocks'"),
        "trials": trials, "reproduced": hits, "inconclusive": 0,
        "rate": { "rate": rate, "low": rate / 2.0, "high": f64::midpoint(rate, 1.0), "confidence": 0.95 },
        "ended": "trials", "signatures": signatures,
    })
}

/// A map of 2 kernels and a search.
fn campaign(about: &str) -> (Head, CampaignResult) {
    let free: Vec<String> = (60..=70).map(|free| format!("{free} blocks")).collect();
    let axes = json!([{ "name": "kernel", "values": ["running", "uml/6.1"] }, { "name": "param.free", "values": free }]);
    let stop = json!({ "trials": 1, "confidence": 0.95 });
    let mut cells = Vec::new();
    for (row, kernel) in ["running", "uml/6.1"].into_iter().enumerate() {
        cells.extend((60..=70).map(|free| {
            cell(0, row * 11 + free - 60, (kernel, u32::try_from(free).unwrap()), (u32::from(free == 66), 1))
        }));
    }
    // Of the search not all values were tried; one of them once.
    for (free, outcome) in [(60, (0, 8)), (64, (1, 9)), (65, (0, 1)), (66, (9, 9)), (70, (8, 8))] {
        cells.push(cell(1, 22, ("running", free), outcome));
    }
    let head = json!({
        "schema": 1, "name": "blocks", "about": about, "seed": "0x1", "hash": "0", "keep": 3,
        "sweeps": [
            { "name": "every count", "axes": axes, "stop": stop },
            { "name": "where it begins", "axes": [{ "name": "param.free", "values": free }], "stop": stop,
              "search": { "param": "free", "rate": 0.5, "confidence": 0.95, "verify": 4 } },
        ],
        "cells": [],
    });
    let found = json!({
        "row": 22, "param": "free", "rate": 0.5, "found": "threshold", "before": "64 blocks", "after": "66 blocks",
        "above_after": true, "confidence": 0.95, "undecided": 1, "verified": 1, "tried": [],
    });
    let group = json!({
        "signature": SIGNATURE, "reproduced": true, "trials": 20, "cells": 5,
        "first": { "cell": "0-running-66", "number": 1, "command": "brim run btrfs/x --seed 0x2a" },
    });
    let result = json!({
        "schema": 1, "name": "blocks", "seed": "0x1", "hash": "0", "ended": "done", "limits": {},
        "kernels": { "running": "6.18.44", "uml/6.1": "6.1.176" },
        "trials": 57, "reproduced": 20, "inconclusive": 0, "failed_cells": 0, "cells": cells,
        "thresholds": [found], "groups": [group],
    });
    (serde_json::from_value(head).unwrap(), serde_json::from_value(result).unwrap())
}

fn kept(cell: &str, more: Option<Event>) -> Kept {
    let mut events = journal();
    events.extend(more);
    let bundle = Some(format!("out/hits/x/{cell}-1.brim.tar.gz"));
    Kept {
        cell: cell.to_owned(),
        number: 1,
        signature: SIGNATURE.to_owned(),
        reproduced: true,
        events,
        bundle,
    }
}

fn page(about: &str, kept: &[Kept]) -> String {
    let (head, result) = campaign(about);
    let origin = Origin { brim: "0.1.0".to_owned(), journals: vec!["out".to_owned()] };
    html::campaign(&head, &result, kept, &origin).unwrap()
}

fn plots(page: &str, plot: &str) -> usize {
    page.matches(&format!("data-plot=\"{plot}\"")).count()
}

#[test]
fn every_plot_is_there() {
    let late = |histogram, max| {
        let (p50, p99) = (Nanos(1), Nanos(2));
        let lateness = Lateness { count: 4, p50, p99, max: Nanos(max), steps: histogram };
        let (row, lateness) = ("slow".to_owned(), Some(lateness));
        Some(Event::Fault { trial: 1, device: None, row, matches: 4, firings: 4, overdue: false, lateness })
    };
    let one = kept("0-uml/6.1-66", late(vec![(Nanos(16_384), 3), (Nanos(65_536), 1)], 60_000));
    let other = kept("0-running-66", late(vec![(Nanos(16_384), 4)], 9_000));
    let page = page("about", &[one, other]);
    assert_eq!((plots(&page, "map"), plots(&page, "curve")), (1, 1));
    // Free across, kernels down, and each cell there.
    let map = page.split("data-plot=\"map\"").nth(1).unwrap().split("</svg>").next().unwrap();
    assert_eq!(map.matches("class=\"cell ").count(), 22);
    assert_eq!(map.matches("class=\"cell m4").count(), 2);
    // A point for each value of the search that was tried, an interval where there was more than one trial, and the band.
    let curve = page.split("data-plot=\"curve\"").nth(1).unwrap().split("</svg>").next().unwrap();
    assert_eq!((curve.matches("<circle").count(), curve.matches("point few").count()), (5, 1));
    assert_eq!(curve.matches("class=\"interval\"").count(), 4 * 3);
    assert_eq!((curve.matches("class=\"band\"").count(), curve.matches("class=\"guide\"").count()), (1, 1));
    assert!(page.contains(
        "at 64 blocks the rate is below 50 %, at 66 blocks above it, one value between them undecided"
    ));
    // Scenarios by kernels.
    assert!(page.contains("<th scope=\"col\">uml/6.1</th>") && page.contains("uml/6.1 (6.1.176)"));
    // The group has its line, its bundle, its evidence, and the run that shows it whole: that which its line runs again.
    for part in [
        "brim run btrfs/x --seed 0x2a",
        "brim run --bundle out/hits/x/0-running-66-1.brim.tar.gz",
        "href=\"#run-1\"",
        "id=\"run-1\"",
        "sync_file_range = ENOSPC",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(plots(&page, "timeline"), 1);
    // Both journals' lateness together, and that of the run that is shown whole.
    assert!(
        page.contains("8 requests were answered, in the 2 trials whose journals are kept: half within 16"),
        "{page}"
    );
    assert_eq!(plots(&page, "lateness"), 2);
}

#[test]
fn without_journals_there_is_a_page_too() {
    let page = page("about", &[]);
    assert_eq!((plots(&page, "map"), plots(&page, "curve"), plots(&page, "timeline")), (1, 1, 0));
    assert!(page.contains(SIGNATURE) && !page.contains("href=\"#run"));
}

#[test]
fn what_a_campaign_says_is_text() {
    let page = page("<script>alert(1)</script>\u{1b}", &[]);
    assert!(!page.contains("<script") && page.contains("script&#62;"), "it runs nothing");
    for forbidden in ["\u{1b}", "http:", "https:", "url("] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
}
