//! The phases of a trial, step by step, and what is read before and after.

mod tally;
mod who;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError, mpsc};

use brim_trial::event::{RequestCount, SpaceKind, StepEvent, When};
use brim_trial::operation::Range;
use brim_trial::{BLOCK, Bytes, Errno, Event, Nanos, Operation, Phase, Round, Step};

use crate::Failure;
use crate::asks::Asks;
use crate::devices::Devices;
use crate::filesystem::Mounted;
use crate::kernel_log::{KernelLog, Lines};
use crate::may_use::MayUseSums;
use crate::protocol::{Answer, Ask, TrialOrder};
use crate::rescue::Rescue;
use crate::sampler;
use crate::site::Site;
use crate::steps::{self, Outcome, Steps, Turn};
use crate::sys;
use crate::tickets::Tickets;
use crate::watch::{self, Watch};
use tally::Tally;
pub(crate) use who::Company;
use who::Who;

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
    /// The recorder of reserved bytes, where that is wanted and can be had.
    pub(crate) may_use: Option<Mutex<MayUseSums>>,
    /// The kernel log, where it can be read.
    pub(crate) kernel_log: Option<&'a mut KernelLog>,
    /// What it has printed since the trial began, where a step waits for that.
    pub(crate) log: Option<Mutex<Lines>>,
    /// Where the present step is told.
    pub(crate) watch: &'a Watch,
    /// What puts right what steps leave behind.
    pub(crate) rescue: &'a Rescue,
    /// Who has the disk.
    pub(crate) asks: &'a Asks,
    /// Where events go.
    pub(crate) emit: &'a (dyn Fn(Event) -> Result<(), Failure> + Sync),
    /// Who is told when the first step begins.
    pub(crate) began: &'a (dyn Fn(u64) -> Result<(), Failure> + Sync),
}

/// Runs a trial.
pub(crate) fn run(order: &TrialOrder, mut bench: Bench<'_>) -> Result<(), Failure> {
    let trial = order.trial;
    bench.with_tickets(Tickets::forget);
    if let Some(log) = bench.kernel_log.as_mut() {
        log.skip()?;
    }
    let counters = bench.site.with(Mounted::counters)?;
    (bench.emit)(Event::Counters { trial, when: When::Before, step: None, counters })?;
    bench.steps(order, &Company::default()).arm_first()?;
    let began = sys::monotonic();
    (bench.began)(began)?;
    let sysfs = bench.site.with(|mounted| Ok(mounted.sysfs_of_btrfs().map(Path::to_owned)))?;
    let series = std::thread::scope(|scope| {
        let (over, ended) = mpsc::channel();
        let sampler = sysfs.map(|sysfs| scope.spawn(move || sampler::watch(&sysfs, trial, began, &ended)));
        let done = phases(order, &bench, began);
        // It may have ended by itself.
        let _told = over.send(());
        done.map(|()| sampler.and_then(|sampler| sampler.join().ok().flatten()))
    })?;
    bench.rescue.free_the_mount();
    if let Some(series) = series {
        (bench.emit)(Event::Series(series))?;
    }
    after(trial, &mut bench)
}

fn phases(order: &TrialOrder, bench: &Bench<'_>, began: u64) -> Result<(), Failure> {
    let trial = order.trial;
    let mut asked = if order.wanted.phases { bench.count_requests()? } else { Requests::new() };
    for (index, phase) in order.phases.iter().enumerate() {
        let company = Company::of(phase);
        let run = Run { order, index, phase, company: &company, bench, began };
        let end = run.phase()?;
        if order.wanted.phases {
            let now = bench.count_requests()?;
            let requests = since(&asked, &now);
            (bench.emit)(Event::Requests { trial, phase: Some(index), device: None, requests })?;
            asked = now;
        }
        match end {
            End::Rounds | End::GivenUp => {}
            // What the phase waited for is how it ends; any other error ends the trial.
            End::Failed(Some(errno)) if Some(errno) == phase.until => {}
            End::Failed(_) | End::Overdue => break,
        }
    }
    Ok(())
}

/// What was asked of the disk, by operation.
type Requests = BTreeMap<String, RequestCount>;

/// What `now` has more than `before`.
fn since(before: &Requests, now: &Requests) -> Requests {
    let more = |(op, count): (&String, &RequestCount)| {
        let none = RequestCount { requests: 0, bytes: Bytes(0) };
        let before = before.get(op).copied().unwrap_or(none);
        let requests = count.requests.saturating_sub(before.requests);
        let bytes = Bytes(count.bytes.0.saturating_sub(before.bytes.0));
        (requests > 0).then(|| (op.clone(), RequestCount { requests, bytes }))
    };
    now.iter().filter_map(more).collect()
}

impl Bench<'_> {
    fn count_requests(&self) -> Result<Requests, Failure> {
        let failed = |why: String| Failure::new("count the requests of the disk", why);
        match self.asks.ask(Ask::CountRequests)?.map_err(failed)? {
            Answer::Requests(requests) => Ok(requests),
            other => Err(failed(format!("the answer is {other:?}"))),
        }
    }

    /// Makes room in the trace rings.
    fn drain(&self) {
        self.with_tickets(Tickets::drain);
        if let Some(sums) = &self.may_use {
            sums.lock().unwrap_or_else(PoisonError::into_inner).drain();
        }
    }

    fn steps<'a>(&'a self, order: &'a TrialOrder, company: &'a Company<'a>) -> Steps<'a> {
        Steps {
            trial: order.trial,
            site: self.site,
            devices: self.devices,
            asks: self.asks,
            watch: self.watch,
            rescue: self.rescue,
            company,
            log: self.log.as_ref(),
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
    company: &'a Company<'a>,
    bench: &'a Bench<'b>,
    /// When the first step of the trial began.
    began: u64,
}

/// How a worker ended, and what it did.
type Ended = Result<(End, Tally), Failure>;

impl Run<'_, '_> {
    /// Runs the phase, with all its workers.
    fn phase(self) -> Result<End, Failure> {
        let ended: Vec<Ended> = match self.company.members() {
            [alone] => vec![self.work(*alone)],
            several => self.side_by_side(several),
        };
        let mut end = End::Rounds;
        let mut tally = Tally::of(self.phase.steps.len());
        for worker in ended {
            let (its_end, its_tally) = worker?;
            end = self.worse(end, its_end);
            tally.add(its_tally);
        }
        (self.bench.emit)(tally.event(self.order.trial, self.index))?;
        Ok(end)
    }

    /// Each worker on its own thread, until all are done.
    fn side_by_side(self, workers: &[Who<'_>]) -> Vec<Ended> {
        // This thread has nothing to do that could take too long.
        self.bench.watch.end();
        std::thread::scope(|scope| {
            let run = |who| scope.spawn(move || self.work_beside_others(who));
            let threads: Vec<_> = workers.iter().copied().map(run).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Ended>| {
                thread.join().unwrap_or_else(|_| Err(Failure::new("run a worker", "its thread panicked")))
            };
            threads.into_iter().map(join).collect()
        })
    }

    fn work_beside_others(self, who: Who<'_>) -> Ended {
        let ended = self.work(who);
        self.company.is_done(who.by);
        if !matches!(ended, Ok((End::Rounds, _))) {
            // The others go on to their end, and nobody is left to open a gate for them.
            self.company.give_up();
            self.bench.asks.ask(Ask::GiveUp)?.map_err(|why| Failure::new("give up", why))?;
        }
        ended
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
    fn work(self, who: Who<'_>) -> Ended {
        let own = self.phase.loop_of(who.by);
        let times = own.map_or(self.phase.times, |own| own.times);
        let beside = own.and_then(|own| own.beside.as_deref());
        let mut tally = Tally::of(self.phase.steps.len());
        let mut end = End::Rounds;
        for iteration in 0..times {
            // It goes round once at least, however soon the other one is done.
            if iteration > 0 && beside.is_some_and(|other| self.company.are_done(other)) {
                break;
            }
            if iteration % DRAIN_ROUNDS == 0 {
                self.bench.drain();
            }
            let round = Round { iteration, copy: who.copy };
            end = self.round(who, round, &mut tally)?;
            self.close_files(who, round);
            if end != End::Rounds {
                break;
            }
        }
        self.bench.watch.end();
        match end {
            // It was to end with this error, and nobody waits for more of it.
            End::Failed(Some(errno)) if own.is_some_and(|own| own.until == Some(errno)) => {
                Ok((End::Rounds, tally))
            }
            end => Ok((end, tally)),
        }
    }

    /// Does the steps of one worker once.
    fn round(self, who: Who<'_>, round: Round, tally: &mut Tally) -> Result<End, Failure> {
        for (at, step) in self.steps_of(who) {
            let mut end = self.step(who, Place { at, round }, step, tally)?;
            if self.bench.watch.was_overdue() {
                end = End::Overdue;
            }
            if end != End::Rounds {
                return Ok(end);
            }
        }
        Ok(End::Rounds)
    }

    fn steps_of(&self, who: Who<'_>) -> impl Iterator<Item = (usize, &Step)> {
        self.phase.steps.iter().enumerate().filter(move |(_, step)| step.by.as_deref() == who.by)
    }

    /// Closes the files that are others in each round.
    fn close_files(self, who: Who<'_>, round: Round) {
        for (_, step) in self.steps_of(who) {
            let Operation::File(operation) = &step.operation else { continue };
            let names = std::iter::once(operation.file()).chain(operation.from());
            for name in names.filter(|name| name.depends_on_round()) {
                self.bench.site.close_of_round(&name.at(round));
            }
        }
    }

    /// Does one step, and tells of it.
    fn step(self, who: Who<'_>, place: Place, step: &Step, tally: &mut Tally) -> Result<End, Failure> {
        self.bench.watch.begin(self.order.trial, &who.doing(&step.name), self.order.step_limit);
        let from = sys::monotonic();
        let turn = Turn { round: place.round, seed: seed(self.order, self.index, place) };
        let outcome = self.bench.steps(self.order, self.company).run(&step.operation, turn)?;
        let to = sys::monotonic();
        if outcome.given_up {
            return Ok(End::GivenUp);
        }
        if let Some(counters) = &outcome.reading {
            let (trial, counters) = (self.order.trial, counters.clone());
            let step = Some(step.name.clone());
            (self.bench.emit)(Event::Counters { trial, when: When::Step, step, counters })?;
        }
        let nanos = outcome.nanos.unwrap_or(Nanos(to - from));
        let errno = outcome.result.err();
        let failed = errno.is_some() || outcome.problem.is_some() || outcome.signal.is_some();
        let allowed = failed && outcome.problem.is_none() && step.allows(errno, outcome.signal);
        let told = tally.count(place.at, &outcome, failed, allowed, nanos);
        if told {
            let event = self.event(who, place, step, &outcome, (from, to))?;
            (self.bench.emit)(Event::Step(Box::new(StepEvent { nanos, allowed, ..event })))?;
        }
        Ok(if failed && !allowed { End::Failed(errno) } else { End::Rounds })
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
        who: Who<'_>,
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
            _ => steps::range(&step.operation, place.round)?,
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
            iteration: place.round.iteration,
            syscall: outcome.syscall.to_owned(),
            file: step.operation.file().map(|file| file.at(place.round).into_owned()),
            range,
            returned: outcome.result.ok(),
            errno: outcome.result.err(),
            short: outcome.short,
            space,
            space_counted,
            nanos: Nanos(to - from),
            at: Some(Nanos(to.saturating_sub(self.began))),
            by: step.by.clone(),
            held: outcome.held.clone(),
            problem: outcome.problem.clone(),
            region: outcome.region.clone(),
            copy: (who.copies > 1).then_some(who.copy),
            signal: outcome.signal,
            allowed: false,
            extents: outcome.extents,
            reported: outcome.reported.clone(),
        })
    }
}

/// Which step of the phase, and in which round.
#[derive(Clone, Copy)]
struct Place {
    at: usize,
    round: Round,
}

/// What is read when the last step has ended. Where a mount has failed there are no counters.
fn after(trial: u32, bench: &mut Bench<'_>) -> Result<(), Failure> {
    let mounted = bench.site.is_mounted();
    if mounted {
        let counters = bench.site.with(Mounted::counters)?;
        (bench.emit)(Event::Counters { trial, when: When::After, step: None, counters })?;
    }
    if let Some(sums) = bench.may_use.take() {
        let mut sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
        for event in sums.events(trial, &bench.site.fsids()) {
            (bench.emit)(event)?;
        }
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
fn seed(order: &TrialOrder, phase: usize, place: Place) -> u64 {
    let Round { iteration, copy } = place.round;
    let parts = [u64::from(order.trial), number(phase), number(place.at), iteration, copy];
    // The finaliser of SplitMix64 (Steele, Lea, Flood 2014) over each part in turn.
    parts.into_iter().fold(order.seed, |seed, part| {
        let mut z = (seed ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

fn number(index: usize) -> u64 {
    u64::try_from(index).unwrap_or(u64::MAX)
}
