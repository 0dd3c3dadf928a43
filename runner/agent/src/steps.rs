//! One operation of a scenario as system calls.

mod administration;
mod buffer;
mod content;
mod disk;
mod exec;
mod file;
mod mapped;
mod names;
mod space;
mod swap;
mod wait;
mod whole;

use std::collections::BTreeMap;
use std::sync::Mutex;

use brim_trial::event::{Extents, HeldRequest, Problem, Signal};
use brim_trial::expression::OutOfRange;
use brim_trial::operation::Range;
use brim_trial::{ByteRange, Bytes, Counters, Errno, Expression, Nanos, Operation, Round};
use rustix::io;

use crate::Failure;
use crate::asks::Asks;
use crate::devices::Devices;
use crate::failure::Trying;
use crate::filesystem::Mounted;
use crate::kernel_log::Lines;
use crate::phase::Company;
use crate::protocol::{Answer, Ask, FaultOrder};
use crate::region::{self, Ground};
use crate::rescue::Rescue;
use crate::site::Site;
use crate::sys;
use crate::watch::Watch;

/// How an operation ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The system call that ended it; for a word with the disk or a program, what that is called.
    pub(crate) syscall: &'static str,
    /// What that returned, or how it failed.
    pub(crate) result: Result<u64, Errno>,
    /// What earlier calls of the same operation had written, or a short one that ended it.
    pub(crate) short: Option<Bytes>,
    /// What a gate held.
    pub(crate) held: Option<Vec<HeldRequest>>,
    /// What is wrong although the system call did well.
    pub(crate) problem: Option<Problem>,
    /// Where a fault was armed.
    pub(crate) region: Option<Vec<ByteRange>>,
    /// The signal that ended it.
    pub(crate) signal: Option<Signal>,
    /// The extents that were counted.
    pub(crate) extents: Option<Extents>,
    /// How long the system call took, where that is less than the whole operation.
    pub(crate) nanos: Option<Nanos>,
    /// What the filesystem counts, where the step was to read that.
    pub(crate) reading: Option<Counters>,
    /// What it reports in numbers beside what the system call returned.
    pub(crate) reported: BTreeMap<String, u64>,
    /// What it waited for will not come: nothing can be said of it, or of what was to follow.
    pub(crate) given_up: bool,
}

/// What operations work with. Every worker may run one at the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps<'a> {
    /// Which trial it is.
    pub(crate) trial: u32,
    pub(crate) site: &'a Site,
    pub(crate) devices: &'a Devices,
    pub(crate) asks: &'a Asks,
    pub(crate) watch: &'a Watch,
    pub(crate) rescue: &'a Rescue,
    /// Those who are at work at the same time.
    pub(crate) company: &'a Company<'a>,
    /// What the kernel has printed since the trial began, where a step waits for that and it can be read.
    pub(crate) log: Option<&'a Mutex<Lines>>,
    pub(crate) faults: &'a [FaultOrder],
}

/// Faults of a disk that are to be put in force.
#[derive(Debug)]
struct Armed {
    device: String,
    faults: Vec<String>,
    regions: BTreeMap<String, Vec<ByteRange>>,
}

/// One operation in one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) round: Round,
    /// Settles what is written.
    pub(crate) seed: u64,
}

impl Turn {
    fn value(self, expression: &Expression) -> Result<u64, Failure> {
        expression.value(self.round).map_err(|error| out_of_range(&error))
    }
}

impl Steps<'_> {
    /// Runs one operation.
    pub(crate) fn run(self, operation: &Operation, turn: Turn) -> Result<Outcome, Failure> {
        match operation {
            Operation::Syncfs {} => {
                let synced = self.site.at(|root| rustix::fs::syncfs(root).map(|()| 0));
                if synced.is_ok() {
                    self.site.written().synced_all();
                }
                Ok(Outcome::new("syncfs", synced))
            }
            Operation::ResizeDisk { size, device } => {
                self.resize(device.as_deref(), Bytes(turn.value(size)?))
            }
            Operation::Administer(act) => self.administer(act, turn),
            Operation::Scrub {} => Ok(Outcome::new("ioctl", self.site.at(|root| sys::btrfs::scrub(root)))),
            Operation::DropCaches {} => whole::drop_caches(),
            Operation::Counters {} => {
                let reading = self.site.with(Mounted::counters)?;
                Ok(Outcome { reading: Some(reading), ..Outcome::new("counters", Ok(0)) })
            }
            Operation::Panic { trial } => whole::panic_in(*trial, self.trial),
            Operation::Remount { options, live } => self.remount(options.as_deref(), *live),
            Operation::Check {} => self.check(),
            Operation::PowerCut { survival, arm } => self.power_cut(*survival, arm, turn.seed),
            Operation::Disk(word) => self.disk(word),
            Operation::Freeze {} => {
                let root = self.site.at(|root| Ok(root.try_clone()));
                let root = root.trying(|| "freeze the filesystem".to_owned())?;
                let root = root.trying(|| "freeze the filesystem".to_owned())?;
                Ok(Outcome::new("ioctl", self.rescue.freeze(&root)?.map(|()| 0)))
            }
            Operation::Thaw {} => Ok(Outcome::new("ioctl", self.rescue.thaw().map(|()| 0))),
            Operation::Exec { command, exit } => {
                let words: Vec<String> =
                    command.iter().map(|word| word.at(turn.round).into_owned()).collect();
                self.exec(&words, *exit)
            }
            Operation::Sleep { time } => Ok(self.sleep(*time)),
            Operation::AwaitCounter { counter, is } => self.wait_for_counter(counter, *is),
            Operation::AwaitLog { pattern, count } => self.wait_for_log(pattern, *count),
            Operation::Await { gate, count } => self.wait_held(gate, *count),
            Operation::Release { gate, some } => self.release(gate, some.as_ref()),
            Operation::Close { gate } => self.close(gate),
            Operation::Arm { fault } => self.arm(|order| order.name == *fault),
            Operation::Subvolume { path } => Ok(self.subvolume(&path.at(turn.round))),
            Operation::Snapshot { of, to, read_only } => {
                Ok(self.snapshot(&of.at(turn.round), &to.at(turn.round), *read_only))
            }
            Operation::File(operation) => self.on_a_file(operation, turn),
        }
    }

    fn resize(self, device: Option<&str>, size: Bytes) -> Result<Outcome, Failure> {
        let block_device = self.devices.get(device)?;
        let device = device.map(ToOwned::to_owned);
        let result = match self.asks.ask(Ask::Resize { device, size })? {
            Ok(_) => block_device.update_size(size).map_err(|failure| failure.errno.unwrap_or(Errno::EIO)),
            Err(_) => Err(Errno::EIO),
        };
        let result = result.map(|size| size.0);
        Ok(Outcome { result, ..Outcome::new("ioctl", Ok(0)) })
    }

    /// Puts the faults in force that the trial begins with.
    pub(crate) fn arm_first(self) -> Result<(), Failure> {
        if self.faults.iter().any(|order| !order.armed) {
            self.arm(|order| !order.armed)?;
        }
        Ok(())
    }

    /// Finds the regions of the faults that `which` picks, and puts these in force.
    fn arm(self, which: impl Fn(&FaultOrder) -> bool) -> Result<Outcome, Failure> {
        let mut region = None;
        for Armed { device, faults, regions } in self.found(which)? {
            region = region.or_else(|| regions.values().next().cloned());
            self.word(Ask::Arm { device, faults, regions })?;
        }
        Ok(Outcome { region, ..Outcome::new("arm", Ok(0)) })
    }

    /// The faults that `which` picks, by their disks, with their regions as they are at this moment.
    fn found(self, which: impl Fn(&FaultOrder) -> bool) -> Result<Vec<Armed>, Failure> {
        // Each disk has its own table, and a region of the same name is other bytes on another disk.
        let mut disks: BTreeMap<&str, Vec<&FaultOrder>> = BTreeMap::new();
        for order in self.faults.iter().filter(|order| which(order)) {
            disks.entry(order.device.as_str()).or_default().push(order);
        }
        let mut found = Vec::new();
        for (disk, orders) in disks {
            let mut regions = BTreeMap::new();
            for name in orders.iter().filter_map(|order| order.region.as_ref()) {
                let ground = Ground::of(self.site, self.devices, Some(disk))?;
                regions.insert(name.clone(), region::resolve(name, &ground, self.asks)?);
            }
            let faults = orders.iter().map(|order| order.name.clone()).collect();
            found.push(Armed { device: disk.to_owned(), faults, regions });
        }
        Ok(found)
    }

    /// Asks the executor for what it can do unless something is wrong with the rig.
    fn word(self, ask: Ask) -> Result<Answer, Failure> {
        let what = format!("{ask:?}");
        self.asks.ask(ask)?.map_err(|why| Failure::new(what, why))
    }
}

impl Outcome {
    fn new(syscall: &'static str, result: io::Result<u64>) -> Self {
        let result = result.map_err(|errno| Errno(errno.raw_os_error()));
        let reported = BTreeMap::new();
        Self {
            syscall,
            result,
            short: None,
            held: None,
            problem: None,
            region: None,
            signal: None,
            extents: None,
            nanos: None,
            reading: None,
            reported,
            given_up: false,
        }
    }

    /// The same, of a call that began at this moment and has just ended.
    fn timed(self, from: u64) -> Self {
        Self { nanos: Some(Nanos(sys::monotonic().saturating_sub(from))), ..self }
    }

    fn holding(self, held: Vec<HeldRequest>) -> Self {
        let count = u64::try_from(held.len()).unwrap_or(u64::MAX);
        Self { result: Ok(count), held: Some(held), ..self }
    }
}

/// The bytes an operation works on in a round, where it works on a range.
pub(crate) fn range(operation: &Operation, round: Round) -> Result<Option<Range>, Failure> {
    let Some((offset, length)) = operation.range() else { return Ok(None) };
    let value = |expression: &Expression| expression.value(round).map(Bytes);
    let (offset, length) = (value(offset), value(length));
    let range = offset.and_then(|offset| length.map(|length| Range { offset, length }));
    range.map(Some).map_err(|error| out_of_range(&error))
}

fn out_of_range(error: &OutOfRange) -> Failure {
    Failure::new("work out a quantity", error.to_string())
}
