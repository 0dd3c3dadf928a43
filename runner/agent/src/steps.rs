//! One operation of a scenario as system calls.

use std::collections::BTreeMap;
use std::fs::File;

use brim_trial::expression::OutOfRange;
use brim_trial::operation::Range;
use brim_trial::{Bytes, Content, Errno, Operation};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io;

use crate::filesystem::Mounted;

/// How an operation ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The system call that ended it.
    pub(crate) syscall: &'static str,
    /// What that returned, or how it failed.
    pub(crate) result: Result<u64, Errno>,
    /// What earlier calls of the same operation had written.
    pub(crate) short: Option<Bytes>,
}

/// The files of a trial, which stay open from their first use on.
#[derive(Debug)]
pub(crate) struct Files<'a> {
    mounted: &'a Mounted,
    open: BTreeMap<String, File>,
}

impl<'a> Files<'a> {
    /// No file yet.
    pub(crate) fn at(mounted: &'a Mounted) -> Self {
        Self { mounted, open: BTreeMap::new() }
    }

    /// Runs one operation. `resize` gives the disk another size and says which it has then; `seed` settles what is written.
    pub(crate) fn run(
        &mut self,
        operation: &Operation,
        iteration: u64,
        seed: u64,
        resize: &mut dyn FnMut(Bytes) -> Result<Bytes, Errno>,
    ) -> Result<Outcome, OutOfRange> {
        Ok(match operation {
            Operation::Fallocate { file, offset, length, keep_size } => {
                let (offset, length) = (offset.value(iteration)?, length.value(iteration)?);
                let flags = if *keep_size { FallocateFlags::KEEP_SIZE } else { FallocateFlags::empty() };
                self.with(file, "fallocate", |file| {
                    rustix::fs::fallocate(file, flags, offset, length).map(|()| 0)
                })
            }
            Operation::Pwrite { file, offset, length, data } => {
                let (offset, length) = (offset.value(iteration)?, length.value(iteration)?);
                match self.file(file) {
                    Ok(file) => pwrite(file, offset, &content(*data, length, seed)),
                    Err(errno) => Outcome::new("openat", Err(errno)),
                }
            }
            Operation::Fsync { file } => self.with(file, "fsync", |file| rustix::fs::fsync(file).map(|()| 0)),
            Operation::Syncfs {} => {
                Outcome::new("syncfs", rustix::fs::syncfs(self.mounted.root()).map(|()| 0))
            }
            Operation::Truncate { file, size } => {
                let size = size.value(iteration)?;
                self.with(file, "ftruncate", |file| rustix::fs::ftruncate(file, size).map(|()| 0))
            }
            Operation::Unlink { file } => {
                self.open.remove(file);
                let unlinked = rustix::fs::unlinkat(self.mounted.root(), file.as_str(), AtFlags::empty());
                Outcome::new("unlinkat", unlinked.map(|()| 0))
            }
            Operation::ResizeDisk { size } => {
                let result = resize(Bytes(size.value(iteration)?)).map(|size| size.0);
                Outcome { syscall: "ioctl", result, short: None }
            }
        })
    }

    fn file(&mut self, name: &str) -> io::Result<&File> {
        if !self.open.contains_key(name) {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
            self.make_parents(name)?;
            let opened = rustix::fs::openat(self.mounted.root(), name, flags, Mode::from_raw_mode(0o644))?;
            self.open.insert(name.to_owned(), File::from(opened));
        }
        self.open.get(name).ok_or(io::Errno::BADF)
    }

    /// Makes the directories on the way to `name`.
    fn make_parents(&self, name: &str) -> io::Result<()> {
        for (end, _) in name.match_indices('/') {
            let parent = name.get(..end).unwrap_or_default();
            match rustix::fs::mkdirat(self.mounted.root(), parent, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(io::Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn with(
        &mut self,
        name: &str,
        syscall: &'static str,
        call: impl FnOnce(&File) -> io::Result<u64>,
    ) -> Outcome {
        match self.file(name) {
            Ok(file) => Outcome::new(syscall, call(file)),
            Err(errno) => Outcome::new("openat", Err(errno)),
        }
    }
}

impl Outcome {
    fn new(syscall: &'static str, result: io::Result<u64>) -> Self {
        Self { syscall, result: result.map_err(|errno| Errno(errno.raw_os_error())), short: None }
    }
}

/// The bytes an operation works on at `iteration`, where it works on a range.
pub(crate) fn range(operation: &Operation, iteration: u64) -> Result<Option<Range>, OutOfRange> {
    let Some((offset, length)) = operation.range() else { return Ok(None) };
    let (offset, length) = (Bytes(offset.value(iteration)?), Bytes(length.value(iteration)?));
    Ok(Some(Range { offset, length }))
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
