//! What a rig does in the kernel it stands in: a disk prepared once, and forked for every trial.

use std::collections::BTreeMap;

use brim_agent::protocol::TrialOrder;
use brim_device::fault::{Op, Row};
use brim_trial::event::{Lateness, RequestCount};
use brim_trial::plan::Filesystem;
use brim_trial::{Bytes, Counters, Event};
use nbd_server::{Disk, DiskOptions, Fault, Stats};
use serde::{Deserialize, Serialize};

use crate::interrupt::Interrupt;
use crate::rig::local::{Link, Local};
use crate::rig::{Rig, RigError, RigName};

/// The state that trials begin in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Preparation {
    /// The size of the disk.
    pub(crate) size: Bytes,
    /// What is on it.
    pub(crate) filesystem: Filesystem,
    /// Exactly so much is left for data; `None` leaves the filesystem as mkfs made it.
    pub(crate) data_free: Option<Bytes>,
    /// Whether the disk of a trial has a volatile write cache.
    pub(crate) write_cache: bool,
}

/// One trial.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// What the agent does.
    pub(crate) order: TrialOrder,
    /// The faults of the disk, for the steps to put in force.
    pub(crate) faults: Vec<Row>,
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
    made: BTreeMap<(Bytes, Filesystem), Disk>,
    prepared: Option<(Preparation, Disk)>,
    /// What is mounted for the next trial.
    staged: Option<Disk>,
}

impl Workbench {
    /// With nothing on it.
    pub(crate) fn new(interrupt: Interrupt, link: Link) -> Self {
        let (kernel, made) = (brim_agent::kernel_release(), BTreeMap::new());
        Self { interrupt, link, kernel, rig: None, made, prepared: None, staged: None }
    }

    /// Mounts a fork of the prepared disk.
    pub(crate) fn stage(&mut self) -> Result<(), RigError> {
        let Some((preparation, disk)) = &self.prepared else { return Err(RigError::Unprepared) };
        // What the preparation left is durable; what the trial writes has to become so.
        let options = DiskOptions { write_cache: preparation.write_cache, ..DiskOptions::default() };
        let (disk, filesystem) =
            (Disk::from_store_with(disk.snapshot(), options), preparation.filesystem.clone());
        let mut rig = self.standing()?;
        rig.attach(&disk)?;
        rig.mount(&filesystem)?;
        self.rig = Some(rig);
        self.staged = Some(disk);
        Ok(())
    }

    /// Runs a trial on what [`Self::stage`] has mounted, which is gone afterwards.
    pub(crate) fn run(&mut self, trial: &Trial, emit: &mut dyn FnMut(Event)) -> Result<(), RigError> {
        let (Some(disk), Some(mut rig)) = (self.staged.take(), self.rig.take()) else {
            return Err(RigError::Unprepared);
        };
        let Trial { order, faults, dice } = trial;
        // The dice of a fault are others in each trial, and the same when the run is run again.
        disk.reseed(*dice);
        let mut stuck = false;
        let asked = disk.stats();
        let ended = rig.trial(order.clone(), faults, &mut |event| {
            stuck |= matches!(event, Event::Stuck(_));
            emit(event);
        });
        emit(requests(order.trial, &disk, asked));
        for row in rig.faults() {
            emit(fault(order.trial, row));
        }
        match ended {
            // What was stuck is the verdict; the rig that it was stuck in is taken down.
            Ok(()) | Err(_) if stuck => drop(rig),
            Err(error) => return Err(error),
            Ok(()) => {
                let _released = disk.open_all_gates();
                rig.detach()?;
                self.rig = Some(rig);
            }
        }
        Ok(())
    }

    /// A disk with the preparation's filesystem, fresh from mkfs.
    pub(crate) fn make(&mut self, preparation: &Preparation) -> Result<Disk, RigError> {
        let Preparation { size, filesystem, .. } = preparation;
        let key = (*size, filesystem.clone());
        if let Some(disk) = self.made.get(&key) {
            return Ok(disk.clone());
        }
        let disk = Disk::new(*size).map_err(|error| RigError::Server(error.to_string()))?;
        let mut rig = self.standing()?;
        rig.attach(&disk)?;
        rig.make(filesystem)?;
        rig.detach()?;
        self.rig = Some(rig);
        self.made.insert(key, disk.clone());
        Ok(disk)
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

    fn prepare(&mut self, preparation: &Preparation) -> Result<Counters, RigError> {
        let Preparation { filesystem, data_free, .. } = preparation;
        let disk = self.make(preparation)?.fork();
        let mut rig = self.standing()?;
        rig.attach(&disk)?;
        rig.mount(filesystem)?;
        let counters = match data_free {
            Some(data_free) => rig.fill(*data_free)?,
            None => rig.counters()?,
        };
        rig.detach()?;
        self.rig = Some(rig);
        self.prepared = Some((preparation.clone(), disk));
        Ok(counters)
    }

    fn trial(&mut self, trial: &Trial, emit: &mut dyn FnMut(Event)) -> Result<(), RigError> {
        self.stage()?;
        self.run(trial, emit)
    }
}

/// What was asked of `disk` since its statistics were `before`.
pub(crate) fn requests(trial: u32, disk: &Disk, before: Stats) -> Event {
    let after = disk.stats();
    let asked = |op: Op| {
        let (before, after) = (before.of(op), after.of(op));
        let requests = after.requests - before.requests;
        let count = RequestCount { requests, bytes: Bytes(after.bytes.0 - before.bytes.0) };
        (requests > 0).then(|| (op.name().to_owned(), count))
    };
    let requests =
        [Op::Read, Op::Write, Op::Flush, Op::Trim, Op::Zeroes].into_iter().filter_map(asked).collect();
    Event::Requests { trial, requests }
}

/// What a row did in a trial.
pub(crate) fn fault(trial: u32, fault: Fault) -> Event {
    let Fault { row, matches, firings, overdue, lateness, .. } = fault;
    let lateness =
        lateness.map(|late| Lateness { count: late.count, p50: late.p50, p99: late.p99, max: late.max });
    Event::Fault { trial, row: row.name, matches, firings, overdue, lateness }
}
