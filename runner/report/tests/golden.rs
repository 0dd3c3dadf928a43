//! Journals of real runs, and what a terminal shows of them. `UPDATE_SNAPSHOTS=1` writes the pages anew.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::fs;
use std::path::{Path, PathBuf};

use brim_campaign::{CampaignResult, Head};
use brim_report::junit::{self, Case};
use brim_report::mail::{self, Told};
use brim_report::recipe::recipe;
use brim_report::{Style, campaign, verdict};
use brim_scenario::{Scenario, Settings};
use brim_trial::event::VerdictEvent;
use brim_trial::{Event, JournalLine, Plan};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn journal(name: &str) -> Vec<Event> {
    let text = fs::read_to_string(golden(&format!("{name}.jsonl"))).unwrap();
    text.lines().map(|line| serde_json::from_str::<JournalLine>(line).unwrap().event).collect()
}

fn verdicts(events: &[Event]) -> Vec<VerdictEvent> {
    let verdict = |event: &Event| match event {
        Event::Verdict(verdict) => Some(VerdictEvent::clone(verdict)),
        _ => None,
    };
    events.iter().filter_map(verdict).collect()
}

fn assert_page(name: &str, page: &str) {
    let path = golden(&format!("{name}.txt"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, page).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == page,
        "{} is not what is shown now; UPDATE_SNAPSHOTS=1 takes it over:\n{page}",
        path.display()
    );
}

fn block(name: &str) -> String {
    let events = journal(name);
    let verdicts = verdicts(&events);
    let [only] = verdicts.as_slice() else { panic!("one verdict") };
    let heading = verdict::heading(only, "the claim", Style::PLAIN);
    format!("{heading}\n{}\n", verdict::block(only, &events, Style::PLAIN))
}

#[test]
fn a_reproduced_verdict_has_its_evidence() {
    assert_page("reproduced", &block("reproduced"));
}

#[test]
fn each_condition_has_what_it_rests_on() {
    assert_page("conditions", &block("conditions"));
}

#[test]
fn a_state_out_of_reach_says_which_number_was_off() {
    assert_page("out-of-reach", &block("out-of-reach"));
}

#[test]
fn a_stuck_step_says_what_was_held_and_where_it_slept() {
    assert_page("stuck", &block("stuck"));
}

#[test]
fn a_range_is_one_line_a_value() {
    let verdicts = verdicts(&journal("range"));
    let swept = ["free".to_owned()];
    let mut lines: Vec<String> =
        verdicts.iter().map(|one| verdict::line(one, &swept, Style::PLAIN)).collect();
    lines.push(verdict::sum(&verdicts));
    assert_page("range", &format!("{}\n", lines.join("\n")));
}

/// A journal line that was read and is written again is the same line.
#[test]
fn the_journal_survives_a_round_trip() {
    for name in ["reproduced", "conditions", "out-of-reach", "stuck", "range", "timed"] {
        for line in fs::read_to_string(golden(&format!("{name}.jsonl"))).unwrap().lines() {
            let read: JournalLine = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), line);
        }
    }
}

#[test]
fn junit_has_a_case_for_each_set_of_parameters() {
    let events = journal("range");
    let of_each = events.split_inclusive(|event| matches!(event, Event::Verdict(_)));
    let case = |events: &[Event]| Case::new("uml/6.12".to_owned(), verdicts(events).remove(0), events);
    let cases: Vec<Case> = of_each.map(case).collect();
    assert_page("range.junit", &junit::report(&cases).unwrap());
}

/// The plan of a scenario of the catalogue.
fn plan(name: &str) -> Plan {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios").join(name).with_extension("toml");
    let scenario = Scenario::parse(name, &fs::read_to_string(path).unwrap()).unwrap();
    scenario.plans(&Settings::default()).unwrap().remove(0)
}

fn told<T>(journal_of: &str, plan_of: &str, tell: impl FnOnce(Told<'_>) -> T) -> T {
    let (plan, events) = (plan(plan_of), journal(journal_of));
    let verdict = verdicts(&events).remove(0);
    let tools = [("mkfs.btrfs".to_owned(), "mkfs.btrfs, part of btrfs-progs v6.2".to_owned())];
    let (events, verdict) = (&events, &verdict);
    tell(Told { name: "hit", plan: &plan, verdict, events, trial: 1, tools: &tools, brim: "0.1.0" })
}

#[test]
fn a_mail_can_go_to_a_list_as_it_is() {
    let mail = told("reproduced", "btrfs/fallocate-then-pwrite", mail::mail);
    assert_page("mail", &mail);
    let (words, recipe) = mail.split_once("Without brim").unwrap();
    let long: Vec<&str> = words.lines().skip(1).filter(|line| line.chars().count() > 72).collect();
    assert!(long.is_empty(), "{long:#?}");
    assert!(recipe.contains("pwrite -i /dev/urandom"));
}

#[test]
fn a_mail_about_gates_says_why_a_shell_cannot() {
    assert_page("mail-gates", &told("stuck", "btrfs/scrub-loses-accepted-write", mail::mail));
}

#[test]
fn a_readme_says_what_is_not_there() {
    let left_out = ["disk-after.img: the disk went with the guest that it was in".to_owned()];
    let readme = told("reproduced", "btrfs/fallocate-then-pwrite", |told| mail::readme(told, &left_out));
    assert_page("readme", &readme);
}

/// Words from a scenario are words for a shell, whatever is in them.
#[test]
fn names_are_quoted_for_a_shell() {
    let mut plan = plan("btrfs/fallocate-then-pwrite");
    plan.filesystem.mount = vec!["x'; rm -rf /; '".to_owned()];
    let lines = recipe(&plan, "hit").unwrap();
    assert!(lines[1].contains(r"mount -o 'loop,x'\''; rm -rf /; '\''' $disk"), "{lines:#?}");
}

/// What `brim campaign run` wrote for `page.toml`: a map, a table with cells that mkfs refuses, a rate, and searches.
#[test]
fn a_campaign_has_its_page_and_its_cases() {
    let read = |name: &str| fs::read_to_string(golden(name)).unwrap();
    let head: Head = serde_json::from_str(&read("campaign.json")).unwrap();
    let result: CampaignResult = serde_json::from_str(&read("campaign-result.json")).unwrap();
    assert_page("campaign", &(campaign::lines(&head, &result, &|_| None, Style::PLAIN).join("\n") + "\n"));
    assert_page("campaign.junit", &campaign::junit(&head, &result).unwrap());
    let cell = |word: &str| {
        let found: Vec<_> = result.cells.iter().filter(|cell| campaign::is_named(cell, word)).collect();
        assert_eq!(found.len(), 1, "{word}");
        found[0]
    };
    let btrfs = cell("filesystem=btrfs,mkfs=");
    let compared = campaign::compare(btrfs, cell("filesystem=ext4,mkfs="));
    assert_page("campaign.compare", &(compared.join("\n") + "\n"));
    assert_eq!(cell(&btrfs.cell.id.to_string()[..6]).cell.id, btrfs.cell.id);
}
