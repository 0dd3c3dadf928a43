//! Every mistake in `tests/bad/*.toml`, and in the settings below, has the message that a user sees in a file beside it.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test -p brim-scenario --test bad` writes them anew; read them before they are committed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it is")]

use std::fs;
use std::path::{Path, PathBuf};

use brim_scenario::{Scenario, ScenarioError, Settings};
use miette::{GraphicalReportHandler, GraphicalTheme};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad")
}

fn render(error: &ScenarioError) -> String {
    let mut text = String::new();
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .with_links(false);
    handler.render_report(&mut text, error).unwrap();
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Compares a message with its snapshot, and says how they differ.
fn compare(name: &str, message: &str) -> Result<(), String> {
    let path = directory().join(name).with_extension("txt");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, message).unwrap();
        return Ok(());
    }
    let snapshot = fs::read_to_string(&path).unwrap_or_default();
    if snapshot == message {
        return Ok(());
    }
    let old = snapshot.lines().filter(|line| !message.lines().any(|other| other == *line));
    let new = message.lines().filter(|line| !snapshot.lines().any(|other| other == *line));
    let lines = old.map(|line| format!("- {line}\n")).chain(new.map(|line| format!("+ {line}\n")));
    Err(format!("{}:\n{}", path.display(), lines.collect::<String>()))
}

fn report(differences: &[String]) {
    assert!(
        differences.is_empty(),
        "{}\nIf the new messages are better, run with UPDATE_SNAPSHOTS=1 and commit the files.",
        differences.join("\n")
    );
}

fn bad_files() -> Vec<PathBuf> {
    let entries = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    files.sort();
    files
}

/// For all bad files: the message is the one beside it.
#[test]
fn bad_files_have_their_messages() {
    let mut differences = Vec::new();
    for path in bad_files() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        match Scenario::parse(name, &text) {
            Ok(_) => differences.push(format!("{name}: no mistake was found\n")),
            Err(error) => differences.extend(compare(name, &render(&error)).err()),
        }
    }
    report(&differences);
}

/// For all mistakes in `--set`: the argument itself is underlined.
#[test]
fn bad_settings_have_their_messages() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/btrfs/fallocate-then-pwrite.toml");
    let scenario = Scenario::parse("fallocate-then-pwrite.toml", &fs::read_to_string(path).unwrap()).unwrap();
    let settings: &[(&str, &[(&str, &str)])] = &[
        ("set-unknown-unit", &[("free", "65 blokcs")]),
        ("set-undefined", &[("fre", "65 blocks")]),
        ("set-no-unit", &[("free", "65")]),
        ("set-empty", &[("free", "")]),
        ("set-twice", &[("free", "65 blocks"), ("free", "66 blocks")]),
        ("set-expression", &[("free", "2 * 33 blocks")]),
        ("set-not-a-block", &[("free", "65 KiB")]),
        ("set-device-size", &[("size", "1000 B")]),
        ("set-range-backwards", &[("free", "140..60 blocks")]),
        ("set-range-two-units", &[("free", "60 KiB..1 MiB")]),
        ("set-range-no-unit", &[("free", "60..140")]),
        ("set-range-open", &[("free", "60..")]),
        ("set-range-inclusive", &[("free", "60..=140 blocks")]),
        ("set-too-many", &[("free", "1..1000 blocks"), ("record", "1..1000 blocks")]),
        ("set-parameter", &[("free", "${size}")]),
    ];
    let mut differences = Vec::new();
    for (name, set) in settings {
        let set = set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        match scenario.plans(&Settings { filesystem: None, set }) {
            Ok(plans) => {
                differences.push(format!("{name}: {} plans, and no mistake was found\n", plans.len()));
            }
            Err(error) => differences.extend(compare(name, &render(&error)).err()),
        }
    }
    report(&differences);
}
