//! Runs a campaign: workers, each with a rig of its own, take trials from the desk until there are none.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use brim_campaign::{Campaign, CampaignResult, Cell, Ledger, TrialRecord};
use brim_trial::event::VerdictEvent;
use brim_trial::{Event, Plan};

use super::bench::{self, Bench, Outcome};
use super::desk::{Desk, Order};
use super::directory::{Directory, Seen, SeenKernel, Time};
use super::progress::{Progress, Shown};
use crate::bundle::{self, Ran};
use crate::error::Error;
use crate::executor::Kept;
use crate::interrupt::Interrupt;
use crate::rig::RigError;

/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(200);
/// How often what was appended is made to outlive the machine, and the time is noted.
const SYNC: Duration = Duration::from_secs(2);
/// How many failures of a rig, one after the other, end a campaign: what is wrong then is not one trial.
const FAILURES_MAX: u32 = 2;

/// How a campaign is to be run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orders {
    /// How many workers.
    pub(crate) workers: usize,
    /// Also where brim or a kernel is not the one that began.
    pub(crate) anyway: bool,
    /// How progress is shown.
    pub(crate) shown: Shown,
}

/// What all workers share.
struct Floor<'a> {
    campaign: &'a Campaign,
    desk: Mutex<Desk<'a>>,
    turn: Condvar,
    directory: Mutex<Directory>,
    anyway: bool,
    failure: Mutex<Option<Error>>,
    time_is_up: AtomicBool,
}

/// Runs a campaign in `path`, or goes on with it.
///
/// # Errors
/// It cannot be begun or gone on with, a rig fails, or a signal came; what has been done is kept.
pub(crate) fn run(
    path: &Path,
    campaign: &Campaign,
    text: &str,
    orders: Orders,
    interrupt: &Interrupt,
) -> Result<CampaignResult, Error> {
    let (mut directory, records) = Directory::open(path, &campaign.head, text)?;
    let here = Seen::here();
    let before = directory.seen().clone();
    match before.differs(&here).filter(|_| !orders.anyway && !before.brim.is_empty()) {
        Some(what) => return Err(changed(path, &what)),
        None => directory.see(Seen { kernels: before.kernels, ..here })?,
    }
    let mut ledger = Ledger::new(&campaign.head);
    for record in &records {
        ledger.record(record);
    }
    let desk = Desk::new(campaign, ledger, orders.workers)?;
    let spent = directory.seconds();
    let floor = Floor {
        campaign,
        desk: Mutex::new(desk),
        turn: Condvar::new(),
        directory: Mutex::new(directory),
        anyway: orders.anyway,
        failure: Mutex::new(None),
        time_is_up: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..orders.workers).map(|_| scope.spawn(|| floor.work(interrupt))).collect();
        let done = || workers.iter().all(std::thread::ScopedJoinHandle::is_finished);
        floor.watch(spent, orders, interrupt, &done);
    });
    let time_is_up = floor.time_is_up.load(Ordering::Relaxed);
    let directory = floor.directory.into_inner().unwrap_or_else(PoisonError::into_inner);
    let desk = floor.desk.into_inner().unwrap_or_else(PoisonError::into_inner);
    let kernels = directory
        .seen()
        .kernels
        .iter()
        .map(|(name, kernel)| (name.clone(), kernel.release.clone()))
        .collect();
    let result = desk.ledger.result(kernels, time_is_up);
    directory.write_result(&result)?;
    match floor.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(result),
    }
}

fn changed(path: &Path, what: &str) -> Error {
    Error::Usage {
        what: format!("{} was begun by something else: {what}", path.display()),
        help: "begin again with another `--out`, or add `--anyway` if the difference does not matter"
            .to_owned(),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Floor<'_> {
    /// One worker, until there is nothing to do.
    fn work(&self, interrupt: &Interrupt) {
        let mut benches: Vec<Bench> = Vec::new();
        let (mut current, mut failures) = (None, 0);
        loop {
            let mut desk = locked(&self.desk);
            let (next, queue) = match desk.take(current) {
                Order::Over => {
                    desk.leave(current);
                    self.turn.notify_all();
                    return;
                }
                Order::Wait => {
                    let waited = self.turn.wait_timeout(desk, TICK);
                    drop(waited.unwrap_or_else(PoisonError::into_inner));
                    continue;
                }
                Order::Trial(next, queue) => (next, queue),
            };
            current = Some(queue);
            drop(desk);
            let outcome = self.trial(&mut benches, next.cell, next.number, interrupt);
            let kept = match outcome {
                Ok(outcome) => {
                    failures = 0;
                    let kept = locked(&self.directory).append(&outcome.record, &outcome.journal);
                    kept.map(|()| Some(outcome.record))
                }
                // Whatever state it is in: the next trial gets another one.
                Err(error) => {
                    benches.clear();
                    failures += 1;
                    if failures < FAILURES_MAX && matches!(error, Error::Rig { .. }) {
                        Ok(None)
                    } else {
                        Err(error)
                    }
                }
            };
            let mut desk = locked(&self.desk);
            desk.give_back(next, kept.as_ref().ok().and_then(Option::as_ref));
            if let Err(error) = kept {
                desk.is_closed = true;
                locked(&self.failure).get_or_insert(error);
            }
            self.turn.notify_all();
        }
    }

    fn trial(
        &self,
        benches: &mut Vec<Bench>,
        cell: usize,
        number: u32,
        interrupt: &Interrupt,
    ) -> Result<Outcome, Error> {
        let head = &self.campaign.head;
        let Some(cell) = head.cells.get(cell) else {
            return Err(Error::Rig { source: RigError::Unprepared, help: String::new() });
        };
        let plan = self.campaign.plan(cell)?;
        let kernel = &cell.setting.kernel;
        let known = benches.iter().position(|bench| bench.is_of(kernel));
        let at = known.unwrap_or(benches.len());
        if known.is_none() {
            benches.push(Bench::stand(kernel, interrupt)?);
        }
        let Some(bench) = benches.get_mut(at) else {
            return Err(Error::Rig { source: RigError::Unprepared, help: String::new() });
        };
        let wants = |record: &TrialRecord| locked(&self.directory).wants(record);
        let ended = bench.run(head.seed, cell, &plan, number, &wants);
        let seen = bench.seen();
        match ended {
            Ok(mut outcome) => {
                self.see(kernel, seen)?;
                if let Some(kept) = outcome.kept.take() {
                    self.bundle(cell, &plan, &outcome, kept)?;
                }
                Ok(outcome)
            }
            // The rig stands, and what was asked of it is not possible: that is of this cell, and says nothing of others.
            Err(RigError::Agent(failure)) if failure.refused => {
                let why = failure.to_string();
                let record = bench::refused(head.seed, cell, number, &why);
                Ok(Outcome { record, journal: Vec::new(), kept: None })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Puts a hit into its bundle, which is there before its line is, as its journal is.
    fn bundle(&self, cell: &Cell, plan: &Plan, outcome: &Outcome, kept: Kept) -> Result<(), Error> {
        let Outcome { record, journal, .. } = outcome;
        let path = locked(&self.directory).bundle(record)?;
        let Some(set) = brim_report::html::sets(journal).into_iter().next() else { return Ok(()) };
        let command = format!("{} --seed {:#x}", cell.command, record.seed);
        let verdict = VerdictEvent { command, ..set.verdict };
        let events = [journal.as_slice(), &[Event::Verdict(Box::new(verdict.clone()))]].concat();
        let kernel = cell.setting.kernel.as_str();
        // Packed without the lock: the others' trials go on.
        bundle::save(Ran { plan, verdict: &verdict, events: &events, kept, kernel }, &path)
    }

    /// Notes which kernel ran a trial, before the trial counts.
    fn see(&self, kernel: &str, (release, rig): (String, String)) -> Result<(), Error> {
        let mut directory = locked(&self.directory);
        let now = SeenKernel { release, rig };
        if directory.seen().kernels.get(kernel) == Some(&now) {
            return Ok(());
        }
        let mut seen = directory.seen().clone();
        seen.kernels.insert(kernel.to_owned(), now);
        match directory.seen().differs(&seen).filter(|_| !self.anyway) {
            Some(what) => Err(changed(Path::new("the campaign"), &what)),
            None => directory.see(seen),
        }
    }

    /// Shows progress and keeps the time, until all workers are done.
    fn watch(&self, spent: f64, orders: Orders, interrupt: &Interrupt, done: &dyn Fn() -> bool) {
        let began = Instant::now();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        let mut progress = Progress::new(orders.shown);
        let mut synced = began;
        loop {
            let is_last = done();
            let (elapsed, ended) = {
                let mut desk = locked(&self.desk);
                let elapsed = began.elapsed().as_secs_f64();
                if self.campaign.head.limits.seconds.is_some_and(|limit| spent + elapsed >= as_seconds(limit))
                    && !desk.is_closed
                {
                    self.time_is_up.store(true, Ordering::Relaxed);
                    desk.is_closed = true;
                }
                if progress.asked_to_end() || interrupt.happened() {
                    desk.is_closed = true;
                    locked(&self.failure).get_or_insert(Error::CampaignInterrupted);
                }
                progress.show(&desk, elapsed, is_last);
                (elapsed, desk.ended)
            };
            if is_last || synced.elapsed() >= SYNC {
                synced = Instant::now();
                let directory = locked(&self.directory);
                directory.sync();
                let seconds = (elapsed * 1000.0).round() / 1000.0;
                let time = Time { began: since, seconds, trials: ended, workers: orders.workers };
                if let Err(error) = directory.add_time(&time) {
                    locked(&self.failure).get_or_insert(error);
                }
            }
            if is_last {
                return;
            }
            let until = Instant::now() + TICK;
            while !done() && Instant::now() < until {
                // Woken by every trial that ends; the line is redrawn at the pace of the eye.
                let waited = self
                    .turn
                    .wait_timeout(locked(&self.desk), until.saturating_duration_since(Instant::now()));
                drop(waited.unwrap_or_else(PoisonError::into_inner));
            }
        }
    }
}

fn as_seconds(seconds: u64) -> f64 {
    Duration::from_secs(seconds).as_secs_f64()
}
