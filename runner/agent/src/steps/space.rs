//! Operations on where a file lies, and on what it shares.

use brim_trial::Limits;
use brim_trial::event::{OtherExtents, Problem};
use brim_trial::operation::{ExtentCount, FallocateMode};
use rustix::fs::FallocateFlags;
use rustix::io;

use super::{Outcome, Steps};
use crate::sys;

// include/uapi/linux/falloc.h, v6.17.
const WRITE_ZEROES: u32 = 0x80;

/// A range of one file, and where it goes in another: offset, length, offset there.
pub(super) type Range = (u64, u64, u64);

impl Steps<'_> {
    pub(super) fn fallocate(
        self,
        name: &str,
        (offset, length): (u64, u64),
        mode: FallocateMode,
        keep_size: bool,
    ) -> Outcome {
        let mut flags = match mode {
            FallocateMode::Allocate => FallocateFlags::empty(),
            FallocateMode::PunchHole => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            FallocateMode::ZeroRange => FallocateFlags::ZERO_RANGE,
            FallocateMode::CollapseRange => FallocateFlags::COLLAPSE_RANGE,
            FallocateMode::InsertRange => FallocateFlags::INSERT_RANGE,
            FallocateMode::UnshareRange => FallocateFlags::UNSHARE_RANGE,
            FallocateMode::WriteZeroes => FallocateFlags::from_bits_retain(WRITE_ZEROES),
        };
        flags.set(FallocateFlags::KEEP_SIZE, flags.contains(FallocateFlags::KEEP_SIZE) || keep_size);
        let outcome = self.with(name, "fallocate", |file| rustix::fs::fallocate(file, flags, offset, length));
        if outcome.syscall == "openat" {
            return outcome;
        }
        let mut written = self.site.written();
        match (mode, outcome.result) {
            (FallocateMode::Allocate | FallocateMode::UnshareRange, _) => {}
            // A kernel or a filesystem that does not know the mode has done nothing.
            (_, Err(errno)) if [io::Errno::OPNOTSUPP, io::Errno::INVAL].map(raw).contains(&errno.0) => {}
            (FallocateMode::CollapseRange, Ok(_)) => written.collapse(name, offset, length),
            (FallocateMode::InsertRange, Ok(_)) => written.insert(name, offset, length),
            (_, Ok(_)) => written.zero(name, offset, length),
            (FallocateMode::CollapseRange | FallocateMode::InsertRange, Err(_)) => {
                written.unknown(name, offset, u64::MAX - offset);
            }
            (_, Err(_)) => written.unknown(name, offset, length),
        }
        drop(written);
        outcome
    }

    /// Has `to` share all of `from`, or a range.
    pub(super) fn reflink(self, from: &str, to: &str, range: Option<Range>) -> Outcome {
        let opened = self.site.source(from).and_then(|from| self.site.file(to).map(|to| (from, to)));
        let (source, target) = match opened {
            Ok(opened) => opened,
            Err(errno) => return Outcome::new("openat", Err(errno)),
        };
        let cloned = match range {
            None => rustix::fs::ioctl_ficlone(&**target, &**source),
            Some((offset, length, to_offset)) => {
                sys::btrfs::clone_range(&source, offset, length, &target, to_offset)
            }
        };
        match (cloned, range) {
            (Ok(()), None) => self.site.written().clone_file(from, to),
            (Ok(()), Some((offset, length, to_offset))) => {
                self.site.written().clone_range((from, offset), length, (to, to_offset));
            }
            (Err(_), _) => {}
        }
        Outcome::new("ioctl", cloned.map(|()| 0))
    }

    pub(super) fn dedupe(self, from: &str, to: &str, (offset, length, to_offset): Range) -> Outcome {
        let opened = self.site.source(from).and_then(|from| self.site.file(to).map(|to| (from, to)));
        let (source, target) = match opened {
            Ok(opened) => opened,
            Err(errno) => return Outcome::new("openat", Err(errno)),
        };
        match sys::btrfs::dedupe_range(&source, offset, length, &target, to_offset) {
            Ok(Some(deduped)) => Outcome::new("ioctl", Ok(deduped)),
            Ok(None) => Outcome { problem: Some(Problem::Differs), ..Outcome::new("ioctl", Ok(0)) },
            Err(errno) => Outcome::new("ioctl", Err(errno)),
        }
    }

    pub(super) fn extents(self, name: &str, expect: &[(ExtentCount, Limits)]) -> Outcome {
        let file = match self.site.look(name) {
            Ok(file) => file,
            Err(errno) => return Outcome::new("openat", Err(errno)),
        };
        let found = match sys::extents(&file) {
            Ok(found) => found,
            Err(errno) => return Outcome::new("ioctl", Err(errno)),
        };
        let other = |(what, wanted): &(ExtentCount, Limits)| {
            let other = OtherExtents { what: *what, wanted: *wanted, found: found.of(*what) };
            (!wanted.contain(other.found)).then_some(Problem::Extents(other))
        };
        let problem = expect.iter().find_map(other);
        Outcome { problem, extents: Some(found), ..Outcome::new("ioctl", Ok(found.count)) }
    }
}

fn raw(errno: io::Errno) -> i32 {
    errno.raw_os_error()
}
