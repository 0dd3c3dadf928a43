//! However a guest ends, or the run that has it: what is judged, and that nothing is left.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::Test;
use crate::bench::{SCENARIO, assert_nothing_left_after, brim, mark, scenario};
use crate::end::{moments, signal};
use crate::guests::in_guest;
use crate::needs::Need;

const GUEST: &[Need] = &[Need::Uml];
/// How long what a run had may outlive it.
const LIMIT: Duration = Duration::from_secs(2);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("8_runs_in_guests_killed_at_random_moments_leave_nothing", GUEST, killed_runs),
        ("an_interrupted_run_in_a_guest_leaves_nothing_and_exits_with_130", GUEST, interrupted_run),
        ("a_guest_that_is_killed_or_stuck_costs_its_trial", GUEST, lost_guests),
    ]
}

/// A run in a guest, and the only places where it might write a file.
struct Run {
    child: Child,
    mark: crate::bench::Mark,
    places: TempDir,
}

impl Run {
    fn start(words: &[&str]) -> Self {
        let places = tempfile::Builder::new().prefix("places-").tempdir().unwrap();
        let mut command = brim(&in_guest(words));
        let mark = mark(&mut command);
        for variable in ["HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "BRIM_KERNELS"] {
            command.env(variable, places.path());
        }
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, mark, places }
    }

    /// Asserts that nothing is left of it once `end` has happened to it.
    fn leaves_nothing(mut self, end: impl FnOnce(&mut Child)) {
        let shared = files(Path::new("/dev/shm"));
        let family = descendants(self.child.id());
        end(&mut self.child);
        let until = Instant::now() + LIMIT;
        assert_nothing_left_after(&self.mark, LIMIT);
        loop {
            let written = files(self.places.path());
            let shared: BTreeSet<PathBuf> =
                files(Path::new("/dev/shm")).difference(&shared).cloned().collect();
            let alive: BTreeSet<Process> = descendants(0).intersection(&family).cloned().collect();
            if written.is_empty() && shared.is_empty() && alive.is_empty() {
                return;
            }
            assert!(Instant::now() < until, "left behind: {alive:?} {written:?} {shared:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn files(directory: &Path) -> BTreeSet<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// A process: its number, and when it was started, as numbers are used again.
type Process = (u32, String);

/// All processes that `ancestor` has started, and those started by them; all there are for 0. Those of User Mode Linux have no
/// environment that would mark them.
fn descendants(ancestor: u32) -> BTreeSet<Process> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let stats = processes.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    // proc_pid_stat(5): behind the name in parentheses the state is the third, the parent the fourth, the start the 22nd.
    let parsed: Vec<(Process, u32)> = stats
        .filter_map(|stat| {
            let pid = stat.split(' ').next()?.parse().ok()?;
            let rest: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
            (rest[0] != "Z").then(|| ((pid, rest[19].to_owned()), rest[1].parse().unwrap()))
        })
        .collect();
    let mut family = BTreeSet::from([ancestor]);
    loop {
        let known = family.len();
        let children = parsed.iter().filter(|(_, parent)| family.contains(parent)).map(|((pid, _), _)| *pid);
        family = family.iter().copied().chain(children.collect::<Vec<_>>()).collect();
        if family.len() == known {
            break;
        }
    }
    parsed.into_iter().map(|(process, _)| process).filter(|(pid, _)| family.contains(pid)).collect()
}

fn killed_runs() {
    for moment in moments(8, Duration::from_millis(1500)) {
        let run = Run::start(&[SCENARIO, "--trials", "1000"]);
        std::thread::sleep(moment);
        run.leaves_nothing(|child| {
            child.kill().unwrap();
            child.wait().unwrap();
        });
    }
}

fn interrupted_run() {
    for moment in moments(3, Duration::from_millis(1200)) {
        let run = Run::start(&[SCENARIO, "--trials", "1000"]);
        std::thread::sleep(Duration::from_millis(200) + moment);
        run.leaves_nothing(|child| {
            signal(child, Signal::INT);
            assert_eq!(child.wait().unwrap().code(), Some(130));
        });
    }
}

/// Nobody opens the gate: the fsync of each trial takes longer than it may.
const HELD: &str = "[[fault]]\nname = \"stop\"\nwhen = { op = \"write\", nth = 1 }\nthen = \"hold\"\n\
    [[phase]]\nname = \"write\"\nstep = [ { do.pwrite = { file = \"f\", offset = \"0 B\", length = \"64 KiB\" } }, \
    { do.fsync = { file = \"f\" } } ]\n[[reproduced]]\nstep = \"fsync\"\nerrno = \"EIO\"\n";

/// The guest of the first trial is killed while its fsync waits; the guests of the others are given up when that is too long.
fn lost_guests() {
    let scenario = scenario(HELD).with_limit("2 s");
    let mut run = Run::start(&[&scenario.path, "--trials", "3", "--json"]);
    let journal = BufReader::new(run.child.stdout.take().unwrap());
    let mut events: Vec<Value> = Vec::new();
    let mut guests = BTreeSet::new();
    for line in journal.lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if event["event"] == "step" && event["step"] == "pwrite" {
            let kernel = kernel(run.child.id());
            assert!(guests.insert(kernel), "a guest of its own for each trial: {guests:?}");
            if event["trial"] == 1 {
                let kernel = Pid::from_raw(i32::try_from(kernel).unwrap()).unwrap();
                kill_process(kernel, Signal::KILL).unwrap();
            }
        }
        events.push(event);
    }
    let all = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    let trials =
        |kind: &str| all(kind).iter().map(|event| event["trial"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!((trials("crash"), trials("stuck")), (vec![1], vec![2, 3]), "{events:?}");
    // A kernel in user mode is several processes, and now and then one of the others has time to say that this one is gone.
    let how = all("crash")[0]["how"].as_str().unwrap();
    assert!(how == "it ended by itself" || how.starts_with("Kernel panic"), "{how}");
    for stuck in all("stuck") {
        let held = stuck["held"][0].as_str().unwrap();
        assert!(stuck["what"] == "fsync" && held.ends_with("held by \"stop\""), "{stuck}");
    }
    assert_eq!(trials("trial-verdict"), [1, 2, 3]);
    assert_eq!(all("verdict")[0]["inconclusive"], 3);
    run.leaves_nothing(|child| assert_eq!(child.wait().unwrap().code(), Some(4)));
}

/// The kernel that a run has at this moment: the child of its only child, which guards it.
fn kernel(run: u32) -> u32 {
    let child = |pid: u32| -> u32 {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().next().unwrap().parse().unwrap()
    };
    child(child(run))
}
