//! However a run ends, nothing is left of it.

use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::Test;
use crate::bench::{SCENARIO, assert_nothing_left, brim, mark, scenario};
use crate::needs::BTRFS;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("30_runs_killed_at_random_moments_leave_nothing", BTRFS, killed_runs),
        ("12_runs_killed_while_a_gate_holds_leave_nothing", BTRFS, killed_at_a_gate),
        ("6_programs_killed_at_random_moments_leave_nothing", BTRFS, killed_programs),
        ("an_interrupted_run_leaves_nothing_and_exits_with_130", BTRFS, interrupted_run),
        ("a_terminated_program_leaves_nothing_and_exits_with_130", BTRFS, terminated_program),
        ("a_run_whose_agent_is_killed_says_so_and_leaves_nothing", BTRFS, killed_agent),
    ]
}

/// Moments spread over a run's life by a multiplicative sequence, so that a failure can be run again.
pub(crate) fn moments(count: u64, within: Duration) -> impl Iterator<Item = Duration> {
    let micros = u64::try_from(within.as_micros()).unwrap();
    (1..=count).map(move |index| Duration::from_micros(index.wrapping_mul(0x9e37_79b9_7f4a_7c15) % micros))
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn killed_runs() {
    kill_at(moments(30, Duration::from_millis(700)), &["run", SCENARIO, "--trials", "1000"]);
}

/// Most of each trial is spent with a scrub or a commit that a gate holds.
fn killed_at_a_gate() {
    let never_opened = scenario(
        "[[fault]]\nname = \"commit\"\nwhen = { op = \"write\", region = \"superblock\" }\nthen = \"hold\"\n\
         [[phase]]\nname = \"test\"\nstep = [ { by = \"one\", do.syncfs = {} }, \
         { by = \"one\", do.pwrite = { file = \"f\", offset = \"0 B\", length = \"4 KiB\" } }, \
         { by = \"one\", do.syncfs = {} }, { by = \"two\", await.held = { gate = \"commit\", count = 3 } }, \
         { by = \"two\", release = \"commit\" } ]\n[[reproduced]]\nstep = \"syncfs\"\nerrno = \"EIO\"\n",
    );
    kill_at(moments(6, Duration::from_millis(1500)), &["run", &never_opened.path, "--trials", "100"]);
    let scrub = ["run", "btrfs/scrub-loses-accepted-write", "--trials", "100"];
    kill_at(moments(6, Duration::from_millis(900)), &scrub);
}

fn killed_programs() {
    let busy = "while :; do dd if=/dev/zero of=f bs=64k count=64 conv=fsync; rm f; done";
    let words = ["exec", "--data-free", "500 blocks", "--", "sh", "-c", busy];
    kill_at(moments(6, Duration::from_millis(1500)), &words);
}

fn kill_at(moments: impl Iterator<Item = Duration>, words: &[&str]) {
    for moment in moments {
        let mut command = brim(words);
        let mark = mark(&mut command);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(moment);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_nothing_left(&mark);
    }
}

fn interrupted_run() {
    for moment in moments(5, Duration::from_millis(700)) {
        let mut command = brim(&["run", SCENARIO, "--trials", "1000", "--json"]);
        let mark = mark(&mut command);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(100) + moment);
        signal(&child, Signal::INT);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        let journal = String::from_utf8(output.stdout).unwrap();
        let last = journal.lines().last().unwrap();
        assert!(last.starts_with(r#"{"schema":1,"event":"failed","why":"interrupted"#), "{last}");
        assert_nothing_left(&mark);
    }
}

fn terminated_program() {
    let mut command = brim(&["exec", "--", "sleep", "1000"]);
    let mark = mark(&mut command);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(800));
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_nothing_left(&mark);
}

fn killed_agent() {
    let mut command = brim(&["run", SCENARIO, "--trials", "1000"]);
    let mark = mark(&mut command);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let children = std::fs::read_to_string(children).unwrap();
    let agent = children.split_whitespace().next().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(agent).unwrap(), Signal::KILL).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("the agent ended before its work was done") || said.contains("the channel"),
        "{said}"
    );
    assert_nothing_left(&mark);
}
