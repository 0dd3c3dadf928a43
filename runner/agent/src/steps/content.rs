//! Operations that put content into files, or look at it.

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;

use brim_trial::Bytes;
use brim_trial::event::Problem;
use brim_trial::operation::{Expect, How, Short};
use rustix::fs::OFlags;
use rustix::io::{self, ReadWriteFlags};

use super::buffer::Buffer;
use super::{Outcome, Steps};
use crate::site::Handle;
use crate::sys;
use crate::written::{self, Source};

/// A write, but for what is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) how: How,
    pub(super) short: Short,
}

impl Steps<'_> {
    pub(super) fn pwrite(self, name: &str, write: Write, source: Source) -> Outcome {
        let opened = if write.how.direct { self.site.direct(name) } else { self.site.file(name) };
        let handle = match opened {
            Ok(handle) => handle,
            Err(errno) => return Outcome::new("openat", Err(errno)),
        };
        let mut buffer = Buffer::new(write.length, write.how.direct || handle.is_direct());
        source.fill(buffer.bytes_mut());
        let from = sys::monotonic();
        let outcome = pwrite(&handle, write, buffer.bytes());
        let outcome = outcome.timed(from);
        let accepted = outcome.result.unwrap_or(outcome.short.map_or(0, |short| short.0));
        let offset = if handle.appends() { appended(&handle, accepted) } else { write.offset };
        self.site.written().write(name, offset, accepted, source);
        let buffered = !write.how.direct && !write.how.dsync && !handle.is_direct();
        if outcome.result.is_err() && !buffered {
            // Direct I/O that failed may have written some of it, and a write that was to be durable may be in the page cache.
            self.site.written().unknown(name, offset + accepted, write.length - accepted);
        }
        outcome
    }

    /// Reads a range and compares it with what ought to be there.
    pub(super) fn pread(self, name: &str, (offset, length): (u64, u64), how: How, expect: Expect) -> Outcome {
        let flags = if how.direct { OFlags::DIRECT } else { OFlags::empty() };
        let file = match self.site.look_with(name, flags) {
            Ok(file) => file,
            Err(io::Errno::NOENT) if self.need_not_be_there(name, expect) => {
                return Outcome::new("openat", Ok(0));
            }
            Err(errno) => return Outcome::new("openat", Err(errno)),
        };
        let mut buffer = Buffer::new(length, how.direct);
        let from = sys::monotonic();
        let (syscall, read) = pread(&file, offset, how, buffer.bytes_mut());
        let outcome = match read {
            Ok(count) => {
                let read = buffer.bytes().get(..count).unwrap_or_default();
                let problem = self.compare(name, (offset, length), expect, read);
                Outcome { problem, ..Outcome::new(syscall, Ok(u64::try_from(count).unwrap_or(u64::MAX))) }
            }
            Err(errno) => Outcome::new(syscall, Err(errno)),
        };
        outcome.timed(from)
    }

    /// Whether a file may be absent because nothing of it is durable.
    pub(super) fn need_not_be_there(self, name: &str, expect: Expect) -> bool {
        expect == Expect::Synced && !self.site.written().is_synced(name)
    }

    /// How `read` differs from what ought to be there.
    pub(super) fn compare(
        self,
        name: &str,
        (offset, length): (u64, u64),
        expect: Expect,
        read: &[u8],
    ) -> Option<Problem> {
        let expected = match expect {
            Expect::Written => self.site.written().expected(name, offset, length, read),
            Expect::Synced => self.site.written().expected_synced(name, offset, length, read),
            Expect::Zeroes => vec![0; usize::try_from(length).unwrap_or(usize::MAX)],
        };
        written::compare(offset, &expected, read).map(Problem::Lost)
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
}

/// Where the last write to a file that appends stands, if nobody else has appended since.
fn appended(handle: &Arc<Handle>, count: u64) -> u64 {
    let size = rustix::fs::fstat(&***handle).ok().and_then(|stat| u64::try_from(stat.st_size).ok());
    size.unwrap_or(0).saturating_sub(count)
}

/// Writes all of `buffer`, so that a lack of space shows as the error of the call that could write nothing; or makes one call, if
/// a short write is the end of it.
fn pwrite(handle: &Handle, write: Write, buffer: &[u8]) -> Outcome {
    let mut flags = ReadWriteFlags::empty();
    flags.set(ReadWriteFlags::DSYNC, write.how.dsync);
    flags.set(ReadWriteFlags::NOWAIT, write.how.nowait);
    let syscall = if flags.is_empty() { "pwrite64" } else { "pwritev2" };
    let mut written = 0_usize;
    let mut at = write.offset;
    loop {
        let rest = buffer.get(written..).unwrap_or_default();
        let result = match flags {
            none if none.is_empty() => io::pwrite(&**handle, rest, at),
            flags => io::pwritev2(&**handle, &[IoSlice::new(rest)], at, flags),
        };
        let count = match result {
            Ok(count) => count,
            Err(io::Errno::INTR) => continue,
            Err(errno) => {
                let short = (written > 0).then(|| Bytes(at - write.offset));
                return Outcome { short, ..Outcome::new(syscall, Err(errno)) };
            }
        };
        written += count;
        at += u64::try_from(count).unwrap_or(u64::MAX);
        let done = Outcome::new(syscall, Ok(at - write.offset));
        if written >= buffer.len() {
            return done;
        }
        if count == 0 || write.short == Short::Stop {
            return Outcome { short: Some(Bytes(at - write.offset)), ..done };
        }
    }
}

/// Reads a range, as far as the file goes.
fn pread(
    file: &std::fs::File,
    offset: u64,
    how: How,
    buffer: &mut [u8],
) -> (&'static str, io::Result<usize>) {
    let syscall = if how.nowait { "preadv2" } else { "pread64" };
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        let at = offset + u64::try_from(read).unwrap_or(u64::MAX);
        let result = if how.nowait {
            io::preadv2(file, &mut [IoSliceMut::new(rest)], at, ReadWriteFlags::NOWAIT)
        } else {
            io::pread(file, rest, at)
        };
        match result {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(io::Errno::INTR) => {}
            Err(errno) => return (syscall, Err(errno)),
        }
    }
    (syscall, Ok(read))
}
