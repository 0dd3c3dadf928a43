//! The scenarios that gates make happen every time.

use crate::Test;
use crate::bench::Journal;
use crate::needs::Need;

/// What they are known on.
const NEW_KERNEL: &[Need] = &[Need::Rig, Need::Filesystem("btrfs"), Need::Tracefs, Need::Kernel(6, 18)];

const CUTS: &[Need] = &[Need::Rig, Need::Filesystem("btrfs")];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("scrub_loses_an_accepted_write_20_of_20_times", NEW_KERNEL, scrub),
        ("a_snapshot_makes_a_write_say_eagain_20_of_20_times", NEW_KERNEL, snapshot),
        ("a_write_inside_a_commit_is_kept_20_of_20_times", NEW_KERNEL, inside_commit),
        ("what_was_fsynced_survives_200_power_cuts", CUTS, power_cuts),
        ("a_flush_that_lied_loses_what_was_fsynced", CUTS, lying_flush),
        ("without_its_gate_scrub_rarely_loses_a_write", NEW_KERNEL, without_gate),
        ("without_its_gate_a_write_rarely_meets_the_snapshot", NEW_KERNEL, snapshot_without_gate),
        ("an_error_at_the_superblock_aborts_20_of_20_times", NEW_KERNEL, commit_error),
    ]
}

/// At each request of the workload, with other sectors surviving each time.
fn power_cuts() {
    let scenario = "btrfs/power-cut-keeps-what-was-fsynced";
    for (cuts, seed) in [("1..100", "1"), ("101..200", "2")] {
        let set = format!("cut={cuts}");
        let journal = Journal::of(&["run", scenario, "--set", &set, "--seed", seed]);
        let verdicts = journal.all("verdict");
        assert_eq!(verdicts.len(), 100);
        for verdict in verdicts {
            assert_eq!(verdict["verdict"], "not-reproduced", "{verdict}");
        }
    }
}

/// The same cuts find what is lost where FLUSH does nothing.
fn lying_flush() {
    let journal = Journal::of(&["run", "btrfs/power-cut-after-a-flush-that-lied", "--set", "cut=61..100"]);
    let verdicts = journal.all("verdict");
    assert_eq!(verdicts.len(), 40);
    for verdict in verdicts {
        assert_eq!(verdict["verdict"], "reproduced", "{verdict}");
    }
}

fn as_known_20_of_20(scenario: &str, reproduced: u64) -> Journal {
    let journal = Journal::of(&["run", scenario, "--trials", "20"]);
    let verdict = journal.verdict();
    assert_eq!(verdict["reproduced"], reproduced, "{verdict}");
    assert_eq!((&verdict["inconclusive"], &verdict["expected"]), (&0.into(), &true.into()), "{verdict}");
    assert_eq!(journal.exit, Some(0));
    journal
}

fn logged(journal: &Journal, words: &str) -> usize {
    let log = journal.all("kernel-log");
    log.iter().filter(|line| line["text"].as_str().unwrap().contains(words)).count()
}

fn scrub() {
    let journal = as_known_20_of_20("btrfs/scrub-loses-accepted-write", 20);
    let lost = journal.all("step").into_iter().filter(|step| !step["problem"]["lost"].is_null()).count();
    assert_eq!(lost, 20);
    assert!(logged(&journal, "cow_file_range failed") >= 20);
}

fn snapshot() {
    let journal = as_known_20_of_20("btrfs/snapshot-makes-write-say-eagain", 20);
    assert_eq!(journal.verdict()["errno"], "EAGAIN");
    let steps = journal.all("step");
    let place = |trial: u64, name: &str| {
        steps.iter().position(|step| step["trial"] == trial && step["step"] == name).unwrap()
    };
    assert!((1..=20).all(|trial| place(trial, "write") < place(trial, "snapshot")), "inside the snapshot");
}

/// The control: the same steps at whatever moment they come. 2 of 100 were seen.
fn without_gate() {
    let scenario = "btrfs/scrub-loses-accepted-write";
    let journal = Journal::of(&["run", scenario, "--trials", "20", "--without-fault", "scrub"]);
    let verdict = journal.verdict();
    assert!(verdict["reproduced"].as_u64().unwrap() <= 10, "{verdict}");
    assert_eq!(verdict["known"], serde_json::Value::Null, "{verdict}");
}

/// 0 of 100 were seen.
fn snapshot_without_gate() {
    let scenario = "btrfs/snapshot-makes-write-say-eagain";
    let journal = Journal::of(&["run", scenario, "--trials", "20", "--without-fault", "lookup"]);
    let verdict = journal.verdict();
    assert!(verdict["reproduced"].as_u64().unwrap() <= 5, "{verdict}");
}

fn inside_commit() {
    let journal = as_known_20_of_20("btrfs/write-inside-commit", 0);
    let held = journal.all("step").into_iter().find(|step| step["step"] == "await").unwrap();
    assert_eq!(held["held"], serde_json::json!([{ "op": "write", "offset": 65536, "length": 4096 }]));
}

fn commit_error() {
    let journal = as_known_20_of_20("btrfs/commit-error-stops-all-writes", 20);
    assert_eq!(logged(&journal, "Transaction aborted (error -5)"), 20);
    assert!(journal.all("mount").iter().all(|mount| mount["read_only"] == true));
}
