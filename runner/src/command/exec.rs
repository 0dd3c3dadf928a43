//! `brim exec` and `brim shell`: somebody's own program at the brim.

use std::io::IsTerminal;

use brim_report::evidence;
use brim_trial::event::Program;
use brim_trial::judge::blocks;
use brim_trial::plan::Filesystem;
use brim_trial::{Event, FilesystemKind};
use nbd_server::Disk;

use crate::cli::Brim;
use crate::error::{Error, Exit};
use crate::interrupt::Interrupt;
use crate::output;
use crate::rig::RigError;
use crate::rig::host::{self, HostFuse};

/// Runs `command` at the brim and passes its exit code on.
pub(crate) fn exec(brim: &Brim, command: &[String]) -> Result<Exit, Error> {
    let interrupt =
        Interrupt::take_over().map_err(|source| Error::Process { what: "take signals over", source })?;
    let filesystem = Filesystem { kind: brim.filesystem, mkfs: Vec::new(), mount: Vec::new() };
    let disk = Disk::new(brim.size).map_err(|error| usage(&error.to_string()))?;
    let mut rig = HostFuse::start(interrupt)?;
    rig.attach(&disk)?;
    rig.make(&filesystem)?;
    rig.mount(&filesystem)?;
    if let Some(wanted) = brim.data_free {
        let reached = rig.fill(wanted)?.data_free;
        if reached != wanted {
            let reason = format!("data_free is {}, not {}", blocks(reached), blocks(wanted));
            return Err(Error::State { reason });
        }
    }
    say(&format!("{} of {}, {}", brim.filesystem, brim.size, free(brim)));
    let mut events = Vec::new();
    let asked = disk.stats();
    rig.program(command.to_vec(), &mut |event| events.push(event))?;
    events.push(host::requests(1, &disk, asked));
    let style = output::style(&std::io::stderr());
    for line in evidence::lines(&events, 1, style) {
        say(&line);
    }
    rig.detach()?;
    let program = events.iter().find_map(|event| match event {
        Event::Program(program) => Some(program),
        _ => None,
    });
    program.map(exit).ok_or_else(|| RigError::AgentDied.into())
}

/// Runs the user's shell at the brim.
pub(crate) fn shell(brim: &Brim) -> Result<Exit, Error> {
    let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
    if std::io::stdin().is_terminal() {
        say("the working directory is the filesystem; exit takes it all away");
    }
    exec(brim, &[shell])
}

fn exit(program: &Program) -> Exit {
    let code = program.exit.or_else(|| program.signal.map(|signal| 128 + signal)).unwrap_or(1);
    Exit::Program(u8::try_from(code).unwrap_or(u8::MAX))
}

fn free(brim: &Brim) -> String {
    match brim.data_free {
        Some(free) => format!("exactly {} free for data", blocks(free)),
        None => "empty".to_owned(),
    }
}

fn usage(what: &str) -> Error {
    let least: Vec<String> = FilesystemKind::ALL.iter().map(ToString::to_string).collect();
    let help = format!(
        "a size is a multiple of 512 bytes, as in --size 128MiB; filesystems are {}",
        least.join(", ")
    );
    Error::Usage { what: what.to_owned(), help }
}

/// A line of ours on stderr, told apart from the program's own.
fn say(text: &str) {
    output::note(&format!("brim: {text}"));
}
