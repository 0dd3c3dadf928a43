//! One operation of a scenario as system calls.

use std::fs::File;

use brim_trial::event::HeldRequest;
use brim_trial::expression::OutOfRange;
use brim_trial::operation::Range;
use brim_trial::{Bytes, Content, Errno, Expression, Operation};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use rustix::fs::{AtFlags, FallocateFlags};
use rustix::io;

use crate::Failure;
use crate::asks::Asks;
use crate::loop_device::LoopDevice;
use crate::protocol::{Answer, Ask};
use crate::site::Site;

/// How an operation ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The system call that ended it; for a word with the disk, its verb.
    pub(crate) syscall: &'static str,
    /// What that returned, or how it failed.
    pub(crate) result: Result<u64, Errno>,
    /// What earlier calls of the same operation had written.
    pub(crate) short: Option<Bytes>,
    /// What a gate held.
    pub(crate) held: Option<Vec<HeldRequest>>,
    /// What it waited for will not come: nothing can be said of it, or of what was to follow.
    pub(crate) given_up: bool,
}

/// What operations work with. Every worker may run one at the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps<'a> {
    pub(crate) site: &'a Site,
    pub(crate) device: &'a LoopDevice,
    pub(crate) asks: &'a Asks,
}

impl Steps<'_> {
    /// Runs one operation. `seed` settles what is written.
    pub(crate) fn run(self, operation: &Operation, iteration: u64, seed: u64) -> Result<Outcome, Failure> {
        let value =
            |expression: &Expression| expression.value(iteration).map_err(|error| out_of_range(&error));
        Ok(match operation {
            Operation::Fallocate { file, offset, length, keep_size } => {
                let (offset, length) = (value(offset)?, value(length)?);
                let flags = if *keep_size { FallocateFlags::KEEP_SIZE } else { FallocateFlags::empty() };
                self.with(file, "fallocate", |file| {
                    rustix::fs::fallocate(file, flags, offset, length).map(|()| 0)
                })
            }
            Operation::Pwrite { file, offset, length, data } => {
                let (offset, length) = (value(offset)?, value(length)?);
                match self.site.file(file) {
                    Ok(file) => pwrite(&file, offset, &content(*data, length, seed)),
                    Err(errno) => Outcome::new("openat", Err(errno)),
                }
            }
            Operation::Fsync { file } => self.with(file, "fsync", |file| rustix::fs::fsync(file).map(|()| 0)),
            Operation::Syncfs {} => {
                Outcome::new("syncfs", self.site.at(|root| rustix::fs::syncfs(root).map(|()| 0)))
            }
            Operation::Truncate { file, size } => {
                let size = value(size)?;
                self.with(file, "ftruncate", |file| rustix::fs::ftruncate(file, size).map(|()| 0))
            }
            Operation::Unlink { file } => {
                self.site.close(file);
                let unlink = |root: &File| rustix::fs::unlinkat(root, file.as_str(), AtFlags::empty());
                Outcome::new("unlinkat", self.site.at(unlink).map(|()| 0))
            }
            Operation::ResizeDisk { size } => self.resize(Bytes(value(size)?))?,
            Operation::Await { gate, count } => self.wait_held(gate, *count)?,
            Operation::Release { gate } => self.release(gate)?,
        })
    }

    fn with(self, name: &str, syscall: &'static str, call: impl FnOnce(&File) -> io::Result<u64>) -> Outcome {
        match self.site.file(name) {
            Ok(file) => Outcome::new(syscall, call(&file)),
            Err(errno) => Outcome::new("openat", Err(errno)),
        }
    }

    fn resize(self, size: Bytes) -> Result<Outcome, Failure> {
        let result = match self.asks.ask(Ask::Resize { size })? {
            Ok(_) => self.device.update_size().map_err(|failure| failure.errno.unwrap_or(Errno::EIO)),
            Err(_) => Err(Errno::EIO),
        };
        let result = result.map(|size| size.0);
        Ok(Outcome { result, ..Outcome::new("ioctl", Ok(0)) })
    }

    fn wait_held(self, gate: &str, count: u64) -> Result<Outcome, Failure> {
        let done = Outcome::new("await", Ok(0));
        Ok(match self.word(Ask::Await { gate: gate.to_owned(), count })? {
            Answer::Held(held) => done.holding(held),
            _ => Outcome { given_up: true, ..done },
        })
    }

    fn release(self, gate: &str) -> Result<Outcome, Failure> {
        let done = Outcome::new("release", Ok(0));
        Ok(match self.word(Ask::Release { gate: gate.to_owned() })? {
            Answer::Released(held) => done.holding(held),
            _ => done,
        })
    }

    /// Asks the executor for what it can always do.
    fn word(self, ask: Ask) -> Result<Answer, Failure> {
        let what = format!("{ask:?}");
        self.asks.ask(ask)?.map_err(|why| Failure::new(what, why))
    }
}

impl Outcome {
    fn new(syscall: &'static str, result: io::Result<u64>) -> Self {
        let result = result.map_err(|errno| Errno(errno.raw_os_error()));
        Self { syscall, result, short: None, held: None, given_up: false }
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

/// Writes all of `buffer`, so that a lack of space shows as the error of the call that could write nothing.
fn pwrite(file: &File, offset: u64, buffer: &[u8]) -> Outcome {
    let mut written = 0_usize;
    let mut at = offset;
    loop {
        let result = rustix::io::pwrite(file, buffer.get(written..).unwrap_or_default(), at);
        let count = match result {
            Ok(count) => count,
            Err(io::Errno::INTR) => continue,
            Err(errno) => {
                let short = (written > 0).then(|| Bytes(at - offset));
                return Outcome { short, ..Outcome::new("pwrite64", Err(errno)) };
            }
        };
        written += count;
        at += u64::try_from(count).unwrap_or(u64::MAX);
        if written >= buffer.len() || count == 0 {
            return Outcome::new("pwrite64", Ok(at - offset));
        }
    }
}

fn content(content: Content, length: u64, seed: u64) -> Vec<u8> {
    let mut buffer = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    if content == Content::Random {
        Xoshiro256PlusPlus::seed_from_u64(seed).fill_bytes(&mut buffer);
    }
    buffer
}
