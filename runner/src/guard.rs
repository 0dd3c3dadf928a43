//! A process between brim and a program of several processes, so that none of them outlives brim however it ends: a kernel
//! of User Mode Linux starts helpers that its own end does not end.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::error::{Error, Exit};
use crate::interrupt::Interrupt;

/// How often the guard looks whether either side has ended.
const TICK: Duration = Duration::from_millis(10);

/// Runs a program in a process group of its own until it ends, or until `parent` does or wants it to (SIGTERM). What is left
/// of the group is killed.
pub(crate) fn run(parent: u32, command: &[OsString]) -> Result<Exit, Error> {
    let what = "guard a program";
    let interrupt = Interrupt::take_over().map_err(|source| Error::Process { what, source })?;
    match brim_agent::told_with_parent(parent) {
        Ok(true) => {}
        Ok(false) => return Ok(Exit::Interrupted),
        Err(errno) => return Err(Error::Process { what, source: errno.into() }),
    }
    let Some((program, arguments)) = command.split_first() else { return Ok(Exit::Usage) };
    let mut child = Command::new(program)
        .args(arguments)
        .process_group(0)
        .spawn()
        .map_err(|source| Error::Process { what, source })?;
    // What this process has of the program's streams must not keep them open.
    close_streams();
    let status = loop {
        match child.try_wait() {
            Ok(None) if !interrupt.told_to_end() => std::thread::sleep(TICK),
            ended => break ended,
        }
    };
    kill_group(&child);
    let _reaped = child.wait();
    let code = status.ok().flatten().and_then(|status| status.code());
    Ok(Exit::Program(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)))
}

fn kill_group(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ended_already = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

fn close_streams() {
    if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        // A stream that stays open is told apart from an end a little later.
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}
