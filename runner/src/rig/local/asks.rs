//! What the steps of a trial ask of the disk: another size, and words with its gates.

use std::collections::BTreeMap;
use std::time::Duration;

use brim_agent::protocol::{self, Answer, Ask, Command};
use brim_device::control;
use brim_device::fault::{Row, Then, When};
use brim_device::log::Mark;
use brim_device::{Cut, SECTOR, Survival};
use brim_trial::event::HeldRequest;
use brim_trial::operation::{DiskWord, Pool, Release};
use brim_trial::{ByteRange, Bytes};
use nbd_server::{Disk, Held, Stats, Which};

use super::{Attached, Local};
use crate::rig::{RigError, workbench};

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
            Ask::Resize { device, size } => self.resize(device.as_deref(), size).map(|()| Answer::Done),
            Ask::Await { .. } if self.awaits.given_up => Ok(Answer::GivenUp),
            Ask::Await { gate, count } => {
                self.awaits.waiting.push(Await { id, gate, count });
                return self.look_at_gates();
            }
            Ask::Release { gate, some } => self.disk_of(&gate).map(|disk| release(disk, &gate, some)),
            // A row that is not in force yet is closed when it is.
            Ask::Close { gate } => self.disk_of(&gate).map(|disk| {
                let _there_is_one = disk.close_gate(&gate);
                Answer::Done
            }),
            Ask::CutPower => self.cut_power().map(|()| Answer::Done),
            Ask::RestorePower { survival, seed } => self.restore_power(survival, seed).map(Answer::Lost),
            Ask::Arm { device, faults, regions } => {
                self.arm(&device, &faults, regions).map(|()| Answer::Done)
            }
            Ask::CountRequests => {
                let counts = self
                    .attached
                    .iter()
                    .map(|attached| workbench::counted(Stats::default(), attached.disk.stats()));
                Ok(Answer::Requests(workbench::together(counts)))
            }
            Ask::Peek { device, range } => {
                self.attached(Some(&device)).and_then(|attached| peek(&attached.disk, range))
            }
            Ask::Disk(word) => self.told(word),
            Ask::GiveUp => {
                for attached in &self.attached {
                    let_all_go(&attached.disk);
                }
                self.give_up()?;
                Ok(Answer::Done)
            }
        };
        self.agent.send(&Command::Answer { id, answer })
    }

    /// Answers those whose gate holds enough by now.
    pub(super) fn look_at_gates(&mut self) -> Result<(), RigError> {
        if self.awaits.is_empty() {
            return Ok(());
        }
        let disks: Vec<&Disk> = self.attached.iter().map(|attached| &attached.disk).collect();
        let enough = |wait: &mut Await| {
            // A gate is of one disk.
            let held: Vec<HeldRequest> = disks.iter().flat_map(|disk| held_by(disk, &wait.gate)).collect();
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

    fn arm(
        &self,
        device: &str,
        faults: &[String],
        regions: BTreeMap<String, Vec<ByteRange>>,
    ) -> Result<(), String> {
        let disk = &self.attached(Some(device))?.disk;
        for (name, ranges) in regions {
            disk.set_region(&name, ranges);
        }
        for fault in self.rows.iter().filter(|fault| faults.contains(&fault.row.name)) {
            disk.add_fault(fault.row.clone()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn cut_power(&mut self) -> Result<(), String> {
        if self.attached.is_empty() {
            return Err(NO_DISK.to_owned());
        }
        self.keep_all(CUT)?;
        for attached in &mut self.attached {
            // The unmount is to end, whatever it has to write: nobody sees that again.
            for fault in attached.disk.faults() {
                attached.faults_before.extend(attached.disk.remove_fault(&fault.row.name));
            }
        }
        Ok(())
    }

    /// Keeps the content of one moment. Of several disks all stand still before the first is kept: what one of them did after
    /// another had stopped would be what no moment has.
    fn keep_all(&self, name: &str) -> Result<(), String> {
        let several = self.attached.len() > 1;
        for Attached { disk, .. } in self.attached.iter().filter(|_| several) {
            let (when, then) = (When::default(), Then::Hold { limit: None });
            let stand_still = Row { name: STILL.to_owned(), when, then };
            disk.add_fault(stand_still).map_err(|error| error.to_string())?;
        }
        for Attached { disk, .. } in &self.attached {
            disk.keep_snapshot(name);
        }
        for Attached { disk, .. } in &self.attached {
            let _of_several = disk.remove_fault(STILL);
        }
        Ok(())
    }

    /// Has the disks do as they are told.
    fn told(&self, word: DiskWord) -> Result<Answer, String> {
        match word {
            DiskWord::Mark { text } => {
                let mark = Mark::new(&text).map_err(|error| error.to_string())?;
                let marked = self.attached.iter().filter(|attached| attached.disk.mark(mark.clone())).count();
                return Ok(if marked > 0 { Answer::Marked } else { Answer::Done });
            }
            DiskWord::KeepSnapshot { name } => self.keep_all(&name)?,
            DiskWord::RestoreSnapshot { name } => return self.restore(&name).map(Answer::Sizes),
            DiskWord::SetPool { device, pool } => set_pool(&self.attached(device.as_deref())?.disk, pool),
            DiskWord::RemovePool { device } => {
                let _now_have_space = self.attached(device.as_deref())?.disk.set_pool(None);
            }
        }
        Ok(Answer::Done)
    }

    fn restore(&self, name: &str) -> Result<BTreeMap<String, Bytes>, String> {
        let mut sizes = BTreeMap::new();
        for attached in &self.attached {
            if !attached.disk.restore_snapshot(name) {
                return Err(format!(
                    "no snapshot is called `{name}`: the step that keeps it has not been done"
                ));
            }
            self.tell_size(attached, attached.disk.size());
            sizes.insert(attached.name.clone(), attached.disk.size());
        }
        Ok(sizes)
    }

    fn restore_power(&mut self, survival: Survival, seed: u64) -> Result<Bytes, String> {
        let mut lost = Bytes::ZERO;
        for (number, attached) in (0..).zip(&self.attached) {
            let disk = &attached.disk;
            if !disk.restore_snapshot(CUT) {
                return Err("the power was not cut".to_owned());
            }
            self.tell_size(attached, disk.size());
            let _kept = disk.forget_snapshot(CUT);
            lost = Bytes(lost.0 + lose(disk, survival, seed.wrapping_add(number)).0);
        }
        Ok(lost)
    }

    fn resize(&self, device: Option<&str>, size: Bytes) -> Result<(), String> {
        let attached = self.attached(device)?;
        attached.disk.resize(size).map_err(|error| error.to_string())?;
        self.tell_size(attached, size);
        Ok(())
    }

    /// Tells the file behind the loop device its new size. nbd.ko has it from the agent.
    pub(super) fn tell_size(&self, attached: &Attached, size: Bytes) {
        if let Some(fuse) = self.fuses.get(&attached.name) {
            fuse.file.set_size(size);
        }
    }

    /// The disk of this name, or the first.
    fn attached(&self, name: Option<&str>) -> Result<&Attached, String> {
        let found = match name {
            Some(name) => self.attached.iter().find(|attached| attached.name == name),
            None => self.attached.first(),
        };
        found.ok_or_else(|| NO_DISK.to_owned())
    }

    /// The disk that has this gate.
    fn disk_of(&self, gate: &str) -> Result<&Disk, String> {
        if gate == Pool::GATE {
            // Each disk with a pool has one: of several the one where something waits.
            let waits = |attached: &&Attached| !waiting_at(&attached.disk, gate).is_empty();
            if let Some(attached) = self.attached.iter().find(waits) {
                return Ok(&attached.disk);
            }
        }
        let device = self.rows.iter().find(|fault| fault.row.name == gate);
        self.attached(device.map(|fault| fault.device.as_str())).map(|attached| &attached.disk)
    }
}

/// Has a disk lose what was in its cache, but for what survives.
fn lose(disk: &Disk, survival: Survival, seed: u64) -> Bytes {
    if survival.is_none() {
        return disk.power_cut();
    }
    let Cut { lost, torn, .. } = disk.power_cut_partly(survival, seed);
    Bytes((lost + torn) * SECTOR.0)
}

/// The name of the content at the moment that the power was cut; a scenario can give none of this name.
const CUT: &str = "\0power-cut";
/// The name of the row that has all disks stand still for a moment.
const STILL: &str = "\0still";
/// btrfs' largest nodes.
const PEEK_MAX: usize = 64 << 10;
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

/// Opens all gates for good, and gives the disk all the space of its size.
pub(crate) fn let_all_go(disk: &Disk) {
    let _had_waited = disk.set_pool(None);
    let _released = disk.open_all_gates();
}

/// Puts the pool of a scenario behind the disk.
pub(crate) fn set_pool(disk: &Disk, pool: Pool) {
    let limit = pool.limit(disk.allocated());
    let _now_have_space = disk.set_pool(Some(control::Pool { limit, when_full: pool.when_full }));
}

/// What the disk holds there.
fn peek(disk: &Disk, range: ByteRange) -> Result<Answer, String> {
    // Nobody has a reason to ask for more than a block of a filesystem.
    let len = range.length.to_len().filter(|len| *len <= PEEK_MAX);
    let mut bytes = vec![0; len.ok_or_else(|| format!("{} are too many bytes to look at", range.length))?];
    disk.snapshot().read(range.offset, &mut bytes).map_err(|error| error.to_string())?;
    Ok(Answer::Bytes(protocol::to_hex(&bytes)))
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
