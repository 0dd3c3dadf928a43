//! One operation of a scenario as system calls.

mod administration;
mod content;
mod disk;
mod whole;

use std::collections::BTreeMap;
use std::fs::File;

use brim_trial::event::{HeldRequest, Problem};
use brim_trial::expression::OutOfRange;
use brim_trial::operation::Range;
use brim_trial::{ByteRange, Bytes, Errno, Expression, Operation};
use rustix::fs::{AtFlags, FallocateFlags, IFlags};
use rustix::io;

use crate::Failure;
use crate::asks::Asks;
use crate::devices::Devices;
use crate::protocol::{Answer, Ask, FaultOrder};
use crate::region;
use crate::site::Site;
use crate::sys;
use crate::written::Source;

/// How an operation ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The system call that ended it; for a word with the disk or a program, what that is called.
    pub(crate) syscall: &'static str,
    /// What that returned, or how it failed.
    pub(crate) result: Result<u64, Errno>,
    /// What earlier calls of the same operation had written.
    pub(crate) short: Option<Bytes>,
    /// What a gate held.
    pub(crate) held: Option<Vec<HeldRequest>>,
    /// What is wrong although the system call did well.
    pub(crate) problem: Option<Problem>,
    /// Where a fault was armed.
    pub(crate) region: Option<Vec<ByteRange>>,
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
    pub(crate) faults: &'a [FaultOrder],
}

/// One operation in one round.
#[derive(Clone, Copy, Debug)]
struct Round {
    iteration: u64,
    /// Settles what is written.
    seed: u64,
}

impl Round {
    fn value(self, expression: &Expression) -> Result<u64, Failure> {
        expression.value(self.iteration).map_err(|error| out_of_range(&error))
    }
}

impl Steps<'_> {
    /// Runs one operation. `seed` settles what is written.
    pub(crate) fn run(self, operation: &Operation, iteration: u64, seed: u64) -> Result<Outcome, Failure> {
        let round = Round { iteration, seed };
        match operation {
            Operation::Syncfs {} => {
                let synced = self.site.at(|root| rustix::fs::syncfs(root).map(|()| 0));
                if synced.is_ok() {
                    self.site.written().synced_all();
                }
                Ok(Outcome::new("syncfs", synced))
            }
            Operation::ResizeDisk { size, device } => {
                self.resize(device.as_deref(), Bytes(round.value(size)?))
            }
            Operation::Administer(act) => self.administer(act, round),
            Operation::Scrub {} => Ok(Outcome::new("ioctl", self.site.at(|root| sys::btrfs::scrub(root)))),
            Operation::DropCaches {} => whole::drop_caches(),
            Operation::Panic { trial } => whole::panic_in(*trial, self.trial),
            Operation::Remount { options, live } => self.remount(options.as_deref(), *live),
            Operation::Check {} => self.check(),
            Operation::PowerCut { survival } => self.power_cut(*survival, round.seed),
            Operation::Await { gate, count } => self.wait_held(gate, *count),
            Operation::Release { gate, some } => self.release(gate, some.as_ref()),
            Operation::Close { gate } => self.close(gate),
            Operation::Arm { fault } => self.arm(|order| order.name == *fault),
            Operation::Subvolume { path } => Ok(self.subvolume(path)),
            Operation::Snapshot { of, to, read_only } => Ok(self.snapshot(of, to, *read_only)),
            Operation::Reflink { from, to, offset, length, to_offset } => {
                let (offset, to_offset) = (round.value(offset)?, round.value(to_offset)?);
                Ok(self.reflink((from, offset), round.value(length)?, (to, to_offset)))
            }
            on_a_file => self.on_a_file(on_a_file, round),
        }
    }

    fn on_a_file(self, operation: &Operation, round: Round) -> Result<Outcome, Failure> {
        Ok(match operation {
            Operation::Fallocate { file, offset, length, keep_size } => {
                let (offset, length) = (round.value(offset)?, round.value(length)?);
                let flags = if *keep_size { FallocateFlags::KEEP_SIZE } else { FallocateFlags::empty() };
                self.with(file, "fallocate", |file| rustix::fs::fallocate(file, flags, offset, length))
            }
            Operation::Pwrite { file, offset, length, data } => {
                let source = Source { content: *data, seed: round.seed };
                self.pwrite(file, round.value(offset)?, round.value(length)?, source)
            }
            Operation::Pread { file, offset, length, expect } => {
                self.pread(file, round.value(offset)?, round.value(length)?, *expect)
            }
            Operation::SyncFileRange { file, offset, length } => {
                let (offset, length) = (round.value(offset)?, round.value(length)?);
                self.with(file, "sync_file_range", |file| sys::sync_file_range(file, offset, length))
            }
            Operation::Fsync { file } => self.sync(file, "fsync", |file| rustix::fs::fsync(file)),
            Operation::Fdatasync { file } => self.sync(file, "fdatasync", |file| rustix::fs::fdatasync(file)),
            Operation::Nocow { file } => self.with(file, "ioctl", |file| {
                rustix::fs::ioctl_getflags(file)
                    .and_then(|flags| rustix::fs::ioctl_setflags(file, flags | IFlags::NOCOW))
            }),
            Operation::Truncate { file, size } => self.truncate(file, round.value(size)?),
            Operation::Unlink { file } => self.unlink(file),
            other => return Err(Failure::new("run a step", format!("`{}` has no doer", other.verb()))),
        })
    }

    fn truncate(self, file: &str, size: u64) -> Outcome {
        let outcome = self.with(file, "ftruncate", |file| rustix::fs::ftruncate(file, size));
        if outcome.result.is_ok() {
            self.site.written().truncate(file, size);
        }
        outcome
    }

    fn unlink(self, file: &str) -> Outcome {
        self.site.close(file);
        let unlinked = self.site.at(|root| rustix::fs::unlinkat(root, file, AtFlags::empty()));
        if unlinked.is_ok() {
            self.site.written().unlink(file);
        }
        Outcome::new("unlinkat", unlinked.map(|()| 0))
    }

    fn sync(self, name: &str, syscall: &'static str, call: impl FnOnce(&File) -> io::Result<()>) -> Outcome {
        let outcome = self.with(name, syscall, call);
        if outcome.result.is_ok() {
            self.site.written().synced(name);
        }
        outcome
    }

    fn with(self, name: &str, syscall: &'static str, call: impl FnOnce(&File) -> io::Result<()>) -> Outcome {
        match self.site.file(name) {
            Ok(file) => Outcome::new(syscall, call(&file).map(|()| 0)),
            Err(errno) => Outcome::new("openat", Err(errno)),
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
        // Each disk has its own table, and a region of the same name is other bytes on another disk.
        let mut disks: BTreeMap<&str, Vec<&FaultOrder>> = BTreeMap::new();
        for order in self.faults.iter().filter(|order| which(order)) {
            disks.entry(order.device.as_str()).or_default().push(order);
        }
        let mut region = None;
        for (disk, orders) in disks {
            let mut regions = BTreeMap::new();
            for name in orders.iter().filter_map(|order| order.region.as_ref()) {
                let device = self.devices.get(Some(disk))?;
                regions.insert(name.clone(), region::resolve(name, self.site, &device)?);
            }
            region = region.or_else(|| regions.values().next().cloned());
            let faults = orders.iter().map(|order| order.name.clone()).collect();
            self.word(Ask::Arm { device: disk.to_owned(), faults, regions })?;
        }
        Ok(Outcome { region, ..Outcome::new("arm", Ok(0)) })
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
            reported,
            given_up: false,
        }
    }

    fn holding(self, held: Vec<HeldRequest>) -> Self {
        let count = u64::try_from(held.len()).unwrap_or(u64::MAX);
        Self { result: Ok(count), held: Some(held), ..self }
    }
}

/// The bytes an operation works on at `iteration`, where it works on a range.
pub(crate) fn range(operation: &Operation, iteration: u64) -> Result<Option<Range>, Failure> {
    let Some((offset, length)) = operation.range() else { return Ok(None) };
    let value = |expression: &Expression| expression.value(iteration).map(Bytes);
    let (offset, length) = (value(offset), value(length));
    let range = offset.and_then(|offset| length.map(|length| Range { offset, length }));
    range.map(Some).map_err(|error| out_of_range(&error))
}

fn out_of_range(error: &OutOfRange) -> Failure {
    Failure::new("work out a quantity", error.to_string())
}
