//! Workers that go round by themselves, and what steps start beside the filesystem: programs, frozen filesystems, swap.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Test;
use crate::bench::{Journal, assert_nothing_left, brim, mark, scenario};
use crate::guests::in_guest;
use crate::needs::{BTRFS, Need};

const WITH_SHELL: &[Need] = &[
    Need::Rig,
    Need::Filesystem("btrfs"),
    Need::Tracefs,
    Need::Tool("sh"),
    Need::Tool("cp"),
    Need::Tool("findmnt"),
];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("copies_of_a_worker_go_round_while_another_works", BTRFS, loops),
        ("a_worker_that_met_its_error_stops_nobody", BTRFS, own_until),
        ("a_program_is_a_step", WITH_SHELL, exec),
        ("a_program_that_is_not_here_is_named", BTRFS, no_such_program),
        ("a_program_that_does_not_end_is_killed_with_its_children", WITH_SHELL, endless_program),
        ("a_frozen_filesystem_takes_no_write_until_it_is_thawed", BTRFS, freeze),
        ("a_frozen_filesystem_is_thawed_whatever_happens", BTRFS, thawed),
        ("a_run_killed_while_it_is_frozen_leaves_nothing", BTRFS, killed_while_frozen),
        ("a_worker_waits_for_a_counter_and_for_the_log", WITH_SHELL, waits),
        ("what_is_waited_for_in_vain_is_inconclusive", BTRFS, waits_in_vain),
        ("swap_is_not_for_a_host", &[], swap_on_the_host),
        ("a_guest_swaps_to_a_file", &[Need::Uml], swap),
        ("operations_are_done_in_a_guest", &[Need::Uml], in_a_guest),
    ]
}

const NEVER: &str = "[[phase]]\nname = \"last\"\nstep = [ { name = \"never\", do.syncfs = {} } ]\n\
    [[reproduced]]\nstep = \"never\"\nerrno = \"EXDEV\"\n";

fn run(phases: &str) -> Journal {
    Journal::of(&["run", &scenario(&format!("{phases}{NEVER}")).path])
}

/// For steps that wait in vain.
fn run_impatiently(phases: &str) -> Journal {
    Journal::of(&["run", &scenario(&format!("{phases}{NEVER}")).with_limit("2 s").path])
}

fn does_well(journal: &Journal) {
    assert_eq!(journal.verdict()["verdict"], "not-reproduced", "{}", journal.verdict());
}

fn is_inconclusive(journal: &Journal) -> &str {
    assert_eq!(journal.verdict()["verdict"], "inconclusive", "{}", journal.verdict());
    journal.verdict()["reason"].as_str().unwrap()
}

fn loops() {
    let journal = run("[[phase]]\nname = \"side by side\"\nstep = [ \
        { by = \"writer\", do.pwrite = { file = \"d${copy}/f${i}\", offset = \"${copy} * 4 KiB\", length = \"100 B\" } }, \
        { by = \"syncer\", do.syncfs = {} }, { by = \"once\", do.mkdir = { path = \"m\" } } ]\n\
        [[phase.worker]]\nname = \"writer\"\ntimes = 10\ncopies = 4\n\
        [[phase.worker]]\nname = \"syncer\"\nwhile = \"writer\"\n\
        [[phase]]\nname = \"look\"\ntimes = 10\nstep = [ \
        { do.pread = { file = \"d3/f${i}\", offset = \"0 B\", length = \"12388 B\" } } ]\n");
    does_well(&journal);
    let phase = journal.all("phase")[0];
    let completed = |step: usize| phase["completed"][step].as_u64().unwrap();
    assert_eq!((completed(0), completed(2)), (40, 1));
    assert!(completed(1) >= 1);
    assert_eq!(phase["timing"][0]["count"], 40);
    let copies: Vec<_> = journal
        .all("step")
        .into_iter()
        .filter(|step| step["step"] == "pwrite")
        .map(|step| (step["copy"].as_u64().unwrap(), step["file"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(copies.len(), 4, "the first of each copy: {copies:?}");
    assert!(copies.contains(&(3, "d3/f0".to_owned())));
}

/// One fills the disk, and the gate that another waits for is not opened by that.
fn own_until() {
    let journal = run("[[fault]]\nname = \"commit\"\nwhen = { op = \"flush\", nth = 1 }\nthen = \"hold\"\n\
        [[phase]]\nname = \"side by side\"\nstep = [ \
        { by = \"filler\", do.fallocate = { file = \"f${i}\", offset = \"0 B\", length = \"64 KiB\" } }, \
        { by = \"syncer\", sleep = \"300 ms\" }, { by = \"syncer\", do.syncfs = {} }, \
        { by = \"opener\", await.held = \"commit\" }, { by = \"opener\", release = \"commit\" } ]\n\
        [[phase.worker]]\nname = \"filler\"\nuntil = \"ENOSPC\"\n");
    does_well(&journal);
    let phase = journal.all("phase")[0];
    // 100 blocks, of which some are lost to the directory.
    assert!(phase["completed"][0].as_u64() <= Some(6), "{phase}");
    assert_eq!(phase["completed"][4], 1);
    let full = journal.all("step").into_iter().find(|step| step["errno"] == "ENOSPC").unwrap();
    assert_eq!((&full["by"], &full["allowed"]), (&"filler".into(), &Value::Null));
}

fn exec() {
    let journal = run("[[phase]]\nname = \"programs\"\nstep = [ \
        { do.pwrite = { file = \"f\", offset = \"0 B\", length = \"10000 B\" } }, \
        { do.exec = { command = [\"cp\", \"f\", \"g\"] } }, \
        { name = \"same\", do.exec = { command = [\"cmp\", \"f\", \"g\"] } }, \
        { name = \"three\", do.exec = { command = [\"sh\", \"-c\", \"exit 3\"], exit = 3 } } ]\n");
    does_well(&journal);
    let three = journal.all("step").into_iter().find(|step| step["step"] == "three").unwrap();
    assert_eq!(
        (&three["returned"], &three["syscall"], &three["problem"]),
        (&3.into(), &"exec".into(), &Value::Null)
    );

    let journal = run("[[phase]]\nname = \"programs\"\nstep = [ \
        { do.exec = { command = [\"sh\", \"-c\", \"seq 100; echo no room >&2; exit 7\"] }, allow = \"any\" } ]\n");
    assert_eq!(is_inconclusive(&journal), "exec ended with exit code 7, which no phase foresees");
    let failed = journal.all("step").into_iter().find(|step| step["step"] == "exec").unwrap();
    let said = &failed["problem"]["exited"];
    let lines = said["lines"].as_array().unwrap();
    assert_eq!((&said["exit"], lines.len()), (&7.into(), 20), "the last lines alone");
    assert_eq!((&lines[0], &lines[19]), (&"82".into(), &"no room".into()));
}

fn no_such_program() {
    let scenario = scenario(&format!(
        "[[phase]]\nname = \"programs\"\nstep = [ {{ do.exec = {{ command = [\"no-such-program\"] }} }} ]\n{NEVER}"
    ));
    let output = brim(&["run", &scenario.path]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("no-such-program") && error.contains("there is no such program"), "{error}");
}

fn endless_program() {
    let scenario = scenario(&format!(
        "[[phase]]\nname = \"programs\"\nstep = [ {{ do.exec = {{ command = [\"sh\", \"-c\", \"sleep 1000 & sleep 1001\"] }} }} ]\n{NEVER}"
    ))
    .with_limit("2 s");
    let mut command = brim(&["run", &scenario.path, "--trials", "2", "--json"]);
    let mark = mark(&mut command);
    let journal = Journal::read(&command.output().unwrap());
    assert_eq!(is_inconclusive(&journal), "exec did not end within its limit");
    // The agent was not given up for it: the second trial ran.
    assert_eq!((&journal.verdict()["trials"], journal.exit), (&2.into(), Some(4)));
    assert_nothing_left(&mark);
}

fn freeze() {
    let journal = run("[[phase]]\nname = \"frozen\"\nstep = [ \
        { by = \"freezer\", do.freeze = {} }, \
        { by = \"freezer\", name = \"twice\", do.freeze = {}, allow = \"EBUSY\" }, \
        { by = \"freezer\", name = \"frozen\", sleep = \"700 ms\" }, { by = \"freezer\", do.thaw = {} }, \
        { by = \"freezer\", name = \"not frozen\", do.thaw = {}, allow = \"EINVAL\" }, \
        { by = \"writer\", sleep = \"300 ms\" }, \
        { by = \"writer\", do.pwrite = { file = \"f\", offset = \"0 B\", length = \"4 KiB\" } } ]\n");
    does_well(&journal);
    let step = |name: &str| journal.all("step").into_iter().find(|step| step["step"] == name).unwrap();
    let place = |name: &str| journal.events.iter().position(|event| event == step(name)).unwrap();
    assert!(place("frozen") < place("pwrite"), "it waited");
    assert_eq!((&step("twice")["errno"], &step("not frozen")["errno"]), (&"EBUSY".into(), &"EINVAL".into()));
}

fn thawed() {
    // By the end of the trial, by a remount, and by the limit of a step.
    does_well(&run("[[phase]]\nname = \"frozen\"\nstep = [ { do.freeze = {} } ]\n\
        [[phase]]\nname = \"mounted again\"\nstep = [ { do.remount = {} }, \
        { do.pwrite = { file = \"f\", offset = \"0 B\", length = \"4 KiB\" } } ]\n"));
    let scenario = scenario(
        "[[phase]]\nname = \"frozen\"\nstep = [ { do.freeze = {} } ]\n\
        [[reproduced]]\nstep = \"freeze\"\nerrno = \"EXDEV\"\n",
    );
    let journal = Journal::of(&["run", &scenario.path, "--trials", "3"]);
    does_well(&journal);
    assert_eq!(journal.verdict()["trials"], 3);
    let journal = run_impatiently(
        "[[phase]]\nname = \"frozen\"\nstep = [ { do.freeze = {} }, \
        { do.pwrite = { file = \"f\", offset = \"0 B\", length = \"4 KiB\" } } ]\n",
    );
    assert_eq!(is_inconclusive(&journal), "pwrite did not end within its limit");
}

/// For runs killed at any moment of a write that waits for a frozen filesystem, which no signal ends.
fn killed_while_frozen() {
    let scenario = scenario(&format!(
        "[[phase]]\nname = \"frozen\"\nstep = [ {{ do.freeze = {{}} }}, \
         {{ do.pwrite = {{ file = \"f\", offset = \"0 B\", length = \"4 KiB\" }} }} ]\n{NEVER}"
    ));
    for moment in [400, 700, 1500] {
        let mut command = brim(&["run", &scenario.path]);
        let mark = mark(&mut command);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(moment));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_nothing_left(&mark);
    }
}

/// A write that nothing has written back yet is counted as `may_use`. A line of our own, as btrfs prints a hundred in five seconds at
/// most, and others run here, too.
fn waits() {
    let journal = run("[[phase]]\nname = \"side by side\"\nstep = [ \
        { by = \"writer\", sleep = \"300 ms\" }, \
        { by = \"writer\", do.pwrite = { file = \"f\", offset = \"0 B\", length = \"64 KiB\" } }, \
        { by = \"syncer\", name = \"reserved\", await = { counter = \"data.may_use\", at_least = \"64 KiB\" } }, \
        { by = \"syncer\", do.syncfs = {} }, \
        { by = \"reader\", sleep = \"400 ms\" }, \
        { by = \"reader\", name = \"written\", await = { counter = \"data.may_use\", is = \"0 B\" } } ]\n\
        [[phase]]\nname = \"the log\"\nstep = [ \
        { by = \"printer\", sleep = \"200 ms\" }, \
        { by = \"printer\", do.exec = { command = [\"sh\", \"-c\", \"echo \\\"<6>brim: a test at $(findmnt -no SOURCE .)\\\" > /dev/kmsg\"] } }, \
        { by = \"reader\", name = \"printed\", await.kernel_log = 'a test at /dev/\\w+\\d$' } ]\n\
        [[phase]]\nname = \"and again\"\nstep = [ { await = { kernel_log = \"brim: a test\", count = 1 } } ]\n");
    does_well(&journal);
    let step = |name: &str| journal.all("step").into_iter().find(|step| step["step"] == name).unwrap();
    let place = |name: &str| journal.events.iter().position(|event| event == step(name)).unwrap();
    assert!(place("pwrite") < place("reserved") && place("reserved") < place("syncfs"));
    assert!(step("reserved")["returned"].as_u64() >= Some(65536));
    assert_eq!((&step("written")["returned"], &step("written")["syscall"]), (&0.into(), &"await".into()));
    assert_eq!(step("printed")["returned"], 1);
}

fn waits_in_vain() {
    for wait in [
        "{ await = { counter = \"data.may_use\", at_least = \"1 GiB\" } }",
        "{ await.kernel_log = \"no kernel says this\" }",
    ] {
        let journal = run_impatiently(&format!("[[phase]]\nname = \"wait\"\nstep = [ {wait} ]\n"));
        assert_eq!(is_inconclusive(&journal), "await did not end within its limit");
    }
    // Whoever could have made it so has failed: nobody waits until the limit.
    let journal = run("[[phase]]\nname = \"wait\"\nstep = [ \
        { by = \"one\", await.kernel_log = \"no kernel says this\" }, \
        { by = \"two\", do.unlink = { file = \"no\" } } ]\n");
    assert_eq!(is_inconclusive(&journal), "unlink failed with ENOENT, which no phase foresees");
    assert!(journal.all("stuck").is_empty());
}

const SWAP: &str = "[[phase]]\nname = \"swap\"\nstep = [ \
    { do.nocow = { file = \"s\" } }, \
    { do.pwrite = { file = \"s\", offset = \"0 B\", length = \"64 KiB\", data = \"zeroes\" } }, \
    { do.fsync = { file = \"s\" } }, { do.mkswap = { file = \"s\" } }, { do.swapon = { file = \"s\" } }, \
    { name = \"busy\", do.truncate = { file = \"s\", size = \"0 B\" }, allow = \"ETXTBSY\" } ]\n\
    [[phase]]\nname = \"mounted again\"\nstep = [ { do.remount = {} }, \
    { name = \"not there\", do.swapoff = { file = \"s\" }, allow = \"EINVAL\" } ]\n";

fn swap_on_the_host() {
    let scenario = scenario(&format!("{SWAP}{NEVER}"));
    let output = brim(&["run", &scenario.path]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("has its kernel swap to a file"), "{error}");
}

fn swap() {
    let scenario = scenario(&format!("{SWAP}{NEVER}"));
    let journal = Journal::of(&in_guest(&[&scenario.path, "--trials", "2"]));
    does_well(&journal);
    let step = |name: &str| journal.all("step").into_iter().find(|step| step["step"] == name).unwrap();
    assert_eq!((&step("swapon")["returned"], &step("busy")["errno"]), (&0.into(), &"ETXTBSY".into()));
    assert_eq!(step("not there")["errno"], "EINVAL", "it was given up for the unmount");
}

fn in_a_guest() {
    let scenario = scenario(&format!(
        "[[phase]]\nname = \"all\"\nstep = [ \
         {{ do.pwrite = {{ file = \"f\", offset = \"0 B\", length = \"64 KiB\", how = \"direct\" }} }}, \
         {{ do.mmap_write = {{ file = \"f\", offset = \"0 B\", length = \"64 KiB\" }} }}, \
         {{ do.truncate = {{ file = \"hole\", size = \"4 MiB\" }} }}, \
         {{ name = \"full\", do.mmap_write = {{ file = \"hole\", offset = \"0 B\", length = \"4 MiB\" }}, allow = \"SIGBUS\" }}, \
         {{ do.fallocate = {{ file = \"f\", offset = \"0 B\", length = \"4 KiB\", mode = \"punch_hole\" }} }}, \
         {{ name = \"zeroes\", do.fallocate = {{ file = \"f\", offset = \"0 B\", length = \"4 KiB\", mode = \"write_zeroes\" }}, allow = \"EOPNOTSUPP\" }}, \
         {{ do.freeze = {{}} }}, {{ do.thaw = {{}} }}, {{ do.extents = {{ file = \"f\" }} }}, \
         {{ do.exec = {{ command = [\"btrfs\", \"filesystem\", \"df\", \".\"] }} }}, {{ do.remount = {{}} }}, \
         {{ do.pread = {{ file = \"f\", offset = \"0 B\", length = \"64 KiB\" }} }} ]\n{NEVER}"
    ));
    let journal = Journal::of(&in_guest(&[&scenario.path]));
    does_well(&journal);
    let full = journal.all("step").into_iter().find(|step| step["step"] == "full").unwrap();
    assert_eq!(full["signal"], "SIGBUS");
    assert_eq!(full["short"].as_u64().unwrap() % 4096, 0);
    let nothing = json!({});
    assert_eq!(journal.all("phase")[0]["allowed"][0], nothing);
}
