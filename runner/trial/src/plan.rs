//! A checked scenario with every parameter set: all that a trial needs to know.

use std::collections::{BTreeMap, BTreeSet};

use brim_device::fault::Row;
use brim_device::{Bytes, Nanos};
use serde::{Deserialize, Serialize};

use crate::condition::{self, About, Condition, Wanted};
use crate::control::Control;
use crate::errno::Errno;
use crate::event::Signal;
use crate::filesystem::FilesystemKind;
use crate::judge::Verdict;
use crate::kernel::{self, Requirement};
use crate::operation::{Operation, Pool};
use crate::rate::Rate;

/// One scenario with one set of parameters. The same scenario, parameters and filesystem give the same plan, byte for
/// byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The scenario's name: `btrfs/fallocate-then-pwrite`.
    pub scenario: String,
    /// What ought to be true, in one sentence.
    pub claim: String,
    /// Where the claim or the report comes from.
    pub source: String,
    /// What happens in the kernel and why, in sentences; paragraphs have an empty line between them.
    pub why: Option<String>,
    /// The smallest change that makes the verdict another.
    pub control: Option<Control>,
    /// What is changed, where this plan is the control of another.
    pub changed: Option<Control>,
    /// Every parameter and its value, as written.
    pub params: BTreeMap<String, String>,
    /// The disks; the first is meant where none is named.
    pub devices: Vec<Device>,
    /// What the disks do to requests during the phases (not while they are prepared).
    pub faults: Vec<Fault>,
    /// The space behind disks during the phases, by their names; behind others there is all of their size.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pools: BTreeMap<String, Pool>,
    /// The filesystem on them.
    pub filesystem: Filesystem,
    /// The state before the first step.
    pub prepare: Prepare,
    /// What is done, in order.
    pub phases: Vec<Phase>,
    /// The bug is there when all of these hold.
    pub reproduced: Vec<Condition>,
    /// What is expected with this filesystem and these parameters; the first whose kernel matches counts.
    pub known: Vec<Known>,
    /// How long one step may take before the disk's gates are opened and the rig is taken down.
    pub step_limit: Nanos,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Device {
    /// What steps and faults call it.
    pub name: String,
    /// Its exact size.
    pub size: Bytes,
    /// Whether it has a volatile write cache, which a power cut empties. What is there before the first step is durable.
    pub write_cache: bool,
    /// Whether mkfs gets it; one that it does not get is empty, and attached like the others.
    pub in_filesystem: bool,
}

impl Device {
    /// The name of the only disk of a scenario, where it gives it none.
    pub const ONLY: &str = "disk";
    /// What stands for a disk that the filesystem misses; no disk is called so.
    pub const MISSING: &str = "missing";
}

/// A row of the fault table of one disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The disk's name.
    pub device: String,
    /// The row; its name is no other's, of whatever disk.
    pub row: Row,
}

/// How the filesystem is made and mounted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Filesystem {
    /// Its kind.
    pub kind: FilesystemKind,
    /// Arguments for mkfs, beyond brim's own.
    pub mkfs: Vec<String>,
    /// Mount options, as `mount -o` takes them.
    pub mount: Vec<String>,
}

/// The state before the first step. Made once, then forked for every trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// What is done first, once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// How full the filesystem is then made.
    pub fill: Fill,
}

/// How much a filesystem has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fill {
    /// Exactly so many bytes are left for data; `None` leaves it at that.
    pub data_free: Option<Bytes>,
    /// Exactly so many bytes are left for metadata, beside what btrfs keeps for itself (the global reserve).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_free: Option<Bytes>,
}

impl Fill {
    /// Whether nothing is to be filled.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Steps that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// What it is, in words.
    pub name: String,
    /// Goes round until a step fails with this error. Without it, and with `times` 1, the steps run once.
    pub until: Option<Errno>,
    /// How often it goes round at most.
    pub times: u64,
    /// The steps, in order. One that fails with what `until` says ends the phase, with anything else the trial.
    pub steps: Vec<Step>,
    /// How workers go round that do so by themselves; the others as the phase says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loops: Vec<Loop>,
}

/// How one worker goes round, whatever the others of its phase do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loop {
    /// The worker.
    pub by: String,
    /// How often it goes round at most.
    pub times: u64,
    /// The error that ends it, as it was to; nobody else is stopped by that.
    pub until: Option<Errno>,
    /// The worker with which it ends: no round begins when that is done.
    pub beside: Option<String>,
    /// How many of it there are, side by side.
    pub copies: u64,
}

impl Phase {
    /// Who does the steps, in the order of their first: `None` is the main worker. Those of one worker run in order,
    /// several workers side by side.
    #[must_use]
    pub fn workers(&self) -> Vec<Option<&str>> {
        let mut workers = Vec::new();
        for step in &self.steps {
            if !workers.contains(&step.by.as_deref()) {
                workers.push(step.by.as_deref());
            }
        }
        workers
    }

    /// How a worker goes round, where it does so by itself.
    #[must_use]
    pub fn loop_of(&self, by: Option<&str>) -> Option<&Loop> {
        self.loops.iter().find(|own| Some(own.by.as_str()) == by)
    }

    /// The error that ends a worker, as it was to.
    #[must_use]
    pub fn until_of(&self, by: Option<&str>) -> Option<Errno> {
        self.loop_of(by).map_or(self.until, |own| own.until)
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What conditions call it: its own name, or the operation's verb.
    pub name: String,
    /// What it does.
    pub operation: Operation,
    /// The worker that does it; `None` is the main one.
    pub by: Option<String>,
    /// What it may fail with, and its worker goes on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Allow>,
}

/// A way to fail after which a worker goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Allow {
    /// Any error or signal.
    Any,
    /// This error.
    Errno(Errno),
    /// This signal.
    Signal(Signal),
}

impl Step {
    /// Whether its worker goes on after it failed like this. What no system call told is never allowed.
    #[must_use]
    pub fn allows(&self, errno: Option<Errno>, signal: Option<Signal>) -> bool {
        let allows = |allow: &Allow| match allow {
            Allow::Any => errno.is_some() || signal.is_some(),
            Allow::Errno(allowed) => errno == Some(*allowed),
            Allow::Signal(allowed) => signal == Some(*allowed),
        };
        self.allow.iter().any(allows)
    }
}

/// A verdict that is expected on some kernels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Which kernels.
    pub kernel: Requirement,
    /// The verdict there.
    pub verdict: Verdict,
    /// The share of all trials that comes to it, where it is not all of them. The verdict is `reproduced` then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

impl Plan {
    /// Whether a step puts the fault `name` in force, so that it is not from the start.
    #[must_use]
    pub fn is_armed(&self, name: &str) -> bool {
        let arms = |step: &Step| match &step.operation {
            Operation::Arm { fault } => fault == name,
            Operation::PowerCut { arm, .. } => arm.iter().any(|fault| fault == name),
            _ => false,
        };
        self.phases.iter().flat_map(|phase| &phase.steps).any(arms)
    }

    /// What has to be looked at for its conditions.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        condition::wanted(&self.reproduced)
    }

    /// Whether a condition is about a crash of the kernel.
    #[must_use]
    pub fn awaits_a_crash(&self) -> bool {
        let mut awaits = false;
        for condition in &self.reproduced {
            condition.all(&mut |one| awaits |= matches!(one.about, About::Crash { .. }));
        }
        awaits
    }

    /// What a step does to its kernel that is nothing for a host, where one does.
    #[must_use]
    pub fn needs_a_guest(&self) -> Option<&'static str> {
        self.phases.iter().flat_map(|phase| &phase.steps).find_map(|step| step.operation.needs_a_guest())
    }

    /// Whether chunks with a parity are made, by mkfs or by a balance.
    #[must_use]
    pub fn has_parity(&self) -> bool {
        let by_mkfs =
            self.filesystem.mkfs.iter().any(|word| word.contains("raid5") || word.contains("raid6"));
        let steps = self.phases.iter().flat_map(|phase| &phase.steps).chain(&self.prepare.steps);
        by_mkfs || steps.into_iter().any(|step| step.operation.makes_parity())
    }

    /// The names of the disks, in order.
    #[must_use]
    pub fn device_names(&self) -> Vec<&str> {
        self.devices.iter().map(|device| device.name.as_str()).collect()
    }

    /// Takes a fault out, with the steps that wait for it, arm it or release it: what the plan does without it. What was known
    /// is known no more. False when there is no such fault, and nothing changes then.
    pub fn remove_fault(&mut self, name: &str) -> bool {
        let is_it = |fault: &Fault| fault.row.name == name;
        if !self.faults.iter().any(is_it) {
            return false;
        }
        self.faults.retain(|fault| !is_it(fault));
        let about_it = |step: &Step| match &step.operation {
            Operation::Arm { fault: gate }
            | Operation::Await { gate, .. }
            | Operation::Release { gate, .. }
            | Operation::Close { gate } => gate == name,
            _ => false,
        };
        self.remove_steps(about_it);
        for phase in &mut self.phases {
            for step in &mut phase.steps {
                if let Operation::PowerCut { arm, .. } = &mut step.operation {
                    arm.retain(|fault| fault != name);
                }
            }
        }
        self.known.clear();
        true
    }

    /// Takes all steps of this name out. What was known is known no more. False when there is none, and nothing changes then.
    pub fn remove_step(&mut self, name: &str) -> bool {
        let steps = || self.phases.iter().flat_map(|phase| &phase.steps);
        if !steps().any(|step| step.name == name) {
            return false;
        }
        self.remove_steps(|step| step.name == name);
        self.known.clear();
        true
    }

    /// Takes out of each choice of conditions those about steps that are not done, which never hold. A choice that has no other stays.
    pub fn forget_missing_steps(&mut self) {
        let steps = self.phases.iter().flat_map(|phase| &phase.steps);
        let names: BTreeSet<&str> = steps.map(|step| step.name.as_str()).collect();
        for condition in &mut self.reproduced {
            condition.forget_other_steps(&names);
        }
    }

    /// A phase that is left without steps stays, as conditions count them; there is nothing to go round for in it.
    fn remove_steps(&mut self, goes: impl Fn(&Step) -> bool) {
        for phase in &mut self.phases {
            phase.steps.retain(|step| !goes(step));
            if phase.steps.is_empty() {
                (phase.until, phase.times) = (None, 1);
            }
        }
    }

    /// Puts it on another kind of disks: on each, `rows` are in force before its own. What was known is known no more.
    pub fn on_disk(&mut self, write_cache: bool, rows: &[Row]) {
        // Its own faults keep their names, which steps may speak of, and no two rows have one name.
        let several = self.devices.len() > 1;
        let own = |name: &str| several || self.faults.iter().any(|fault| fault.row.name == name);
        let mut faults = Vec::new();
        for device in &mut self.devices {
            device.write_cache |= write_cache;
            faults.extend(rows.iter().map(|row| {
                let name = if own(&row.name) {
                    format!("{} of {}", row.name, device.name)
                } else {
                    row.name.clone()
                };
                Fault { device: device.name.clone(), row: Row { name, ..row.clone() } }
            }));
        }
        faults.append(&mut self.faults);
        self.faults = faults;
        self.known.clear();
    }

    /// The verdict that is expected on the kernel `release`, where one is known.
    #[must_use]
    pub fn known_on(&self, release: &str) -> Option<Verdict> {
        self.expected_on(release).map(|known| known.verdict)
    }

    /// What is expected on the kernel `release`, where anything is known.
    #[must_use]
    pub fn expected_on(&self, release: &str) -> Option<&Known> {
        self.known.iter().find(|known| kernel::meets(release, &known.kernel))
    }
}
