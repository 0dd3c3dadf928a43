//! The crate table in ARCHITECTURE.md is true: every crate has its row, at its place, and imports no more than it says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[derive(Debug, PartialEq)]
struct Row {
    place: String,
    imports: BTreeSet<String>,
}

/// `| place | crate | job | may import |`, the code spans of each cell.
fn table(text: &str) -> BTreeMap<String, Row> {
    let spans =
        |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect() };
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let [place, name, _job, imports] = cells.as_slice() else { return None };
        let place = spans(place).first()?.trim_end_matches('/').to_owned();
        Some((spans(name).first()?.clone(), Row { place, imports: spans(imports).into_iter().collect() }))
    })
    .collect()
}

#[test]
fn the_table_is_what_cargo_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let written = table(&std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap());
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    assert_eq!(names, written.keys().map(String::as_str).collect(), "crates there are, crates in the table");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let place = manifest.parent().unwrap().strip_prefix(root).unwrap();
        assert_eq!(Path::new(&written[name].place), place, "the place of {name}");
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let imports: BTreeSet<String> = dependencies
            .filter(|dependency| dependency["kind"].is_null())
            .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
            .filter(|dependency| names.contains(dependency.as_str()))
            .collect();
        let more: Vec<&String> = imports.difference(&written[name].imports).collect();
        assert!(more.is_empty(), "{name} imports {more:?}, which the table does not allow");
    }
}
