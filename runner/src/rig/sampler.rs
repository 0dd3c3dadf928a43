//! What the kernel asks of a disk, what gates hold and which faults fire, over the time of a trial.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use brim_device::fault::{Op, Row, Then};
use brim_trial::Nanos;
use brim_trial::event::Series;
use brim_trial::plan;
use brim_trial::series::Recorder;
use nbd_server::Disk;

/// How often it looks, which takes the lock of the disk for as long as a small request does.
const TICK: Duration = Duration::from_millis(1);

/// A thread that looks at a disk until it is told that the trial is over.
#[derive(Debug)]
pub(crate) struct Sampler {
    device: String,
    over: Sender<u64>,
    thread: JoinHandle<Recorder>,
}

impl Sampler {
    /// Looks at the disk of this name, which has those of these faults that are its own, or will have them. `None` where there is no thread to be had: then nothing is seen of
    /// the time in between.
    pub(crate) fn start(name: &str, disk: &Disk, faults: &[plan::Fault]) -> Option<Self> {
        let (over, told) = mpsc::channel();
        let rows: Vec<&Row> =
            faults.iter().filter(|fault| fault.device == name).map(|fault| &fault.row).collect();
        let (disk, names) = (disk.clone(), Names::of(&rows));
        let watch = move || {
            let before = names.numbers(&disk);
            let now = || {
                let numbers = names.numbers(&disk).into_iter().zip(&before);
                numbers.map(|(number, before)| number.saturating_sub(*before)).collect::<Vec<u64>>()
            };
            let mut recorder = Recorder::new(names.words());
            let (mut began, mut last) = (None, now());
            loop {
                let heard = told.recv_timeout(TICK);
                if let Ok(at) = heard {
                    // It is told a little later than it was.
                    began = Some(at);
                    recorder.record(Nanos(0), &last);
                }
                let before = std::mem::replace(&mut last, now());
                if let Some(at) = began {
                    let moment = brim_agent::monotonic().saturating_sub(at);
                    // Of what a gate holds the disk says since when: that is exact, and what is seen of it is not.
                    if let Some(age) = names.held_since(&disk, &before, &last) {
                        let arrival = Nanos(moment.saturating_sub(age.0));
                        recorder.record(arrival.max(recorder.last()), &names.with_held(&before, &last));
                    }
                    recorder.record(Nanos(moment), &last);
                }
                if heard == Err(RecvTimeoutError::Disconnected) {
                    return recorder;
                }
            }
        };
        let thread = std::thread::Builder::new().name("sampler".to_owned()).spawn(watch).ok()?;
        Some(Self { device: name.to_owned(), over, thread })
    }

    /// The first step began at this moment of `CLOCK_MONOTONIC`.
    pub(crate) fn began(&self, at: u64) {
        // It ends only when it is told to.
        let _told = self.over.send(at);
    }

    /// The trial is over; what was seen of it, where anything changed. The disk is named where there are `several`.
    pub(crate) fn end(self, trial: u32, several: bool) -> Option<Series> {
        drop(self.over);
        let series = self.thread.join().ok()?.series(trial, "requests")?;
        Some(Series { device: several.then_some(self.device), ..series })
    }
}

/// What is looked at.
struct Names {
    gates: Vec<String>,
    faults: Vec<String>,
}

impl Names {
    fn of(rows: &[&Row]) -> Self {
        let holds = |row: &&&Row| matches!(row.then, Then::Hold { .. });
        let name = |row: &&Row| row.name.clone();
        Self { gates: rows.iter().filter(holds).map(name).collect(), faults: rows.iter().map(name).collect() }
    }

    fn words(&self) -> Vec<String> {
        let mut words: Vec<String> =
            Op::ALL.iter().flat_map(|op| [op.name().to_owned(), format!("{}.bytes", op.name())]).collect();
        words.extend(self.gates.iter().map(|gate| format!("held {gate}")));
        words.extend(self.faults.iter().map(|fault| format!("fired {fault}")));
        words
    }

    /// Where in the numbers those of the gates are.
    fn held(&self) -> std::ops::Range<usize> {
        let first = 2 * Op::ALL.len();
        first..first + self.gates.len()
    }

    /// How long the first of what came to a gate since `before` has been there; `None` where nothing came.
    fn held_since(&self, disk: &Disk, before: &[u64], now: &[u64]) -> Option<Nanos> {
        let came = |gate: usize| Some(now.get(gate)?.saturating_sub(*before.get(gate)?));
        let gates = self
            .held()
            .zip(&self.gates)
            .filter_map(|(at, gate)| Some((gate, came(at).filter(|came| *came > 0)?)));
        let held = disk.held();
        // In order of arrival, the last ones came.
        let first = |(gate, came): (&String, u64)| {
            let ages: Vec<Nanos> =
                held.iter().filter(|held| held.gate == *gate).map(|held| held.age).collect();
            let new = usize::try_from(came).unwrap_or(usize::MAX).min(ages.len());
            ages.get(ages.len() - new).copied()
        };
        gates.filter_map(first).max()
    }

    /// The numbers as they were, but for what gates hold.
    fn with_held(&self, before: &[u64], now: &[u64]) -> Vec<u64> {
        let mut numbers = before.to_vec();
        if let (Some(to), Some(from)) = (numbers.get_mut(self.held()), now.get(self.held())) {
            to.copy_from_slice(from);
        }
        numbers
    }

    fn numbers(&self, disk: &Disk) -> Vec<u64> {
        let stats = disk.stats();
        let mut numbers: Vec<u64> = Op::ALL
            .iter()
            .flat_map(|op| {
                let of = stats.of(*op);
                [of.requests, of.bytes.0]
            })
            .collect();
        let held = if self.gates.is_empty() { Vec::new() } else { disk.held() };
        let holds = |gate: &String| held.iter().filter(|held| held.gate == *gate).count();
        numbers.extend(self.gates.iter().map(|gate| u64::try_from(holds(gate)).unwrap_or(u64::MAX)));
        let fired = if self.faults.is_empty() { Vec::new() } else { disk.firings() };
        let of = |fault: &String| fired.iter().find(|(name, _)| name == fault).map_or(0, |(_, count)| *count);
        numbers.extend(self.faults.iter().map(of));
        numbers
    }
}
