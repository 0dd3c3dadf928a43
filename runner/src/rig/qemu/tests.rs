//! Machines for real. They need QEMU and a kernel with its modules, and are run by
//! `BRIM_TEST_PC_KERNEL=…/boot/vmlinuz-VERSION cargo test -p brim qemu -- --ignored --test-threads 1`.

mod guest;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use brim_device::fault::Op;
use brim_trial::Bytes;
use nbd_server::{Disk, Server};

use super::accelerator::{FIRST_WORD, PANIC, Unfit};
use super::{Accelerator, Ending, Machine, Snapshot};
use crate::output::note;
use guest::{Guest, Pc, ended, guest_of};

/// For figures: how often each is measured.
const TIMES: u32 = 10;

fn panicked() -> Ending {
    Ending::Panicked("Kernel panic - not syncing: sysrq triggered crash".to_owned())
}

#[test]
#[ignore = "needs QEMU and a kernel, named by BRIM_TEST_PC_KERNEL"]
fn a_guest_boots_answers_and_powers_off() {
    let pc = Pc::here();
    let mut guest = pc.boot();
    assert_eq!(guest.machine.ended(), None);
    for line in ["a line", "another"] {
        assert_eq!(guest.ask(line), line);
    }
    guest.say("off");
    assert_eq!(ended(&mut guest.machine), Ending::PoweredOff);
    assert_eq!(guest.hear(), "", "the channel ends with the guest");
    let mut guest = pc.boot();
    guest.say("reboot");
    assert_eq!(ended(&mut guest.machine), Ending::Reset);
}

#[test]
#[ignore = "needs QEMU and a kernel, named by BRIM_TEST_PC_KERNEL"]
fn a_panic_is_the_end_and_its_words_are_on_the_console() {
    let mut pc = Pc::here();
    let mut guest = pc.boot();
    guest.say("panic");
    assert_eq!(ended(&mut guest.machine), panicked());
    let console = guest.machine.console();
    assert!(console.contains("Call Trace:") && console.contains("sysrq_handle_crash"), "{console}");
    assert!(console.contains("Kernel Offset:"), "the last line of a panic:\n{console}");
    // A caller who wants the panicked guest to stay.
    "panic=0".clone_into(&mut pc.boot.command_line);
    let mut guest = pc.boot();
    guest.say("panic");
    assert_eq!(ended(&mut guest.machine), panicked());
}

#[test]
#[ignore = "needs QEMU and a kernel, named by BRIM_TEST_PC_KERNEL"]
fn a_killed_qemu_is_no_end_of_the_guests_own() {
    let mut guest = Pc::here().boot();
    kill(guest.machine.id(), "KILL");
    let Ending::Lost(why) = ended(&mut guest.machine) else { panic!("it was killed") };
    assert!(why.contains("SIGKILL"), "{why}");
}

#[test]
#[ignore = "needs QEMU and a kernel, named by BRIM_TEST_PC_KERNEL"]
fn what_is_no_kernel_is_told_before_qemu_runs_it() {
    let mut pc = Pc::here();
    pc.boot.kernel = pc.boot.initramfs.clone();
    let error = Machine::start(&pc.boot, None).unwrap_err();
    assert!(error.to_string().ends_with("is neither a bzImage nor an ELF vmlinux"), "{error}");
    assert!(error.help().starts_with("a kernel for QEMU is a bzImage"));
    // An ELF, but no kernel: QEMU has the last word.
    pc.boot.kernel = std::env::current_exe().unwrap();
    let error = Machine::start(&pc.boot, None).unwrap_err();
    assert!(error.to_string().starts_with("QEMU ended by itself: qemu-system-x86_64: "), "{error}");
}

#[test]
#[ignore = "needs QEMU and a kernel, named by BRIM_TEST_PC_KERNEL"]
fn several_resume_from_one_state_also_at_once_and_each_panics_alone() {
    let pc = Pc::here();
    let mut guest = pc.boot();
    assert_eq!(guest.ask("before"), "before");
    let snapshot: Snapshot = guest.machine.save().unwrap();
    let resume = || guest_of(Machine::resume(&snapshot, None).unwrap());
    // Started on threads that end before them.
    let (mut one, mut other) = std::thread::scope(|scope| {
        let both = [scope.spawn(resume), scope.spawn(resume)];
        let [one, other] = both.map(|thread| thread.join().unwrap());
        (one, other)
    });
    one.say("panic");
    assert_eq!(ended(&mut one.machine), panicked());
    assert_eq!(other.ask("still here"), "still here");
    for _ in 0..5 {
        assert_eq!(resume().ask("again"), "again");
    }
    other.say("off");
    assert_eq!(ended(&mut other.machine), Ending::PoweredOff);
    // A resumed machine can itself be saved: its memory is its own, and written whole.
    let mut third = resume();
    assert_eq!(third.ask("third"), "third");
    let second = third.machine.save().unwrap();
    drop(snapshot);
    assert_eq!(guest_of(Machine::resume(&second, None).unwrap()).ask("fourth"), "fourth");
}

#[test]
#[ignore = "needs QEMU and a kernel, named by BRIM_TEST_PC_KERNEL"]
fn writes_and_flushes_reach_the_disks_server_and_its_errors_the_guest() {
    let pc = Pc::here();
    let serve = |disk: &Disk| {
        let server = Server::new();
        server.add_export("disk", disk.clone()).unwrap();
        let drive = server.connect().unwrap();
        (server, drive)
    };
    let disk = Disk::new(Bytes(16 << 20)).unwrap();
    let (_server, drive) = serve(&disk);
    let mut guest = pc.boot_with(Some(drive));
    let fork = disk.fork();
    let before = flushes(&disk);
    assert_eq!(guest.ask("disk"), "done");
    assert!(disk.stats().of(Op::Write).requests > 0);
    // One is the guest's; QEMU adds none of its own while the guest runs.
    assert_eq!(flushes(&disk) - before, 1);
    let snapshot = guest.machine.save().unwrap();
    assert!(Machine::resume(&snapshot, None).is_err(), "it had a disk");
    let (_server, drive) = serve(&fork);
    let mut guest = guest_of(Machine::resume(&snapshot, Some(drive)).unwrap());
    assert_eq!(fork.stats().of(Op::Write).requests, 0);
    let before = flushes(&fork);
    assert_eq!(guest.ask("disk"), "done");
    assert_eq!(flushes(&fork) - before, 1);
    for row in
        crate::faults::rows(r#"name = "full", when = { op = "write" }, then = { error = "ENOSPC" }"#).unwrap()
    {
        fork.add_fault(row).unwrap();
    }
    assert_eq!(guest.ask("disk"), "Input/output error (os error 5)");
    assert_eq!(guest.machine.ended(), None);
}

#[test]
#[ignore = "needs QEMU and a kernel, named by BRIM_TEST_PC_KERNEL"]
fn no_qemu_outlives_a_starter_that_is_killed() {
    const STARTER: &str = "BRIM_TEST_STARTER";
    if std::env::var_os(STARTER).is_some() {
        let mut guest = Pc::here().boot();
        // It does not see its channel end, which would be its own end and QEMU's.
        guest.say("hang");
        note(&format!("\nmachine {}", guest.machine.id()));
        std::thread::sleep(Duration::MAX);
    }
    // Its files are within a directory of ours: it cannot take them away itself.
    let directory = tempfile::tempdir().unwrap();
    let starter = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--nocapture", "--exact"])
        .arg("rig::qemu::tests::no_qemu_outlives_a_starter_that_is_killed")
        .env(STARTER, "1")
        .env("TMPDIR", directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn();
    let mut starter = Starter(starter.unwrap());
    let lines = BufReader::new(starter.0.stderr.take().unwrap()).lines();
    let machine =
        lines.map_while(Result::ok).find_map(|line| line.strip_prefix("machine ")?.parse::<u32>().ok());
    let command_line = Path::new("/proc").join(machine.unwrap().to_string()).join("cmdline");
    // Whoever takes orphans over here may leave it a zombie, which has no command line any more.
    let there = || std::fs::read(&command_line).is_ok_and(|line| !line.is_empty());
    assert!(there(), "QEMU runs");
    drop(starter);
    let until = Instant::now() + Duration::from_secs(5);
    while there() {
        assert!(Instant::now() < until, "QEMU is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process that is killed as nobody can be warned of.
struct Starter(Child);

impl Drop for Starter {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The watchdog sees both: a kernel that runs, and one that does not in time.
#[test]
#[ignore = "needs QEMU and a kernel, named by BRIM_TEST_PC_KERNEL"]
fn what_does_not_run_a_kernel_in_time_is_not_taken() {
    let kernel = Pc::here().boot.kernel;
    let (ample, short) = (Duration::from_secs(60), Duration::from_millis(300));
    assert_eq!(Accelerator::Tcg.runs(&kernel, ample, ample), Ok(()));
    assert_eq!(Accelerator::Tcg.runs(&kernel, ample, short), Err(Unfit::Late(short)));
    assert_eq!(Accelerator::Tcg.runs(&kernel, Duration::ZERO, ample), Err(Unfit::Silent(Duration::ZERO)));
}

/// On a host with a KVM that runs this kernel, and on one without: what the test says tells them apart.
#[test]
#[ignore = "needs QEMU and a kernel, named by BRIM_TEST_PC_KERNEL"]
fn kvm_is_taken_where_it_runs_the_kernel_and_found_out_once() {
    let pc = Pc::here();
    let kernel = &pc.boot.kernel;
    let started = Instant::now();
    let kvm = Accelerator::Kvm.runs(kernel, FIRST_WORD, PANIC);
    let tried = started.elapsed();
    assert!(tried < PANIC + Duration::from_secs(1), "it took {tried:?}");
    let found = Accelerator::find(kernel);
    assert_eq!(kvm.is_ok(), found == Accelerator::Kvm, "{kvm:?}");
    let started = Instant::now();
    assert_eq!(Accelerator::find(kernel), found);
    let again = started.elapsed();
    assert!(again < Duration::from_millis(20), "to remember took {again:?}");
    assert_eq!(pc.boot().machine.accelerator(), found);
    note(&format!("{found:?}; tried in {tried:?}: {kvm:?}; remembered in {again:?}"));
}

/// Not one boot or resume may hang. `BRIM_TEST_BOOTS` says how many there are, of each.
#[test]
#[ignore = "needs QEMU and a kernel, named by BRIM_TEST_PC_KERNEL"]
fn no_boot_and_no_resume_hangs() {
    let times = std::env::var("BRIM_TEST_BOOTS").map_or(TIMES, |times| times.parse().unwrap());
    let pc = Pc::here();
    let mut figures = [const { Vec::new() }; 4];
    for _ in 0..times {
        let started = Instant::now();
        let mut guest = pc.boot();
        figures[0].push(started.elapsed());
        assert_eq!(guest.ask("hello"), "hello");
        let booted = resident(&guest);
        let started = Instant::now();
        let snapshot = guest.machine.save().unwrap();
        figures[1].push(started.elapsed());
        let started = Instant::now();
        let machine = Machine::resume(&snapshot, None).unwrap();
        figures[2].push(started.elapsed());
        let mut guest = guest_of(machine);
        assert_eq!(guest.ask("hello"), "hello");
        figures[3].push(started.elapsed());
        if figures[0].len() == 1 {
            let (after, state) = (resident(&guest), snapshot.size());
            note(&format!("resident: booted {booted} MiB, resumed {after} MiB; state {state}"));
        }
    }
    for (what, figures) in ["boot to ready", "save", "resume", "resume to an answer"].iter().zip(&mut figures)
    {
        figures.sort();
        let (least, median, most) = (figures[0], figures[figures.len() / 2], figures[figures.len() - 1]);
        note(&format!("{what}: median {median:?}, {least:?} to {most:?}, of {}", figures.len()));
    }
}

/// MiB of this host's memory that QEMU has mapped, of those it shares its part alone.
fn resident(guest: &Guest) -> u64 {
    let maps = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", guest.machine.id())).unwrap();
    let line = maps.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}

fn flushes(disk: &Disk) -> u64 {
    disk.stats().of(Op::Flush).requests
}

fn kill(process: u32, signal: &str) {
    let status = Command::new("kill").args(["-s", signal, &process.to_string()]).status();
    assert!(status.unwrap().success());
}
