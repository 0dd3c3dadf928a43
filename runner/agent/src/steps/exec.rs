//! A program as a step, with all that it starts.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, PipeReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use brim_trial::event::{Problem, Said};

use super::{Outcome, Steps};
use crate::Failure;
use crate::failure::Trying;
use crate::{guest, program};

/// How many of the last lines of a program are kept.
const LINES: usize = 20;
/// How much of a line.
const LINE_LENGTH: usize = 500;
/// Where programs are looked for if nobody says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Steps<'_> {
    /// Runs a program with the mount as its working directory.
    pub(super) fn exec(self, command: &[String], wanted: u8) -> Result<Outcome, Failure> {
        let what = || format!("run `{}`", command.join(" "));
        let directory = self.site.with(|mounted| Ok(mounted.path().to_owned()))?;
        let name = command.first().map(String::as_str).unwrap_or_default();
        let Some(path) = find(name, &directory) else { return Err(not_here(name)) };
        let command: Vec<String> =
            std::iter::once(path.display().to_string()).chain(command.iter().skip(1).cloned()).collect();
        let (said, output) = std::io::pipe().trying(what)?;
        let error = output.try_clone().trying(what)?;
        let streams = [Stdio::null(), Stdio::from(output), Stdio::from(error)];
        let mut child = program::spawn(&command, streams, &directory).trying(what)?;
        let told = self.rescue.program(child.id()).trying(what)?;
        // It has this end no longer when the program and all it started are gone.
        let lines = last_lines(said);
        let status = child.wait();
        drop(told);
        let exit = program::exit_code(status, "wait for the program")?;
        let outcome = Outcome::new("exec", Ok(u64::from(exit)));
        let problem =
            (exit != wanted).then(|| Problem::Exited(Said { exit: i32::from(exit), lines: lines.into() }));
        Ok(Outcome { problem, ..outcome })
    }
}

/// The program `name`, by the rules of execvp(3).
fn find(name: &str, directory: &Path) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(directory.join(name)).filter(|path| path.is_file());
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let path = if path.is_empty() { PATH } else { &path };
    path.split(':').map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
}

fn not_here(name: &str) -> Failure {
    let failure = Failure::new(format!("run `{name}`"), "there is no such program").refused();
    if guest::is_here() {
        failure.with_help(
            "a guest has brim and the tools of the filesystems alone (`btrfs`, `mkfs.ext4`, `xfs_repair` …); with others the \
             scenario is one for the host",
        )
    } else {
        failure.with_help(
            "install it, or name it by its path; what is on the mount is named from its root: `./program`",
        )
    }
}

/// Reads until the end, and keeps what was said last.
fn last_lines(output: PipeReader) -> VecDeque<String> {
    let mut lines = VecDeque::new();
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if line.is_empty() {
            continue;
        }
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line.chars().take(LINE_LENGTH).collect());
    }
    lines
}
