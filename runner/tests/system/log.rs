//! The write log of a run.

use std::path::Path;
use std::process::Command;

use crate::Test;
use crate::bench::{Journal, brim, scenario};
use crate::needs::{BTRFS, LINUX_UML, Need};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("the_log_of_a_run_has_each_trial_from_its_first_state_on", BTRFS, each_trial),
        ("no_log_is_kept_of_a_disk_in_a_guest", &[Need::Uml], in_a_guest),
    ]
}

/// The marks of a log, in order.
fn marks(log: &str) -> Vec<String> {
    let shown = brim(&["log", "show", log, "--json"]).output().unwrap();
    let lines = String::from_utf8(shown.stdout).unwrap();
    let entries = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    entries.filter_map(|entry| Some(entry["mark"].as_str()?.to_owned())).collect()
}

/// The file `blob` of the disk at a mark of the log, read by btrfs-progs alone. The filesystem on it has to be without a fault.
fn blob_at(log: &str, mark: &str, directory: &Path) -> Option<Vec<u8>> {
    let disk = directory.join(mark);
    let onto = disk.to_str().unwrap();
    let replayed =
        brim(&["log", "replay", log, "--to", mark, "--onto", onto, "--size", "128MiB"]).output().unwrap();
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    let btrfs = |words: &[&str]| Command::new("btrfs").args(words).output().unwrap();
    let checked = btrfs(&["check", "--readonly", onto]);
    assert!(checked.status.success(), "{mark}: {}", String::from_utf8_lossy(&checked.stderr));
    let files = directory.join(format!("files of {mark}"));
    std::fs::create_dir(&files).unwrap();
    btrfs(&["restore", onto, files.to_str().unwrap()]);
    std::fs::read(files.join("blob")).ok()
}

fn each_trial() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log").display().to_string();
    let range = "file = \"blob\", offset = \"0 B\", length = \"16 blocks\"";
    let rest = format!(
        "[[phase]]\nname = \"two contents\"\nstep = [\n\
         {{ do.pwrite = {{ {range} }} }},\n{{ do.syncfs = {{}} }},\n\
         {{ do.mark = {{ text = \"first\" }} }},\n\
         {{ name = \"again\", do.pwrite = {{ {range}, data = \"zeroes\" }} }},\n{{ do.syncfs = {{}} }},\n]\n\
         [[reproduced]]\nstep = \"again\"\nerrno = \"ENOSPC\"\n"
    );
    let given = scenario(&rest);
    let journal = Journal::of(&["run", &given.path, "--trials", "2", "--log", &log]);
    assert_eq!(journal.verdict()["verdict"], "not-reproduced", "{}", journal.verdict());
    assert!(
        journal.all("step").iter().filter(|step| step["step"] == "mark").all(|step| step["returned"] == 1)
    );
    let expected = ["trial 1 begins", "first", "trial 1 ended", "trial 2 begins", "first", "trial 2 ended"];
    assert_eq!(marks(&log), expected);
    let blob = |mark: &str| blob_at(&log, mark, directory.path());
    assert_eq!(blob("trial 1 begins"), None, "the state that trials begin in");
    let first = blob("first").unwrap();
    assert!(first.len() == 16 * 4096 && first.iter().any(|byte| *byte != 0));
    assert_eq!(blob("trial 1 ended"), Some(vec![0; 16 * 4096]));
    assert_eq!(blob("trial 2 begins"), None, "the log goes back to that state");
    assert_eq!(blob("trial 2 ended"), Some(vec![0; 16 * 4096]));
    // The file is there already.
    let again = brim(&["run", &given.path, "--log", &log]).output().unwrap();
    assert_eq!(again.status.code(), Some(2));
}

fn in_a_guest() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let log_word = log.to_str().unwrap();
    let output =
        brim(&["run", "btrfs/fallocate-then-pwrite", "--kernel", LINUX_UML, "--log", log_word]).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("keeps no write log"), "{said}");
    assert!(!log.exists());
}
