//! Which call an operation on a file is.

use std::fs::File;

use brim_trial::operation::{Shared, Target};
use brim_trial::{Content, FileOperation};
use rustix::fs::IFlags;
use rustix::io;

use super::content::Write;
use super::{Outcome, Steps, Turn};
use crate::Failure;
use crate::sys;
use crate::written::Source;

impl Steps<'_> {
    pub(super) fn on_a_file(self, operation: &FileOperation, turn: Turn) -> Result<Outcome, Failure> {
        let name = operation.file().at(turn.round);
        let name = name.as_ref();
        let from = operation.from().map(|from| from.at(turn.round)).unwrap_or_default();
        let from = from.as_ref();
        Ok(match operation {
            FileOperation::Fsync { .. } => self.sync(name, "fsync", |file| rustix::fs::fsync(file)),
            FileOperation::Fdatasync { .. } => {
                self.sync(name, "fdatasync", |file| rustix::fs::fdatasync(file))
            }
            FileOperation::Open { flags, .. } => self.open(name, flags),
            FileOperation::Close { .. } => self.close_file(name),
            FileOperation::Tmpfile { .. } => self.tmpfile(name),
            FileOperation::Creat { .. } => self.creat(name),
            FileOperation::Mkdir { .. } => self.mkdir(name),
            FileOperation::Rmdir { .. } => self.rmdir(name),
            FileOperation::Unlink { keep_open, .. } => self.unlink(name, *keep_open),
            FileOperation::Rename { how, .. } => self.rename(from, name, *how),
            FileOperation::Link { .. } => self.link(from, name),
            FileOperation::Symlink { target, .. } => match target {
                Target::Path(target) => self.symlink(name, &target.at(turn.round)),
                Target::Length(length) => self.symlink(name, &"x".repeat(index(turn.value(length)?))),
            },
            FileOperation::Setxattr { name: attribute, length, .. } => {
                let value = Source { content: Content::Random, seed: turn.seed }.bytes(turn.value(length)?);
                self.setxattr(name, &attribute.at(turn.round), &value)
            }
            FileOperation::Removexattr { name: attribute, .. } => {
                self.removexattr(name, &attribute.at(turn.round))
            }
            FileOperation::Chmod { mode, .. } => self.chmod(name, *mode),
            FileOperation::Nocow { .. } => self.with(name, "ioctl", |file| {
                rustix::fs::ioctl_getflags(file)
                    .and_then(|flags| rustix::fs::ioctl_setflags(file, flags | IFlags::NOCOW))
            }),
            FileOperation::Reflink { range, .. } => {
                let range = range.as_ref().map(|range| shared(range, turn)).transpose()?;
                self.reflink(from, name, range)
            }
            FileOperation::Dedupe { range, .. } => self.dedupe(from, name, shared(range, turn)?),
            FileOperation::Extents { expect, .. } => self.extents(name, expect),
            FileOperation::Mkswap { .. } => self.mkswap(name),
            FileOperation::Swapon { .. } => return self.swapon(name),
            FileOperation::Swapoff { .. } => return self.swapoff(name),
            FileOperation::Truncate { size, .. } => self.truncate(name, turn.value(size)?),
            FileOperation::Fallocate { offset, length, .. }
            | FileOperation::Pwrite { offset, length, .. }
            | FileOperation::Pread { offset, length, .. }
            | FileOperation::MmapWrite { offset, length, .. }
            | FileOperation::MmapRead { offset, length, .. }
            | FileOperation::Msync { offset, length, .. }
            | FileOperation::SyncFileRange { offset, length, .. } => {
                let range = (turn.value(offset)?, turn.value(length)?);
                self.on_a_range(operation, name, range, turn)
            }
        })
    }

    fn on_a_range(self, operation: &FileOperation, name: &str, range: (u64, u64), turn: Turn) -> Outcome {
        let (offset, length) = range;
        let source = |data: &Content| Source { content: data.clone(), seed: turn.seed };
        match operation {
            FileOperation::Fallocate { mode, keep_size, .. } => {
                self.fallocate(name, range, *mode, *keep_size)
            }
            FileOperation::Pwrite { data, how, short, .. } => {
                self.pwrite(name, Write { offset, length, how: *how, short: *short }, source(data))
            }
            FileOperation::Pread { expect, how, .. } => self.pread(name, range, *how, *expect),
            FileOperation::MmapWrite { data, .. } => self.mmap_write(name, range, source(data)),
            FileOperation::MmapRead { expect, .. } => self.mmap_read(name, range, *expect),
            FileOperation::Msync { .. } => self.msync(name, offset, length),
            _ => self.with(name, "sync_file_range", |file| sys::sync_file_range(file, offset, length)),
        }
    }

    fn truncate(self, name: &str, size: u64) -> Outcome {
        let outcome = self.with(name, "ftruncate", |file| rustix::fs::ftruncate(file, size));
        if outcome.result.is_ok() {
            self.site.written().truncate(name, size);
        }
        outcome
    }

    fn sync(self, name: &str, syscall: &'static str, call: impl FnOnce(&File) -> io::Result<()>) -> Outcome {
        let outcome = match self.site.file_or_directory(name) {
            Ok(file) => Outcome::new(syscall, call(&file).map(|()| 0)),
            Err(errno) => Outcome::new("openat", Err(errno)),
        };
        if outcome.result.is_ok() {
            self.site.written().synced(name);
        }
        outcome
    }

    pub(super) fn with(
        self,
        name: &str,
        syscall: &'static str,
        call: impl FnOnce(&File) -> io::Result<()>,
    ) -> Outcome {
        match self.site.file(name) {
            Ok(file) => Outcome::new(syscall, call(&file).map(|()| 0)),
            Err(errno) => Outcome::new("openat", Err(errno)),
        }
    }
}

fn shared(range: &Shared, turn: Turn) -> Result<super::space::Range, Failure> {
    Ok((turn.value(&range.offset)?, turn.value(&range.length)?, turn.value(&range.to_offset)?))
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
