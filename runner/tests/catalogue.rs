//! The catalogue is whole: each scenario says what it has to, and the page about them is the one that brim makes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::path::{Path, PathBuf};
use std::process::Command;

use brim_scenario::{Scenario, Settings};
use brim_trial::Plan;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn scenarios(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.flat_map(|path| if path.is_dir() { scenarios(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

/// The first plan of each scenario, and what it is called by its place.
fn plans() -> Vec<(String, Plan)> {
    let root = project().join("scenarios");
    let read = |path: PathBuf| {
        let place = path.strip_prefix(&root).unwrap().with_extension("").display().to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        let scenario =
            Scenario::parse(&place, &text).unwrap_or_else(|error| panic!("{:?}", miette::Report::new(error)));
        (place, scenario.plans(&Settings::default()).unwrap().remove(0))
    };
    scenarios(&root).into_iter().map(read).collect()
}

/// For all scenarios of the catalogue: claim, source, why, control and what is known are there, and it is called as it lies there.
#[test]
fn every_scenario_says_what_it_has_to() {
    let plans = plans();
    assert!(!plans.is_empty());
    let mut lacks = Vec::new();
    for (place, plan) in plans {
        let mut lack = |is_there: bool, what: &str| {
            if !is_there {
                lacks.push(format!("{place} has no {what}"));
            }
        };
        lack(plan.scenario == place, "such name: it is called otherwise");
        lack(!plan.claim.is_empty(), "claim");
        lack(!plan.source.is_empty(), "source");
        lack(plan.why.is_some(), "`why`: what happens in the kernel, with functions and commits");
        lack(plan.control.is_some(), "`[control]`: the smallest change that makes its verdict another");
        lack(!plan.known.is_empty(), "`[[known]]` for its default parameters");
    }
    assert!(lacks.is_empty(), "{}", lacks.join("\n"));
}

#[test]
fn the_page_is_made_from_the_scenarios() {
    let made = Command::new(env!("CARGO_BIN_EXE_brim"))
        .args(["list", "--markdown", "scenarios"])
        .current_dir(project())
        .output();
    let made = String::from_utf8(made.unwrap().stdout).unwrap();
    let kept = std::fs::read_to_string(project().join("docs/catalogue.md")).unwrap_or_default();
    let differs = made.lines().zip(kept.lines()).find(|(made, kept)| made != kept);
    assert!(
        made == kept,
        "docs/catalogue.md is not what the scenarios say now{}; make it again: brim list --markdown > docs/catalogue.md",
        differs.map(|(made, kept)| format!(" (`{kept}` is to be `{made}`)")).unwrap_or_default()
    );
}
