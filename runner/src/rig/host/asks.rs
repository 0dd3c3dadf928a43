//! What the steps of a trial ask of the disk: another size, and words with its gates.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use brim_agent::protocol::{Answer, Ask, Command};
use brim_trial::Bytes;
use brim_trial::event::HeldRequest;
use nbd_server::{Disk, Held};

use super::{EXPORT, HostFuse};
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

impl HostFuse {
    /// Answers a step, at once or when its gate holds enough.
    pub(super) fn asked(&mut self, id: u64, ask: Ask) -> Result<(), RigError> {
        let answer = match ask {
            Ask::Resize { size } => self.resize(size).map(|()| Answer::Done),
            Ask::Await { .. } if self.awaits.given_up => Ok(Answer::GivenUp),
            Ask::Await { gate, count } => {
                self.awaits.waiting.push(Await { id, gate, count });
                return self.look_at_gates();
            }
            Ask::Release { gate } => self.disk().map(|disk| {
                let held = held_by(disk, &gate);
                let _released = disk.open_gate(&gate);
                Answer::Released(held)
            }),
            Ask::CutPower => self.cut_power().map(|()| Answer::Done),
            Ask::RestorePower => self.restore_power().map(|()| Answer::Done),
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

    fn cut_power(&mut self) -> Result<(), String> {
        let attached = self.attached.as_mut().ok_or(NO_DISK)?;
        attached.kept = Some(attached.disk.durable());
        // The unmount is to end, whatever it has to write.
        let _released = attached.disk.open_all_gates();
        Ok(())
    }

    fn restore_power(&mut self) -> Result<(), String> {
        let attached = self.attached.as_mut().ok_or(NO_DISK)?;
        let kept = attached.kept.take().ok_or("the power was not cut")?;
        let disk = Disk::from_store_with(kept, attached.disk.options());
        let _before = self.server.remove_export(EXPORT);
        self.server.add_export(EXPORT, disk.clone()).map_err(|error| error.to_string())?;
        let client = self.connect().map_err(|error| error.to_string())?;
        let attached = self.attached.as_mut().ok_or(NO_DISK)?;
        attached.size.store(disk.size().0, Ordering::Release);
        *attached.client.write().unwrap_or_else(PoisonError::into_inner) = client;
        attached.before.push(std::mem::replace(&mut attached.disk, disk));
        Ok(())
    }

    fn resize(&self, size: Bytes) -> Result<(), String> {
        let attached = self.attached.as_ref().ok_or(NO_DISK)?;
        attached.disk.resize(size).map_err(|error| error.to_string())?;
        attached.size.store(size.0, Ordering::Release);
        Ok(())
    }

    fn disk(&self) -> Result<&Disk, String> {
        self.attached.as_ref().map(|attached| &attached.disk).ok_or_else(|| NO_DISK.to_owned())
    }
}

const NO_DISK: &str = "no disk is attached";

/// What the gate holds, in order of arrival.
fn held_by(disk: &Disk, gate: &str) -> Vec<HeldRequest> {
    let describe =
        |held: Held| HeldRequest { op: held.op.name().to_owned(), offset: held.offset, length: held.len };
    disk.held().into_iter().filter(|held| held.gate == gate).map(describe).collect()
}
