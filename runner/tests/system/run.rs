//! `brim run`: the 2019 report on this kernel.

use crate::Test;
use crate::bench::{Journal, SCENARIO, brim, scenario};
use crate::needs::{BTRFS, Need};

/// On 6.18 the write fails at these counts of free blocks alone (DESIGN.md, fact 6).
const NEW_KERNEL: &[Need] = &[Need::Rig, Need::Filesystem("btrfs"), Need::Tracefs, Need::Kernel(6, 18)];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("run_reproduces_20_of_20_at_66_blocks", BTRFS, reproduces_20_of_20),
        ("run_with_65_and_67_blocks_fails_at_fallocate", NEW_KERNEL, neighbours_fail_at_fallocate),
        ("run_over_a_range_finds_66_99_and_132", NEW_KERNEL, range_finds_three),
        ("run_of_the_aligned_control_never_fails_at_pwrite", BTRFS, control_never_reproduces),
        ("run_on_ext4_fails_at_fallocate", &[Need::Rig, Need::Filesystem("ext4")], ext4),
        ("run_on_xfs_fails_at_fallocate", &[Need::Rig, Need::Filesystem("xfs")], xfs),
        ("run_prints_a_block_with_its_evidence", NEW_KERNEL, prints_a_block),
        ("run_of_a_state_out_of_reach_is_inconclusive", BTRFS, out_of_reach),
        ("run_twice_sees_the_same", BTRFS, same_twice),
        ("run_of_an_unforeseen_error_is_inconclusive", BTRFS, unforeseen),
        ("run_not_as_known_exits_with_1", BTRFS, not_as_known),
        ("run_goes_on_after_what_a_phase_waited_for", BTRFS, next_phase),
    ]
}

fn reproduces_20_of_20() {
    let journal = Journal::of(&["run", SCENARIO, "--trials", "20"]);
    let verdict = journal.verdict();
    assert_eq!(verdict["verdict"], "reproduced");
    assert_eq!((&verdict["trials"], &verdict["reproduced"]), (&20.into(), &20.into()));
    assert_eq!(verdict["failed_step"], "pwrite");
    assert_eq!(verdict["errno"], "ENOSPC");
    assert_eq!(verdict["space"], "data");
    assert_eq!((&verdict["known"], &verdict["expected"]), (&"reproduced".into(), &true.into()));
    assert_eq!(verdict["rig"], "host/fuse");
    assert_eq!(verdict["params"]["free"], "66 blocks");
    assert!(verdict["seconds"].as_f64().unwrap() > 0.0);
    assert!(
        verdict["command"]
            .as_str()
            .unwrap()
            .starts_with("brim run scenarios/btrfs/fallocate-then-pwrite.toml")
    );
    assert_eq!(journal.exit, Some(0));
    assert_eq!(journal.all("prepared").len(), 1, "mkfs and fill once");
    assert_eq!(journal.all("ticket").len(), 20, "each trial has its refused ticket");
    assert_eq!(journal.all("prepared")[0]["counters"]["data_free"], 66 * 4096);
}

fn neighbours_fail_at_fallocate() {
    for free in ["65 blocks", "67 blocks"] {
        let journal = Journal::of(&["run", SCENARIO, "--set", &format!("free={free}")]);
        let verdict = journal.verdict();
        assert_eq!(verdict["verdict"], "not-reproduced", "{free}");
        assert_eq!(verdict["failed_step"], "fallocate", "{free}");
        assert_eq!(verdict["errno"], "ENOSPC", "{free}");
        assert_eq!(journal.exit, Some(0));
    }
}

fn range_finds_three() {
    let journal = Journal::of(&["run", SCENARIO, "--set", "free=60..140 blocks"]);
    let verdicts = journal.all("verdict");
    assert_eq!(verdicts.len(), 81);
    let reproduced: Vec<&str> = verdicts
        .iter()
        .filter(|verdict| verdict["verdict"] == "reproduced")
        .map(|verdict| verdict["params"]["free"].as_str().unwrap())
        .collect();
    assert_eq!(reproduced, ["66 blocks", "99 blocks", "132 blocks"]);
    assert!(verdicts.iter().all(|verdict| verdict["verdict"] != "inconclusive"));
    assert_eq!(journal.exit, Some(0));
}

fn control_never_reproduces() {
    let journal = Journal::of(&["run", "btrfs/fallocate-then-pwrite-aligned", "--trials", "5"]);
    assert_eq!(journal.verdict()["verdict"], "not-reproduced");
    assert_eq!(journal.verdict()["failed_step"], "fallocate");
    assert_eq!(journal.exit, Some(0));
}

fn ext4() {
    never_at_pwrite("ext4");
}

fn xfs() {
    never_at_pwrite("xfs");
}

fn never_at_pwrite(filesystem: &str) {
    let journal = Journal::of(&["run", SCENARIO, "--filesystem", filesystem, "--set", "free=60..140 blocks"]);
    let verdicts = journal.all("verdict");
    assert_eq!(verdicts.len(), 81);
    for verdict in verdicts {
        assert_eq!(verdict["verdict"], "not-reproduced", "{verdict}");
        assert_eq!(verdict["failed_step"], "fallocate", "{verdict}");
        assert_eq!(verdict["filesystem"], filesystem);
    }
    assert_eq!(journal.exit, Some(0));
}

fn prints_a_block() {
    let output = brim(&["run", SCENARIO]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "reproduced  1 of 1 trials; as known for this kernel",
        "fallocate ok ×2, pwrite ok ×1, fsync ok ×1, then pwrite64(blob, 132096 B at 132096) = ENOSPC",
        "data reservation refused",
        "data free   66 blocks → 0 blocks",
        "tickets     data 4096 B = ENOSPC",
        "again: brim run scenarios/btrfs/fallocate-then-pwrite.toml --seed 0x1",
    ] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

/// More than the disk has: the nearest state is told, and no trial runs in it.
fn out_of_reach() {
    let journal = Journal::of(&["run", SCENARIO, "--set", "free=20000 blocks"]);
    let verdict = journal.verdict();
    assert_eq!(verdict["verdict"], "inconclusive");
    assert_eq!(verdict["trials"], 0);
    let reason = verdict["reason"].as_str().unwrap();
    assert!(reason.starts_with("data_free is ") && reason.contains("less than asked for"), "{reason}");
    assert_eq!(journal.exit, Some(4));
}

/// The evidence of two runs differs in nothing but times, free-running counters of metadata, and device numbers.
fn same_twice() {
    let steps = || {
        let journal = Journal::of(&["run", SCENARIO, "--seed", "0x2a"]);
        let mut steps: Vec<_> = journal.all("step").into_iter().cloned().collect();
        for step in &mut steps {
            step["nanos"] = 0.into();
            assert!(step["at"].as_u64().is_some(), "{step}");
            step["at"] = 0.into();
        }
        steps
    };
    assert_eq!(steps(), steps());
}

fn unforeseen() {
    let scenario = scenario(
        "[[phase]]\nname = \"no such file\"\nstep = [ { do.unlink = { file = \"nothing\" } } ]\n\
         [[reproduced]]\nstep = \"unlink\"\nerrno = \"EIO\"\n",
    );
    let journal = Journal::of(&["run", &scenario.path]);
    assert_eq!(journal.verdict()["verdict"], "inconclusive");
    assert_eq!(journal.verdict()["errno"], "ENOENT");
    assert_eq!(journal.exit, Some(4));
}

fn not_as_known() {
    let scenario = scenario(
        "[[phase]]\nname = \"no such file\"\nstep = [ { do.unlink = { file = \"nothing\" } } ]\n\
         [[reproduced]]\nstep = \"unlink\"\nerrno = \"ENOENT\"\n[[known]]\nverdict = \"not-reproduced\"\n",
    );
    let journal = Journal::of(&["run", &scenario.path]);
    assert_eq!(journal.verdict()["verdict"], "reproduced");
    assert_eq!(journal.verdict()["expected"], false);
    assert_eq!(journal.exit, Some(1));
}

/// The first phase fills the rest, the second finds no room in a file that has no extents yet.
fn next_phase() {
    let scenario = scenario(
        "[[phase]]\nname = \"fill\"\nuntil = \"ENOSPC\"\n\
         step = [ { do.pwrite = { file = \"a\", offset = \"${i} * 64 KiB\", length = \"64 KiB\" } } ]\n\
         [[phase]]\nname = \"one more\"\n\
         step = [ { name = \"more\", do.pwrite = { file = \"b\", offset = \"0 B\", length = \"4 KiB\" } } ]\n\
         [[reproduced]]\nstep = \"more\"\nerrno = \"ENOSPC\"\nspace = \"data\"\n",
    );
    let journal = Journal::of(&["run", &scenario.path]);
    assert_eq!(journal.verdict()["verdict"], "reproduced");
    assert_eq!(journal.verdict()["failed_step"], "more");
    let phases = journal.all("phase");
    // 100 blocks take six records of 16 blocks, and the seventh comes to a short end.
    assert_eq!((&phases[0]["completed"], &phases[1]["completed"]), (&[6].into(), &[0].into()));
    let short = journal.all("step").into_iter().find(|step| !step["short"].is_null()).unwrap();
    assert_eq!((&short["step"], &short["short"]), (&"pwrite".into(), &16384.into()));
}
