//! Operations that put content into files, or look at it.

use std::fs::File;

use brim_trial::Bytes;
use brim_trial::event::Problem;
use brim_trial::operation::Expect;
use rustix::io;

use super::{Outcome, Steps};
use crate::sys;
use crate::written::{self, Source};

impl Steps<'_> {
    pub(super) fn pwrite(self, name: &str, offset: u64, length: u64, source: Source) -> Outcome {
        let outcome = match self.site.file(name) {
            Ok(file) => pwrite(&file, offset, &source.bytes(length)),
            Err(errno) => Outcome::new("openat", Err(errno)),
        };
        let accepted = outcome.result.unwrap_or(outcome.short.map_or(0, |short| short.0));
        self.site.written().write(name, offset, accepted, source);
        outcome
    }

    /// Reads a range and compares it with what ought to be there.
    pub(super) fn pread(self, name: &str, offset: u64, length: u64, expect: Expect) -> Outcome {
        let file = match self.site.look(name) {
            Ok(file) => file,
            Err(io::Errno::NOENT) if expect == Expect::Synced && !self.site.written().is_synced(name) => {
                return Outcome::new("openat", Ok(0));
            }
            Err(errno) => return Outcome::new("openat", Err(errno)),
        };
        let read = match pread(&file, offset, length) {
            Ok(read) => read,
            Err(errno) => return Outcome::new("pread64", Err(errno)),
        };
        let expected = match expect {
            Expect::Written => self.site.written().expected(name, offset, length),
            Expect::Synced => self.site.written().expected_synced(name, offset, length, &read),
            Expect::Zeroes => vec![0; usize::try_from(length).unwrap_or(usize::MAX)],
        };
        let problem = written::compare(offset, &expected, &read).map(Problem::Lost);
        let count = u64::try_from(read.len()).unwrap_or(u64::MAX);
        Outcome { problem, ..Outcome::new("pread64", Ok(count)) }
    }

    pub(super) fn subvolume(self, path: &str) -> Outcome {
        match self.site.parent(path) {
            Ok((parent, name)) => {
                Outcome::new("ioctl", sys::btrfs::create_subvolume(&parent, name).map(|()| 0))
            }
            Err(errno) => Outcome::new("openat", Err(errno)),
        }
    }

    pub(super) fn snapshot(self, of: &str, to: &str, read_only: bool) -> Outcome {
        let opened = self.site.look(of).and_then(|of| self.site.parent(to).map(|to| (of, to)));
        let (subvolume, (parent, name)) = match opened {
            Ok(opened) => opened,
            Err(errno) => return Outcome::new("openat", Err(errno)),
        };
        // What was accepted before it begins has to be in it.
        self.site.written().snapshot(of, to);
        let made = sys::btrfs::create_snapshot(&parent, &subvolume, name, read_only);
        Outcome::new("ioctl", made.map(|()| 0))
    }

    pub(super) fn reflink(self, from: (&str, u64), length: u64, to: (&str, u64)) -> Outcome {
        let opened = self.site.file(from.0).and_then(|file| self.site.file(to.0).map(|to| (file, to)));
        let (source, target) = match opened {
            Ok(opened) => opened,
            Err(errno) => return Outcome::new("openat", Err(errno)),
        };
        let cloned = sys::btrfs::clone_range(&source, from.1, length, &target, to.1);
        if cloned.is_ok() {
            self.site.written().clone_range(from, length, to);
        }
        Outcome::new("ioctl", cloned.map(|()| 0))
    }
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

/// Reads a range, as far as the file goes.
fn pread(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(file, rest, offset + u64::try_from(read).unwrap_or(u64::MAX)) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(io::Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    buffer.truncate(read);
    Ok(buffer)
}
