//! A distribution's own kernel under QEMU: the verdicts of its scenarios, the same beginning for every trial, a panic.

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Test;
use crate::needs::Need;

const MACHINE: &[Need] =
    &[Need::Tool("qemu-system-x86_64"), Need::Tool("mkfs.btrfs"), Need::KeptKernel("debian/6.1")];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("a_debian_kernel_in_qemu_reproduces_at_66_and_not_at_65", MACHINE, verdicts),
        ("a_panic_in_qemu_costs_a_machine_and_not_the_run", MACHINE, panic),
        ("a_killed_run_leaves_no_qemu", MACHINE, killed),
    ]
}

fn brim(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brim"));
    command.args(["run", "--kernel", "debian/6.1", "--json"]).args(arguments).stdin(Stdio::null());
    command
}

fn journal(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn events<'a>(journal: &'a [Value], name: &str) -> Vec<&'a Value> {
    journal.iter().filter(|line| line["event"] == name).collect()
}

fn verdicts() {
    let scenario = "btrfs/fallocate-then-pwrite";
    let output = brim(&[scenario, "--set", "free=65..66 blocks", "--trials", "3"]).output().unwrap();
    let journal = journal(&output);
    let verdicts = events(&journal, "verdict");
    let found: Vec<(&str, u64, &str)> = verdicts
        .iter()
        .map(|verdict| {
            assert!(verdict["rig"] == "qemu/nbd" && verdict["kernel"].as_str().unwrap().starts_with("6.1."));
            let text = |key: &str| verdict[key].as_str().unwrap();
            (text("verdict"), verdict["reproduced"].as_u64().unwrap(), text("failed_step"))
        })
        .collect();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(found, [("not-reproduced", 0, "fallocate"), ("reproduced", 3, "pwrite")], "{error}");
    assert_eq!(verdicts[1]["space"], "data");
    assert!(!events(&journal, "ticket").is_empty(), "a stock kernel has tracing");
    // Each trial of a state begins with the same machine.
    let begun = events(&journal, "counters").into_iter().filter(|counters| counters["when"] == "before");
    let states: BTreeSet<String> = begun.map(|counters| counters["counters"].to_string()).collect();
    assert_eq!(states.len(), 2, "{states:?}");
}

fn panic() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("panic.toml");
    let scenario = "schema = 1\nname = \"panic\"\nclaim = \"a panic costs a guest\"\nsource = \"a test\"\n\
        [device]\nsize = \"128 MiB\"\n[filesystem]\nkind = \"btrfs\"\n\
        [[phase]]\nname = \"all\"\nstep = [\
          { do.pwrite = { file = \"f\", offset = \"0 B\", length = \"64 KiB\", data = \"random\" } },\
          { do.panic = { trial = 2 } }, { do.fsync = { file = \"f\" } } ]\n\
        [[reproduced]]\nstep = \"fsync\"\n";
    std::fs::write(&file, scenario).unwrap();
    let output = brim(&[file.to_str().unwrap(), "--trials", "3"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
    let journal = journal(&output);
    let trials = events(&journal, "trial-verdict");
    let verdicts: Vec<&str> = trials.iter().map(|trial| trial["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["not-reproduced", "inconclusive", "not-reproduced"]);
    let crashes = events(&journal, "crash");
    let [crash] = crashes.as_slice() else { panic!("one crash: {crashes:?}") };
    assert_eq!(crash["trial"], 2);
    assert_eq!(crash["how"], "Kernel panic - not syncing: sysrq triggered crash");
    let words = crash["last_words"].as_array().unwrap();
    assert!(words.iter().any(|line| line.as_str().unwrap().contains("Call Trace")), "{words:?}");
}

fn killed() {
    let mut child = brim(&["btrfs/fallocate-then-pwrite", "--trials", "1000"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let limit = Instant::now() + Duration::from_secs(60);
    let qemu = loop {
        let children = children(child.id());
        if let Some(qemu) = children.into_iter().find(|(_, name)| name.starts_with("qemu-system")) {
            break qemu.0;
        }
        assert!(Instant::now() < limit, "no QEMU comes up");
        std::thread::sleep(Duration::from_millis(5));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    let limit = Instant::now() + Duration::from_secs(2);
    while name(qemu).is_some_and(|name| name.starts_with("qemu-system")) {
        assert!(Instant::now() < limit, "QEMU outlives brim");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The processes that a process has started, with what they are called.
fn children(of: u32) -> Vec<(u32, String)> {
    let tasks = std::fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let listed = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let numbers: Vec<u32> = listed
        .flat_map(|text| text.split_whitespace().filter_map(|n| n.parse().ok()).collect::<Vec<_>>())
        .collect();
    numbers.into_iter().filter_map(|number| Some((number, name(number)?))).collect()
}

fn name(process: u32) -> Option<String> {
    let path = format!("/proc/{process}");
    // One that has ended and is not reaped has no memory.
    let program = std::fs::read_link(format!("{path}/exe")).ok()?;
    Some(program.file_name()?.to_string_lossy().into_owned())
}
