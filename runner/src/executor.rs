//! Runs plans on a rig: prepares a disk once, forks it for every trial, and keeps the journal.

use std::collections::BTreeMap;
use std::time::Instant;

use brim_agent::protocol::{FaultOrder, TrialOrder};
use brim_device::fault::Row;
use brim_trial::event::{Prepared, Run, VerdictEvent};
use brim_trial::plan::Filesystem;
use brim_trial::{Bytes, Event, Plan, TrialVerdict, judge};
use nbd_server::{Disk, DiskOptions};

use crate::interrupt::Interrupt;
use crate::rig::host::{self, HostFuse};
use crate::rig::{RigError, RigName};

/// What lies between the seeds of two trials: odd and far from round, so that neighbours of both have nothing in common.
const TRIAL_STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a run is asked for beside its plans.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// What runs it.
    pub(crate) rig: RigName,
    /// How many trials for each plan.
    pub(crate) trials: u32,
    /// The seed of everything drawn.
    pub(crate) seed: u64,
}

/// Runs one plan after the other; what they have in common is made once.
pub(crate) struct Executor<'a> {
    settings: Settings,
    interrupt: Interrupt,
    kernel: String,
    rig: Option<HostFuse>,
    /// Disks with a filesystem just made, by what went into it.
    made: BTreeMap<(Bytes, Filesystem), Disk>,
    journal: Vec<Event>,
    sink: &'a mut dyn FnMut(&Event),
}

impl<'a> Executor<'a> {
    /// An executor that tells every event to `sink` as it happens.
    pub(crate) fn new(settings: Settings, interrupt: Interrupt, sink: &'a mut dyn FnMut(&Event)) -> Self {
        let kernel = brim_agent::kernel_release();
        Self { settings, interrupt, kernel, rig: None, made: BTreeMap::new(), journal: Vec::new(), sink }
    }

    /// Runs one plan to its verdict. `command` is the one line that runs it again.
    pub(crate) fn run(
        &mut self,
        plan: &Plan,
        command: String,
    ) -> Result<(VerdictEvent, Vec<Event>), RigError> {
        let started = Instant::now();
        self.journal.clear();
        self.emit(Event::Run(Run {
            scenario: plan.scenario.clone(),
            params: plan.params.clone(),
            rig: self.settings.rig.name().to_owned(),
            kernel: self.kernel.clone(),
            filesystem: plan.filesystem.kind,
            seed: self.settings.seed,
            trials: self.settings.trials,
        }));
        let disk = self.prepare(plan)?;
        let mut trials = Vec::new();
        // A state that was not reached is no state to try anything in; the judge says which number was off.
        let wanted = if judge::unreached(plan, &self.journal).is_none() { self.settings.trials } else { 0 };
        for trial in 1..=wanted {
            trials.push(self.trial(plan, &disk, trial)?);
        }
        let verdict = self.verdict(plan, &trials, seconds(started), command);
        self.emit(Event::Verdict(Box::new(verdict.clone())));
        Ok((verdict, std::mem::take(&mut self.journal)))
    }

    fn emit(&mut self, event: Event) {
        (self.sink)(&event);
        self.journal.push(event);
    }

    /// A disk in the state that the plan asks for.
    fn prepare(&mut self, plan: &Plan) -> Result<Disk, RigError> {
        let started = Instant::now();
        let made = self.make(plan)?;
        let disk = made.fork();
        let mut rig = self.standing()?;
        rig.attach(&disk)?;
        rig.mount(&plan.filesystem)?;
        let counters = match plan.prepare.data_free {
            Some(data_free) => rig.fill(data_free)?,
            None => rig.counters()?,
        };
        rig.detach()?;
        self.rig = Some(rig);
        let data_free_wanted = plan.prepare.data_free;
        let seconds = seconds(started);
        self.emit(Event::Prepared(Prepared { data_free_wanted, counters, seconds }));
        Ok(disk)
    }

    /// A disk with the plan's filesystem, fresh from mkfs.
    fn make(&mut self, plan: &Plan) -> Result<Disk, RigError> {
        let key = (plan.device.size, plan.filesystem.clone());
        if let Some(disk) = self.made.get(&key) {
            return Ok(disk.clone());
        }
        let disk = Disk::new(plan.device.size).map_err(|error| RigError::Server(error.to_string()))?;
        let mut rig = self.standing()?;
        rig.attach(&disk)?;
        rig.make(&plan.filesystem)?;
        rig.detach()?;
        self.rig = Some(rig);
        self.made.insert(key, disk.clone());
        Ok(disk)
    }

    /// The rig, for as long as it works: whoever takes it puts it back, and an error on the way takes it down.
    fn standing(&mut self) -> Result<HostFuse, RigError> {
        match self.rig.take() {
            Some(rig) => Ok(rig),
            None => HostFuse::start(self.interrupt.clone()),
        }
    }

    fn trial(&mut self, plan: &Plan, prepared: &Disk, trial: u32) -> Result<TrialVerdict, RigError> {
        self.emit(Event::Trial { trial });
        let disk = if plan.device.write_cache {
            // What the preparation left is durable; what the trial writes has to become so.
            Disk::from_store_with(
                prepared.snapshot(),
                DiskOptions { write_cache: true, ..DiskOptions::default() },
            )
        } else {
            prepared.fork()
        };
        // The dice of a fault are others in each trial, and the same when the run is run again.
        disk.reseed(self.settings.seed.wrapping_add(u64::from(trial).wrapping_mul(TRIAL_STRIDE)));
        let mut rig = self.standing()?;
        rig.attach(&disk)?;
        rig.mount(&plan.filesystem)?;
        let order = TrialOrder {
            trial,
            seed: self.settings.seed,
            phases: plan.phases.clone(),
            step_limit: plan.step_limit,
            faults: plan.device.faults.iter().map(|row| fault_order(plan, row)).collect(),
        };
        let mut stuck = false;
        let asked = disk.stats();
        let ended = rig.trial(order, &plan.device.faults, &mut |event| {
            stuck |= matches!(event, Event::Stuck(_));
            self.emit(event);
        });
        self.emit(host::requests(trial, &disk, asked));
        for fault in rig.faults() {
            self.emit(host::fault(trial, fault));
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
        let verdict = judge::trial(plan, trial, &self.journal);
        self.emit(Event::TrialVerdict(verdict.clone()));
        Ok(verdict)
    }

    fn verdict(&self, plan: &Plan, trials: &[TrialVerdict], seconds: f64, command: String) -> VerdictEvent {
        let verdict = judge::together(trials);
        let known = plan.known_on(&self.kernel);
        let count = |wanted| {
            u32::try_from(trials.iter().filter(|trial| trial.verdict == wanted).count()).unwrap_or(u32::MAX)
        };
        let unanimous = |known| trials.iter().all(|trial| trial.verdict == known);
        let shown = trials.iter().find(|trial| trial.verdict == verdict);
        VerdictEvent {
            scenario: plan.scenario.clone(),
            params: plan.params.clone(),
            verdict,
            known,
            expected: match known {
                Some(known) => verdict == known && unanimous(known),
                None => verdict != judge::Verdict::Inconclusive,
            },
            trials: u32::try_from(trials.len()).unwrap_or(u32::MAX),
            reproduced: count(judge::Verdict::Reproduced),
            inconclusive: count(judge::Verdict::Inconclusive),
            kernel: self.kernel.clone(),
            filesystem: plan.filesystem.kind,
            rig: self.settings.rig.name().to_owned(),
            failed_step: shown.and_then(|trial| trial.failed_step.clone()),
            errno: shown.and_then(|trial| trial.errno),
            space: shown.and_then(|trial| trial.space),
            reason: shown.map_or_else(|| judge::unreached(plan, &self.journal), |trial| trial.reason.clone()),
            seed: self.settings.seed,
            seconds,
            command,
        }
    }
}

fn fault_order(plan: &Plan, row: &Row) -> FaultOrder {
    let (name, region) = (row.name.clone(), row.when.region.clone());
    FaultOrder { armed: plan.is_armed(&name), name, region }
}

/// The time since `started` in seconds, to the millisecond: nobody can tell more of a whole run.
fn seconds(started: Instant) -> f64 {
    (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}
