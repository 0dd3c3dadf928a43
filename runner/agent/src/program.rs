//! Somebody's own program at the mount, in a process namespace that takes all its children with it when it ends.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

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
    pub(crate) device: &'a str,
    pub(crate) tracing: &'a Path,
    pub(crate) tickets: Option<&'a mut Tickets>,
    pub(crate) kernel_log: Option<&'a mut KernelLog>,
}

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
    let mut no_space = recorded
        .map_err(|failure| {
            let why = failure.to_string();
            events.push(Event::Missing { evidence: "system calls that failed".to_owned(), why });
        })
        .ok();
    let status = spawn(command, streams, evidence.mounted.path()).trying(what)?;
    events.push(Event::Program(Program {
        command: command.to_vec(),
        exit: status.code(),
        signal: status.signal(),
        no_space: no_space.as_mut().map(count_by_name).unwrap_or_default(),
    }));
    let counters = evidence.mounted.counters()?;
    events.push(Event::Counters { trial: TRIAL, when: When::After, counters });
    if let (Some(tickets), Some(fsid)) = (evidence.tickets, evidence.mounted.fsid()) {
        events.extend(tickets.events(TRIAL, fsid));
    }
    if let Some(log) = evidence.kernel_log {
        events.extend(log.new_lines(TRIAL, evidence.device)?.into_iter().map(Event::KernelLog));
    }
    events.push(Event::Mount { trial: TRIAL, read_only: evidence.mounted.read_only()? });
    Ok(events)
}

fn spawn(command: &[String], streams: Vec<OwnedFd>, directory: &Path) -> std::io::Result<ExitStatus> {
    let mut streams = streams.into_iter().map(Stdio::from);
    Command::new("/proc/self/exe")
        .arg0("brim")
        .args(["__supervise", &std::process::id().to_string(), "--"])
        .args(command)
        .current_dir(directory)
        .stdin(streams.next().unwrap_or_else(Stdio::null))
        .stdout(streams.next().unwrap_or_else(Stdio::null))
        .stderr(streams.next().unwrap_or_else(Stdio::null))
        .status()
}

fn count_by_name(recorded: &mut Tracepoint) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for sample in recorded.read().samples {
        let number = recorded.integer(&sample, "id").and_then(|id| usize::try_from(id).ok());
        let name = match number.map(|number| (number, Sysno::new(number))) {
            Some((_, Some(syscall))) => syscall.name().to_owned(),
            Some((number, None)) => format!("system call {number}"),
            None => "a system call".to_owned(),
        };
        *counts.entry(name).or_insert(0) += 1;
    }
    counts
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
