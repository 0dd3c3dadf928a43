//! The phases of a trial, step by step, and what is read before and after.

use brim_trial::event::{StepEvent, When};
use brim_trial::expression::OutOfRange;
use brim_trial::{Bytes, Errno, Event, Nanos, Phase, Step};

use crate::Failure;
use crate::filesystem::Mounted;
use crate::kernel_log::KernelLog;
use crate::protocol::TrialOrder;
use crate::steps::{self, Files, Outcome};
use crate::tickets::Tickets;
use crate::watch::Watch;

/// How many rounds of a phase the trace rings have to hold the tickets of.
const DRAIN_ROUNDS: u64 = 64;

/// What a trial needs beside its order.
pub(crate) struct Bench<'a> {
    /// The filesystem under test.
    pub(crate) mounted: &'a Mounted,
    /// The block device under it: `loop0`.
    pub(crate) device: &'a str,
    /// The recorder of refused reservations, where there is one.
    pub(crate) tickets: Option<&'a mut Tickets>,
    /// The kernel log, where it can be read.
    pub(crate) kernel_log: Option<&'a mut KernelLog>,
    /// Where the present step is told.
    pub(crate) watch: &'a Watch,
    /// Where events go.
    pub(crate) emit: &'a dyn Fn(Event) -> Result<(), Failure>,
    /// Gives the disk another size, and says which it has then.
    pub(crate) resize: &'a mut dyn FnMut(Bytes) -> Result<Bytes, Errno>,
}

/// Runs a trial.
pub(crate) fn run(order: &TrialOrder, mut bench: Bench<'_>) -> Result<(), Failure> {
    let trial = order.trial;
    if let Some(tickets) = bench.tickets.as_mut() {
        tickets.forget();
    }
    if let Some(log) = bench.kernel_log.as_mut() {
        log.skip()?;
    }
    (bench.emit)(Event::Counters { trial, when: When::Before, counters: bench.mounted.counters()? })?;
    let mut files = Files::at(bench.mounted);
    for (index, phase) in order.phases.iter().enumerate() {
        let ended = run_phase(order, index, phase, &mut files, &mut bench);
        bench.watch.end();
        match ended? {
            End::Rounds => {}
            // What the phase waited for is how it ends; any other error ends the trial.
            End::Failed(errno) if Some(errno) == phase.until => {}
            End::Failed(_) | End::Overdue => break,
        }
    }
    after(trial, &mut bench)
}

/// How a phase ended.
enum End {
    /// It went round as often as it was to.
    Rounds,
    /// A step failed.
    Failed(Errno),
    /// A step took longer than it may; what comes after it says nothing.
    Overdue,
}

/// Goes round the steps of a phase.
fn run_phase(
    order: &TrialOrder,
    index: usize,
    phase: &Phase,
    files: &mut Files<'_>,
    bench: &mut Bench<'_>,
) -> Result<End, Failure> {
    let mut completed = vec![0; phase.steps.len()];
    let mut end = End::Rounds;
    'rounds: for iteration in 0..phase.times {
        if iteration % DRAIN_ROUNDS == 0 {
            bench.tickets.iter_mut().for_each(|tickets| tickets.drain());
        }
        for (at, step) in phase.steps.iter().enumerate() {
            bench.watch.begin(order.trial, &step.name, order.step_limit);
            let from = monotonic();
            let seed = seed(order, index, at, iteration);
            let outcome = files
                .run(&step.operation, iteration, seed, bench.resize)
                .map_err(|error| out_of_range(step, &error))?;
            let to = monotonic();
            match (outcome.result, completed.get_mut(at)) {
                (Ok(_), Some(count)) => *count += 1,
                (Ok(_), None) => {}
                (Err(errno), _) => end = End::Failed(errno),
            }
            if outcome.result.is_err() || completed.get(at) == Some(&1) {
                let event =
                    event(Place { order, phase: index, at, iteration }, step, &outcome, (from, to), bench);
                (bench.emit)(Event::Step(event.map_err(|error| out_of_range(step, &error))?))?;
            }
            if bench.watch.was_overdue() {
                end = End::Overdue;
            }
            if !matches!(end, End::Rounds) {
                break 'rounds;
            }
        }
    }
    (bench.emit)(Event::Phase { trial: order.trial, phase: index, completed })?;
    Ok(end)
}

/// Which step this is.
#[derive(Clone, Copy)]
struct Place<'a> {
    order: &'a TrialOrder,
    phase: usize,
    at: usize,
    iteration: u64,
}

fn event(
    place: Place<'_>,
    step: &Step,
    outcome: &Outcome,
    (from, to): (u64, u64),
    bench: &mut Bench<'_>,
) -> Result<StepEvent, OutOfRange> {
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    let space = match (outcome.result, bench.tickets.as_mut(), bench.mounted.fsid()) {
        (Err(_), Some(tickets), Some(fsid)) => {
            tickets.refused_to(u32::try_from(thread).unwrap_or(0), fsid, from, to)
        }
        _ => None,
    };
    Ok(StepEvent {
        trial: place.order.trial,
        phase: place.phase,
        index: place.at,
        step: step.name.clone(),
        iteration: place.iteration,
        syscall: outcome.syscall.to_owned(),
        file: step.operation.file().map(ToOwned::to_owned),
        // A file that could not be opened has not been worked on anywhere.
        range: match outcome.syscall {
            "openat" => None,
            _ => steps::range(&step.operation, place.iteration)?,
        },
        returned: outcome.result.ok(),
        errno: outcome.result.err(),
        short: outcome.short,
        space,
        nanos: Nanos(to - from),
    })
}

/// What is read when the last step has ended.
fn after(trial: u32, bench: &mut Bench<'_>) -> Result<(), Failure> {
    (bench.emit)(Event::Counters { trial, when: When::After, counters: bench.mounted.counters()? })?;
    if let (Some(tickets), Some(fsid)) = (bench.tickets.as_mut(), bench.mounted.fsid()) {
        for event in tickets.events(trial, fsid) {
            (bench.emit)(event)?;
        }
    }
    if let Some(log) = bench.kernel_log.as_mut() {
        for line in log.new_lines(trial, bench.device)? {
            (bench.emit)(Event::KernelLog(line))?;
        }
    }
    (bench.emit)(Event::Mount { trial, read_only: bench.mounted.read_only()? })
}

fn out_of_range(step: &Step, error: &OutOfRange) -> Failure {
    Failure::new(format!("step `{}`", step.name), error.to_string())
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

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of the trace records.
fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
