//! What an administrator does, one act after the other, on the running kernel and in a guest.

use std::time::Duration;

use serde_json::Value;

use crate::Test;
use crate::bench::{Journal, whole_scenario};
use crate::guests::in_guest;
use crate::needs::{BTRFS, Need};

const GUEST: &[Need] = &[Need::Uml];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("every_act_of_administration_does_what_it_says", BTRFS, every_act),
        ("every_act_of_administration_does_what_it_says_in_a_guest", GUEST, every_act_in_a_guest),
        ("a_balance_without_room_says_how_often_it_found_none", BTRFS, balance_without_room),
        ("a_qgroup_limit_is_kept", BTRFS, qgroup_limit),
        ("a_live_remount_makes_the_mount_read_only", BTRFS, live_remount),
        ("a_shrink_below_what_is_used_is_refused", BTRFS, shrink),
        ("what_the_preparation_has_written_is_there_in_each_trial", BTRFS, prepared),
        ("a_step_of_the_preparation_that_fails_says_so", BTRFS, preparation_fails),
    ]
}

const DISKS: &str = "[[device]]\nname = \"a\"\nsize = \"256 MiB\"\n[[device]]\nname = \"b\"\nsize = \"320 MiB\"\n\
    in_filesystem = false\n[filesystem]\nkind = \"btrfs\"\n";

fn phase(disks: &str, prepare: &str, steps: &str, condition: &str) -> crate::bench::Scenario {
    whole_scenario(&format!(
        "{disks}{prepare}[[phase]]\nname = \"test\"\nstep = [ {steps} ]\n[[reproduced]]\n{condition}\n"
    ))
}

const ACTS: &str = "{ do.device_add = { device = \"b\" } }, { do.resize_disk = { size = \"400 MiB\", device = \"b\" } }, \
    { name = \"whole\", do.resize_filesystem = { size = \"max\", device = \"b\" } }, \
    { name = \"smaller\", do.resize_filesystem = { size = \"300 MiB\", device = \"b\" } }, \
    { do.subvolume = { path = \"sub\" } }, \
    { do.pwrite = { file = \"sub/f\", offset = \"0 B\", length = \"1 MiB\", data = \"zeroes\" } }, { do.syncfs = {} }, \
    { name = \"all\", do.balance = {} }, \
    { name = \"raid1\", do.balance = { data = { convert = \"raid1\", soft = true }, metadata = { convert = \"raid1\" } } }, \
    { name = \"again\", do.balance = { data = { convert = \"raid1\", soft = true } } }, \
    { name = \"none\", do.balance = { data = { usage = 0, profiles = [\"single\"], limit = 1 } } }, \
    { name = \"on b\", do.balance = { data = { device = \"b\", limit = 1 } } }, \
    { name = \"single\", do.balance = { data = { convert = \"single\" }, metadata = { convert = \"single\" }, force = true } }, \
    { do.quota_enable = {} }, { do.qgroup_limit = { path = \"sub\", referenced = \"16 MiB\", exclusive = \"16 MiB\" } }, \
    { do.quota_rescan = {} }, { do.defragment = { file = \"sub/f\" } }, \
    { name = \"pressed\", do.defragment = { file = \"sub/f\", compress = \"zstd\" } }, \
    { do.compress = { file = \"sub/f\", with = \"lzo\" } }, { do.fstrim = {} }, \
    { do.snapshot = { of = \"sub\", to = \"snap\" } }, { do.subvolume_delete = { path = \"sub\" } }, { do.wait_cleaner = {} }, \
    { do.pread = { file = \"snap/f\", offset = \"0 B\", length = \"1 MiB\" } }, \
    { do.device_remove = { device = \"a\" } }, { do.device_replace = { from = \"b\", to = \"a\" } }, \
    { do.remount = {} }, { do.check = {} }";

fn assert_every_act(journal: &Journal) {
    let failed: Vec<&Value> =
        journal.all("step").into_iter().filter(|step| !step["errno"].is_null()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(journal.verdict()["verdict"], "not-reproduced", "{}", journal.verdict());
    let number = |step: &str, name: &str| journal.step(step)["reported"][name].as_u64();
    assert!(number("all", "relocated") >= Some(3), "data, metadata and system");
    assert!(number("raid1", "relocated") >= Some(3));
    assert_eq!(number("again", "relocated"), Some(0), "they are raid1 already");
    assert_eq!(number("none", "relocated"), Some(0), "nothing is single any more");
    assert_eq!(number("on b", "relocated"), Some(1));
    assert_eq!(number("single", "enospc_errors"), Some(0));
    assert_eq!(journal.step("resize_disk")["returned"], 400 << 20);
    assert!(number("fstrim", "trimmed") > Some(100 << 20));
    assert!(journal.all("requests").len() == 2);
}

fn every_act() {
    // The disk that takes the place of the other has to be as large.
    let disks = DISKS.replace("256 MiB", "320 MiB");
    let scenario = phase(&disks, "", ACTS, "step = \"check\"");
    assert_every_act(&Journal::of(&["run", &scenario.path]));
}

fn every_act_in_a_guest() {
    let disks = DISKS.replace("256 MiB", "320 MiB");
    let scenario = phase(&disks, "", ACTS, "step = \"check\"");
    assert_every_act(&Journal::of(&in_guest(&[&scenario.path])));
}

fn balance_without_room() {
    let disks = "[device]\nsize = \"128 MiB\"\n[filesystem]\nkind = \"btrfs\"\n";
    let prepare = "[prepare]\nfill = { data_free = \"0 blocks\" }\n";
    let condition = "step = \"balance\"\nerrno = \"ENOSPC\"";
    let full = phase(disks, prepare, "{ do.balance = { data = {} } }", condition);
    // btrfs prints 100 lines of a level in 5 s at most, of all filesystems: those before may have used them up.
    let counted = (0..5).find_map(|_| {
        let journal = Journal::of(&["run", &full.path]);
        assert_eq!(journal.verdict()["verdict"], "reproduced", "{}", journal.verdict());
        let count = journal.step("balance")["reported"]["enospc_errors"].as_u64();
        if count.is_none() {
            std::thread::sleep(Duration::from_secs(5));
        }
        count.map(|count| (count, journal))
    });
    let (count, journal) = counted.unwrap();
    let said = format!("{count} enospc errors during balance");
    let lines = journal.all("kernel-log");
    assert!(
        count > 0 && lines.iter().any(|line| line["text"].as_str().unwrap().contains(&said)),
        "{lines:?}"
    );
    // What is full to the last byte is not less than 100 % full.
    let skipped = phase(disks, prepare, "{ do.balance = { data = { usage = 100 } } }", condition);
    let journal = Journal::of(&["run", &skipped.path]);
    let balance = journal.step("balance");
    assert!(balance["errno"].is_null() && balance["reported"]["relocated"] == 0, "{balance}");
}

fn qgroup_limit() {
    let disks = "[device]\nsize = \"128 MiB\"\n[filesystem]\nkind = \"btrfs\"\n";
    let steps = "{ do.subvolume = { path = \"sub\" } }, { do.quota_enable = {} }, \
        { do.qgroup_limit = { path = \"sub\", referenced = \"1 MiB\" } }, \
        { do.pwrite = { file = \"sub/f\", offset = \"0 B\", length = \"512 KiB\" } }, { do.syncfs = {} }, \
        { name = \"more\", do.pwrite = { file = \"sub/f\", offset = \"1 MiB\", length = \"1 MiB\" } }";
    let scenario = phase(disks, "", steps, "step = \"more\"\nerrno = \"EDQUOT\"");
    let journal = Journal::of(&["run", &scenario.path]);
    assert_eq!(journal.verdict()["verdict"], "reproduced", "{}", journal.verdict());
}

fn live_remount() {
    let disks = "[device]\nsize = \"128 MiB\"\n[filesystem]\nkind = \"btrfs\"\n";
    let steps = "{ do.remount = { options = [\"ro\"], live = true } }, \
        { do.pwrite = { file = \"f\", offset = \"0 B\", length = \"4 KiB\" } }";
    let scenario = phase(disks, "", steps, "step = \"pwrite\"\nerrno = \"EROFS\"");
    let journal = Journal::of(&["run", &scenario.path]);
    assert_eq!(journal.verdict()["verdict"], "reproduced", "{}", journal.verdict());
    assert_eq!(journal.all("mount")[0]["read_only"], true);
}

fn shrink() {
    let disks = "[device]\nsize = \"512 MiB\"\n[filesystem]\nkind = \"btrfs\"\n";
    let prepare =
        "[prepare]\nstep = [ { do.fallocate = { file = \"f\", offset = \"0 B\", length = \"300 MiB\" } } ]\n";
    for (size, errno) in [("300 MiB", "ENOSPC"), ("200 MiB", "EINVAL")] {
        let step = format!("{{ do.resize_filesystem = {{ size = \"{size}\" }} }}");
        let condition = format!("step = \"resize_filesystem\"\nerrno = \"{errno}\"");
        let scenario = phase(disks, prepare, &step, &condition);
        let journal = Journal::of(&["run", &scenario.path]);
        assert_eq!(journal.verdict()["verdict"], "reproduced", "{}", journal.verdict());
    }
}

fn prepared() {
    let disks = "[device]\nsize = \"128 MiB\"\n[filesystem]\nkind = \"btrfs\"\nmount = [\"compress=zstd\"]\n";
    let prepare = "[prepare]\nfill = { data_free = \"66 blocks\" }\n\
        [[prepare.step]]\ndo.pwrite = { file = \"dir/f\", offset = \"1000 B\", length = \"70000 B\" }\n\
        [[prepare.step]]\ndo.reflink = { from = \"dir/f\", to = \"g\", offset = \"0 B\", length = \"64 KiB\" }\n";
    let steps = "{ do.pread = { file = \"dir/f\", offset = \"0 B\", length = \"71000 B\", expect = \"same as fsynced\" } }, \
        { do.pwrite = { file = \"dir/f\", offset = \"0 B\", length = \"4 KiB\" } }, \
        { do.pread = { file = \"dir/f\", offset = \"0 B\", length = \"71000 B\" } }, \
        { do.pread = { file = \"g\", offset = \"0 B\", length = \"64 KiB\" } }";
    let scenario = phase(disks, prepare, steps, "step = \"pread\"");
    let journal = Journal::of(&["run", &scenario.path, "--trials", "3"]);
    let verdict = journal.verdict();
    assert_eq!((&verdict["verdict"], &verdict["trials"]), (&"not-reproduced".into(), &3.into()), "{verdict}");
    assert_eq!(journal.all("prepared").len(), 1);
}

fn preparation_fails() {
    let disks = "[device]\nsize = \"128 MiB\"\n[filesystem]\nkind = \"btrfs\"\n";
    let prepare = "[prepare]\nstep = [ { do.fallocate = { file = \"f\", offset = \"0 B\", length = \"1 GiB\" } }, \
        { do.syncfs = {} } ]\n";
    let scenario = phase(disks, prepare, "{ do.syncfs = {} }", "step = \"syncfs\"");
    let journal = Journal::of(&["run", &scenario.path, "--trials", "3"]);
    let verdict = journal.verdict();
    assert_eq!((&verdict["verdict"], &verdict["trials"]), (&"inconclusive".into(), &0.into()));
    assert_eq!(
        verdict["reason"],
        "in the preparation, fallocate failed with ENOSPC, data reservation refused"
    );
    assert_eq!(journal.all("prepared")[0]["failed"]["errno"], "ENOSPC");
    assert_eq!(journal.exit, Some(4));
}
