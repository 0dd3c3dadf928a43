//! What is done for an order.

use std::time::Duration;

use brim_device::Nanos;
use brim_device::control::{
    Answer, Command, ExportStatus, LIMIT, Order, PartlyCut, Refusal, Region, Release, Which,
};
use brim_device::fault::{RowError, Then};
use brim_device::log::Mark;
use brim_device::{Bytes, Survival};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::disk::Disk;
use crate::export::{Export, ExportError};
use crate::server::Door;
use crate::socket::Socket;

/// How often somebody who waits looks whether the client is still there.
const TICK: Duration = Duration::from_millis(50);

/// What comes of an order; `None` when the client has gone.
type Outcome = Option<Result<Answer, Refusal>>;

/// Carries an order out.
pub(super) fn carry_out(order: Order, door: &Door, socket: &Socket) -> Outcome {
    let Order { export, limit, command, .. } = order;
    match command {
        Command::Exports => return Some(Ok(exports(door))),
        Command::RemoveExport { name } => return Some(remove_export(&name, door)),
        _ => {}
    }
    let Some((name, export)) = door.exports().get(export.as_deref()) else {
        return Some(Err(no_export(export.as_deref(), door)));
    };
    let place = Place { name, export, door, socket, limit: limit.unwrap_or(LIMIT) };
    place.carry_out(command)
}

/// Where an order is carried out, and for whom.
pub(super) struct Place<'a> {
    name: String,
    export: Export,
    pub(super) door: &'a Door,
    socket: &'a Socket,
    limit: Nanos,
}

impl Place<'_> {
    pub(super) fn disk(&self) -> &Disk {
        &self.export.disk
    }

    /// What looks at what is now waits for nothing. What lets requests go waits for them afterwards, and for those before it. All
    /// else waits for what came before it and is done then.
    fn carry_out(&self, command: Command) -> Outcome {
        match command {
            Command::WaitHeld { gate, count, limit } => return self.wait_held(&gate, count, limit),
            Command::Held => return Some(Ok(Answer::Held(self.disk().held()))),
            Command::Stats => {
                let connections = u64::try_from(self.door.connection_count()).unwrap_or(u64::MAX);
                return Some(Ok(Answer::Stats(Box::new(self.disk().status(&self.name, connections)))));
            }
            _ => {}
        }
        if lets_go(&command) {
            let answer = match self.act(command) {
                Ok(answer) => answer,
                refused @ Err(_) => return Some(refused),
            };
            let late =
                "it is done, but requests that came before it, or that it let go, still wait for their time";
            return Some(self.settled(late)?.map(|()| answer));
        }
        match self.settled("nothing was done: requests that came before it still wait for their time")? {
            Ok(()) => Some(self.act(command)),
            Err(refusal) => Some(Err(refusal)),
        }
    }

    /// Waits for the requests that have arrived by now.
    fn settled(&self, late: &str) -> Option<Result<(), Refusal>> {
        let disk = self.disk();
        let mark = disk.arrived();
        let quiet = self.wait(self.limit, |slice| disk.settle_before(mark, slice))?;
        let left = || {
            let waited = Duration::from(self.limit);
            let refusal = Refusal::new(format!("{late} after {waited:?} ({} in all)", disk.delayed()));
            Err(refusal.hint(
                "a larger `limit` waits longer; without the rows that delay, later requests go at once",
            ))
        };
        Some(if quiet { Ok(()) } else { left() })
    }

    /// Waits in slices until `done`, or until the limit is over; `None` when the client has gone.
    fn wait(&self, limit: Nanos, mut done: impl FnMut(Duration) -> bool) -> Option<bool> {
        let disk = self.disk();
        let end = Nanos(disk.now().0.saturating_add(limit.0));
        loop {
            let left = Duration::from_nanos(end.0.saturating_sub(disk.now().0));
            if done(left.min(TICK)) {
                return Some(true);
            }
            if left.is_zero() {
                return Some(false);
            }
            if has_gone(self.socket) {
                return None;
            }
        }
    }

    fn wait_held(&self, gate: &str, count: usize, limit: Nanos) -> Outcome {
        if let Err(refusal) = self.check_gate(gate) {
            return Some(Err(refusal));
        }
        let mut waiting = 0;
        let enough = self.wait(limit, |slice| {
            waiting = self.disk().wait_held(gate, count, slice);
            waiting >= count
        })?;
        if enough {
            return Some(Ok(Answer::Waiting(whole(waiting))));
        }
        let waited = Duration::from(limit);
        let refusal =
            Refusal::new(format!("{waiting} of {count} requests wait at {gate:?} after {waited:?}"));
        Some(Err(refusal.hint("`matches` of the row says whether it has seen any")))
    }

    fn act(&self, command: Command) -> Result<Answer, Refusal> {
        let disk = self.disk();
        Ok(match command {
            Command::AddFault(row) => {
                self.define_region_of(&row)?;
                disk.add_fault(*row).map(|()| Answer::Done).map_err(|why| self.bad_row(&why))?
            }
            Command::RemoveFault { name } => {
                let removed = disk.remove_fault(&name);
                Answer::Removed(Box::new(removed.ok_or_else(|| self.no_row("fault", &name, |_| true))?))
            }
            Command::Faults => Answer::Faults(disk.faults()),
            Command::SetRegion { name, ranges } => {
                disk.set_region(&name, ranges);
                Answer::Done
            }
            Command::FindRegion { name } => self.find_region(name)?,
            Command::Regions => Answer::Regions(
                disk.regions().into_iter().map(|(name, ranges)| Region { name, ranges }).collect(),
            ),
            Command::Reseed { seed } => {
                disk.reseed(seed);
                Answer::Done
            }
            Command::Release { .. }
            | Command::OpenGate { .. }
            | Command::CloseGate { .. }
            | Command::OpenAllGates => self.gates(command)?,
            Command::SetPool(pool) => Answer::Released(whole(disk.set_pool(Some(pool)))),
            Command::RemovePool => Answer::Released(whole(disk.set_pool(None))),
            Command::Settle => Answer::Done,
            Command::Mark { text } => self.mark(&text)?,
            content => self.content(content)?,
        })
    }

    fn gates(&self, command: Command) -> Result<Answer, Refusal> {
        let disk = self.disk();
        let released = match command {
            Command::Release { gate, which, error } => {
                self.check_gate(&gate)?;
                self.check_ids(&gate, &which)?;
                disk.release(&gate, &Release { which, error })
            }
            Command::OpenGate { gate } => {
                self.check_row_gate(&gate)?;
                disk.open_gate(&gate)
            }
            Command::CloseGate { gate } => {
                self.check_row_gate(&gate)?;
                let _it_was_there = disk.close_gate(&gate);
                return Ok(Answer::Done);
            }
            _ => disk.open_all_gates(),
        };
        Ok(Answer::Released(whole(released)))
    }

    fn content(&self, command: Command) -> Result<Answer, Refusal> {
        let disk = self.disk();
        Ok(match command {
            Command::PowerCut { partly: None } => Answer::LostBytes(disk.power_cut()),
            Command::PowerCut { partly: Some(PartlyCut { kept, torn, seed }) } => {
                let survival = Survival { kept, torn };
                if survival.is_more_than_all() {
                    return Err(Refusal::new(
                        "more than all sectors would survive: `kept` and `torn` add up to more than 1",
                    ));
                }
                Answer::CutSectors(disk.power_cut_partly(survival, seed))
            }
            Command::Resize { size } => self.resize(size)?,
            Command::KeepSnapshot { name } => {
                disk.keep_snapshot(&name);
                Answer::Done
            }
            Command::RestoreSnapshot { name } => {
                let before = disk.size();
                self.snapshot(&name, disk.restore_snapshot(&name))?;
                self.tell_size(before)?
            }
            Command::ForgetSnapshot { name } => self.snapshot(&name, disk.forget_snapshot(&name))?,
            Command::Snapshots => Answer::Snapshots(disk.snapshots()),
            Command::Fork { to, of } => self.fork(&to, of.as_deref())?,
            _ => return Err(Refusal::new("this server does not know that command")),
        })
    }

    fn resize(&self, size: Bytes) -> Result<Answer, Refusal> {
        let refused = |why: &dyn std::fmt::Display| {
            Refusal::new(why.to_string())
                .hint("a size is a multiple of 512 bytes, and of the minimum block size of the export")
        };
        self.export.options.check(size).map_err(|why| refused(&why))?;
        let before = self.disk().size();
        self.disk().resize(size).map_err(|why| refused(&why))?;
        self.tell_size(before)
    }

    fn snapshot(&self, name: &str, there: bool) -> Result<Answer, Refusal> {
        if there {
            return Ok(Answer::Done);
        }
        let names = self.disk().snapshots();
        Err(Refusal::new(format!("there is no snapshot {name:?}")).hint(listed("snapshots", &names)))
    }

    fn fork(&self, to: &str, of: Option<&str>) -> Result<Answer, Refusal> {
        let disk = self.disk();
        let begun = disk.now();
        let fork = match of {
            None => disk.fork(),
            Some(name) => match disk.fork_snapshot(name) {
                Some(fork) => fork,
                None => return self.snapshot(name, false),
            },
        };
        let export = Export { disk: fork, options: self.export.options };
        self.door.exports().add(to, export).map_err(|why| {
            let refusal = Refusal::new(why.to_string());
            if matches!(why, ExportError::Exists { .. }) {
                refusal.hint("`remove_export` makes room")
            } else {
                refusal
            }
        })?;
        Ok(Answer::Forked(Nanos(disk.now().0.saturating_sub(begun.0))))
    }

    fn mark(&self, text: &str) -> Result<Answer, Refusal> {
        let mark = Mark::new(text).map_err(|why| Refusal::new(why.to_string()))?;
        if self.disk().mark(mark) {
            return Ok(Answer::Done);
        }
        Err(Refusal::new("no write log is kept of this disk").hint("`brim serve --log FILE` keeps one"))
    }

    fn bad_row(&self, why: &RowError) -> Refusal {
        let refusal = Refusal::new(why.to_string());
        let rows = |wanted: fn(&Then) -> bool| self.row_names(wanted);
        match why {
            RowError::DuplicateName { .. } => {
                refusal.hint("remove the other one first, or take another name")
            }
            RowError::UnknownRegion { .. } => {
                let names: Vec<String> = self.disk().regions().into_iter().map(|(name, _)| name).collect();
                refusal.hint(listed("regions", &names))
            }
            RowError::UnknownGate { .. } => {
                refusal.hint(listed("gates", &rows(|then| matches!(then, Then::Hold { .. }))))
            }
            _ => refusal,
        }
    }

    fn row_names(&self, wanted: fn(&Then) -> bool) -> Vec<String> {
        self.disk().rows().into_iter().filter(|row| wanted(&row.then)).map(|row| row.name).collect()
    }

    fn no_row(&self, what: &str, name: &str, wanted: fn(&Then) -> bool) -> Refusal {
        let refusal = Refusal::new(format!("there is no {what} {name:?}"));
        refusal.hint(listed(&format!("{what}s"), &self.row_names(wanted)))
    }

    /// A row that holds.
    fn check_row_gate(&self, gate: &str) -> Result<(), Refusal> {
        let holds: fn(&Then) -> bool = |then| matches!(then, Then::Hold { .. });
        let there = self.row_names(holds).iter().any(|name| name == gate);
        if there { Ok(()) } else { Err(self.no_row("gate", gate, holds)) }
    }

    /// A row that holds, or the pool.
    fn check_gate(&self, gate: &str) -> Result<(), Refusal> {
        if gate == crate::disk::POOL_GATE && self.disk().pool().is_some() {
            return Ok(());
        }
        self.check_row_gate(gate)
    }

    fn check_ids(&self, gate: &str, which: &Which) -> Result<(), Refusal> {
        let Which::These(ids) = which else { return Ok(()) };
        let held = self.disk().held();
        let waits = |id: &u64| held.iter().any(|held| held.gate == gate && held.id == *id);
        match ids.iter().find(|id| !waits(id)) {
            None => Ok(()),
            Some(id) => Err(Refusal::new(format!("request {id} does not wait at {gate:?}"))
                .hint("`held` lists those that do")),
        }
    }
}

/// What hands requests over that were held.
const fn lets_go(command: &Command) -> bool {
    matches!(
        command,
        Command::RemoveFault { .. }
            | Command::Release { .. }
            | Command::OpenGate { .. }
            | Command::OpenAllGates
            | Command::SetPool(_)
            | Command::RemovePool
    )
}

fn exports(door: &Door) -> Answer {
    let status = |(name, export): (String, Export)| ExportStatus {
        name,
        size: export.disk.size(),
        read_only: export.options.read_only,
    };
    Answer::Exports(door.exports().all().into_iter().map(status).collect())
}

fn remove_export(name: &str, door: &Door) -> Result<Answer, Refusal> {
    match door.exports().remove(name) {
        Some(_) => Ok(Answer::Done),
        None => Err(no_export(Some(name), door)),
    }
}

fn no_export(name: Option<&str>, door: &Door) -> Refusal {
    let names: Vec<String> = door.exports().all().into_iter().map(|(name, _)| name).collect();
    match name {
        Some(name) => Refusal::new(format!("there is no export {name:?}")).hint(listed("exports", &names)),
        None => Refusal::new("the server has no export"),
    }
}

fn listed(what: &str, names: &[String]) -> String {
    if names.is_empty() {
        return format!("there are no {what}");
    }
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    format!("{what}: {}", names.join(", "))
}

fn whole(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Whether both directions of a socket have ended. A client that has only ended its own still waits for answers.
fn has_gone(socket: &Socket) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut fds, Some(&now)) {
        Ok(_) => fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR),
        // Interrupted by a signal; it is asked again soon.
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_client_that_says_no_more_has_not_gone() {
        let (theirs, ours) = UnixStream::pair().unwrap();
        let ours = Socket::from(ours);
        assert!(!has_gone(&ours));
        theirs.shutdown(Shutdown::Write).unwrap();
        assert!(!has_gone(&ours));
        drop(theirs);
        assert!(has_gone(&ours));
    }
}
