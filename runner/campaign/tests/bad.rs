//! Every mistake in `tests/bad/*.toml` has the message that a user sees in a file beside it.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test -p brim-campaign --test bad` writes them anew; read them before they are committed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it is")]

#[path = "common/world.rs"]
mod world;

use std::fs;
use std::path::{Path, PathBuf};

use brim_campaign::Campaign;
use brim_scenario::ScenarioError;
use miette::{GraphicalReportHandler, GraphicalTheme};
use world::Anywhere;

fn render(error: &ScenarioError) -> String {
    let mut text = String::new();
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .with_links(false);
    handler.render_report(&mut text, error).unwrap();
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn bad_files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    files.sort();
    files
}

/// For all bad files: the message is the one beside it.
#[test]
fn bad_files_have_their_messages() {
    let files = bad_files();
    assert!(files.len() >= 25, "{files:?}");
    let mut differences = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let message = match Campaign::parse(name, &text, &Anywhere, None) {
            Ok(_) => "no mistake was found\n".to_owned(),
            Err(error) => render(&error),
        };
        let snapshot = path.with_extension("txt");
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            fs::write(&snapshot, &message).unwrap();
        }
        if fs::read_to_string(&snapshot).unwrap_or_default() != message {
            differences.push(format!("{name}:\n{message}"));
        }
    }
    assert!(
        differences.is_empty(),
        "{}\nIf these messages are better, run with UPDATE_SNAPSHOTS=1 and commit the files.",
        differences.join("\n")
    );
}
