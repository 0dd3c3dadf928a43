//! Several disks under one btrfs: which is asked what, which is lost, and what two runs at once do to each other.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::Test;
use crate::bench::{Journal, Scenario, assert_nothing_left, brim, mark, whole_scenario};
use crate::end::moments;
use crate::guests::in_guest;
use crate::needs::{BTRFS, Need};

const GUEST: &[Need] = &[Need::Uml];
/// On which the abort is known.
const ABORTS: &[Need] = &[Need::Rig, Need::Filesystem("btrfs"), Need::Tracefs, Need::Kernel(6, 18)];
const ABORT: &str = "btrfs/balance-of-a-degraded-raid1-aborts";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("a_balance_of_a_degraded_raid1_aborts_5_of_5_times", ABORTS, aborts),
        ("with_room_to_move_the_same_balance_ends_well", BTRFS, ends_well),
        ("a_degraded_raid1_is_balanced_in_a_guest", GUEST, ends_well_in_a_guest),
        ("a_fault_is_of_one_disk_and_requests_are_told_of_each", BTRFS, fault_of_one_disk),
        ("a_disk_that_fails_under_a_mount_is_done_without", BTRFS, fails_while_mounted),
        ("without_degraded_the_mount_of_what_is_left_is_refused", BTRFS, not_degraded),
        ("a_power_cut_of_two_disks_keeps_what_was_fsynced", BTRFS, power_cut),
        ("two_runs_with_two_disks_each_do_not_meet", BTRFS, side_by_side),
        ("10_runs_with_three_disks_killed_at_random_moments_leave_nothing", BTRFS, killed),
    ]
}

/// Two disks as a raid1, and one that is spare.
const RAID1: &str = "[[device]]\nname = \"a\"\nsize = \"128 MiB\"\n[[device]]\nname = \"b\"\nsize = \"160 MiB\"\n\
    [[device]]\nname = \"spare\"\nsize = \"128 MiB\"\nin_filesystem = false\n\
    [filesystem]\nkind = \"btrfs\"\nmkfs = [\"-d\", \"raid1\", \"-m\", \"raid1\"]\n";

/// All of a size, so that each can take the place of another, and room for a chunk more: without it a block group cannot be made
/// read-only, and a disk that is missing not be replaced (ENOSPC; 6.18).
fn with_disks_alike(scenario: &Scenario) {
    let text = std::fs::read_to_string(&scenario.path).unwrap();
    let text = text.replace("160 MiB", "256 MiB").replace("\"128 MiB\"", "\"256 MiB\"");
    std::fs::write(&scenario.path, text).unwrap();
}

fn verdict_of(words: &[&str]) -> (Value, Journal) {
    let journal = Journal::of(words);
    (journal.verdict().clone(), journal)
}

fn aborts() {
    let (verdict, journal) = verdict_of(&["run", ABORT, "--trials", "5"]);
    assert_eq!((&verdict["reproduced"], &verdict["errno"]), (&5.into(), &"EROFS".into()), "{verdict}");
    assert_eq!(journal.all("prepared").len(), 1, "the content is written once");
    let aborted = |line: &&Value| line["text"].as_str().unwrap().contains("Transaction aborted (error -28)");
    assert!(journal.all("kernel-log").iter().filter(|line| aborted(line)).count() >= 5);
    assert!(journal.all("mount").iter().all(|mount| mount["read_only"] == true));
    let balances = journal.all("step").into_iter().filter(|step| step["step"] == "balance");
    // The kernel prints 100 lines of btrfs' in 5 s; what comes then cannot be counted, and nothing is told.
    let counts: Vec<u64> =
        balances.filter_map(|balance| balance["reported"]["enospc_errors"].as_u64()).collect();
    assert!(!counts.is_empty() && counts.iter().all(|count| *count > 0), "{counts:?}");
}

fn ends_well() {
    let (verdict, journal) = verdict_of(&["run", ABORT, "--set", "part=25 MiB"]);
    assert_eq!(
        (&verdict["verdict"], &verdict["expected"]),
        (&"not-reproduced".into(), &true.into()),
        "{verdict}"
    );
    let reported = &journal.step("balance")["reported"];
    assert_eq!(reported["enospc_errors"], 0, "{reported}");
    assert!(reported["relocated"].as_u64() >= Some(3), "{reported}");
}

fn ends_well_in_a_guest() {
    let scenario = whole_scenario(&format!(
        "{RAID1}[prepare]\nstep = [ {{ do.pwrite = {{ file = \"f\", offset = \"0 B\", length = \"1 MiB\" }} }} ]\n\
         [[phase]]\nname = \"test\"\nstep = [ {{ do.lose_device = {{ device = \"b\", options = [\"degraded\"] }} }}, \
         {{ do.device_add = {{ device = \"spare\" }} }}, {{ do.device_remove = {{ device = \"missing\" }} }}, \
         {{ do.remount = {{ options = [] }} }}, {{ do.check = {{}} }}, \
         {{ do.pread = {{ file = \"f\", offset = \"0 B\", length = \"1 MiB\" }} }} ]\n\
         [[reproduced]]\nstep = \"check\"\n"
    ));
    for words in [in_guest(&[&scenario.path, "--trials", "2"]), vec!["run", &scenario.path, "--trials", "2"]]
    {
        let (verdict, _) = verdict_of(&words);
        assert_eq!(
            (&verdict["verdict"], &verdict["trials"]),
            (&"not-reproduced".into(), &2.into()),
            "{verdict}"
        );
    }
}

/// Writes of data to the second disk fail, and no other request does.
fn fault_of_one_disk() {
    let scenario = whole_scenario(&format!(
        "{RAID1}[[fault]]\nname = \"broken\"\ndevice = \"b\"\nwhen = {{ op = \"write\", region = \"data\" }}\n\
         then = {{ error = \"EIO\" }}\n[[phase]]\nname = \"test\"\nstep = [ \
         {{ do.pwrite = {{ file = \"f\", offset = \"0 B\", length = \"64 KiB\" }} }}, {{ do.fsync = {{ file = \"f\" }} }}, \
         {{ do.syncfs = {{}} }}, {{ do.scrub = {{}} }}, {{ do.pread = {{ file = \"f\", offset = \"0 B\", length = \"64 KiB\" }} }} ]\n\
         [[reproduced]]\nstep = \"fsync\"\n"
    ));
    let (verdict, journal) = verdict_of(&["run", &scenario.path]);
    assert_eq!(verdict["verdict"], "not-reproduced", "the other copy does: {verdict}");
    let fault = journal.all("fault")[0];
    assert!(
        fault["row"] == "broken" && fault["device"] == "b" && fault["firings"].as_u64() > Some(0),
        "{fault}"
    );
    let disks: Vec<&str> =
        journal.all("requests").iter().map(|requests| requests["device"].as_str().unwrap()).collect();
    assert_eq!(disks, ["a", "b", "spare"]);
    let requests = journal.all("requests");
    let written = |index: usize| requests[index]["requests"]["write"]["bytes"].as_u64().unwrap_or(0);
    assert!(written(0) >= 64 << 10 && written(1) >= 64 << 10 && written(2) == 0, "{requests:?}");
    // The scrub finds what the write could not leave on `b`.
    assert!(journal.step("scrub")["returned"].as_u64() > Some(0));
}

/// From where it is put in force each request of a disk fails.
fn fails_while_mounted() {
    let scenario = whole_scenario(&format!(
        "{RAID1}[[fault]]\nname = \"dead\"\ndevice = \"b\"\nwhen = {{}}\nthen = {{ error = \"EIO\" }}\n\
         [[phase]]\nname = \"test\"\nstep = [ {{ arm = \"dead\" }}, \
         {{ do.pwrite = {{ file = \"f\", offset = \"0 B\", length = \"64 KiB\" }} }}, {{ do.syncfs = {{}} }}, \
         {{ do.device_replace = {{ from = \"b\", to = \"spare\" }} }}, \
         {{ do.pread = {{ file = \"f\", offset = \"0 B\", length = \"64 KiB\" }} }} ]\n\
         [[reproduced]]\nstep = \"syncfs\"\n"
    ));
    with_disks_alike(&scenario);
    let (verdict, journal) = verdict_of(&["run", &scenario.path]);
    assert_eq!(verdict["verdict"], "not-reproduced", "{verdict}");
    assert!(journal.all("fault")[0]["firings"].as_u64() > Some(0));
    assert_eq!(journal.step("device_replace")["errno"], Value::Null);
}

fn not_degraded() {
    let scenario = whole_scenario(&format!(
        "{RAID1}[[phase]]\nname = \"test\"\nstep = [ {{ do.lose_device = {{ device = \"a\" }} }} ]\n\
         [[reproduced]]\nstep = \"lose_device\"\nerrno = \"ENOENT\"\n"
    ));
    let (verdict, journal) = verdict_of(&["run", &scenario.path]);
    let errno = &journal.step("lose_device")["errno"];
    // open_ctree() has said ENOENT for it, and EINVAL (fs/btrfs/disk-io.c, v6.12 and older).
    assert!(errno == "ENOENT" || errno == "EINVAL", "{errno}");
    assert_eq!(verdict["trials"], 1);
}

fn power_cut() {
    let disks = RAID1.replace("\"128 MiB\"\n", "\"128 MiB\"\nwrite_cache = true\n");
    let disks = disks.replace("\"160 MiB\"\n", "\"160 MiB\"\nwrite_cache = true\n");
    let scenario = whole_scenario(&format!(
        "{disks}[[phase]]\nname = \"test\"\nstep = [ \
         {{ do.pwrite = {{ file = \"f\", offset = \"0 B\", length = \"256 KiB\" }} }}, {{ do.fsync = {{ file = \"f\" }} }}, \
         {{ do.pwrite = {{ file = \"f\", offset = \"64 KiB\", length = \"64 KiB\" }} }}, \
         {{ do.sync_file_range = {{ file = \"f\", offset = \"0 B\", length = \"256 KiB\" }} }}, \
         {{ do.power_cut = {{ kept = \"40 %\" }} }}, {{ do.check = {{}} }}, \
         {{ do.pread = {{ file = \"f\", offset = \"0 B\", length = \"256 KiB\", expect = \"same as fsynced\" }} }} ]\n\
         [[reproduced]]\nstep = \"pread\"\n"
    ));
    let (verdict, journal) = verdict_of(&["run", &scenario.path, "--trials", "8"]);
    assert_eq!((&verdict["verdict"], &verdict["trials"]), (&"not-reproduced".into(), &8.into()), "{verdict}");
    let cuts = journal.all("step").into_iter().filter(|step| step["step"] == "power_cut");
    assert!(cuts.clone().all(|cut| cut["returned"].as_u64() > Some(0)), "something was lost each time");
}

/// Both mount and lose disks again and again; neither may see those of the other, or of its own trial before.
fn side_by_side() {
    let scenario = whole_scenario(&format!(
        "{RAID1}[prepare]\nstep = [ {{ do.pwrite = {{ file = \"f\", offset = \"0 B\", length = \"1 MiB\" }} }} ]\n\
         [[phase]]\nname = \"test\"\nstep = [ \
         {{ do.lose_device = {{ device = \"b\", options = [\"degraded\"] }} }}, \
         {{ do.pread = {{ file = \"f\", offset = \"0 B\", length = \"1 MiB\" }} }}, \
         {{ do.pwrite = {{ file = \"g\", offset = \"0 B\", length = \"1 MiB\" }} }}, \
         {{ do.device_replace = {{ from = \"b\", to = \"spare\" }} }}, {{ do.remount = {{ options = [] }} }}, \
         {{ do.pread = {{ file = \"g\", offset = \"0 B\", length = \"1 MiB\" }} }} ]\n\
         [[reproduced]]\nstep = \"pread\"\n"
    ));
    with_disks_alike(&scenario);
    let start = |seed: &str| {
        brim(&["run", &scenario.path, "--json", "--trials", "6", "--seed", seed])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    for child in ["1", "2", "3"].map(start) {
        let journal = Journal::read(&child.wait_with_output().unwrap());
        let verdict = journal.verdict();
        assert_eq!(
            (&verdict["verdict"], &verdict["trials"]),
            (&"not-reproduced".into(), &6.into()),
            "{verdict}"
        );
    }
}

fn killed() {
    let scenario = whole_scenario(&format!(
        "{RAID1}[[fault]]\nname = \"commit\"\ndevice = \"b\"\nwhen = {{ op = \"write\", region = \"superblock\" }}\n\
         then = \"hold\"\n[[phase]]\nname = \"test\"\nstep = [ \
         {{ by = \"one\", do.syncfs = {{}} }}, {{ by = \"two\", await.held = \"commit\" }}, \
         {{ by = \"two\", release = \"commit\" }} ]\n\
         [[phase]]\nname = \"lose\"\nstep = [ {{ do.lose_device = {{ device = \"b\", options = [\"degraded\"] }} }} ]\n\
         [[reproduced]]\nstep = \"syncfs\"\n"
    ));
    for moment in moments(10, Duration::from_millis(1500)) {
        let mut command = brim(&["run", &scenario.path, "--trials", "1000"]);
        let mark = mark(&mut command);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(moment);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_nothing_left(&mark);
    }
}
