//! Stores and loads through shared mappings.

use brim_trial::Bytes;
use brim_trial::event::Signal;
use brim_trial::operation::Expect;
use rustix::io;

use super::buffer::Buffer;
use super::{Outcome, Steps};
use crate::sys::{self, Mapping};
use crate::written::Source;

impl Steps<'_> {
    pub(super) fn mmap_write(self, name: &str, (offset, length): (u64, u64), source: Source) -> Outcome {
        let mut buffer = Buffer::new(length, false);
        source.fill(buffer.bytes_mut());
        let mapping = match self.site.mapping(name, offset, length) {
            Ok(mapping) => mapping,
            Err(failed) => return Outcome::new(failed.0, Err(failed.1)),
        };
        let from = sys::monotonic();
        let stored = mapping.store(offset, buffer.bytes());
        let outcome = Outcome::new("store", Ok(length)).timed(from);
        let Err(count) = stored else {
            self.site.written().write(name, offset, length, source);
            return outcome;
        };
        self.site.give_up_mapping(name);
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.site.written().write(name, offset, count, source);
        // Of the page that could not be had, some may have been stored before it was taken away.
        let page = sys::page_size();
        let end = (offset + count + 1).next_multiple_of(page).min(offset + length);
        self.site.written().unknown(name, offset + count, end - offset - count);
        Outcome { short: Some(Bytes(count)), signal: Some(Signal::Bus), ..outcome }
    }

    pub(super) fn mmap_read(self, name: &str, (offset, length): (u64, u64), expect: Expect) -> Outcome {
        let file = match self.site.look(name) {
            Ok(file) => file,
            Err(io::Errno::NOENT) if self.need_not_be_there(name, expect) => {
                return Outcome::new("openat", Ok(0));
            }
            Err(errno) => return Outcome::new("openat", Err(errno)),
        };
        let mapping = match Mapping::of(&file, offset, length, false) {
            Ok(mapping) => mapping,
            Err(errno) => return Outcome::new("mmap", Err(errno)),
        };
        let mut buffer = Buffer::new(length, false);
        let from = sys::monotonic();
        let loaded = mapping.load(offset, buffer.bytes_mut());
        let outcome = Outcome::new("load", Ok(length)).timed(from);
        match loaded {
            Ok(()) => {
                let problem = self.compare(name, (offset, length), expect, buffer.bytes());
                Outcome { problem, ..outcome }
            }
            Err(count) => {
                let short = Some(Bytes(u64::try_from(count).unwrap_or(u64::MAX)));
                Outcome { short, signal: Some(Signal::Bus), ..outcome }
            }
        }
    }

    pub(super) fn msync(self, name: &str, offset: u64, length: u64) -> Outcome {
        match self.site.mapping(name, offset, length) {
            Ok(mapping) => {
                let from = sys::monotonic();
                Outcome::new("msync", mapping.sync(offset, length).map(|()| 0)).timed(from)
            }
            Err(failed) => Outcome::new(failed.0, Err(failed.1)),
        }
    }
}
