//! The phases of a trial, step by step, and what is read before and after.

use std::sync::{Mutex, PoisonError};

use brim_trial::event::{SpaceKind, StepEvent, When};
use brim_trial::operation::Range;
use brim_trial::{BLOCK, Bytes, Errno, Event, Nanos, Phase, Step};

use crate::Failure;
use crate::asks::Asks;
use crate::devices::Devices;
use crate::filesystem::Mounted;
use crate::kernel_log::KernelLog;
use crate::protocol::{Ask, TrialOrder};
use crate::site::Site;
use crate::steps::{self, Outcome, Steps};
use crate::sys;
use crate::tickets::Tickets;
use crate::watch::{self, Watch};

/// How many rounds of a phase the trace rings have to hold the tickets of.
const DRAIN_ROUNDS: u64 = 64;

/// What a trial needs beside its order.
pub(crate) struct Bench<'a> {
    /// The filesystem under test.
    pub(crate) site: &'a Site,
    /// The disks under it.
    pub(crate) devices: &'a Devices,
    /// The recorder of refused reservations, where there is one.
    pub(crate) tickets: Option<Mutex<&'a mut Tickets>>,
    /// The kernel log, where it can be read.
    pub(crate) kernel_log: Option<&'a mut KernelLog>,
    /// Where the present step is told.
    pub(crate) watch: &'a Watch,
    /// Who has the disk.
    pub(crate) asks: &'a Asks,
    /// Where events go.
    pub(crate) emit: &'a (dyn Fn(Event) -> Result<(), Failure> + Sync),
}

/// Runs a trial.
pub(crate) fn run(order: &TrialOrder, mut bench: Bench<'_>) -> Result<(), Failure> {
    let trial = order.trial;
    bench.with_tickets(Tickets::forget);
    if let Some(log) = bench.kernel_log.as_mut() {
        log.skip()?;
    }
    let counters = bench.site.with(Mounted::counters)?;
    (bench.emit)(Event::Counters { trial, when: When::Before, counters })?;
    bench.steps(order).arm_first()?;
    for (index, phase) in order.phases.iter().enumerate() {
        let run = Run { order, index, phase, bench: &bench };
        match run.phase()? {
            End::Rounds | End::GivenUp => {}
            // What the phase waited for is how it ends; any other error ends the trial.
            End::Failed(Some(errno)) if Some(errno) == phase.until => {}
            End::Failed(_) | End::Overdue => break,
        }
    }
    after(trial, &mut bench)
}

impl Bench<'_> {
    fn steps<'a>(&'a self, order: &'a TrialOrder) -> Steps<'a> {
        Steps {
            trial: order.trial,
            site: self.site,
            devices: self.devices,
            asks: self.asks,
            faults: &order.faults,
        }
    }

    fn with_tickets<T>(&self, work: impl FnOnce(&mut Tickets) -> T) -> Option<T> {
        self.tickets.as_ref().map(|tickets| work(&mut tickets.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// How a worker, or a phase, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It went round as often as it was to.
    Rounds,
    /// What it waited for will not come.
    GivenUp,
    /// A step failed, with an error unless it was its result that was wrong.
    Failed(Option<Errno>),
    /// A step took longer than it may; what comes after it says nothing.
    Overdue,
}

/// A phase that runs. Its workers share it.
#[derive(Clone, Copy)]
struct Run<'a, 'b> {
    order: &'a TrialOrder,
    index: usize,
    phase: &'a Phase,
    bench: &'a Bench<'b>,
}

/// How a worker ended, and how often it did each step of the phase without an error.
type Ended = Result<(End, Vec<u64>), Failure>;

impl Run<'_, '_> {
    /// Runs the phase, with all its workers.
    fn phase(self) -> Result<End, Failure> {
        let workers = self.phase.workers();
        let ended: Vec<Ended> = match workers.as_slice() {
            [alone] => vec![self.work(*alone)],
            several => self.side_by_side(several),
        };
        let mut end = End::Rounds;
        let mut completed = vec![0; self.phase.steps.len()];
        for worker in ended {
            let (its_end, its_completed) = worker?;
            end = self.worse(end, its_end);
            for (sum, count) in completed.iter_mut().zip(its_completed) {
                *sum += count;
            }
        }
        (self.bench.emit)(Event::Phase { trial: self.order.trial, phase: self.index, completed })?;
        Ok(end)
    }

    /// Each worker on its own thread, until all are done.
    fn side_by_side(self, workers: &[Option<&str>]) -> Vec<Ended> {
        // This thread has nothing to do that could take too long.
        self.bench.watch.end();
        std::thread::scope(|scope| {
            let run = |by| {
                scope.spawn(move || {
                    let ended = self.work(by);
                    if !matches!(ended, Ok((End::Rounds, _))) {
                        // The others go on to their end, and nobody is left to open a gate for them.
                        self.bench.asks.ask(Ask::GiveUp)?.map_err(|why| Failure::new("give up", why))?;
                    }
                    ended
                })
            };
            let threads: Vec<_> = workers.iter().copied().map(run).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Ended>| {
                thread.join().unwrap_or_else(|_| Err(Failure::new("run a worker", "its thread panicked")))
            };
            threads.into_iter().map(join).collect()
        })
    }

    /// What two workers came to together: what the phase waits for weighs less than any other error.
    fn worse(self, one: End, other: End) -> End {
        let foreseen = |end: End| matches!(end, End::Failed(Some(errno)) if Some(errno) == self.phase.until);
        std::cmp::max_by_key(one, other, |end| match end {
            End::Rounds => 0,
            End::GivenUp => 1,
            End::Failed(_) if foreseen(*end) => 2,
            End::Failed(_) => 3,
            End::Overdue => 4,
        })
    }

    /// Goes round the steps of one worker.
    fn work(self, by: Option<&str>) -> Ended {
        let Bench { watch, tickets, .. } = self.bench;
        let mut completed = vec![0; self.phase.steps.len()];
        let mut end = End::Rounds;
        'rounds: for iteration in 0..self.phase.times {
            if iteration % DRAIN_ROUNDS == 0 && tickets.is_some() {
                self.bench.with_tickets(Tickets::drain);
            }
            for (at, step) in self.phase.steps.iter().enumerate().filter(|(_, step)| step.by.as_deref() == by)
            {
                end = self.step(Place { at, iteration }, step, &mut completed)?;
                if watch.was_overdue() {
                    end = End::Overdue;
                }
                if end != End::Rounds {
                    break 'rounds;
                }
            }
        }
        watch.end();
        Ok((end, completed))
    }

    /// Does one step, and tells of it.
    fn step(self, place: Place, step: &Step, completed: &mut [u64]) -> Result<End, Failure> {
        let watch = self.bench.watch;
        let what = match &step.by {
            Some(by) => format!("{} by {by}", step.name),
            None => step.name.clone(),
        };
        watch.begin(self.order.trial, &what, self.order.step_limit);
        let from = sys::monotonic();
        let seed = seed(self.order, self.index, place.at, place.iteration);
        let outcome = self.bench.steps(self.order).run(&step.operation, place.iteration, seed)?;
        let to = sys::monotonic();
        if outcome.given_up {
            return Ok(End::GivenUp);
        }
        let mut first = false;
        let failed = outcome.result.is_err() || outcome.problem.is_some();
        if let (false, Some(count)) = (failed, completed.get_mut(place.at)) {
            *count += 1;
            first = *count == 1;
        }
        if first || failed {
            (self.bench.emit)(Event::Step(self.event(place, step, &outcome, (from, to))?))?;
        }
        Ok(if failed { End::Failed(outcome.result.err()) } else { End::Rounds })
    }

    /// The space that is too small for what was to be written, by the counters of this moment.
    fn lacking(self, range: Option<Range>) -> Result<Option<SpaceKind>, Failure> {
        let Some(range) = range else { return Ok(None) };
        let block = |bytes: u64| bytes.next_multiple_of(BLOCK.0);
        // A write that is not aligned touches the blocks that it shares, too.
        let first = range.offset.0 - range.offset.0 % BLOCK.0;
        let wanted = Bytes(block(range.offset.0.saturating_add(range.length.0)).saturating_sub(first));
        if !self.bench.site.is_mounted() {
            return Ok(None);
        }
        self.bench.site.with(|mounted| mounted.counters().map(|counters| counters.lacking(wanted)))
    }

    fn event(
        self,
        place: Place,
        step: &Step,
        outcome: &Outcome,
        (from, to): (u64, u64),
    ) -> Result<StepEvent, Failure> {
        let fsid = self.bench.site.with(|mounted| Ok(mounted.fsid())).ok().flatten();
        let refused = |tickets: &mut Tickets| {
            fsid.and_then(|fsid| tickets.refused_to(watch::this_thread(), fsid, from, to))
        };
        let range = match outcome.syscall {
            // A file that could not be opened has not been worked on anywhere.
            "openat" => None,
            _ => steps::range(&step.operation, place.iteration)?,
        };
        let (space, space_counted) = match (outcome.result, &self.bench.tickets) {
            (Ok(_), _) => (None, false),
            (Err(_), Some(_)) => (self.bench.with_tickets(refused).flatten(), false),
            (Err(errno), None) => {
                let space = if errno == Errno::ENOSPC { self.lacking(range)? } else { None };
                (space, space.is_some())
            }
        };
        Ok(StepEvent {
            trial: self.order.trial,
            phase: self.index,
            index: place.at,
            step: step.name.clone(),
            iteration: place.iteration,
            syscall: outcome.syscall.to_owned(),
            file: step.operation.file().map(ToOwned::to_owned),
            range,
            returned: outcome.result.ok(),
            errno: outcome.result.err(),
            short: outcome.short,
            space,
            space_counted,
            nanos: Nanos(to - from),
            by: step.by.clone(),
            held: outcome.held.clone(),
            problem: outcome.problem.clone(),
            region: outcome.region.clone(),
            reported: outcome.reported.clone(),
        })
    }
}

/// Which step of the phase, and in which round.
#[derive(Clone, Copy)]
struct Place {
    at: usize,
    iteration: u64,
}

/// What is read when the last step has ended. Where a mount has failed there are no counters.
fn after(trial: u32, bench: &mut Bench<'_>) -> Result<(), Failure> {
    let mounted = bench.site.is_mounted();
    if mounted {
        let counters = bench.site.with(Mounted::counters)?;
        (bench.emit)(Event::Counters { trial, when: When::After, counters })?;
    }
    for event in
        bench.with_tickets(|tickets| tickets.events(trial, &bench.site.fsids())).into_iter().flatten()
    {
        (bench.emit)(event)?;
    }
    if let Some(log) = bench.kernel_log.as_mut() {
        for line in log.new_lines(trial, &bench.devices.kernel_names())? {
            (bench.emit)(Event::KernelLog(line))?;
        }
    }
    if mounted {
        let read_only = bench.site.with(Mounted::read_only)?;
        (bench.emit)(Event::Mount { trial, read_only })?;
    }
    Ok(())
}

/// A stream of its own for each write, so that no step's bytes depend on how many others there are.
fn seed(order: &TrialOrder, phase: usize, step: usize, iteration: u64) -> u64 {
    let place = [u64::from(order.trial), number(phase), number(step), iteration];
    // The finaliser of SplitMix64 (Steele, Lea, Flood 2014) over each part in turn.
    place.into_iter().fold(order.seed, |seed, part| {
        let mut z = (seed ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

fn number(index: usize) -> u64 {
    u64::try_from(index).unwrap_or(u64::MAX)
}
