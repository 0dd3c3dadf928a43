//! The exact fill where it is not plain: metadata, shared block groups, several disks, compression.

use serde_json::Value;

use crate::Test;
use crate::bench::{Journal, Scenario, whole_scenario};
use crate::guests::in_guest;
use crate::needs::{BTRFS, Need};

const GUEST: &[Need] = &[Need::Uml];
const ONE: &str = "[device]\nsize = \"128 MiB\"\n";
const TWO: &str =
    "[[device]]\nname = \"a\"\nsize = \"128 MiB\"\n[[device]]\nname = \"b\"\nsize = \"160 MiB\"\n";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("metadata_is_filled_to_the_node", BTRFS, to_the_node),
        ("metadata_is_filled_to_the_node_in_a_guest", GUEST, in_a_guest),
        ("a_level_out_of_reach_says_which_number_is_off", BTRFS, out_of_reach),
        ("data_is_exact_with_every_profile_and_mount_option", BTRFS, data),
        ("at_a_low_level_a_write_lacks_metadata", BTRFS, lacks_metadata),
    ]
}

/// Nothing is done after the fill.
fn filled(disks: &str, mkfs: &str, mount: &str, fill: &str) -> Scenario {
    whole_scenario(&format!(
        "{disks}[filesystem]\nkind = \"btrfs\"\nmkfs = {mkfs}\nmount = {mount}\n[prepare]\nfill = {{ {fill} }}\n\
         [[phase]]\nname = \"test\"\nstep = [ {{ do.unlink = {{ file = \"nothing\" }} }} ]\n\
         [[reproduced]]\nstep = \"unlink\"\nerrno = \"ENOENT\"\n"
    ))
}

/// What is free for data and for metadata, of the preparation and of each fork.
fn free(journal: &Journal) -> Vec<(u64, u64)> {
    let forks = journal.all("counters").into_iter().filter(|counters| counters["when"] == "before");
    let readings = journal.all("prepared").into_iter().chain(forks);
    let free = |event: &Value| {
        let values = event["counters"]["values"].as_object().unwrap();
        let of = |name: &str| values.get(&format!("metadata.{name}")).and_then(Value::as_u64).unwrap_or(0);
        let taken = ["used", "may_use", "reserved", "pinned", "readonly", "zone_unusable"];
        let metadata = of("total") - taken.into_iter().map(of).sum::<u64>();
        (event["counters"]["data_free"].as_u64().unwrap(), metadata)
    };
    readings.map(free).collect()
}

fn assert_exact(words: &[&str], wanted: (u64, Option<u64>)) {
    let journal = Journal::of(words);
    assert_eq!(journal.verdict()["verdict"], "reproduced", "{}", journal.verdict());
    let readings = free(&journal);
    assert_eq!(readings.len(), 3);
    for (data, metadata) in readings {
        assert_eq!(data, wanted.0, "{words:?}");
        assert!(wanted.1.is_none_or(|wanted| metadata == wanted), "{metadata} of {wanted:?}");
    }
}

fn to_the_node() {
    for (disks, mkfs, kib) in [
        // Seven nodes are what is left where a node more cannot be had.
        (ONE, "[]", 112),
        (ONE, "[]", 624),
        (ONE, "[]", 20 << 10),
        (ONE, "[\"-n\", \"4096\"]", 628),
        (ONE, "[\"-m\", \"single\", \"-d\", \"single\"]", 1 << 10),
        (TWO, "[\"-m\", \"raid1\", \"-d\", \"raid1\"]", 1 << 10),
    ] {
        let fill = format!("data_free = \"50 blocks\", metadata_free = \"{kib} KiB\"");
        let scenario = filled(disks, mkfs, "[]", &fill);
        assert_exact(&["run", &scenario.path, "--trials", "2"], (50 * 4096, Some(kib << 10)));
    }
}

fn in_a_guest() {
    for kib in [112, 1 << 10] {
        let fill = format!("data_free = \"50 blocks\", metadata_free = \"{kib} KiB\"");
        let scenario = filled(ONE, "[]", "[]", &fill);
        assert_exact(&in_guest(&[&scenario.path, "--trials", "2"]), (50 * 4096, Some(kib << 10)));
    }
}

fn out_of_reach() {
    for (mkfs, fill, reason) in [
        ("[]", "metadata_free = \"96 KiB\"", "metadata_free is 28 blocks, 4 blocks more than asked for"),
        ("[]", "metadata_free = \"64 MiB\"", "less than asked for"),
        ("[\"-M\"]", "data_free = \"6 blocks\"", "data_free is 7 blocks, 1 block more than asked for"),
    ] {
        let scenario = filled(ONE, mkfs, "[]", fill);
        let journal = Journal::of(&["run", &scenario.path]);
        let verdict = journal.verdict();
        assert_eq!((&verdict["verdict"], &verdict["trials"]), (&"inconclusive".into(), &0.into()));
        assert!(verdict["reason"].as_str().unwrap().contains(reason), "{verdict}");
        assert_eq!(journal.exit, Some(4));
    }
}

fn data() {
    for (disks, mkfs, mount) in [
        (ONE, "[\"-M\"]", "[]"),
        (ONE, "[\"-m\", \"single\", \"-d\", \"single\"]", "[]"),
        ("[device]\nsize = \"256 MiB\"\n", "[\"-d\", \"dup\"]", "[]"),
        (ONE, "[]", "[\"compress-force=zstd\"]"),
        (ONE, "[]", "[\"compress=lzo\"]"),
        (ONE, "[]", "[\"nodatacow\"]"),
        (TWO, "[\"-d\", \"raid1\", \"-m\", \"raid1\"]", "[]"),
        (TWO, "[\"-d\", \"raid0\", \"-m\", \"raid1\"]", "[]"),
        (TWO, "[\"-d\", \"single\", \"-m\", \"dup\"]", "[]"),
    ] {
        let scenario = filled(disks, mkfs, mount, "data_free = \"66 blocks\"");
        assert_exact(&["run", &scenario.path, "--trials", "2"], (66 * 4096, None));
    }
}

/// A write into a hole asks for 40 nodes: at 39 it is refused, and data is not to blame.
fn lacks_metadata() {
    let scenario = whole_scenario(&format!(
        "{ONE}[filesystem]\nkind = \"btrfs\"\n[prepare]\n\
         step = [ {{ do.pwrite = {{ file = \"f\", offset = \"0 B\", length = \"4 KiB\" }} }} ]\n\
         fill = {{ data_free = \"50 blocks\", metadata_free = \"624 KiB\" }}\n\
         [[phase]]\nname = \"test\"\nstep = [ {{ do.pwrite = {{ file = \"f\", offset = \"8 KiB\", length = \"4 KiB\" }} }} ]\n\
         [[reproduced]]\nstep = \"pwrite\"\nerrno = \"ENOSPC\"\nspace = \"metadata\"\n"
    ));
    let journal = Journal::of(&["run", &scenario.path, "--trials", "5"]);
    let verdict = journal.verdict();
    assert_eq!(verdict["reproduced"], 5, "{verdict}");
    let enough = std::fs::read_to_string(&scenario.path).unwrap().replace("624 KiB", "1 MiB");
    std::fs::write(&scenario.path, enough).unwrap();
    assert_eq!(Journal::of(&["run", &scenario.path]).verdict()["verdict"], "not-reproduced");
}
