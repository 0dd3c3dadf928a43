//! `brim exec` and `brim shell`: somebody's own program at the brim.

use std::io::IsTerminal;

use brim_report::evidence;
use brim_trial::event::Program;
use brim_trial::judge::blocks;
use brim_trial::plan::Filesystem;
use brim_trial::{BLOCK, Event, FilesystemKind};
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
    if let Some(odd) = brim.data_free.filter(|free| !free.is_multiple_of(BLOCK)) {
        return Err(Error::Usage {
            what: format!("--data-free {} B is not a whole number of blocks", odd.0),
            help: format!(
                "a block is 4096 B: the nearest are {} and {} blocks",
                odd.0 / BLOCK.0,
                odd.0 / BLOCK.0 + 1
            ),
        });
    }
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
    rig.program(from_here(command), &mut |event| events.push(event))?;
    events.push(host::requests(1, &disk, asked));
    let style = output::style(&std::io::stderr());
    for line in evidence::lines(&events, 1, style) {
        // Where nothing was filled, btrfs' counter is of the chunks it has given out so far: no measure of the disk.
        if brim.data_free.is_some() || !line.starts_with("data free") {
            say(&line);
        }
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

/// The program as it is named in the user's directory: `./build/test` is not in the mount.
fn from_here(command: &[String]) -> Vec<String> {
    let mut command = command.to_vec();
    if let Some(program) = command.first_mut().filter(|program| program.contains('/'))
        && let Ok(path) = std::fs::canonicalize(&*program)
    {
        *program = path.display().to_string();
    }
    command
}

fn exit(program: &Program) -> Exit {
    Exit::Program(u8::try_from(program.exit).unwrap_or(u8::MAX))
}

fn free(brim: &Brim) -> String {
    match brim.data_free {
        Some(free) => format!("exactly {} free for data", blocks(free)),
        // btrfs counts as free what is in chunks already, which is little at first.
        None => "as mkfs made it".to_owned(),
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
