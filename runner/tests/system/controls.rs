//! Scenarios and their controls: what flips, what does not, and what that is worth to a script.

use serde_json::Value;

use crate::Test;
use crate::bench::{Journal, SCENARIO, brim, scenario};
use crate::needs::{BTRFS, Need};

/// And a kernel that the scenarios know.
const KNOWN: &[Need] = &[Need::Rig, Need::Filesystem("btrfs"), Need::Tracefs, Need::Kernel(6, 18)];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("a_control_flips_the_verdict", KNOWN, flips),
        ("a_control_that_does_not_flip_fails", BTRFS, does_not_flip),
        ("a_control_that_says_nothing_is_no_flip", BTRFS, says_nothing),
        ("a_rate_is_as_known_where_the_intervals_overlap", BTRFS, rates),
        ("several_scenarios_are_a_table", KNOWN, table),
        ("a_scenario_without_a_control_has_none_to_run", &[], none),
    ]
}

fn flip(journal: &Journal) -> &Value {
    let controls = journal.all("control");
    assert_eq!(controls.len(), 1);
    &controls[0]["flip"]
}

fn flips() {
    let junit = tempfile::NamedTempFile::new().unwrap();
    let path = junit.path().display().to_string();
    let journal = Journal::of(&["run", SCENARIO, "--control", "--trials", "3", "--junit", &path]);
    assert_eq!(journal.exit, Some(0));
    assert_eq!(flip(&journal), "flipped");
    let verdicts = journal.all("verdict");
    let [main, control] = verdicts.as_slice() else { panic!("two verdicts: {verdicts:?}") };
    assert_eq!((&main["verdict"], &main["reproduced"]), (&"reproduced".into(), &3.into()));
    assert!(main["control"].is_null());
    assert_eq!((&control["verdict"], &control["reproduced"]), (&"not-reproduced".into(), &0.into()));
    assert_eq!(control["params"]["record"], "131072 B");
    assert!(control["control"].as_str().unwrap().starts_with("records of whole blocks"));
    assert_eq!(control["expected"], true);
    let runs = journal.all("run");
    assert_eq!((runs[0]["control"].is_null(), runs[1]["control"].is_null()), (true, false));
    let junit = std::fs::read_to_string(&path).unwrap();
    assert!(
        junit.contains("tests=\"2\"")
            && junit.contains("failures=\"0\"")
            && junit.contains("name=\"control: records of"),
        "{junit}"
    );

    // A range has a control for each value.
    let journal = Journal::of(&["run", SCENARIO, "--control", "--set", "free=65..66 blocks"]);
    assert_eq!(journal.exit, Some(0));
    let flips: Vec<&Value> = journal.all("control").iter().map(|control| &control["flip"]).collect();
    assert_eq!(flips, ["nothing-to-flip", "flipped"]);
}

/// A scenario whose one step fails, in half of its trials if `odds` is one half, and whose control changes nothing of that.
fn failing(rest: &str, odds: &str) -> crate::bench::Scenario {
    scenario(&format!(
        "[[fault]]\nname = \"fails\"\nwhen = {{ op = \"write\", region = \"superblock\", probability = {odds} }}\n\
         then = {{ error = \"EIO\" }}\n\
         [[phase]]\nname = \"p\"\nuntil = \"EIO\"\ntimes = 1\n\
         step = [ {{ do.pwrite = {{ file = \"f\", offset = \"0 B\", length = \"4 KiB\" }} }}, {{ do.syncfs = {{}} }} ]\n\
         [[reproduced]]\nmount = \"read-only\"\n{rest}"
    ))
}

fn does_not_flip() {
    let known = "[[known]]\nverdict = \"reproduced\"\n";
    let control = "[control]\nchange = \"nothing of it\"\nmount = [\"nodatasum\"]\n";
    let scenario = failing(&format!("{known}{control}"), "1.0");
    let output = brim(&["run", &scenario.path, "--control"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("control: nothing of it") && said.contains("the control does not flip it"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
}

fn says_nothing() {
    // A failure that no phase foresees.
    let step = "[[phase]]\nname = \"q\"\nstep = [ { only = \"control\", \
         do.pread = { file = \"nothing\", offset = \"0 B\", length = \"1 B\" } } ]\n";
    let known = "[[known]]\nverdict = \"reproduced\"\n";
    let control = "[control]\nchange = \"a read of nothing\"\nwithout_fault = [\"fails\"]\n";
    let scenario = failing(&format!("{step}{known}{control}"), "1.0");
    let journal = Journal::of(&["run", &scenario.path, "--control"]);
    assert_eq!(flip(&journal), "inconclusive");
    let verdicts = journal.all("verdict");
    assert_eq!(verdicts[1]["reason"], "pread failed with ENOENT, which no phase foresees");
    assert_eq!(journal.exit, Some(4));
}

fn rates() {
    let with = |at_least: &str, at_most: &str| {
        let known = format!(
            "[[known]]\nrate = {{ at_least = \"{at_least}\", at_most = \"{at_most}\", why = \"the dice of the fault decide\" }}\n"
        );
        failing(&known, "0.5")
    };
    let journal = Journal::of(&["run", &with("5 %", "95 %").path, "--trials", "20"]);
    let verdict = journal.verdict();
    let rate = &verdict["rate"];
    let (low, high) = (rate["low"].as_f64().unwrap(), rate["high"].as_f64().unwrap());
    let measured = verdict["reproduced"].as_f64().unwrap() / 20.0;
    assert!(0.0 < low && low < measured && measured < high && high < 1.0, "{rate}");
    assert_eq!((&verdict["known"], &verdict["expected"]), (&"reproduced".into(), &true.into()), "{verdict}");
    assert_eq!(journal.exit, Some(0));
    let seldom = with("0 %", "1 %");
    let output = brim(&["run", &seldom.path, "--trials", "20"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("at 95 % confidence; not as known for this kernel: 0 % to 1 %, as the dice"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
}

fn table() {
    let names = ["btrfs/fallocate-then-pwrite", "btrfs/fallocate-then-pwrite-al*"];
    let output = brim(&["run", names[0], names[1], "--control", "--trials", "2"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["on", "running", "verdict", "trials", "known", "control", "seconds"]);
    let row = |name: &str| lines.iter().find(|words| words.first() == Some(&name)).unwrap();
    assert_eq!(
        row("btrfs/fallocate-then-pwrite")[1..9],
        ["reproduced", "2", "of", "2", "as", "known", "flips,", "2/2"]
    );
    assert_eq!(
        row("btrfs/fallocate-then-pwrite-aligned")[1..9],
        ["not-reproduced", "2", "of", "2", "as", "known", "flips,", "2/2"]
    );
    let sum = said.lines().last().unwrap();
    assert!(sum.contains("2 as known, 0 not") && sum.contains("2 flip, 0 do not"), "{said}");
    assert_eq!(output.status.code(), Some(0));
}

fn none() {
    let scenario = scenario(
        "[[phase]]\nname = \"p\"\nstep = [ { do.syncfs = {} } ]\n[[reproduced]]\nstep = \"syncfs\"\n",
    );
    let output = brim(&["run", &scenario.path, "--control"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("has no control") && said.contains("[control]"), "{said}");
    assert_eq!(output.status.code(), Some(2));
}
