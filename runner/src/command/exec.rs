//! `brim exec` and `brim shell`: somebody's own program at the brim.

use std::io::IsTerminal;

use brim_report::evidence;
use brim_scenario::Profile;
use brim_trial::event::Program;
use brim_trial::judge::blocks;
use brim_trial::plan::{Device, Filesystem, Fill};
use brim_trial::{BLOCK, Event, FilesystemKind};
use nbd_server::{Disk, DiskOptions};

use crate::cli::Brim;
use crate::error::{Error, Exit};
use crate::interrupt::Interrupt;
use crate::output;
use crate::rig::RigError;
use crate::rig::local::{Link, Local};
use crate::rig::workbench;
use crate::{faults, profile, write_log};

/// Runs `command` at the brim and passes its exit code on.
pub(crate) fn exec(brim: &Brim, command: &[String]) -> Result<Exit, Error> {
    let interrupt =
        Interrupt::take_over().map_err(|source| Error::Process { what: "take signals over", source })?;
    let filesystem = Filesystem { kind: brim.filesystem, mkfs: Vec::new(), mount: Vec::new() };
    let profile = brim.config.as_deref().map(profile::find).transpose()?;
    let disk = disk(brim, profile.as_ref())?;
    // The rows that are in force while the program runs: those of the profile, then those of the command line.
    let mut rows = profile.map_or_else(Vec::new, |profile| profile.faults);
    for text in &brim.fault {
        rows.extend(faults::rows(text)?);
    }
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
    let mut rig = Local::start(interrupt, Link::Fuse)?;
    rig.attach(&[(Device::ONLY.to_owned(), disk.clone())])?;
    rig.make(&filesystem, &[Device::ONLY.to_owned()])?;
    rig.mount(&filesystem)?;
    if let Some(wanted) = brim.data_free {
        let reached = rig.fill(Fill { data_free: Some(wanted), metadata_free: None })?.data_free;
        if reached != wanted {
            let reason = format!("data_free is {}, not {}", blocks(reached), blocks(wanted));
            return Err(Error::State { reason });
        }
    }
    say(&format!("{} of {}, {}", brim.filesystem, brim.size, free(brim)));
    for row in rows {
        let help = "regions are of scenarios, or defined by brim ctl region".to_owned();
        disk.add_fault(row).map_err(|error| Error::Usage { what: error.to_string(), help })?;
    }
    let control = brim.control.as_ref().map(|path| rig.listen_control(path));
    let control = control.transpose().map_err(|error| Error::Usage {
        what: error.to_string(),
        help: "name a path that is not there yet, in a directory that is".to_owned(),
    })?;
    let mut events = Vec::new();
    let asked = disk.stats();
    rig.program(from_here(command), &mut |event| events.push(event))?;
    drop(control);
    events.push(workbench::requests(1, None, &disk, asked));
    events.extend(rig.faults().into_iter().map(|(device, fault)| workbench::fault(1, device, fault)));
    let _released = disk.open_all_gates();
    let style = output::style(&std::io::stderr());
    for line in evidence::lines(&events, 1, style) {
        // Where nothing was filled, btrfs' counter is of the chunks it has given out so far: no measure of the disk.
        if brim.data_free.is_some() || !line.starts_with("data free") {
            say(&line);
        }
    }
    rig.detach()?;
    write_log::finish(&disk)?;
    let program = events.iter().find_map(|event| match event {
        Event::Program(program) => Some(program),
        _ => None,
    });
    program.map(exit).ok_or_else(|| RigError::AgentDied.into())
}

/// The disk, and its log from before mkfs on, so that a fresh disk is what it is replayed onto.
fn disk(brim: &Brim, profile: Option<&Profile>) -> Result<Disk, Error> {
    let write_cache = profile.is_some_and(|profile| profile.write_cache);
    let options = DiskOptions { write_cache, seed: brim.seed };
    let disk = Disk::new_with(brim.size, options).map_err(|error| usage(&error.to_string()))?;
    if let Some(path) = &brim.log {
        write_log::start(&disk, path)?;
    }
    Ok(disk)
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
