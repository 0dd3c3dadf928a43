//! Fewer phases, workers, steps and rounds, and steps that say less.

use std::collections::BTreeSet;

use brim_device::Survival;
use brim_trial::judge::blocks;
use brim_trial::operation::{Content, Expect, How};
use brim_trial::{BLOCK, Bytes, FileOperation, Operation, Phase, Plan, Round};

use super::Search;

impl<E> Search<'_, E> {
    /// Whole phases, the last first: what comes later depends on what came before.
    pub(super) fn phases(&mut self) -> Result<(), E> {
        for index in (0..self.plan.phases.len()).rev() {
            if self.plan.phases.len() > 1 {
                let name = self.plan.phases.get(index).map_or("", |phase| phase.name.as_str());
                let what = format!("without the phase {name:?}");
                self.with(&what, |plan| drop(plan.phases.remove(index)))?;
            }
        }
        // Two phases that go round once are one.
        let mut index = 1;
        while index < self.plan.phases.len() {
            let joined = self.with("two phases as one", |plan| {
                let next = plan.phases.remove(index);
                if let Some(phase) =
                    plan.phases.get_mut(index - 1).filter(|phase| phase.times == 1 && next.times == 1)
                {
                    phase.until = phase.until.or(next.until);
                    phase.steps.extend(next.steps);
                } else {
                    // Not one: as it was.
                    plan.phases.insert(index, next);
                }
            })?;
            index += usize::from(!joined);
        }
        Ok(())
    }

    /// All steps of a worker; then all workers of a phase as one, in the order of the file.
    pub(super) fn workers(&mut self) -> Result<(), E> {
        for index in (0..self.plan.phases.len()).rev() {
            let workers: Vec<Option<String>> = self.workers_of(index);
            for worker in workers.iter().filter(|_| workers.len() > 1) {
                let what = format!("without the worker {}", worker.as_deref().unwrap_or("main"));
                self.with(&what, |plan| {
                    if let Some(phase) = plan.phases.get_mut(index) {
                        phase.steps.retain(|step| step.by != *worker);
                    }
                })?;
            }
            if self.workers_of(index).iter().any(Option::is_some) {
                self.with("one worker", |plan| {
                    for step in plan.phases.get_mut(index).into_iter().flat_map(|phase| &mut phase.steps) {
                        step.by = None;
                    }
                })?;
            }
        }
        Ok(())
    }

    fn workers_of(&self, index: usize) -> Vec<Option<String>> {
        let workers = self.plan.phases.get(index).map(Phase::workers).unwrap_or_default();
        workers.into_iter().map(|worker| worker.map(ToOwned::to_owned)).collect()
    }

    /// Steps, in parts that are half as large each time; then those of the preparation, one by one.
    pub(super) fn steps(&mut self) -> Result<(), E> {
        self.steps_of_phases()?;
        for index in (0..self.plan.prepare.steps.len()).rev() {
            self.with("without a step of the preparation", |plan| drop(plan.prepare.steps.remove(index)))?;
        }
        Ok(())
    }

    fn steps_of_phases(&mut self) -> Result<(), E> {
        let mut size = count(&self.plan).div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < count(&self.plan) {
                let part: BTreeSet<usize> = (from..(from + size).min(count(&self.plan))).collect();
                let what = match part.len() {
                    1 => format!("without {}", name(&self.plan, from)),
                    several => format!("without {several} steps from {} on", name(&self.plan, from)),
                };
                let all = part.len() == count(&self.plan);
                // What follows moves up to where it was.
                if all || !self.with(&what, |plan| remove(plan, &part))? {
                    from += size;
                }
            }
            size /= 2;
        }
        Ok(())
    }

    /// Single steps that take room: without them, and with so much less of it from the start. Neither alone may do.
    pub(super) fn steps_with_their_space(&mut self) -> Result<(), E> {
        let mut at = 0;
        while at < count(&self.plan) {
            let (room, name) = (room(&self.plan, at), name(&self.plan, at));
            let left =
                self.plan.prepare.fill.data_free.zip(room).and_then(|(free, room)| free.checked_sub(room));
            let took = match left {
                None => false,
                Some(left) => {
                    self.with(&format!("without {name}, and with {} free", blocks(left)), |plan| {
                        remove(plan, &BTreeSet::from([at]));
                        plan.prepare.fill.data_free = Some(left);
                    })?
                }
            };
            at += usize::from(!took);
        }
        Ok(())
    }

    /// Fewer rounds: the fewest that still do of those few that are tried.
    pub(super) fn rounds(&mut self) -> Result<(), E> {
        for index in 0..self.plan.phases.len() {
            let times = self.plan.phases.get(index).map_or(1, |phase| phase.times);
            let fewer = std::iter::successors(Some(1_u64), |times| times.checked_mul(2))
                .take_while(|fewer| *fewer < times);
            for fewer in fewer {
                let what = if fewer == 1 { "one round".to_owned() } else { format!("{fewer} rounds") };
                let took = self.with(&what, |plan| {
                    if let Some(phase) = plan.phases.get_mut(index) {
                        phase.times = fewer;
                    }
                })?;
                if took {
                    break;
                }
            }
            // And one fewer, as long as that does.
            while self.plan.phases.get(index).is_some_and(|phase| (2..=64).contains(&phase.times)) {
                let fewer = self.plan.phases.get(index).map_or(1, |phase| phase.times - 1);
                let took = self.with(&format!("{fewer} rounds"), |plan| {
                    if let Some(phase) = plan.phases.get_mut(index) {
                        phase.times = fewer;
                    }
                })?;
                if !took {
                    break;
                }
            }
        }
        Ok(())
    }

    /// What steps say more than they have to, and words for mkfs, mount and the disk.
    pub(super) fn options(&mut self) -> Result<(), E> {
        for at in 0..count(&self.plan) {
            let Some(mut operation) = operation(&self.plan, at).cloned() else { continue };
            if simplify(&mut operation) {
                let name = name(&self.plan, at);
                self.with(&format!("a simpler {name}"), |plan| {
                    if let Some(step) = plan.phases.iter_mut().flat_map(|phase| &mut phase.steps).nth(at) {
                        step.operation = operation;
                    }
                })?;
            }
        }
        for index in (0..self.plan.filesystem.mkfs.len()).rev() {
            self.with("without a word of mkfs", |plan| drop(plan.filesystem.mkfs.remove(index)))?;
        }
        for index in (0..self.plan.filesystem.mount.len()).rev() {
            self.with("without a mount option", |plan| drop(plan.filesystem.mount.remove(index)))?;
        }
        for index in (0..self.plan.devices.len()).rev() {
            self.with("without a disk", |plan| drop(plan.devices.remove(index)))?;
        }
        for index in 0..self.plan.devices.len() {
            if self.plan.devices.get(index).is_some_and(|device| device.write_cache) {
                self.with("without a write cache", |plan| {
                    if let Some(device) = plan.devices.get_mut(index) {
                        device.write_cache = false;
                    }
                })?;
            }
        }
        for index in 0..self.plan.phases.len() {
            let has_until = |phase: &Phase| phase.until.is_some() && phase.times == 1;
            if self.plan.phases.get(index).is_some_and(has_until) {
                self.with("without `until`", |plan| {
                    if let Some(phase) = plan.phases.get_mut(index) {
                        phase.until = None;
                    }
                })?;
            }
        }
        Ok(())
    }
}

fn count(plan: &Plan) -> usize {
    plan.phases.iter().map(|phase| phase.steps.len()).sum()
}

fn operation(plan: &Plan, at: usize) -> Option<&Operation> {
    plan.phases.iter().flat_map(|phase| &phase.steps).nth(at).map(|step| &step.operation)
}

fn name(plan: &Plan, at: usize) -> String {
    let step = plan.phases.iter().flat_map(|phase| &phase.steps).nth(at);
    step.map_or_else(String::new, |step| step.name.clone())
}

/// The blocks that a step may take, where it is done once.
fn room(plan: &Plan, at: usize) -> Option<Bytes> {
    let of = |phase: &Phase| {
        phase.steps.iter().map(|step| (phase.times, step.operation.clone())).collect::<Vec<_>>()
    };
    let (times, operation) = plan.phases.iter().flat_map(of).nth(at)?;
    let (_, length) = operation.range().filter(|_| times == 1)?;
    let takes =
        matches!(operation, Operation::File(FileOperation::Fallocate { .. } | FileOperation::Pwrite { .. }));
    takes.then(|| length.value(Round::default()).ok()?.checked_next_multiple_of(BLOCK.0)).flatten().map(Bytes)
}

/// Takes out the steps with these places, counted over all phases.
fn remove(plan: &mut Plan, part: &BTreeSet<usize>) {
    let mut at = 0;
    for phase in &mut plan.phases {
        phase.steps.retain(|_| {
            at += 1;
            !part.contains(&(at - 1))
        });
    }
}

/// Says the same with less; false where there is nothing to take away.
fn simplify(operation: &mut Operation) -> bool {
    match operation {
        Operation::File(operation) => return simplify_file(operation),
        Operation::Snapshot { read_only, .. } if *read_only => *read_only = false,
        Operation::PowerCut { survival, .. } if !survival.is_none() => *survival = Survival::default(),
        Operation::Await { count, .. } if *count > 1 => *count = 1,
        Operation::Release { some, .. } if some.is_some() => *some = None,
        _ => return false,
    }
    true
}

fn simplify_file(operation: &mut FileOperation) -> bool {
    match operation {
        FileOperation::Fallocate { keep_size, .. } if *keep_size => *keep_size = false,
        FileOperation::Pwrite { data, .. } | FileOperation::MmapWrite { data, .. }
            if *data != Content::Zeroes =>
        {
            *data = Content::Zeroes;
        }
        FileOperation::Pwrite { how, .. } | FileOperation::Pread { how, .. } if !how.is_plain() => {
            *how = How::default();
        }
        FileOperation::Pread { expect, .. } if *expect == Expect::Synced => *expect = Expect::Written,
        _ => return false,
    }
    true
}
