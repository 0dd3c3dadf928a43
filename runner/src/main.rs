//! The command line of brim.

#![expect(
    clippy::disallowed_methods,
    reason = "the shell that waits: limits and durations are on the real clock"
)]

mod bundle;
mod campaign;
mod catalogue;
mod cli;
mod command;
mod error;
mod executor;
mod faults;
mod guard;
mod interrupt;
mod kernel;
mod output;
mod profile;
mod rig;
mod tool;
mod write_log;

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use error::{Error, Exit};

fn main() -> ExitCode {
    if std::process::id() == 1
        && std::env::args_os().next().is_some_and(|name| name == rig::guest::init::PATH)
    {
        rig::guest::init::run();
        return ExitCode::SUCCESS;
    }
    let result = match Cli::parse().command {
        Command::Run(arguments) => command::run::run(&arguments),
        Command::Campaign(subcommand) => command::campaign::campaign(&subcommand),
        Command::Compare(arguments) => command::compare::compare(&arguments),
        Command::Exec(arguments) => command::exec::exec(&arguments.brim, &arguments.command),
        Command::Shell(brim) => command::exec::shell(&brim),
        Command::Serve(arguments) => command::serve::serve(&arguments),
        Command::Ctl(arguments) => command::ctl::ctl(&arguments),
        Command::Log(cli::Log::Show { file, json }) => command::log::show(&file, json),
        Command::Log(cli::Log::Replay(arguments)) => command::log::replay(&arguments),
        Command::Report(arguments) => command::report::report(&arguments),
        Command::Shrink(arguments) => command::shrink::run(&arguments),
        Command::Bundle(subcommand) => command::bundle::bundle(&subcommand),
        Command::Kernel(subcommand) => command::kernel::kernel(&subcommand),
        Command::Check { scenarios } => command::catalogue::check(&scenarios),
        Command::List { markdown: true, directory } => command::catalogue::page(directory.as_deref()),
        Command::List { markdown: false, directory } => command::catalogue::list(directory.as_deref()),
        Command::Explain { scenario, settings } => command::catalogue::explain(&scenario, &settings),
        Command::Doctor => Ok(command::doctor::doctor()),
        Command::Agent { parent } => agent(parent),
        Command::Guard { parent, command } => guard::run(parent, &command),
        Command::Supervise { parent, command } => {
            part(|| brim_agent::supervise(parent, &command).map_err(|failure| (failure, 1)))
        }
        Command::Thaw { parent } => {
            brim_agent::thaw_when_gone(parent);
            Ok(Exit::Expected)
        }
        Command::Init { parent, command } => part(|| brim_agent::init(parent, &command)),
    };
    result.unwrap_or_else(show).into()
}

/// Shows an error and gives its exit code.
fn show(error: Error) -> Exit {
    let exit = error.exit();
    output::note(format!("{:?}", miette::Report::new(error)).trim_end());
    exit
}

/// The agent's process: its channel is on standard input, its descriptors go over standard output.
fn agent(parent: u32) -> Result<Exit, Error> {
    // Its end comes from the executor; a Ctrl-C at the terminal is for the executor and for the program it runs.
    let what = "set the agent up";
    let _signals = interrupt::Interrupt::take_over().map_err(|source| Error::Process { what, source })?;
    match brim_agent::die_with_parent(parent) {
        Ok(true) => {}
        Ok(false) => return Ok(Exit::Interrupted),
        Err(errno) => return Err(Error::Process { what, source: errno.into() }),
    }
    let channel = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().map(UnixStream::from);
    let lines = channel(std::io::stdin().as_fd()).map_err(|source| Error::Process { what, source })?;
    let fds = channel(std::io::stdout().as_fd()).map_err(|source| Error::Process { what, source })?;
    brim_agent::serve(lines, fds).map(|()| Exit::Expected).map_err(|failure| Error::Part { failure, exit: 3 })
}

/// One of the processes around a program.
fn part(run: impl FnOnce() -> Result<u8, (brim_agent::Failure, u8)>) -> Result<Exit, Error> {
    // A Ctrl-C at the terminal is for the program, whose end is ours.
    let what = "take signals over";
    let _signals = interrupt::Interrupt::take_over().map_err(|source| Error::Process { what, source })?;
    run().map(Exit::Program).map_err(|(failure, exit)| Error::Part { failure, exit })
}
