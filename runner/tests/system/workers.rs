//! Workers side by side, and gates that put them in order.

use serde_json::{Value, json};

use crate::Test;
use crate::bench::{Journal, scenario};
use crate::needs::BTRFS;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("a_write_is_taken_inside_a_commit_that_a_gate_holds", BTRFS, inside_a_commit),
        ("an_await_of_what_never_comes_is_inconclusive", BTRFS, never_held),
        ("a_step_that_fails_opens_the_gates_for_the_others", BTRFS, failing_worker),
        ("a_phase_ends_when_a_worker_meets_what_it_waits_for", BTRFS, until_with_workers),
    ]
}

const GATE: &str = "[[fault]]\nname = \"commit\"\nwhen = { op = \"flush\", nth = 1 }\nthen = \"hold\"\n";

/// A scenario with a gate at the first flush and these steps: who commits, and who writes inside the commit.
fn gated(steps: &[&str], rest: &str) -> Journal {
    let syncer = "{ by = \"syncer\", do.pwrite = { file = \"g\", offset = \"0 B\", length = \"64 KiB\" } }, \
        { by = \"syncer\", do.syncfs = {} }";
    let steps = [&[syncer], steps].concat().join(", ");
    let phase = format!("[[phase]]\nname = \"inside\"\nuntil = \"ENOENT\"\nstep = [ {steps} ]\n");
    let scenario = scenario(&format!("{GATE}{phase}{rest}")).with_limit("2 s");
    Journal::of(&["run", &scenario.path, "--trials", "3"])
}

const FSYNC_FAILS: &str = "[[reproduced]]\nstep = \"syncfs\"\nerrno = \"EIO\"\n";

fn of_first_trial<'a>(journal: &'a Journal, step: &str) -> &'a Value {
    let steps = journal.all("step");
    steps.into_iter().find(|event| event["trial"] == 1 && event["step"] == step).unwrap()
}

fn place(journal: &Journal, step: &str) -> usize {
    let event = of_first_trial(journal, step);
    journal.events.iter().position(|other| other == event).unwrap()
}

fn inside_a_commit() {
    let journal = gated(
        &[
            "{ by = \"writer\", await.held = \"commit\" }",
            "{ by = \"writer\", name = \"inside\", do.pwrite = { file = \"f\", offset = \"0 B\", length = \"64 KiB\" } }",
            "{ by = \"writer\", release = \"commit\" }",
        ],
        FSYNC_FAILS,
    );
    assert_eq!(journal.verdict()["verdict"], "not-reproduced", "{}", journal.verdict());
    assert!(place(&journal, "await") < place(&journal, "inside"));
    assert!(place(&journal, "inside") < place(&journal, "syncfs"), "the commit was held meanwhile");
    let held = json!([{ "op": "flush", "offset": 0, "length": 0 }]);
    for step in ["await", "release"] {
        let event = of_first_trial(&journal, step);
        assert_eq!((&event["held"], &event["returned"], &event["by"]), (&held, &1.into(), &"writer".into()));
    }
    assert_eq!(of_first_trial(&journal, "syncfs")["by"], "syncer");
    assert_eq!(journal.all("phase")[0]["completed"], json!([1, 1, 1, 1, 1]));
}

fn never_held() {
    let journal = gated(&["{ by = \"writer\", await.held = { gate = \"commit\", count = 2 } }"], FSYNC_FAILS);
    let verdict = journal.verdict();
    assert_eq!((&verdict["verdict"], &verdict["inconclusive"]), (&"inconclusive".into(), &3.into()));
    let stuck = journal.all("stuck");
    let held: Vec<&Value> = stuck.iter().map(|stuck| &stuck["held"][0]).collect();
    assert!(held.iter().any(|held| held.as_str() == Some("flush, held by \"commit\"")), "{stuck:?}");
    let said: Vec<&str> = stuck.iter().map(|stuck| stuck["what"].as_str().unwrap()).collect();
    // Both pass the limit at about the same time, and with the gates open the other one ends.
    assert!(said.iter().all(|what| ["await by writer", "syncfs by syncer"].contains(what)), "{said:?}");
    assert_eq!(journal.exit, Some(4));
}

/// Whoever would have opened the gate has failed before: the commit ends all the same, and soon.
fn failing_worker() {
    let journal = gated(
        &[
            "{ by = \"writer\", await.held = \"commit\" }",
            "{ by = \"writer\", do.unlink = { file = \"dir/f\" } }",
            "{ by = \"writer\", release = \"commit\" }",
            "{ by = \"third\", await.held = { gate = \"commit\", count = 9 } }",
        ],
        "[[reproduced]]\nstep = \"unlink\"\nerrno = \"ENOENT\"\n",
    );
    assert_eq!(journal.verdict()["verdict"], "reproduced", "{}", journal.verdict());
    assert_eq!(journal.verdict()["reproduced"], 3);
    assert!(journal.all("stuck").is_empty());
    assert_eq!(journal.all("phase")[0]["completed"], json!([1, 1, 1, 0, 0, 0]));
    assert!(place(&journal, "unlink") < place(&journal, "syncfs"));
}

fn until_with_workers() {
    let journal = gated(
        &[
            "{ by = \"writer\", await.held = \"commit\" }",
            "{ by = \"writer\", do.unlink = { file = \"dir/f\" } }",
        ],
        "[[phase]]\nname = \"next\"\nstep = [ { name = \"next\", do.unlink = { file = \"f\" } } ]\n\
         [[reproduced]]\nstep = \"next\"\nerrno = \"ENOENT\"\n",
    );
    assert_eq!(journal.verdict()["verdict"], "reproduced", "{}", journal.verdict());
    assert_eq!(journal.verdict()["failed_step"], "next");
}
