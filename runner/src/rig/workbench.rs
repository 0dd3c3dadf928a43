//! What a rig does in the kernel it stands in: a disk prepared once, and forked for every trial.

use std::collections::BTreeMap;

use brim_agent::Written;
use brim_agent::protocol::TrialOrder;
use brim_device::Store;
use brim_device::fault::Op;
use brim_trial::event::{Lateness, RequestCount, StepEvent};
use brim_trial::operation::{DiskWord, Pool};
use brim_trial::plan::{self, Device, Filesystem, Fill};
use brim_trial::{Bytes, Counters, Event, Nanos, Operation, Phase, Step};
use nbd_server::{Disk, DiskOptions, Fault, Stats};
use serde::{Deserialize, Serialize};

use crate::interrupt::Interrupt;
use crate::rig::local::{self, Link, Local};
use crate::rig::{Rig, RigError, RigName};
use crate::write_log::{self, RunLog};

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

/// What trials begin with: the disks in the order of the preparation, and what its steps have written on them.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) disks: Vec<Store>,
    pub(crate) written: Written,
}

/// One trial.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// What the agent does.
    pub(crate) order: TrialOrder,
    /// The faults of the disks, for the steps to put in force.
    pub(crate) faults: Vec<plan::Fault>,
    /// The space behind disks, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) pools: BTreeMap<String, Pool>,
    /// What the dice of the faults are thrown from.
    pub(crate) dice: u64,
    /// What the write log calls it.
    pub(crate) name: String,
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
    log: Option<RunLog>,
    /// What the last trial left.
    left: Option<Vec<Store>>,
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
        let kernel = brim_agent::kernel_release();
        let (rig, made, prepared, staged, log, left) = (None, BTreeMap::new(), None, None, None, None);
        Self { interrupt, link, kernel, rig, made, prepared, staged, log, left }
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
        let Trial { order, faults, pools, dice, name } = trial;
        let order = TrialOrder { written: written.clone(), ..order.clone() };
        let named = named(&preparation.devices, &disks);
        if let Some(log) = &mut self.log {
            log.begin(&named, &format!("{name} begins"));
        }
        // The dice of a fault are others in each trial, and the same when the run is run again. Each disk has its own.
        for (number, (name, disk)) in (0..).zip(&named) {
            disk.reseed(dice.wrapping_add(number));
            if let Some(pool) = pools.get(name) {
                local::set_pool(disk, *pool);
            }
        }
        let mut stuck = false;
        let asked: Vec<Stats> = disks.iter().map(Disk::stats).collect();
        let ended = rig.trial(order.clone(), faults, &mut |event| {
            stuck |= matches!(event, Event::Stuck(_));
            emit(event);
        });
        if self.log.is_some() {
            for disk in &disks {
                write_log::put(disk, &format!("{name} ended"));
            }
        }
        for ((name, disk), asked) in named.iter().zip(asked) {
            let device = (named.len() > 1).then(|| name.clone());
            emit(requests(order.trial, device, disk, asked));
        }
        for (device, row) in rig.faults() {
            emit(fault(order.trial, device, row));
        }
        for (name, disk) in named.iter().filter(|(name, _)| has_a_pool(name, preparation, trial)) {
            emit(Event::Pool {
                trial: order.trial,
                device: (named.len() > 1).then(|| name.clone()),
                limit: disk.pool().map(|pool| pool.limit),
                allocated: disk.allocated(),
                without_space: disk.without_space(),
            });
        }
        match ended {
            // What was stuck is the verdict; the rig that it was stuck in is taken down.
            Ok(_) | Err(_) if stuck => drop(rig),
            Err(error) => return Err(error),
            Ok(_) => {
                disks.iter().for_each(local::let_all_go);
                rig.detach()?;
                self.rig = Some(rig);
            }
        }
        if let Some(log) = &mut self.log {
            log.end(&named)?;
        }
        self.left = Some(disks.iter().map(Disk::snapshot).collect());
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

    fn can_keep_log(&self) -> bool {
        true
    }

    fn keep_log(&mut self, log: RunLog) {
        self.log = Some(log);
    }

    fn take_log(&mut self) -> Option<RunLog> {
        self.log.take()
    }

    fn trial(&mut self, trial: &Trial, emit: &mut dyn FnMut(Event)) -> Result<(), RigError> {
        self.stage()?;
        self.run(trial, emit)
    }

    fn image(&mut self) -> Result<Image, RigError> {
        let Prepared { disks, written, .. } = self.prepared.as_ref().ok_or(RigError::Unprepared)?;
        Ok(Image { disks: disks.iter().map(Disk::snapshot).collect(), written: written.clone() })
    }

    fn adopt(&mut self, preparation: &Preparation, image: &Image) -> Result<State, RigError> {
        let disks: Vec<Disk> = image.disks.iter().map(|disk| Disk::from_store(disk.fork())).collect();
        // What a mount writes is not for the trials to find.
        let forks: Vec<Disk> = disks.iter().map(Disk::fork).collect();
        let mut rig = self.standing()?;
        rig.attach(&named(&preparation.devices, &forks))?;
        rig.mount(&preparation.filesystem)?;
        let counters = rig.counters()?;
        rig.detach()?;
        self.rig = Some(rig);
        let (preparation, written) = (preparation.clone(), image.written.clone());
        self.prepared = Some(Prepared { preparation, disks, written });
        Ok(State { counters, failed: None })
    }

    fn take_left(&mut self) -> Option<Vec<Store>> {
        self.left.take()
    }
}

/// Whether the disk `name` has a pool at some time of a trial.
fn has_a_pool(name: &str, preparation: &Preparation, trial: &Trial) -> bool {
    let first = preparation.devices.first().is_some_and(|first| first.name == name);
    let sets = |step: &Step| match &step.operation {
        Operation::Disk(DiskWord::SetPool { device, .. }) => {
            device.as_ref().map_or(first, |device| device == name)
        }
        _ => false,
    };
    trial.pools.contains_key(name) || trial.order.phases.iter().flat_map(|phase| &phase.steps).any(sets)
}

/// Does the steps of a preparation: what they have written, and which of them failed, where one did.
fn first_steps(
    rig: &mut Local,
    preparation: &Preparation,
) -> Result<(Written, Option<Box<StepEvent>>), RigError> {
    if preparation.steps.is_empty() {
        return Ok((Written::default(), None));
    }
    let phase = Phase {
        name: "prepare".to_owned(),
        until: None,
        times: 1,
        steps: preparation.steps.clone(),
        loops: Vec::new(),
    };
    let order = TrialOrder {
        trial: 0,
        seed: preparation.seed,
        phases: vec![phase],
        step_limit: preparation.step_limit,
        faults: Vec::new(),
        wanted: brim_trial::condition::Wanted::default(),
        written: Written::default(),
    };
    let (mut failed, mut stuck) = (None, None);
    let ended = rig.trial(order, &[], &mut |event| match event {
        Event::Step(step) if step.failed() && !step.allowed => failed = Some(step),
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
    Event::Requests { trial, phase: None, device, requests: counted(before, disk.stats()) }
}

/// What was asked of several disks.
pub(crate) fn together(
    counts: impl Iterator<Item = BTreeMap<String, RequestCount>>,
) -> BTreeMap<String, RequestCount> {
    let mut sums: BTreeMap<String, RequestCount> = BTreeMap::new();
    for (op, count) in counts.flatten() {
        let sum = sums.entry(op).or_insert(RequestCount { requests: 0, bytes: Bytes(0) });
        sum.requests += count.requests;
        sum.bytes.0 += count.bytes.0;
    }
    sums
}

/// What `after` has more than `before`, by operation.
pub(crate) fn counted(before: Stats, after: Stats) -> BTreeMap<String, RequestCount> {
    let asked = |op: Op| {
        let (before, after) = (before.of(op), after.of(op));
        let requests = after.requests - before.requests;
        let count = RequestCount { requests, bytes: Bytes(after.bytes.0 - before.bytes.0) };
        (requests > 0).then(|| (op.name().to_owned(), count))
    };
    Op::ALL.into_iter().filter_map(asked).collect()
}

/// What a row did in a trial, on a disk whose name is told where there are several.
pub(crate) fn fault(trial: u32, device: Option<String>, fault: Fault) -> Event {
    let Fault { row, matches, firings, overdue, lateness, .. } = fault;
    let lateness = lateness.map(|late| Lateness {
        count: late.count,
        p50: late.p50,
        p99: late.p99,
        max: late.max,
        steps: late.steps,
    });
    Event::Fault { trial, device, row: row.name, matches, firings, overdue, lateness }
}
