//! What a rig does in the kernel it stands in: a disk prepared once, and forked for every trial.

use std::collections::BTreeMap;

use brim_agent::Written;
use brim_agent::protocol::TrialOrder;
use brim_device::fault::Op;
use brim_trial::event::{Lateness, RequestCount, StepEvent};
use brim_trial::plan::{self, Device, Filesystem, Fill};
use brim_trial::{Bytes, Counters, Event, Nanos, Phase, Step};
use nbd_server::{Disk, DiskOptions, Fault, Stats};
use serde::{Deserialize, Serialize};

use crate::interrupt::Interrupt;
use crate::rig::local::{Link, Local};
use crate::rig::{Rig, RigError, RigName};

/// The state that trials begin in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Preparation {
    /// The disks.
    pub(crate) devices: Vec<Device>,
    /// What is on them.
    pub(crate) filesystem: Filesystem,
    /// What is done first, once.
    #[serde(default)]
    pub(crate) steps: Vec<Step>,
    /// What the bytes are drawn from that these write.
    pub(crate) seed: u64,
    /// How long one step may take.
    pub(crate) step_limit: Nanos,
    /// How full it is then made.
    pub(crate) fill: Fill,
    /// Whether there are chunks with a parity, then or in a trial.
    pub(crate) parity: bool,
}

impl Preparation {
    /// The size of all disks together.
    pub(crate) fn size(&self) -> Bytes {
        Bytes(self.devices.iter().map(|device| device.size.0).sum())
    }
}

/// What a preparation came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// What the filesystem counts.
    pub(crate) counters: Counters,
    /// The step that failed, where one did.
    pub(crate) failed: Option<Box<StepEvent>>,
}

/// One trial.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// What the agent does.
    pub(crate) order: TrialOrder,
    /// The faults of the disks, for the steps to put in force.
    pub(crate) faults: Vec<plan::Fault>,
    /// What the dice of the faults are thrown from.
    pub(crate) dice: u64,
}

/// Disks, and the rig that gives them to the kernel one after the other.
#[derive(Debug)]
pub(crate) struct Workbench {
    interrupt: Interrupt,
    link: Link,
    kernel: String,
    rig: Option<Local>,
    /// Disks with a filesystem just made, by what went into it.
    made: BTreeMap<(Vec<Device>, Filesystem), Vec<Disk>>,
    prepared: Option<Prepared>,
    /// What is mounted for the next trial.
    staged: Option<Vec<Disk>>,
}

/// Disks for trials to begin with.
#[derive(Debug)]
struct Prepared {
    preparation: Preparation,
    disks: Vec<Disk>,
    /// What its steps have written.
    written: Written,
}

impl Workbench {
    /// With nothing on it.
    pub(crate) fn new(interrupt: Interrupt, link: Link) -> Self {
        let (kernel, made) = (brim_agent::kernel_release(), BTreeMap::new());
        Self { interrupt, link, kernel, rig: None, made, prepared: None, staged: None }
    }

    /// Mounts a fork of the prepared disk.
    pub(crate) fn stage(&mut self) -> Result<(), RigError> {
        let Some(Prepared { preparation, disks, .. }) = &self.prepared else {
            return Err(RigError::Unprepared);
        };
        // What the preparation left is durable; what the trial writes has to become so.
        let fork = |(device, disk): (&Device, &Disk)| {
            let options = DiskOptions { write_cache: device.write_cache, ..DiskOptions::default() };
            Disk::from_store_with(disk.snapshot(), options)
        };
        let disks: Vec<Disk> = preparation.devices.iter().zip(disks).map(fork).collect();
        let (named, filesystem) = (named(&preparation.devices, &disks), preparation.filesystem.clone());
        let mut rig = self.standing()?;
        rig.attach(&named)?;
        rig.mount(&filesystem)?;
        self.rig = Some(rig);
        self.staged = Some(disks);
        Ok(())
    }

    /// Runs a trial on what [`Self::stage`] has mounted, which is gone afterwards.
    pub(crate) fn run(&mut self, trial: &Trial, emit: &mut dyn FnMut(Event)) -> Result<(), RigError> {
        let (Some(disks), Some(mut rig)) = (self.staged.take(), self.rig.take()) else {
            return Err(RigError::Unprepared);
        };
        let Some(Prepared { preparation, written, .. }) = &self.prepared else {
            return Err(RigError::Unprepared);
        };
        let Trial { order, faults, dice } = trial;
        let order = TrialOrder { written: written.clone(), ..order.clone() };
        // The dice of a fault are others in each trial, and the same when the run is run again. Each disk has its own.
        for (number, disk) in (0..).zip(&disks) {
            disk.reseed(dice.wrapping_add(number));
        }
        let mut stuck = false;
        let asked: Vec<Stats> = disks.iter().map(Disk::stats).collect();
        let ended = rig.trial(order.clone(), faults, &mut |event| {
            stuck |= matches!(event, Event::Stuck(_));
            emit(event);
        });
        for ((device, disk), asked) in preparation.devices.iter().zip(&disks).zip(asked) {
            let device = (disks.len() > 1).then(|| device.name.clone());
            emit(requests(order.trial, device, disk, asked));
        }
        for (device, row) in rig.faults() {
            emit(fault(order.trial, device, row));
        }
        match ended {
            // What was stuck is the verdict; the rig that it was stuck in is taken down.
            Ok(_) | Err(_) if stuck => drop(rig),
            Err(error) => return Err(error),
            Ok(_) => {
                for disk in &disks {
                    let _released = disk.open_all_gates();
                }
                rig.detach()?;
                self.rig = Some(rig);
            }
        }
        Ok(())
    }

    /// Disks with the preparation's filesystem, fresh from mkfs.
    pub(crate) fn make(&mut self, preparation: &Preparation) -> Result<Vec<Disk>, RigError> {
        let Preparation { devices, filesystem, .. } = preparation;
        let key = (devices.clone(), filesystem.clone());
        if let Some(disks) = self.made.get(&key) {
            return Ok(disks.clone());
        }
        let new = |device: &Device| Disk::new(device.size).map_err(|error| RigError::server(&error));
        let disks = devices.iter().map(new).collect::<Result<Vec<_>, _>>()?;
        let members = devices.iter().filter(|device| device.in_filesystem);
        let members: Vec<String> = members.map(|device| device.name.clone()).collect();
        let mut rig = self.standing()?;
        rig.attach(&named(devices, &disks))?;
        rig.make(filesystem, &members)?;
        rig.detach()?;
        self.rig = Some(rig);
        self.made.insert(key, disks.clone());
        Ok(disks)
    }

    /// The rig, for as long as it works: whoever takes it puts it back, and an error on the way takes it down.
    fn standing(&mut self) -> Result<Local, RigError> {
        match self.rig.take() {
            Some(rig) => Ok(rig),
            None => Local::start(self.interrupt.clone(), self.link),
        }
    }
}

impl Rig for Workbench {
    fn name(&self) -> RigName {
        match self.link {
            Link::Fuse => RigName::HostFuse,
            Link::Nbd => RigName::HostNbd,
        }
    }

    fn kernel(&self) -> &str {
        &self.kernel
    }

    fn prepare(&mut self, preparation: &Preparation) -> Result<State, RigError> {
        let Preparation { devices, filesystem, fill, .. } = preparation;
        let disks: Vec<Disk> = self.make(preparation)?.iter().map(Disk::fork).collect();
        let mut rig = self.standing()?;
        rig.attach(&named(devices, &disks))?;
        rig.mount(filesystem)?;
        let (written, failed) = first_steps(&mut rig, preparation)?;
        let counters = if failed.is_none() && !fill.is_none() { rig.fill(*fill)? } else { rig.counters()? };
        rig.detach()?;
        self.rig = Some(rig);
        let preparation = preparation.clone();
        self.prepared = Some(Prepared { preparation, disks, written: written.durable() });
        Ok(State { counters, failed })
    }

    fn trial(&mut self, trial: &Trial, emit: &mut dyn FnMut(Event)) -> Result<(), RigError> {
        self.stage()?;
        self.run(trial, emit)
    }
}

/// Does the steps of a preparation: what they have written, and which of them failed, where one did.
fn first_steps(
    rig: &mut Local,
    preparation: &Preparation,
) -> Result<(Written, Option<Box<StepEvent>>), RigError> {
    if preparation.steps.is_empty() {
        return Ok((Written::default(), None));
    }
    let phase = Phase { name: "prepare".to_owned(), until: None, times: 1, steps: preparation.steps.clone() };
    let order = TrialOrder {
        trial: 0,
        seed: preparation.seed,
        phases: vec![phase],
        step_limit: preparation.step_limit,
        faults: Vec::new(),
        written: Written::default(),
    };
    let (mut failed, mut stuck) = (None, None);
    let ended = rig.trial(order, &[], &mut |event| match event {
        Event::Step(step) if step.failed() => failed = Some(Box::new(step)),
        Event::Stuck(found) => stuck = Some(found.what),
        _ => {}
    });
    match stuck {
        Some(what) => Err(RigError::Preparation { what }),
        None => ended.map(|written| (written, failed)),
    }
}

/// Each disk with its name.
fn named(devices: &[Device], disks: &[Disk]) -> Vec<(String, Disk)> {
    devices.iter().map(|device| device.name.clone()).zip(disks.iter().cloned()).collect()
}

/// What was asked of `disk`, whose name is told where there are several, since its statistics were `before`.
pub(crate) fn requests(trial: u32, device: Option<String>, disk: &Disk, before: Stats) -> Event {
    let after = disk.stats();
    let asked = |op: Op| {
        let (before, after) = (before.of(op), after.of(op));
        let requests = after.requests - before.requests;
        let count = RequestCount { requests, bytes: Bytes(after.bytes.0 - before.bytes.0) };
        (requests > 0).then(|| (op.name().to_owned(), count))
    };
    let requests =
        [Op::Read, Op::Write, Op::Flush, Op::Trim, Op::Zeroes].into_iter().filter_map(asked).collect();
    Event::Requests { trial, device, requests }
}

/// What a row did in a trial, on a disk whose name is told where there are several.
pub(crate) fn fault(trial: u32, device: Option<String>, fault: Fault) -> Event {
    let Fault { row, matches, firings, overdue, lateness, .. } = fault;
    let lateness =
        lateness.map(|late| Lateness { count: late.count, p50: late.p50, p99: late.p99, max: late.max });
    Event::Fault { trial, device, row: row.name, matches, firings, overdue, lateness }
}
