//! Scenarios in guests: the User Mode Linux of Debian's package, without a network.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::Test;
use crate::bench::{Journal, SCENARIO, brim, scenario};
use crate::needs::{LINUX_UML, Need};

const GUEST: &[Need] = &[Need::Uml];
/// A guest and the running kernel, which differ at 70 blocks.
const BOTH: &[Need] = &[Need::Uml, Need::Rig, Need::Filesystem("btrfs"), Need::Tracefs, Need::Kernel(6, 18)];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("a_guest_fails_at_pwrite_from_66_blocks_on_for_root_and_for_nobody", GUEST, maps),
        ("scrub_loses_an_accepted_write_in_a_guest_5_of_5_times", GUEST, scrub),
        ("a_write_inside_a_commit_is_kept_in_a_guest", GUEST, inside_commit),
        ("a_live_resize_is_seen_by_a_guest", GUEST, live_resize),
        ("a_panic_in_trial_5_of_10_costs_one_guest", GUEST, panic_in_trial_5),
        ("a_panic_of_the_host_is_refused", &[], panic_on_the_host),
        ("compare_says_where_two_kernels_differ", BOTH, compare),
        ("two_kernels_make_a_table_and_a_range_a_map", BOTH, table_and_map),
        ("git_bisect_gets_the_exit_codes_it_wants", GUEST, git_bisect),
        ("kernels_that_cannot_be_are_refused", &[], bad_usage),
    ]
}

/// `run` in a guest.
pub(crate) fn in_guest<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--kernel", LINUX_UML], words].concat()
}

pub(crate) fn as_nobody(command: &mut Command) {
    if rustix::process::geteuid().is_root() {
        // `nobody` of Debian and of most others.
        command.uid(65534).gid(65534);
    }
}

/// What `free` came to, of some verdicts.
fn at<'a>(verdicts: &[&'a Value], free: &str) -> &'a Value {
    verdicts.iter().find(|verdict| verdict["params"]["free"] == free).unwrap()
}

fn maps() {
    // Both at once: neither waits for the other's boot.
    let children = [false, true].map(|nobody| {
        let mut command = brim(&in_guest(&[SCENARIO, "--set", "free=65..67 blocks", "--json"]));
        if nobody {
            as_nobody(&mut command);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    for child in children {
        let journal = Journal::read(&child.wait_with_output().unwrap());
        let verdicts = journal.all("verdict");
        let kernel = verdicts[0]["kernel"].as_str().unwrap();
        assert!(verdicts.iter().all(|verdict| verdict["rig"] == "uml"));
        let below = at(&verdicts, "65 blocks");
        assert_eq!(
            (&below["verdict"], &below["failed_step"]),
            (&"not-reproduced".into(), &"fallocate".into())
        );
        fails_at_pwrite(at(&verdicts, "66 blocks"));
        if kernel.starts_with("6.1.") || kernel.starts_with("6.12.") {
            fails_at_pwrite(at(&verdicts, "67 blocks"));
        }
        assert_eq!(journal.exit, Some(0));
    }
    let journal = Journal::of(&in_guest(&[SCENARIO, "--set", "free=99 blocks", "--trials", "5"]));
    fails_at_pwrite(journal.verdict());
    assert_eq!(journal.verdict()["reproduced"], 5);
    assert_eq!(journal.all("prepared").len(), 1, "prepared once, forked for each trial");
}

fn fails_at_pwrite(verdict: &Value) {
    assert_eq!(verdict["verdict"], "reproduced", "{verdict}");
    // Where the kernel has no tracepoints the counters tell which space it was.
    assert_eq!((&verdict["failed_step"], &verdict["space"]), (&"pwrite".into(), &"data".into()), "{verdict}");
}

fn scrub() {
    let journal = Journal::of(&in_guest(&["btrfs/scrub-loses-accepted-write", "--trials", "5"]));
    let verdict = journal.verdict();
    assert_eq!((&verdict["reproduced"], &verdict["inconclusive"]), (&5.into(), &0.into()), "{verdict}");
    let gates = journal.all("fault");
    assert!(gates.len() == 5 && gates.iter().all(|gate| gate["firings"].as_u64() > Some(0)), "{gates:?}");
}

fn inside_commit() {
    let journal = Journal::of(&in_guest(&["btrfs/write-inside-commit", "--trials", "3"]));
    let verdict = journal.verdict();
    assert_eq!((&verdict["verdict"], &verdict["trials"]), (&"not-reproduced".into(), &3.into()), "{verdict}");
    let held = journal.all("step").into_iter().find(|step| step["step"] == "await").unwrap();
    assert_eq!(held["held"], serde_json::json!([{ "op": "write", "offset": 65536, "length": 4096 }]));
}

fn live_resize() {
    let scenario = scenario(
        "[[phase]]\nname = \"grow, then shrink\"\nstep = [ { do.resize_disk = { size = \"160 MiB\" } }, \
         { do.resize_disk = { size = \"144 MiB\" } }, { do.syncfs = {} }, { do.unlink = { file = \"no\" } } ]\n\
         [[reproduced]]\nstep = \"unlink\"\nerrno = \"ENOENT\"\n",
    );
    let journal = Journal::of(&in_guest(&[&scenario.path]));
    assert_eq!(journal.verdict()["verdict"], "reproduced", "{}", journal.verdict());
    let resized = journal.all("step").into_iter().filter(|step| step["step"] == "resize_disk");
    let sizes: Vec<u64> = resized.map(|step| step["returned"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [160 << 20, 144 << 20]);
}

const PANIC: &str = "[[phase]]\nname = \"panic\"\nstep = [ \
    { do.pwrite = { file = \"f\", offset = \"0 B\", length = \"64 KiB\" } }, { do.panic = { trial = 5 } }, \
    { do.fsync = { file = \"f\" } } ]\n[[reproduced]]\nstep = \"fsync\"\nerrno = \"EIO\"\n";

fn panic_in_trial_5() {
    let scenario = scenario(PANIC);
    let journal = Journal::of(&in_guest(&[&scenario.path, "--trials", "10"]));
    let crashes = journal.all("crash");
    assert_eq!(crashes.len(), 1);
    assert_eq!(crashes[0]["trial"], 5);
    assert!(crashes[0]["how"].as_str().unwrap().starts_with("Kernel panic - not syncing"), "{}", crashes[0]);
    let words = crashes[0]["last_words"].as_array().unwrap();
    assert!(words.iter().any(|line| line.as_str().unwrap().contains("Kernel panic")), "{words:?}");
    let verdicts = journal.all("trial-verdict");
    assert_eq!(verdicts.len(), 10);
    for verdict in verdicts {
        let expected = if verdict["trial"] == 5 { "inconclusive" } else { "not-reproduced" };
        assert_eq!(verdict["verdict"], expected, "{verdict}");
    }
    let verdict = journal.verdict();
    assert_eq!((&verdict["verdict"], &verdict["inconclusive"]), (&"inconclusive".into(), &1.into()));
    assert_eq!(journal.exit, Some(4));
    // What the panic cost is in the block, too.
    let output = brim(&in_guest(&[&scenario.path, "--trials", "5"])).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("crash       Kernel panic - not syncing: sysrq triggered crash"), "{said}");
    assert!(said.contains(&format!("again: brim run {} --kernel {LINUX_UML}", scenario.path)), "{said}");
}

fn panic_on_the_host() {
    let scenario = scenario(PANIC);
    for words in
        [vec!["run", "--json"], vec!["run", "--rig", "host/nbd"], vec!["compare", "--kernel", "running"]]
    {
        let output = brim(&words).arg(&scenario.path).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty(), "nothing has run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("this one is the host's") && said.contains("--kernel uml/"), "{said}");
    }
}

/// The exit codes of several runs of brim and what they printed, all at once.
fn side_by_side<const N: usize>(commands: [&[&str]; N]) -> [(Option<i32>, String); N] {
    let start = |words: &[&str]| brim(words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    commands.map(start).map(|child| {
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    })
}

fn compare() {
    let words = ["compare", SCENARIO, "--kernel", LINUX_UML, "--kernel", "running", "--set"];
    let [(differ, said), (agree, once)] = side_by_side([
        &[&words[..], &["free=70 blocks"]].concat(),
        &[&words[..], &["free=66 blocks"]].concat(),
    ]);
    let line = |words: &[&str]| said.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert_eq!(differ, Some(1), "{said}");
    assert!(line(&["verdict", LINUX_UML, " reproduced"]), "{said}");
    assert!(line(&["verdict", "running", " not-reproduced"]), "{said}");
    assert!(line(&["symptom", LINUX_UML, "pwrite = ENOSPC"]), "{said}");
    assert!(line(&["symptom", "running", "fallocate = ENOSPC"]), "{said}");
    assert_eq!(agree, Some(0), "{once}");
    assert_eq!(once.lines().filter(|line| line.starts_with("  verdict ")).count(), 1, "{once}");
}

fn table_and_map() {
    let words = in_guest(&[SCENARIO, "--kernel", "running", "--set"]);
    let [(_, table), (_, map)] = side_by_side([
        &[&words[..], &["free=65 blocks"]].concat(),
        &[&words[..], &["free=65..67 blocks"]].concat(),
    ]);
    let rows: Vec<&str> =
        table.lines().filter(|line| line.contains("not-reproduced 0 of 1 trials")).collect();
    assert!(rows.len() == 2 && rows[0].contains(LINUX_UML) && rows[1].contains("running"), "{table}");
    let row = |kernel: &str| map.lines().find(|line| line.starts_with(&format!("  {kernel} "))).unwrap();
    assert!(row(LINUX_UML).contains("  .X") && row("running").ends_with("  .X."), "{map}");
}

fn git_bisect() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("linux");
    std::fs::write(&image, std::fs::read(LINUX_UML).unwrap()).unwrap();
    let set = |free| in_guest(&[SCENARIO, "--git-bisect", "--set", free]);
    let on = |kernel| ["run", SCENARIO, "--git-bisect", "--kernel", kernel];
    let exits = side_by_side([
        &set("free=66 blocks"),
        &set("free=65 blocks"),
        // No disk of 128 MiB has so much.
        &set("free=100000 blocks"),
        // A file that may not be executed: a kernel that does not come up says nothing of the bug either.
        &on(image.to_str().unwrap()),
        // What is wrong for each commit.
        &on("/bin/sh"),
        &["run", "btrfs/no-such-scenario", "--git-bisect", "--kernel", LINUX_UML],
    ]);
    assert_eq!(exits.map(|(exit, _)| exit.unwrap()), [1, 0, 125, 125, 128, 128]);
}

fn bad_usage() {
    let kernels = tempfile::tempdir().unwrap();
    let refused = |words: &[&str], exit: i32| {
        let output =
            brim(&["run", SCENARIO]).args(words).env("BRIM_KERNELS", kernels.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(exit), "{words:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{words:?}");
        unfolded(&output)
    };
    assert!(refused(&["--modules", "/"], 2).contains("--kernel"));
    assert!(refused(&["--kernel", "/bin/sh"], 2).contains("no kernel that brim can boot"));
    assert!(refused(&["--kernel", "uml/2.4"], 2).contains("uml/6.12"));
    assert!(refused(&["--kernel", "/no/such/linux"], 2).contains("it is no file"));
    assert!(refused(&["--rig", "uml"], 2).contains("boots a kernel, and none is named"));
    assert!(refused(&["--kernel", "running", "--rig", "uml"], 2).contains("none is named"));
    let offline = refused(&["--kernel", "uml/6.12"], 3);
    assert!(
        offline.contains("`brim kernel add uml/6.12` gets it") && offline.contains("without a network"),
        "{offline}"
    );
    assert!(kernels.path().read_dir().unwrap().next().is_none(), "nothing is fetched for a run");
}

/// What it complained, not folded for the width of a terminal.
fn unfolded(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let words = text.split(|c: char| c.is_whitespace() || c == '│').filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}
