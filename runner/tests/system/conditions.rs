//! Conditions of all kinds, each judged by what a real kernel did.

use serde_json::Value;

use crate::Test;
use crate::bench::{Journal, Scenario, brim, scenario};
use crate::needs::{BTRFS, Need};

const GUEST: &[Need] = &[Need::Uml];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("every_kind_of_condition_is_judged_by_what_happened", BTRFS, every_kind),
        ("the_contrary_of_each_condition_does_not_hold", BTRFS, contrary),
        ("an_abort_is_told_by_the_log_and_the_mount", BTRFS, abort),
        ("a_crash_that_was_looked_for_reproduces", GUEST, crash),
        ("a_crash_is_not_looked_for_on_the_host", &[], no_crash_on_the_host),
        ("what_a_guest_cannot_show_decides_nothing", GUEST, open),
    ]
}

/// Four blocks are free. One is promised, three are written into a hole that wants eight, and the promise is kept.
const STEPS: &str = r#"
[[phase]]
name = "promise"
step = [
  { do.fallocate = { file = "own", offset = "0 B", length = "4 KiB" } },
  { do.syncfs = {} },
  { name = "promised", do.counters = {} },
]

[[phase]]
name  = "write into a hole"
until = "ENOSPC"
times = 1
step  = [ { name = "hole", do.pwrite = { file = "hole", offset = "0 B", length = "32 KiB" } } ]

[[phase]]
name = "keep the promise"
step = [
  { name = "own", do.pwrite = { file = "own", offset = "0 B", length = "4 KiB" } },
  { do.fsync = { file = "own" } },
]
"#;

/// What holds then on every kernel.
const HOLDS: &[&str] = &[
    "step = \"hole\"\nerrno = \"ENOSPC\"",
    "step = \"own\"\noutcome = \"ok\"\ntimes = 1",
    "counter = \"data.free\"\nat = \"promised\"\nis = \"3 blocks\"",
    "counter = \"data.free\"\nsince = \"before\"\nat = \"promised\"\nshrank = \"1 block\"",
    "counter = \"data.used\"\ngrew = { at_least = \"1 block\" }",
    "counter = \"data.may_use\"\nunchanged = true",
    "kernel_log = 'Transaction aborted|WARNING'\nnot = true",
    "mount = \"read-write\"",
    "requests = \"flush\"\ntimes = { at_least = 1 }",
    "requests = \"write\"\nphase = \"keep the promise\"\nbytes = { at_least = \"4 KiB\", at_most = \"64 MiB\" }",
    "any = [{ step = \"fsync\" }, { counter = \"metadata.free\", is = { at_least = \"1 MiB\" } }]",
];

/// And what only a kernel with tracepoints shows.
const TRACED: &[&str] = &[
    "step = \"hole\"\nspace = \"data\"",
    "ticket = \"data\"\nerrno = \"ENOSPC\"\ntimes = { at_least = 1 }",
    "ticket = \"metadata\"\nnot = true",
    "sum = \"data.may_use\"\nunchanged = true",
];

fn with(conditions: &[String]) -> Journal {
    Journal::of(&["run", &text(conditions).path])
}

fn text(conditions: &[String]) -> Scenario {
    let conditions: Vec<String> =
        conditions.iter().map(|condition| format!("[[reproduced]]\n{condition}\n")).collect();
    let scenario = scenario(&format!("{STEPS}\n{}", conditions.join("\n")));
    let text = std::fs::read_to_string(&scenario.path).unwrap();
    std::fs::write(&scenario.path, text.replace("100 blocks", "4 blocks")).unwrap();
    scenario
}

fn findings(journal: &Journal) -> Vec<Value> {
    journal.all("trial-verdict")[0]["findings"].as_array().unwrap().clone()
}

fn every_kind() {
    let all: Vec<String> = [HOLDS, TRACED].concat().into_iter().map(ToOwned::to_owned).collect();
    let journal = with(&all);
    for finding in findings(&journal) {
        assert_eq!(finding["holds"], true, "{finding}");
    }
    assert_eq!(journal.verdict()["verdict"], "reproduced");
    // Of each phase, and of all together.
    assert_eq!(journal.all("requests").len(), 4);
    let sum: u64 = journal.all("requests")[..3]
        .iter()
        .map(|event| event["requests"]["flush"]["requests"].as_u64().unwrap_or(0))
        .sum();
    assert_eq!(
        journal.all("requests")[3]["requests"]["flush"]["requests"],
        sum,
        "nothing is between two phases"
    );
    assert_eq!(journal.all("may-use").len(), 3);
}

fn contrary() {
    let contrary = |condition: &&str| match condition.strip_suffix("\nnot = true") {
        Some(positive) => positive.to_owned(),
        None => format!("{condition}\nnot = true"),
    };
    let all: Vec<String> = HOLDS.iter().chain(TRACED).map(contrary).collect();
    let journal = with(&all);
    for finding in findings(&journal) {
        assert_eq!(finding["holds"], false, "{finding}");
    }
    assert_eq!(journal.verdict()["verdict"], "not-reproduced");
}

/// Nobody can write the superblock: the kernel aborts the transaction, and says so in two ways.
fn abort() {
    let scenario = scenario(
        "[[fault]]\nname = \"superblock\"\nwhen = { op = \"write\", region = \"superblock\" }\nthen = { error = \"EIO\" }\n\
         [[phase]]\nname = \"commit\"\nuntil = \"EIO\"\ntimes = 1\n\
         step = [ { do.pwrite = { file = \"f\", offset = \"0 B\", length = \"4 KiB\" } }, { do.syncfs = {} } ]\n\
         [[reproduced]]\nkernel_log = 'forced readonly|Transaction aborted'\n\
         [[reproduced]]\nmount = \"read-only\"\n\
         [[reproduced]]\nfault = \"superblock\"\ntimes = { at_least = 1 }\n",
    );
    let journal = Journal::of(&["run", &scenario.path]);
    assert_eq!(journal.verdict()["verdict"], "reproduced", "{}", journal.verdict());
    let healthy = Journal::of(&["run", &scenario.path, "--without-fault", "superblock"]);
    assert_eq!(healthy.verdict()["verdict"], "not-reproduced");
    for finding in healthy.verdict()["findings"].as_array().unwrap() {
        assert_eq!(finding["holds"], false, "{finding}");
    }
}

const PANIC: &str = "[[phase]]\nname = \"p\"\nstep = [ { do.panic = { trial = 2 } } ]\n";

fn crash() {
    let looks_for = |pattern: &str| {
        let scenario = scenario(&format!("{PANIC}[[reproduced]]\ncrash = '{pattern}'\n"));
        let journal = Journal::of(&crate::guests::in_guest(&[&scenario.path, "--trials", "3"]));
        journal.all("trial-verdict").iter().map(|trial| trial["verdict"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(looks_for("sysrq triggered crash"), ["not-reproduced", "reproduced", "not-reproduced"]);
    assert_eq!(looks_for("kernel BUG at fs/btrfs"), ["not-reproduced", "inconclusive", "not-reproduced"]);
}

fn no_crash_on_the_host() {
    let scenario = scenario(
        "[[phase]]\nname = \"p\"\nstep = [ { do.syncfs = {} } ]\n[[reproduced]]\ncrash = 'kernel BUG'\n",
    );
    let output = brim(&["run", &scenario.path]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("whether its kernel crashes") && said.contains("--kernel uml/6.12"), "{said}");
}

/// User Mode Linux has no tracepoints: what speaks of them is open, and all else is judged.
fn open() {
    let all: Vec<String> =
        HOLDS.iter().chain(&TRACED[1..]).map(|condition| (*condition).to_owned()).collect();
    let file = text(&all);
    let journal = Journal::of(&crate::guests::in_guest(&[&file.path]));
    let findings = findings(&journal);
    let (seen, unseen) = findings.split_at(HOLDS.len());
    for finding in seen {
        assert_eq!(finding["holds"], true, "{finding}");
    }
    for finding in unseen {
        assert!(finding["holds"].is_null(), "{finding}");
    }
    assert_eq!(journal.verdict()["verdict"], "inconclusive");
    assert_eq!(journal.exit, Some(4));
    // One that does not hold settles it.
    let settled = [all, vec!["mount = \"read-only\"".to_owned()]].concat();
    let journal = Journal::of(&crate::guests::in_guest(&[&text(&settled).path]));
    assert_eq!(journal.verdict()["verdict"], "not-reproduced");
}
