//! `brim ctl`: orders to a disk that `brim serve` serves.

mod orders;
mod show;

use std::io;

use brim_device::control::{Answer, Command, Order, Reply, prometheus};
use nbd_server::control::ControlClient;

use crate::cli::{Ctl, CtlCommand};
use crate::error::{Error, Exit};
use crate::output;

/// Has one command carried out, and shows what came of it.
pub(crate) fn ctl(arguments: &Ctl) -> Result<Exit, Error> {
    let commands = orders::commands(&arguments.command)?;
    let unreachable = |error: io::Error| Error::Control {
        what: format!("cannot reach {}: {error}", arguments.control.display()),
        help: "is there a `brim serve --control PATH` of yours, with the same path?".to_owned(),
    };
    let client = ControlClient::connect(&arguments.control).map_err(unreachable)?;
    let mut session = Session { arguments, client, id: 0 };
    match &arguments.command {
        CtlCommand::Raw { line } => session.raw(line),
        CtlCommand::Stats { prometheus: true } => session.prometheus(),
        _ => session.carry_out(commands),
    }
}

struct Session<'a> {
    arguments: &'a Ctl,
    client: ControlClient,
    id: u64,
}

impl Session<'_> {
    fn carry_out(&mut self, commands: Vec<Command>) -> Result<Exit, Error> {
        for command in commands {
            let asked = command.clone();
            let (line, reply) = self.ask(command, self.arguments.export.clone())?;
            if self.arguments.json {
                output::line(line.trim_end());
                if reply.result.is_err() {
                    return Ok(Exit::Unexpected);
                }
                continue;
            }
            let answer = reply.result.map_err(Error::from)?;
            for line in show::lines(&asked, &answer, output::style(&io::stdout())) {
                output::line(&line);
            }
        }
        Ok(Exit::Expected)
    }

    /// The line that came back, and what it says.
    fn ask(&mut self, command: Command, export: Option<String>) -> Result<(String, Reply), Error> {
        self.id += 1;
        let order = Order { id: Some(self.id), export, limit: self.arguments.settle, command };
        let line = self.client.ask_line(&order.to_line()).map_err(|error| broken(&error))?;
        let reply = Reply::parse(line.as_bytes()).map_err(|error| broken(&error))?;
        Ok((line, reply))
    }

    fn raw(&mut self, json: &str) -> Result<Exit, Error> {
        if json.trim().is_empty() || json.trim().contains('\n') {
            let what = "a command is one line of JSON".to_owned();
            return Err(Error::Usage { what, help: "docs/control.md has every command".to_owned() });
        }
        let line = self.client.ask_line(&format!("{}\n", json.trim())).map_err(|error| broken(&error))?;
        output::line(line.trim_end());
        let reply = Reply::parse(line.as_bytes()).map_err(|error| broken(&error))?;
        Ok(if reply.result.is_ok() { Exit::Expected } else { Exit::Unexpected })
    }

    fn prometheus(&mut self) -> Result<Exit, Error> {
        let names = match &self.arguments.export {
            Some(name) => vec![name.clone()],
            None => match self.ask(Command::Exports, None)?.1.result.map_err(Error::from)? {
                Answer::Exports(exports) => exports.into_iter().map(|export| export.name).collect(),
                other => return Err(broken(&format!("{other:?}"))),
            },
        };
        let mut disks = Vec::new();
        for name in names {
            // One that was removed meanwhile has no statistics, unless it was asked for.
            match self.ask(Command::Stats, Some(name))?.1.result {
                Ok(Answer::Stats(status)) => disks.push(*status),
                Ok(other) => return Err(broken(&format!("{other:?}"))),
                Err(refusal) if self.arguments.export.is_some() => return Err(refusal.into()),
                Err(_) => {}
            }
        }
        output::line(prometheus(&disks).trim_end());
        Ok(Exit::Expected)
    }
}

fn broken(error: &dyn std::fmt::Display) -> Error {
    let help = "the server may have ended, or be of another version".to_owned();
    Error::Control { what: format!("the control socket broke off: {error}"), help }
}
