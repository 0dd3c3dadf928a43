//! What steps have the disk do with its content and its space: a pool that runs dry, snapshots, marks.

use serde_json::{Value, json};

use crate::Test;
use crate::bench::{Journal, brim, scenario};
use crate::needs::BTRFS;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("a_pool_that_runs_dry_fails_writeback", BTRFS, runs_dry),
        ("a_pool_that_runs_dry_holds_writes_until_there_is_space", BTRFS, holds),
        ("what_waits_for_space_can_be_failed", BTRFS, fails_what_waits),
        ("a_pool_that_is_never_taken_away_stops_a_step_at_its_limit", BTRFS, never_given),
        ("a_pool_that_has_enough_has_tested_nothing", BTRFS, has_enough),
        ("a_snapshot_of_the_disk_is_gone_back_to", BTRFS, snapshot),
        ("several_disks_have_their_pools_snapshots_and_logs", BTRFS, several_disks),
    ]
}

/// A scenario whose disk has `pool`, with `steps`; it is about the step `write back`.
fn with_pool(pool: &str, steps: &str) -> Journal {
    let rest = format!(
        "[[phase]]\nname = \"write\"\nstep = [\n{steps}]\n[[reproduced]]\nstep = \"write back\"\nerrno = \"ENOSPC\"\n"
    );
    let given = scenario(&rest).with_limit("2 s");
    let text = std::fs::read_to_string(&given.path).unwrap();
    let device = format!("size = \"128 MiB\"\npool = {pool}\n");
    std::fs::write(&given.path, text.replace("size = \"128 MiB\"\n", &device)).unwrap();
    Journal::of(&["run", &given.path])
}

/// The evidence about the pool.
fn pool(journal: &Journal) -> &Value {
    let found = journal.all("pool");
    assert_eq!(found.len(), 1, "{:?}", journal.events);
    found[0]
}

fn named<'a>(journal: &'a Journal, name: &str) -> &'a Value {
    let mut steps = journal.all("step").into_iter();
    steps.find(|step| step["step"] == name).unwrap_or_else(|| panic!("no {name}"))
}

const RANGE: &str = "file = \"blob\", offset = \"0 B\", length = \"64 blocks\"";

fn write_by(by: &str) -> String {
    format!(
        "{{ {by}do.pwrite = {{ {RANGE} }} }},\n\
         {{ {by}name = \"write back\", do.sync_file_range = {{ {RANGE} }} }},\n"
    )
}

fn runs_dry() {
    let journal = with_pool("{ free = \"10 blocks\" }", &write_by(""));
    assert_eq!(journal.verdict()["verdict"], "reproduced", "{}", journal.verdict());
    assert!(pool(&journal)["without_space"].as_u64().unwrap() > 0, "{}", pool(&journal));
    assert!(pool(&journal)["allocated"].as_u64() <= pool(&journal)["limit"].as_u64(), "{}", pool(&journal));
    let said = |line: &&Value| line["text"].as_str().unwrap().contains("critical space allocation error");
    assert!(journal.all("kernel-log").into_iter().any(|line| said(&line)));
}

fn holds() {
    let steps = format!(
        "{}{{ by = \"m\", await.held = \"pool\" }},\n\
         {{ by = \"m\", do.set_pool = {{ free = \"32 MiB\", when_full = \"hold\" }} }},\n",
        write_by("by = \"w\", ")
    );
    let journal = with_pool("{ free = \"10 blocks\", when_full = \"hold\" }", &steps);
    assert_eq!(journal.verdict()["verdict"], "not-reproduced", "{}", journal.verdict());
    let held = named(&journal, "await")["held"].as_array().unwrap();
    assert!(held.iter().all(|held| held["op"] == "write"), "{held:?}");
    let place = |name: &str| journal.events.iter().position(|event| event == named(&journal, name)).unwrap();
    // Whose event comes first, that of the step that gave space or of the one that got it, is open.
    assert!(place("await") < place("write back"));
    assert_eq!(pool(&journal)["without_space"].as_u64(), Some(held.len().try_into().unwrap()));
    assert!(journal.all("kernel-log").is_empty(), "the kernel has seen nothing but a slow disk");
}

fn fails_what_waits() {
    let steps = format!(
        "{}{{ by = \"m\", await.held = \"pool\" }},\n\
         {{ by = \"m\", release = {{ gate = \"pool\", error = \"ENOSPC\" }} }},\n\
         {{ by = \"m\", do.remove_pool = {{}} }},\n",
        write_by("by = \"w\", ")
    );
    let journal = with_pool("{ free = \"10 blocks\", when_full = \"hold\" }", &steps);
    assert_eq!(journal.verdict()["verdict"], "reproduced", "{}", journal.verdict());
    assert_eq!(pool(&journal)["limit"], Value::Null);
}

/// The limit of the step, and with it the run, ends although nobody has given any space.
fn never_given() {
    let journal = with_pool("{ free = \"10 blocks\", when_full = \"hold\" }", &write_by(""));
    assert_eq!(journal.verdict()["verdict"], "inconclusive", "{}", journal.verdict());
    let held = journal.all("stuck")[0]["held"].as_array().unwrap().clone();
    assert!(held.iter().any(|held| held.as_str().unwrap().contains("held by \"pool\"")), "{held:?}");
}

fn has_enough() {
    let journal = with_pool("{ limit = \"128 MiB\" }", &write_by(""));
    assert_eq!(journal.verdict()["verdict"], "not-reproduced", "{}", journal.verdict());
    assert_eq!(pool(&journal)["without_space"], json!(0));
    assert_eq!(pool(&journal)["limit"], json!(128 << 20));
}

fn snapshot() {
    // Both fit into what is free.
    let range = RANGE.replace("64 blocks", "16 blocks");
    let write = |name: &str| {
        format!("{{ name = \"{name}\", do.pwrite = {{ {range} }} }},\n{{ do.syncfs = {{}} }},\n")
    };
    let read = |name: &str| format!("{{ name = \"{name}\", do.pread = {{ {range} }} }},\n");
    let rest = format!(
        "[[phase]]\nname = \"there and back\"\nstep = [\n{}\
         {{ do.keep_snapshot = {{ name = \"old\" }} }},\n{}\
         {{ do.keep_snapshot = {{ name = \"new\" }} }},\n\
         {{ do.resize_disk = {{ size = \"160 MiB\" }} }},\n\
         {{ name = \"back\", do.restore_snapshot = {{ name = \"old\" }} }},\n{}\
         {{ name = \"forth\", do.restore_snapshot = {{ name = \"new\" }} }},\n{}\
         {{ do.mark = {{ text = \"nobody keeps a log\" }} }},\n\
         {{ do.check = {{}} }},\n]\n\
         [[reproduced]]\nstep = \"old\"\ncontent = \"lost\"\n",
        write("first"),
        write("second"),
        read("old"),
        read("new"),
    );
    let journal = Journal::of(&["run", &scenario(&rest).path]);
    let verdict = journal.verdict();
    assert_eq!(verdict["verdict"], "not-reproduced", "{verdict}");
    for name in ["back", "old", "forth", "new", "check"] {
        let step = named(&journal, name);
        assert!(step["errno"].is_null() && step["problem"].is_null(), "{step}");
    }
    assert_eq!(named(&journal, "mark")["returned"], 0);
    // The two contents differ, or the reads would find nothing out.
    let wrong = rest.replace("{ name = \"back\", do.restore_snapshot = { name = \"old\" } },\n", "");
    let wrong = wrong.replace(
        "name = \"forth\", do.restore_snapshot = { name = \"new\" }",
        "name = \"forth\", do.restore_snapshot = { name = \"old\" }",
    );
    let wrong = wrong.replace("step = \"old\"", "step = \"new\"");
    let same = Journal::of(&["run", &scenario(&wrong).path]);
    assert_eq!(same.verdict()["verdict"], "not-reproduced", "{}", same.verdict());
}

/// Data and metadata on both of two disks; a pool behind one of them; the log of each makes that disk.
fn several_disks() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let range = "file = \"blob\", offset = \"0 B\", length = \"1 MiB\"";
    let text = format!(
        "schema = 1\nname = \"test\"\nclaim = \"it works\"\nsource = \"a test\"\nstep_limit = \"5 s\"\n\
         [[device]]\nname = \"a\"\nsize = \"128 MiB\"\n\
         [[device]]\nname = \"b\"\nsize = \"128 MiB\"\npool = {{ limit = \"128 MiB\" }}\n\
         [filesystem]\nkind = \"btrfs\"\nmkfs = [\"-d\", \"raid1\", \"-m\", \"raid1\"]\n\
         [[phase]]\nname = \"there and back\"\nstep = [\n\
         {{ do.pwrite = {{ {range} }} }},\n{{ do.syncfs = {{}} }},\n\
         {{ do.keep_snapshot = {{ name = \"old\" }} }},\n{{ do.mark = {{ text = \"kept\" }} }},\n\
         {{ do.pwrite = {{ {range}, data = \"zeroes\" }} }},\n{{ do.syncfs = {{}} }},\n\
         {{ do.restore_snapshot = {{ name = \"old\" }} }},\n{{ do.pread = {{ {range} }} }},\n\
         {{ do.check = {{}} }},\n\
         {{ do.set_pool = {{ device = \"b\", free = \"0 B\" }} }},\n\
         {{ name = \"more\", do.pwrite = {{ file = \"more\", offset = \"0 B\", length = \"1 MiB\" }} }},\n\
         {{ do.syncfs = {{}} }},\n]\n\
         [[reproduced]]\nstep = \"pread\"\ncontent = \"lost\"\n"
    );
    std::fs::write(path("test.toml"), text).unwrap();
    let journal = Journal::of(&["run", &path("test.toml"), "--log", &path("log")]);
    for name in ["pread", "check"] {
        let step = named(&journal, name);
        assert!(step["errno"].is_null() && step["problem"].is_null(), "{step}");
    }
    let dry = pool(&journal);
    assert_eq!(dry["device"], "b");
    assert!(dry["without_space"].as_u64().unwrap() > 0, "{dry}");
    for disk in ["a", "b"] {
        let (log, onto) = (path(&format!("log.{disk}")), path(disk));
        let replayed =
            brim(&["log", "replay", &log, "--to", "kept", "--onto", &onto, "--size", "128MiB"]).output();
        assert!(replayed.unwrap().status.success());
    }
    let checked =
        std::process::Command::new("btrfs").args(["check", "--readonly", &path("a")]).output().unwrap();
    // Its other half is not known to the kernel as a device, and so the first alone is looked at.
    let said =
        String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    assert!(said.contains("UUID") && !path("log").is_empty(), "{said}");
    assert!(!std::path::Path::new(&path("log")).exists(), "each disk has its own");
}
