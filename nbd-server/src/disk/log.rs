//! The write log of a disk: everything that changes it, in the order in which it was done.

use std::io;
use std::ops::ControlFlow;

use brim_device::fault::{Op, Request};
use brim_device::log::{Flags, Mark, Position, Record, ReplayError, WriteLog};
use brim_device::{AccessError, Bytes, Store};

use super::{Disk, Incoming, State};
use crate::LogFile;
use crate::lock;

/// A log that is being kept.
#[derive(Debug)]
pub(super) enum Log {
    /// In memory.
    Memory {
        /// The disk before the first entry.
        base: Store,
        entries: WriteLog,
    },
    /// In a file alone: it may go on for days.
    File(LogFile),
    /// In a file that could not be written.
    Failed(io::Error),
}

impl Log {
    fn push(&mut self, record: Record) {
        match self {
            Self::Memory { entries, .. } => entries.push(record),
            Self::File(file) => {
                if let Err(error) = file.append(record) {
                    *self = Self::Failed(error);
                }
            }
            Self::Failed(_) => {}
        }
    }
}

impl Disk {
    /// Keeps a log in memory of all that changes the disk from here on, instead of one that was kept before. Whole blocks are
    /// shared with the disk.
    pub fn start_log(&self) {
        let mut state = lock(&self.shared.state);
        let base = state.images.cached().fork();
        state.log = Some(Log::Memory { base, entries: WriteLog::new() });
    }

    /// As [`Disk::start_log`], but in a file alone. A disk that is changed faster than the file can be written waits for it.
    pub fn start_log_to(&self, file: LogFile) {
        lock(&self.shared.state).log = Some(Log::File(file));
    }

    /// As [`Disk::start_log_to`], with a file whose log makes a disk with the content of `before`: how this disk differs from that is
    /// logged first.
    pub fn continue_log(&self, file: LogFile, before: &Store) {
        let mut state = lock(&self.shared.state);
        state.log = Some(Log::File(file));
        state.log_difference(before);
    }

    /// Takes the log's file away, for another disk to continue; `None` where there is none.
    ///
    /// # Errors
    ///
    /// When the file could not be written. What is in it can be read up to some entry.
    pub fn hand_log_on(&self) -> io::Result<Option<LogFile>> {
        match lock(&self.shared.state).log.take() {
            Some(Log::File(file)) => Ok(Some(file)),
            Some(Log::Failed(error)) => Err(error),
            _ => Ok(None),
        }
    }

    /// Ends the log, and waits until its file is written where it has one. The log, where it was in memory.
    ///
    /// # Errors
    ///
    /// When the file could not be written. What is in it can be read up to some entry.
    pub fn stop_log(&self) -> io::Result<Option<WriteLog>> {
        let log = lock(&self.shared.state).log.take();
        match log {
            None => Ok(None),
            Some(Log::Memory { entries, .. }) => Ok(Some(entries)),
            Some(Log::File(file)) => file.finish().map(|()| None),
            Some(Log::Failed(error)) => Err(error),
        }
    }

    /// The log of this moment; `None` where there is none in memory.
    #[must_use]
    pub fn log(&self) -> Option<WriteLog> {
        match &lock(&self.shared.state).log {
            Some(Log::Memory { entries, .. }) => Some(entries.fork()),
            _ => None,
        }
    }

    /// Puts a mark into the log; false where there is none.
    #[must_use = "a mark without a log is nowhere"]
    pub fn mark(&self, mark: Mark) -> bool {
        lock(&self.shared.state).log.as_mut().map(|log| log.push(Record::mark(mark))).is_some()
    }

    /// Another disk as this one was at a position of its log, all of which is durable; `None` where there is no log in memory.
    ///
    /// # Errors
    ///
    /// When the log has no such position.
    pub fn fork_at(&self, position: &Position) -> Result<Option<Self>, ReplayError> {
        let state = lock(&self.shared.state);
        let Some(Log::Memory { base, entries }) = &state.log else {
            return Ok(None);
        };
        let (mut store, entries) = (base.fork(), entries.fork());
        drop(state);
        entries.replay(&mut store, position)?;
        Ok(Some(Self::from_store(store)))
    }
}

impl State {
    /// Logs what has changed, as [`super::execute::done_as`] has it.
    pub(super) fn log_done(&mut self, done: &Incoming<'_>) {
        let Some(log) = &mut self.log else {
            return;
        };
        let Request { op, offset, len, .. } = done.request;
        let flags = Flags { fua: done.how.fua, ..Flags::NONE };
        let store = self.images.cached();
        let records = match op {
            Op::Read => return,
            Op::Flush => Ok(vec![Record::flush()]),
            Op::Write => Record::written(store, offset, len, flags),
            Op::Zeroes => Record::zeroed(store, offset, len, flags),
            Op::Trim => Record::discarded(store, offset, len, flags),
        };
        // What ends past the disk was refused, and changed nothing.
        records.into_iter().flatten().for_each(|record| log.push(record));
    }

    /// Logs how the disk differs from what it was: no request has done that.
    pub(super) fn log_difference(&mut self, before: &Store) {
        let Some(log) = &mut self.log else {
            return;
        };
        let after = self.images.cached();
        // What differs, as ranges within both.
        let common = before.size().min(after.size());
        for record in differences(after, before, common).into_iter().flatten() {
            log.push(record);
        }
        if after.size() > common {
            for record in tail(after, common).into_iter().flatten() {
                log.push(record);
            }
        }
        if before.size() > common {
            // The log knows no sizes: what is cut off is discarded.
            let cut = Record::discarded(before, common, Bytes(before.size().0 - common.0), Flags::NONE);
            cut.into_iter().flatten().for_each(|record| log.push(record));
        }
    }
}

/// What is allocated from `start` on, which no log knows of.
fn tail(after: &Store, start: Bytes) -> Result<Vec<Record>, AccessError> {
    let (mut at, mut records) = (start, Ok(Vec::new()));
    after.extents(start, Bytes(after.size().0 - start.0), |allocated, len| {
        if allocated && let Ok(all) = &mut records {
            match Record::written(after, at, len, Flags::NONE) {
                Ok(more) => all.extend(more),
                Err(error) => records = Err(error),
            }
        }
        at = Bytes(at.0 + len.0);
        ControlFlow::Continue(())
    })?;
    records
}

fn differences(after: &Store, before: &Store, common: Bytes) -> Result<Vec<Record>, AccessError> {
    let (mut after, mut before) = (after.fork(), before.fork());
    // Both have the common size, which is one that a disk has already.
    let _same = (after.resize(common), before.resize(common));
    let (mut at, mut ranges) = (Bytes::ZERO, Vec::new());
    after.extents_against(&before, Bytes::ZERO, common, |_, differs, len| {
        if differs {
            ranges.push((at, len));
        }
        at = Bytes(at.0 + len.0);
        ControlFlow::Continue(())
    })?;
    let records = ranges.into_iter().map(|(offset, len)| Record::written(&after, offset, len, Flags::NONE));
    records.collect::<Result<Vec<_>, _>>().map(|records| records.into_iter().flatten().collect())
}
