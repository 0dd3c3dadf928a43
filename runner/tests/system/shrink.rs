//! `brim shrink` on the running kernel.

use std::fs;

use crate::Test;
use crate::bench::{Journal, assert_nothing_left, brim, mark};
use crate::needs::{BTRFS, Need};

/// Thirty steps of a workload, of which three make a write fail: a range is reserved, shared, and written.
const THIRTY: &str = include_str!("thirty.toml");

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("thirty_steps_become_the_three_that_matter", BTRFS, thirty),
        ("a_bundle_is_shrunk_as_its_scenario_is", BTRFS, of_a_bundle),
        (
            "what_does_not_fail_is_not_shrunk",
            &[Need::Rig, Need::Filesystem("btrfs"), Need::Tracefs],
            nothing_to_shrink,
        ),
    ]
}

fn thirty() {
    let directory = tempfile::Builder::new().prefix("shrink-").tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    fs::write(path("thirty.toml"), THIRTY).unwrap();
    let before = Journal::of(&["run", &path("thirty.toml")]);
    assert_eq!(before.verdict()["verdict"], "reproduced");
    assert_eq!(
        THIRTY.matches("{ do.").count()
            + THIRTY.matches("{ by = ").count()
            + THIRTY.matches("{ name = ").count(),
        30
    );
    let mut command = brim(&["shrink", &path("thirty.toml"), "--out", &path("small.toml")]);
    let mark = mark(&mut command);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_nothing_left(&mark);
    let small = fs::read_to_string(path("small.toml")).unwrap();
    // It stands alone, and fails in the same way.
    let after = Journal::of(&["run", &path("small.toml"), "--trials", "3"]);
    let verdict = after.verdict();
    assert_eq!((&verdict["verdict"], &verdict["reproduced"]), (&"reproduced".into(), &3.into()), "{small}");
    for field in ["failed_step", "errno", "space"] {
        assert_eq!(verdict[field], before.verdict()[field], "{field}");
    }
    let plan = &after.all("run")[0]["plan"];
    let phases = plan["phases"].as_array().unwrap();
    let steps: Vec<&str> = phases
        .iter()
        .flat_map(|phase| phase["steps"].as_array().unwrap())
        .map(|step| step["name"].as_str().unwrap())
        .collect();
    assert_eq!(steps, ["fallocate", "reflink", "write into the image"], "{small}");
    assert_eq!((phases.len(), plan["faults"].as_array().unwrap().len()), (1, 0), "{small}");
    assert_eq!(
        plan["prepare"]["fill"]["data_free"], 4096,
        "one block, which is the one that the write would need twice: {small}"
    );
    // The comments say where it comes from, and what was done.
    for part in [
        "# Shrunk from",
        "write-into-the-image/ENOSPC/data",
        "it did not fail in that way any more",
        "without the worker reader",
    ] {
        assert!(small.contains(part), "{part} is not in {small}");
    }
}

fn of_a_bundle() {
    let directory = tempfile::Builder::new().prefix("shrink-").tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let bundle = path("hit.brim.tar.gz");
    let run = Journal::of(&["run", crate::bench::SCENARIO, "--seed", "5", "--bundle", &bundle]);
    assert_eq!(run.verdict()["verdict"], "reproduced");
    let output = brim(&["shrink", &bundle, "--trials", "1", "--out", &path("small.toml")]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let small = fs::read_to_string(path("small.toml")).unwrap();
    assert!(small.contains("with seed 0x5") && small.contains(&bundle), "{small}");
    assert_eq!(Journal::of(&["run", &path("small.toml"), "--seed", "5"]).verdict()["verdict"], "reproduced");
}

fn nothing_to_shrink() {
    let directory = tempfile::Builder::new().prefix("shrink-").tempdir().unwrap();
    let out = directory.path().join("small.toml").display().to_string();
    let output = brim(&["shrink", "btrfs/fallocate-then-pwrite-aligned", "--out", &out]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("there is nothing to shrink: it fails in none of 3 trials"), "{said}");
    assert!(!std::path::Path::new(&out).exists());
}
