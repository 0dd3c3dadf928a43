//! The operations that are more than a call on a file: what they do, and what they say when something is lost.

use serde_json::json;

use crate::Test;
use crate::bench::{Journal, scenario};
use crate::needs::{BTRFS, Need};

/// And a filesystem that needs its checker.
const CUT: &[Need] =
    &[Need::Rig, Need::Filesystem("btrfs"), Need::Tracefs, Need::Filesystem("ext4"), Need::Tool("e2fsck")];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("what_was_written_is_read_again_after_a_remount", BTRFS, read_again),
        ("a_read_of_what_is_not_there_says_what_is", BTRFS, not_there),
        ("snapshots_and_clones_hold_what_was_written", BTRFS, snapshots),
        ("a_power_cut_loses_what_was_not_synced", CUT, power_cut),
        ("a_checker_says_what_is_wrong", BTRFS, checker),
    ]
}

/// Runs these steps once, on a disk with a write cache; nothing is to fail with EXDEV.
fn steps(steps: &str, filesystem: &str, condition: &str) -> Journal {
    let rest = format!("[[phase]]\nname = \"test\"\nstep = [ {steps} ]\n[[reproduced]]\n{condition}\n");
    let scenario = scenario(&rest);
    let text = std::fs::read_to_string(&scenario.path).unwrap();
    let text = text.replace("size = \"128 MiB\"\n", "size = \"128 MiB\"\nwrite_cache = true\n");
    std::fs::write(&scenario.path, text).unwrap();
    Journal::of(&["run", &scenario.path, "--filesystem", filesystem])
}

fn assert_no_step_fails(journal: &Journal) {
    let failed: Vec<_> = journal
        .all("step")
        .into_iter()
        .filter(|step| !step["errno"].is_null() || !step["problem"].is_null())
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(journal.verdict()["verdict"], "not-reproduced", "{}", journal.verdict());
}

const NEVER: &str = "step = \"syncfs\"\nerrno = \"EXDEV\"";

fn read_again() {
    let journal = steps(
        "{ do.pwrite = { file = \"dir/f\", offset = \"1000 B\", length = \"70000 B\" } }, \
         { do.pwrite = { file = \"dir/f\", offset = \"4096 B\", length = \"5000 B\" } }, \
         { do.sync_file_range = { file = \"dir/f\", offset = \"0 B\", length = \"128 KiB\" } }, \
         { do.fdatasync = { file = \"dir/f\" } }, { do.remount = {} }, { do.drop_caches = {} }, \
         { do.pread = { file = \"dir/f\", offset = \"0 B\", length = \"71000 B\" } }, \
         { do.truncate = { file = \"dir/f\", size = \"2000 B\" } }, \
         { do.truncate = { file = \"dir/f\", size = \"3000 B\" } }, { do.syncfs = {} }, { do.scrub = {} }, \
         { do.check = {} }, { do.pread = { file = \"dir/f\", offset = \"0 B\", length = \"3000 B\" } }, \
         { do.pread = { file = \"dir/f\", offset = \"2000 B\", length = \"1000 B\", expect = \"zeroes\" } }",
        "btrfs",
        NEVER,
    );
    assert_no_step_fails(&journal);
    let scrub = journal.all("step").into_iter().find(|step| step["step"] == "scrub").unwrap();
    assert_eq!(scrub["returned"], 0, "no error was found");
}

fn not_there() {
    let lost = |wrote: &str, expect: &str| {
        let journal = steps(
            &format!(
                "{{ do.fallocate = {{ file = \"f\", offset = \"0 B\", length = \"8 KiB\" }} }}, {wrote} \
                 {{ do.pread = {{ file = \"f\", offset = \"0 B\", length = \"12 KiB\", expect = \"{expect}\" }} }}"
            ),
            "btrfs",
            "step = \"pread\"\ncontent = \"lost\"",
        );
        assert_eq!(journal.verdict()["verdict"], "reproduced");
        assert_eq!(journal.verdict()["failed_step"], "pread");
        let step = journal.all("step").into_iter().find(|step| !step["problem"].is_null()).unwrap().clone();
        step["problem"]["lost"].clone()
    };
    let write = "{ do.pwrite = { file = \"f\", offset = \"4 KiB\", length = \"4 KiB\" } },";
    assert_eq!(lost("", "same as written"), json!({ "first": 8192, "bytes": 4096, "found": "end" }));
    let other = lost(write, "zeroes");
    assert_eq!((&other["first"], &other["found"]), (&4096.into(), &"other".into()));
}

fn snapshots() {
    let journal = steps(
        "{ do.subvolume = { path = \"sub\" } }, { do.nocow = { file = \"sub/inplace\" } }, \
         { do.pwrite = { file = \"sub/f\", offset = \"0 B\", length = \"64 KiB\" } }, \
         { do.pwrite = { file = \"sub/inplace\", offset = \"0 B\", length = \"4 KiB\" } }, \
         { do.snapshot = { of = \"sub\", to = \"snaps/one\", read_only = true } }, \
         { do.reflink = { from = \"sub/f\", to = \"g\", offset = \"4 KiB\", length = \"8 KiB\", to_offset = \"32 KiB\" } }, \
         { do.pwrite = { file = \"sub/f\", offset = \"0 B\", length = \"16 KiB\", data = \"zeroes\" } }, \
         { do.remount = {} }, { do.pread = { file = \"snaps/one/f\", offset = \"0 B\", length = \"64 KiB\" } }, \
         { do.pread = { file = \"snaps/one/inplace\", offset = \"0 B\", length = \"4 KiB\" } }, \
         { do.pread = { file = \"g\", offset = \"0 B\", length = \"40 KiB\" } }, \
         { do.pread = { file = \"sub/f\", offset = \"0 B\", length = \"64 KiB\" } }, { do.check = {} }, \
         { name = \"from a snapshot\", do.reflink = { from = \"snaps/one/f\", to = \"h\" } }, \
         { do.remount = {} }, { do.pread = { file = \"h\", offset = \"0 B\", length = \"64 KiB\" } }, \
         { name = \"nothing\", do.reflink = { from = \"no\", to = \"h\" }, allow = \"ENOENT\" }, \
         { name = \"again\", do.pwrite = { file = \"snaps/one/f\", offset = \"0 B\", length = \"4 KiB\" } }",
        "btrfs",
        "step = \"again\"\nerrno = \"EROFS\"",
    );
    assert_eq!(journal.verdict()["verdict"], "reproduced", "{}", journal.verdict());
}

fn power_cut() {
    for (filesystem, sync, verdict) in
        [("btrfs", "", "reproduced"), ("btrfs", SYNC, "not-reproduced"), ("ext4", SYNC, "not-reproduced")]
    {
        let journal = steps(
            &format!(
                "{{ do.fallocate = {{ file = \"f\", offset = \"0 B\", length = \"64 KiB\" }} }}, \
                 {{ do.fsync = {{ file = \"f\" }} }}, \
                 {{ do.pwrite = {{ file = \"f\", offset = \"0 B\", length = \"64 KiB\" }} }}, {sync} \
                 {{ do.power_cut = {{}} }}, {{ do.check = {{}} }}, \
                 {{ do.pread = {{ file = \"f\", offset = \"0 B\", length = \"64 KiB\" }} }}"
            ),
            filesystem,
            "step = \"pread\"\ncontent = \"lost\"",
        );
        assert_eq!(journal.verdict()["verdict"], verdict, "{filesystem} {sync}: {}", journal.verdict());
    }
}

const SYNC: &str = "{ do.fsync = { file = \"f\" } },";

/// A disk that is shorter than the filesystem on it.
fn checker() {
    let journal = steps(
        "{ do.syncfs = {} }, { do.resize_disk = { size = \"100 MiB\" } }, { do.check = {} }",
        "btrfs",
        "step = \"check\"",
    );
    assert_eq!(journal.verdict()["verdict"], "reproduced", "{}", journal.verdict());
    let step = journal.all("step").into_iter().find(|step| !step["problem"].is_null()).unwrap();
    assert_eq!(step["errno"], "EINVAL", "and the kernel does not mount it");
    let said = &step["problem"]["unclean"];
    assert!(said["exit"].as_i64().unwrap() > 0);
    let lines = said["lines"].as_array().unwrap();
    assert!(lines.iter().any(|line| line.as_str().unwrap().contains("error(s) found")), "{said}");
}
