//! What the steps of a trial ask of the disk: another size, and words with its gates.

use std::collections::BTreeMap;
use std::time::Duration;

use brim_agent::protocol::{Answer, Ask, Command};
use brim_device::{Cut, SECTOR, Survival};
use brim_trial::event::HeldRequest;
use brim_trial::operation::Release;
use brim_trial::{ByteRange, Bytes};
use nbd_server::{Disk, Held, Which};

use super::Local;
use crate::rig::RigError;

/// How often a gate is looked at for whoever waits for it. What it holds stays held, so nothing is missed in between.
pub(super) const AWAIT_TICK: Duration = Duration::from_micros(500);

/// The steps that wait for a gate.
#[derive(Debug, Default)]
pub(super) struct Awaits {
    waiting: Vec<Await>,
    /// The gates are open: nothing will be held any more.
    given_up: bool,
}

#[derive(Debug)]
struct Await {
    id: u64,
    gate: String,
    count: u64,
}

impl Awaits {
    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Local {
    /// Answers a step, at once or when its gate holds enough.
    pub(super) fn asked(&mut self, id: u64, ask: Ask) -> Result<(), RigError> {
        let answer = match ask {
            Ask::Resize { size } => self.resize(size).map(|()| Answer::Done),
            Ask::Await { .. } if self.awaits.given_up => Ok(Answer::GivenUp),
            Ask::Await { gate, count } => {
                self.awaits.waiting.push(Await { id, gate, count });
                return self.look_at_gates();
            }
            Ask::Release { gate, some } => self.disk().map(|disk| release(disk, &gate, some)),
            // A row that is not in force yet is closed when it is.
            Ask::Close { gate } => self.disk().map(|disk| {
                let _there_is_one = disk.close_gate(&gate);
                Answer::Done
            }),
            Ask::CutPower => self.cut_power().map(|()| Answer::Done),
            Ask::RestorePower { survival, seed } => self.restore_power(survival, seed).map(Answer::Lost),
            Ask::Arm { faults, regions } => self.arm(&faults, regions).map(|()| Answer::Done),
            Ask::GiveUp => {
                if let Some(attached) = &self.attached {
                    let _released = attached.disk.open_all_gates();
                }
                self.give_up()?;
                Ok(Answer::Done)
            }
        };
        self.agent.send(&Command::Answer { id, answer })
    }

    /// Answers those whose gate holds enough by now.
    pub(super) fn look_at_gates(&mut self) -> Result<(), RigError> {
        let Some(attached) = &self.attached else { return Ok(()) };
        let enough = |wait: &mut Await| {
            let held = held_by(&attached.disk, &wait.gate);
            (u64::try_from(held.len()).unwrap_or(u64::MAX) >= wait.count).then_some((wait.id, held))
        };
        let mut answers = Vec::new();
        self.awaits.waiting.retain_mut(|wait| match enough(wait) {
            Some(answer) => {
                answers.push(answer);
                false
            }
            None => true,
        });
        for (id, held) in answers {
            self.agent.send(&Command::Answer { id, answer: Ok(Answer::Held(held)) })?;
        }
        Ok(())
    }

    /// Tells all who wait for a gate, now and later, that what they wait for will not come.
    pub(super) fn give_up(&mut self) -> Result<(), RigError> {
        self.awaits.given_up = true;
        for Await { id, .. } in std::mem::take(&mut self.awaits.waiting) {
            self.agent.send(&Command::Answer { id, answer: Ok(Answer::GivenUp) })?;
        }
        Ok(())
    }

    fn arm(&self, faults: &[String], regions: BTreeMap<String, Vec<ByteRange>>) -> Result<(), String> {
        let disk = self.disk()?;
        for (name, ranges) in regions {
            disk.set_region(&name, ranges);
        }
        for row in self.rows.iter().filter(|row| faults.contains(&row.name)) {
            disk.add_fault(row.clone()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn cut_power(&mut self) -> Result<(), String> {
        let attached = self.attached.as_mut().ok_or(NO_DISK)?;
        attached.disk.keep_snapshot(CUT);
        // The unmount is to end, whatever it has to write: nobody sees that again.
        for fault in attached.disk.faults() {
            attached.faults_before.extend(attached.disk.remove_fault(&fault.row.name));
        }
        Ok(())
    }

    fn restore_power(&mut self, survival: Survival, seed: u64) -> Result<Bytes, String> {
        let attached = self.attached.as_mut().ok_or(NO_DISK)?;
        if !attached.disk.restore_snapshot(CUT) {
            return Err("the power was not cut".to_owned());
        }
        let size = attached.disk.size();
        if let Some(fuse) = &self.fuse {
            fuse.file.set_size(size);
        }
        let _kept = attached.disk.forget_snapshot(CUT);
        if survival.is_none() {
            return Ok(attached.disk.power_cut());
        }
        let Cut { lost, torn, .. } = attached.disk.power_cut_partly(survival, seed);
        Ok(Bytes((lost + torn) * SECTOR.0))
    }

    fn resize(&self, size: Bytes) -> Result<(), String> {
        let attached = self.attached.as_ref().ok_or(NO_DISK)?;
        attached.disk.resize(size).map_err(|error| error.to_string())?;
        // nbd.ko has its size from the agent, the loop device from its file.
        if let Some(fuse) = &self.fuse {
            fuse.file.set_size(size);
        }
        Ok(())
    }

    fn disk(&self) -> Result<&Disk, String> {
        self.attached.as_ref().map(|attached| &attached.disk).ok_or_else(|| NO_DISK.to_owned())
    }
}

/// The name of the content at the moment that the power was cut.
const CUT: &str = "power-cut";
const NO_DISK: &str = "no disk is attached";

/// What the gate holds, in order of arrival.
fn waiting_at(disk: &Disk, gate: &str) -> Vec<Held> {
    disk.held().into_iter().filter(|held| held.gate == gate).collect()
}

fn held_by(disk: &Disk, gate: &str) -> Vec<HeldRequest> {
    waiting_at(disk, gate).iter().map(describe).collect()
}

fn describe(held: &Held) -> HeldRequest {
    HeldRequest { op: held.op.name().to_owned(), offset: held.offset, length: held.len }
}

/// Lets requests go, and says which.
fn release(disk: &Disk, gate: &str, some: Option<Release>) -> Answer {
    let held = waiting_at(disk, gate);
    let Some(Release { which, error }) = some else {
        let _released = disk.open_gate(gate);
        return Answer::Released(held.iter().map(describe).collect());
    };
    let count = u64::try_from(held.len()).unwrap_or(u64::MAX);
    if count < which.at_least() {
        return Answer::TooFew(count);
    }
    let chosen = which.of(&held);
    let ids = chosen.iter().map(|held| held.id).collect();
    let _released = disk.release(gate, &nbd_server::Release { which: Which::These(ids), error });
    Answer::Released(chosen.into_iter().map(describe).collect())
}
