//! Runs plans on a rig: has a state prepared once, trials begin in it, and keeps the journal.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, RangeInclusive};
use std::time::Instant;

use brim_agent::protocol::{FaultOrder, TrialOrder};
use brim_device::Store;
use brim_trial::event::{MeasuredRate, Prepared, Run, VerdictEvent};
use brim_trial::plan::{Fault, Fill};
use brim_trial::{Event, Interval, Plan, TrialVerdict, Verdict, judge};

use crate::error::Error;
use crate::kernel::Kernel;
use crate::rig::workbench::{Image, Preparation, State, Trial};
use crate::rig::{Rig, RigError};
use crate::write_log::RunLog;

/// What lies between the seeds of two trials: odd and far from round, so that neighbours of both have nothing in common.
const TRIAL_STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a run is asked for beside its plans.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// How many trials for each plan.
    pub(crate) trials: u32,
    /// The number of the first: what is drawn in a trial depends on its number.
    pub(crate) first: u32,
    /// The seed of everything drawn.
    pub(crate) seed: u64,
    /// How many plans other executors have run before.
    pub(crate) runs_before: u32,
}

/// Refuses a plan on a kernel that is not for it, before anything runs; `None` is the running one.
pub(crate) fn allow(plan: &Plan, kernel: Option<&Kernel>) -> Result<(), Error> {
    let awaits = plan.awaits_a_crash().then_some("is to find out whether its kernel crashes");
    let Some(does) = plan.needs_a_guest().or(awaits).filter(|_| kernel.is_none()) else { return Ok(()) };
    Err(Error::Usage {
        what: format!("{} {does}, and this one is the host's", plan.scenario),
        help: "run it in a guest: `brim run … --kernel uml/6.12`".to_owned(),
    })
}

/// Disks of a run.
#[derive(Debug)]
pub(crate) struct Kept {
    /// What every trial began with.
    pub(crate) before: Image,
    /// What the first trial with a verdict left, where the rig could tell.
    pub(crate) after: BTreeMap<Verdict, Vec<Store>>,
}

/// Runs one plan after the other; what they have in common is made once.
pub(crate) struct Executor<'a> {
    settings: Settings,
    rig: Box<dyn Rig>,
    journal: Vec<Event>,
    /// Which run this is of all, from 1.
    run: u32,
    sink: &'a mut dyn FnMut(&Event),
    /// What trials begin with, where it is not to be prepared.
    origin: Option<&'a Image>,
    keeps_disks: bool,
    kept: Option<Kept>,
}

impl<'a> Executor<'a> {
    /// An executor that tells every event to `sink` as it happens.
    pub(crate) fn new(settings: Settings, rig: Box<dyn Rig>, sink: &'a mut dyn FnMut(&Event)) -> Self {
        let run = settings.runs_before;
        Self { settings, rig, journal: Vec::new(), run, sink, origin: None, keeps_disks: false, kept: None }
    }

    /// Has a write log kept of what follows, where the rig can.
    pub(crate) fn keep_log(&mut self, log: RunLog) {
        self.rig.keep_log(log);
    }

    /// Takes the write log, as far as it is by now.
    pub(crate) fn take_log(&mut self) -> Option<RunLog> {
        self.rig.take_log()
    }

    /// How many plans have been run, with those before.
    pub(crate) fn runs(&self) -> u32 {
        self.run
    }

    /// Has the trials begin with this disk.
    pub(crate) fn begin_with(&mut self, origin: &'a Image) {
        self.origin = Some(origin);
    }

    /// Has the disks of each run be kept.
    pub(crate) fn keep_disks(&mut self) {
        self.keeps_disks = true;
    }

    /// The disks of the last run.
    pub(crate) fn take_kept(&mut self) -> Option<Kept> {
        self.kept.take()
    }

    /// Runs one plan to its verdict. `command` is the one line that runs it again.
    pub(crate) fn run(
        &mut self,
        plan: &Plan,
        command: String,
    ) -> Result<(VerdictEvent, Vec<Event>), RigError> {
        let started = Instant::now();
        self.run += 1;
        self.journal.clear();
        self.emit(Event::Run(Run {
            scenario: plan.scenario.clone(),
            control: plan.changed.as_ref().map(|control| control.change.clone()),
            params: plan.params.clone(),
            rig: self.rig.name().name().to_owned(),
            kernel: self.rig.kernel().to_owned(),
            filesystem: plan.filesystem.kind,
            seed: self.settings.seed,
            trials: self.settings.trials,
            plan: Some(Box::new(plan.clone())),
        }));
        self.prepare(plan)?;
        let mut trials = Vec::new();
        // A state that was not reached is no state to try anything in; the judge says which number was off.
        let reached = judge::unreached(plan, &self.journal).is_none();
        let first = self.settings.first;
        let wanted = if reached { self.settings.trials.saturating_add(first - 1) } else { 0 };
        let at_once = u32::try_from(self.rig.at_once()).unwrap_or(1).max(1);
        let mut next = first;
        while next <= wanted {
            let last = wanted.min(next.saturating_add(at_once - 1));
            if next == last {
                trials.push(self.trial(plan, next)?);
            } else {
                trials.extend(self.side_by_side(plan, next..=last)?);
            }
            next = last + 1;
        }
        let verdict = self.verdict(plan, &trials, seconds(started), command);
        self.emit(Event::Verdict(Box::new(verdict.clone())));
        Ok((verdict, std::mem::take(&mut self.journal)))
    }

    /// Tells of something that is not of one plan alone.
    pub(crate) fn tell(&mut self, event: &Event) {
        (self.sink)(event);
    }

    /// The release of the kernel that trials run on.
    pub(crate) fn kernel(&self) -> &str {
        self.rig.kernel()
    }

    /// How many trials are asked for.
    pub(crate) fn trials(&self) -> u32 {
        self.settings.trials
    }

    /// Runs trials of a plan one by one until `enough` has seen what it wants; it is given the verdict of each, and all events of the
    /// plan. None runs where the state was not reached.
    pub(crate) fn try_out(
        &mut self,
        plan: &Plan,
        enough: &mut dyn FnMut(&TrialVerdict, &[Event]) -> ControlFlow<()>,
    ) -> Result<(), RigError> {
        self.journal.clear();
        self.prepare(plan)?;
        if judge::unreached(plan, &self.journal).is_some() {
            return Ok(());
        }
        for number in
            (self.settings.first..).take(usize::try_from(self.settings.trials).unwrap_or(usize::MAX))
        {
            let verdict = self.trial(plan, number)?;
            if enough(&verdict, &self.journal).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn emit(&mut self, event: Event) {
        (self.sink)(&event);
        self.journal.push(event);
    }

    /// The state that the plan asks for.
    fn prepare(&mut self, plan: &Plan) -> Result<(), RigError> {
        let started = Instant::now();
        let Fill { data_free, metadata_free } = plan.prepare.fill;
        let preparation = preparation(plan, self.settings.seed);
        let State { counters, failed } = match self.origin {
            Some(origin) => self.rig.adopt(&preparation, origin)?,
            None => self.rig.prepare(&preparation)?,
        };
        if self.keeps_disks {
            self.kept = Some(Kept { before: self.rig.image()?, after: BTreeMap::new() });
        }
        let seconds = seconds(started);
        let (data_free_wanted, metadata_free_wanted) = (data_free, metadata_free);
        let prepared = Prepared { data_free_wanted, metadata_free_wanted, counters, failed, seconds };
        self.emit(Event::Prepared(prepared));
        Ok(())
    }

    fn trial(&mut self, plan: &Plan, number: u32) -> Result<TrialVerdict, RigError> {
        self.emit(Event::Trial { trial: number });
        let mut trial = order(plan, self.settings.seed, number);
        if self.run > 1 {
            // A log of several runs has several trials of each number.
            trial.name = format!("run {} trial {number}", self.run);
        }
        let (sink, journal) = (&mut *self.sink, &mut self.journal);
        self.rig.trial(&trial, &mut |event| {
            sink(&event);
            journal.push(event);
        })?;
        let verdict = self.judge(plan, number);
        if let (Some(kept), Some(left)) = (&mut self.kept, self.rig.take_left()) {
            kept.after.entry(verdict.verdict).or_insert(left);
        }
        Ok(verdict)
    }

    /// Trials that the rig runs at the same time; the journal has one after the other.
    fn side_by_side(
        &mut self,
        plan: &Plan,
        numbers: RangeInclusive<u32>,
    ) -> Result<Vec<TrialVerdict>, RigError> {
        let trials: Vec<Trial> =
            numbers.clone().map(|number| order(plan, self.settings.seed, number)).collect();
        let seen = self.rig.side_by_side(&trials)?;
        let mut verdicts = Vec::new();
        for (number, events) in numbers.zip(seen) {
            self.emit(Event::Trial { trial: number });
            for event in events {
                self.emit(event);
            }
            verdicts.push(self.judge(plan, number));
        }
        Ok(verdicts)
    }

    fn judge(&mut self, plan: &Plan, number: u32) -> TrialVerdict {
        let verdict = judge::trial(plan, number, &self.journal);
        self.emit(Event::TrialVerdict(verdict.clone()));
        verdict
    }

    fn verdict(&self, plan: &Plan, trials: &[TrialVerdict], seconds: f64, command: String) -> VerdictEvent {
        let verdict = judge::together(trials);
        let known = plan.expected_on(self.rig.kernel());
        let rate = known.and_then(|known| known.rate.as_ref()).map(|rate| {
            let Interval { low, high } = judge::measured(trials);
            let (at_least, at_most) = (rate.at_least.to_f64(), rate.at_most.to_f64());
            MeasuredRate { at_least, at_most, why: rate.why.clone(), low, high }
        });
        let shown = trials.iter().find(|trial| trial.verdict == verdict);
        VerdictEvent {
            scenario: plan.scenario.clone(),
            control: plan.changed.as_ref().map(|control| control.change.clone()),
            params: plan.params.clone(),
            verdict,
            known: known.map(|known| known.verdict),
            rate,
            expected: judge::as_expected(known, trials),
            trials: u32::try_from(trials.len()).unwrap_or(u32::MAX),
            reproduced: judge::count(trials, judge::Verdict::Reproduced),
            inconclusive: judge::count(trials, judge::Verdict::Inconclusive),
            kernel: self.rig.kernel().to_owned(),
            filesystem: plan.filesystem.kind,
            rig: self.rig.name().name().to_owned(),
            failed_step: shown.and_then(|trial| trial.failed_step.clone()),
            errno: shown.and_then(|trial| trial.errno),
            space: shown.and_then(|trial| trial.space),
            reason: shown.map_or_else(|| judge::unreached(plan, &self.journal), |trial| trial.reason.clone()),
            findings: shown.map_or_else(Vec::new, |trial| trial.findings.clone()),
            seed: self.settings.seed,
            seconds,
            command,
        }
    }
}

/// The state that trials of a plan begin in. What its steps write is drawn from `seed`; without steps it is no part of it.
pub(crate) fn preparation(plan: &Plan, seed: u64) -> Preparation {
    Preparation {
        devices: plan.devices.clone(),
        filesystem: plan.filesystem.clone(),
        steps: plan.prepare.steps.clone(),
        seed: if plan.prepare.steps.is_empty() { 0 } else { seed },
        step_limit: plan.step_limit,
        fill: plan.prepare.fill,
        parity: plan.has_parity(),
    }
}

/// Trial `number` of a plan, drawn from `seed`.
pub(crate) fn order(plan: &Plan, seed: u64, number: u32) -> Trial {
    let order = TrialOrder {
        trial: number,
        seed,
        phases: plan.phases.clone(),
        step_limit: plan.step_limit,
        faults: plan.faults.iter().map(|fault| fault_order(plan, fault)).collect(),
        wanted: plan.wanted(),
        // The rig knows what its preparation has written.
        written: brim_agent::Written::default(),
    };
    let dice = seed.wrapping_add(u64::from(number).wrapping_mul(TRIAL_STRIDE));
    let name = format!("trial {number}");
    Trial { order, faults: plan.faults.clone(), pools: plan.pools.clone(), dice, name }
}

fn fault_order(plan: &Plan, Fault { device, row }: &Fault) -> FaultOrder {
    let (name, region) = (row.name.clone(), row.when.region.clone());
    FaultOrder { armed: plan.is_armed(&name), name, device: device.clone(), region }
}

/// The time since `started` in seconds, to the millisecond: nobody can tell more of a whole run.
fn seconds(started: Instant) -> f64 {
    (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}
