//! From the words of the command line to those of the protocol.

use brim_device::control::{Command, PartlyCut, Which};

use crate::cli::{CtlCommand, FaultCommand, SnapshotCommand};
use crate::error::Error;
use crate::faults;

/// What a command of the command line asks for, one after the other. Nothing for those that are no order.
pub(super) fn commands(command: &CtlCommand) -> Result<Vec<Command>, Error> {
    if let CtlCommand::Fault(FaultCommand::Add { row }) = command {
        return Ok(faults::rows(row)?.into_iter().map(|row| Command::AddFault(Box::new(row))).collect());
    }
    Ok(one(command).into_iter().collect())
}

fn one(command: &CtlCommand) -> Option<Command> {
    Some(match command.clone() {
        CtlCommand::Faults => Command::Faults,
        CtlCommand::Fault(FaultCommand::Remove { name }) => Command::RemoveFault { name },
        CtlCommand::Held => Command::Held,
        CtlCommand::Wait { gate, count, limit } => Command::WaitHeld { gate, count, limit },
        CtlCommand::Release { gate, first, id, error } => {
            let which = match first {
                Some(count) => Which::First(count),
                None if id.is_empty() => Which::All,
                None => Which::These(id),
            };
            Command::Release { gate, which, error }
        }
        CtlCommand::Open { gate: Some(gate), .. } => Command::OpenGate { gate },
        CtlCommand::Open { gate: None, .. } => Command::OpenAllGates,
        CtlCommand::Close { gate } => Command::CloseGate { gate },
        CtlCommand::PowerCut { keep, torn, seed } => Command::PowerCut {
            partly: (keep.is_some() || torn.is_some()).then(|| PartlyCut {
                kept: keep.unwrap_or_default(),
                torn: torn.unwrap_or_default(),
                seed,
            }),
        },
        CtlCommand::Resize { size } => Command::Resize { size },
        CtlCommand::Pool { size, when_full } => {
            size.pool(when_full).map_or(Command::RemovePool, Command::SetPool)
        }
        CtlCommand::Snapshot(SnapshotCommand::Keep { name }) => Command::KeepSnapshot { name },
        CtlCommand::Snapshot(SnapshotCommand::Restore { name }) => Command::RestoreSnapshot { name },
        CtlCommand::Snapshot(SnapshotCommand::Forget { name }) => Command::ForgetSnapshot { name },
        CtlCommand::Snapshot(SnapshotCommand::List) => Command::Snapshots,
        CtlCommand::Fork { name, of } => Command::Fork { to: name, of },
        CtlCommand::Exports => Command::Exports,
        CtlCommand::RemoveExport { name } => Command::RemoveExport { name },
        CtlCommand::Stats { .. } => Command::Stats,
        CtlCommand::Regions => Command::Regions,
        CtlCommand::Region { name, ranges, empty: false } if ranges.is_empty() => {
            Command::FindRegion { name }
        }
        CtlCommand::Region { name, ranges, .. } => Command::SetRegion { name, ranges },
        CtlCommand::Seed { seed } => Command::Reseed { seed },
        CtlCommand::Mark { text } => Command::Mark { text },
        CtlCommand::Settle => Command::Settle,
        CtlCommand::Fault(FaultCommand::Add { .. }) | CtlCommand::Raw { .. } => return None,
    })
}
