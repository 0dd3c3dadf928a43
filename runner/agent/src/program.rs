//! Somebody's own program at the mount, in a process namespace that takes all its children with it when it ends.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use brim_trial::event::{Program, When};
use brim_trial::{Errno, Event};
use rustix::mount::MountFlags;
use syscalls::Sysno;

use crate::Failure;
use crate::failure::Trying;
use crate::filesystem::Mounted;
use crate::kernel_log::KernelLog;
use crate::sys;
use crate::tickets::Tickets;
use crate::tracepoint::{Tracepoint, Whose};

/// What is looked at around the program.
pub(crate) struct Evidence<'a> {
    pub(crate) mounted: &'a Mounted,
    pub(crate) devices: &'a [String],
    pub(crate) tracing: &'a Path,
    pub(crate) tickets: Option<&'a mut Tickets>,
    pub(crate) kernel_log: Option<&'a mut KernelLog>,
}

/// How often the trace rings are emptied while a program runs.
const DRAIN: Duration = Duration::from_millis(5);
/// Programs have no trial; their events carry this number.
const TRIAL: u32 = 1;

/// Runs `command` with the mount as its working directory and says what was seen.
pub(crate) fn run(
    command: &[String],
    streams: Vec<OwnedFd>,
    mut evidence: Evidence<'_>,
) -> Result<Vec<Event>, Failure> {
    let what = || format!("run `{}`", command.join(" "));
    let mut events = Vec::new();
    if let Some(tickets) = evidence.tickets.as_mut() {
        tickets.forget();
    }
    if let Some(log) = evidence.kernel_log.as_mut() {
        log.skip()?;
    }
    let counters = evidence.mounted.counters()?;
    events.push(Event::Counters { trial: TRIAL, when: When::Before, counters });
    let filter = format!("ret == -{}", Errno::ENOSPC.0);
    let recorded = Tracepoint::record(
        evidence.tracing,
        "raw_syscalls/sys_exit",
        Some(&filter),
        Whose::ThisThreadsChildren,
    );
    let missing = |why| Event::Missing { evidence: "system calls that failed".to_owned(), why };
    let mut no_space =
        recorded.map(NoSpace::new).map_err(|failure| events.push(missing(failure.to_string()))).ok();
    let mut child = spawn(command, streams, evidence.mounted.path()).trying(what)?;
    let status = loop {
        if let Some(status) = child.try_wait().trying(what)? {
            break status;
        }
        // The rings have room for what happens in between, and say so where they had not.
        std::thread::sleep(DRAIN);
        no_space.iter_mut().for_each(NoSpace::read);
        evidence.tickets.iter_mut().for_each(|tickets| tickets.drain());
    };
    no_space.iter_mut().for_each(NoSpace::read);
    match no_space.as_mut().map(|no_space| no_space.recorded.lost()) {
        None | Some(Ok(0)) => {}
        Some(Ok(lost)) => events.push(missing(format!("{lost} more failed than the trace rings could hold"))),
        Some(Err(error)) => events.push(missing(format!("how many the trace rings lost: {error}"))),
    }
    events.push(Event::Program(Program {
        command: command.to_vec(),
        exit: i32::from(exit_code(Ok(status), "wait for the program")?),
        no_space: no_space.map(|no_space| no_space.counts),
    }));
    let counters = evidence.mounted.counters()?;
    events.push(Event::Counters { trial: TRIAL, when: When::After, counters });
    if let (Some(tickets), Some(fsid)) = (evidence.tickets, evidence.mounted.fsid()) {
        events.extend(tickets.events(TRIAL, &[fsid]));
    }
    if let Some(log) = evidence.kernel_log {
        events.extend(log.new_lines(TRIAL, evidence.devices)?.into_iter().map(Event::KernelLog));
    }
    events.push(Event::Mount { trial: TRIAL, read_only: evidence.mounted.read_only()? });
    Ok(events)
}

fn spawn(command: &[String], streams: Vec<OwnedFd>, directory: &Path) -> std::io::Result<Child> {
    let mut streams = streams.into_iter().map(Stdio::from);
    Command::new("/proc/self/exe")
        .arg0("brim")
        .args(["__supervise", &std::process::id().to_string(), "--"])
        .args(command)
        .current_dir(directory)
        .stdin(streams.next().unwrap_or_else(Stdio::null))
        .stdout(streams.next().unwrap_or_else(Stdio::null))
        .stderr(streams.next().unwrap_or_else(Stdio::null))
        .spawn()
}

/// System calls that failed for lack of space, by name.
struct NoSpace {
    recorded: Tracepoint,
    counts: BTreeMap<String, u64>,
}

impl NoSpace {
    fn new(recorded: Tracepoint) -> Self {
        Self { recorded, counts: BTreeMap::new() }
    }

    fn read(&mut self) {
        for sample in self.recorded.read() {
            let number = self.recorded.integer(&sample, "id").and_then(|id| usize::try_from(id).ok());
            let name = match number.map(|number| (number, Sysno::new(number))) {
                Some((_, Some(syscall))) => syscall.name().to_owned(),
                Some((number, None)) => format!("system call {number}"),
                None => "a system call".to_owned(),
            };
            *self.counts.entry(name).or_insert(0) += 1;
        }
    }
}

/// The first of two processes around a program: makes the process namespace, and dies with the agent `parent`.
/// Gives the exit code of the program, 128 and the signal's number where a signal ended it.
///
/// # Errors
/// The namespace could not be made, or the agent is gone.
pub fn supervise(parent: u32, command: &[OsString]) -> Result<u8, Failure> {
    die_with(parent)?;
    sys::unshare_processes().trying(|| "make a process namespace".to_owned())?;
    let mut init = Command::new("/proc/self/exe");
    init.arg0("brim").args(["__init", &std::process::id().to_string(), "--"]).args(command);
    exit_code(init.status(), "start the program's init")
}

/// The second: process 1 of the namespace. When it ends, the kernel ends everything the program left running.
///
/// # Errors
/// The program could not be started, and the exit code that says so.
pub fn init(parent: u32, command: &[OsString]) -> Result<u8, (Failure, u8)> {
    namespace_of_its_own(parent).map_err(|failure| (failure, 1))?;
    let (program, arguments) =
        command.split_first().ok_or_else(|| (Failure::new("run a program", "no program is named"), 2))?;
    match Command::new(program).args(arguments).status() {
        Err(error) => {
            // As shells and env(1) have it.
            let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
            let failure = Failure::new(format!("run `{}`", program.to_string_lossy()), error.to_string());
            Err((failure, code))
        }
        status => exit_code(status, "wait for the program").map_err(|failure| (failure, 1)),
    }
}

fn namespace_of_its_own(parent: u32) -> Result<(), Failure> {
    sys::set_name();
    // The parent is outside this process namespace, where getppid(2) has no number for it; the /proc that is still
    // mounted has.
    sys::die_with_parent(0).trying(|| "tie this process to its parent".to_owned())?;
    let path = "/proc/self/status";
    let status = std::fs::read_to_string(path).trying(|| format!("read {path}"))?;
    let now = status.lines().find_map(|line| line.strip_prefix("PPid:")).map(str::trim);
    if now != Some(parent.to_string().as_str()) {
        return Err(Failure::new("run a program", "the agent is gone"));
    }
    sys::unshare_mounts().trying(|| "make a mount namespace".to_owned())?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", "/proc", "proc", flags, None).trying(|| "mount /proc".to_owned())
}

fn die_with(parent: u32) -> Result<(), Failure> {
    sys::set_name();
    match sys::die_with_parent(parent) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new("run a program", "the agent is gone")),
        Err(errno) => Err(errno).trying(|| "tie this process to its parent".to_owned()),
    }
}

fn exit_code(status: std::io::Result<ExitStatus>, what: &str) -> Result<u8, Failure> {
    let status = status.trying(|| what.to_owned())?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}
