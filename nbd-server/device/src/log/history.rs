//! A log in memory, which can be replayed.

use std::convert::Infallible;
use std::str::FromStr;
use std::sync::Arc;

use super::{LogError, Mark, MarkError, Record, Stretch, What, entries, superblock};
use crate::{AccessError, Bytes, Store};

/// Records of one part of a log. A fork copies a pointer for each part, and at its next record the last part.
const PART_LEN: usize = 1024;

/// A moment of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// After the last entry.
    End,
    /// After the entry of this number, which is counted from 0.
    Entry(u64),
    /// After the first entry with this mark.
    Mark(Mark),
}

impl FromStr for Position {
    type Err = MarkError;

    /// Digits are an entry, and all else is a mark, which also may be written with `mark:` before it.
    fn from_str(text: &str) -> Result<Self, MarkError> {
        if let Some(mark) = text.strip_prefix("mark:") {
            return Mark::new(mark).map(Self::Mark);
        }
        match text.parse() {
            Ok(entry) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Self::Entry(entry)),
            _ => Mark::new(text).map(Self::Mark),
        }
    }
}

/// Why a log is not replayed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The log is shorter.
    #[error("the log has no entry {entry}: it has {count}, counted from 0")]
    NoEntry {
        /// As asked for.
        entry: u64,
        /// What there is.
        count: u64,
    },
    /// No entry has the mark.
    #[error("the log has no mark {:?}", mark.text())]
    NoMark {
        /// As asked for.
        mark: Mark,
    },
    /// The disk is too small for an entry.
    #[error("entry {entry} cannot be replayed")]
    Access {
        /// Which one.
        entry: u64,
        /// Why not.
        source: AccessError,
    },
}

/// The changes of a disk, in the order in which they were done.
#[derive(Clone, Debug, Default)]
pub struct WriteLog {
    /// All but the last are of [`PART_LEN`].
    parts: Vec<Arc<Vec<Record>>>,
}

impl WriteLog {
    /// Without an entry.
    #[must_use]
    pub const fn new() -> Self {
        Self { parts: Vec::new() }
    }

    /// Reads a log that is in memory. The data is copied.
    ///
    /// # Errors
    ///
    /// When the bytes are not a log.
    pub fn decode(bytes: &[u8]) -> Result<Self, LogError> {
        let mut log = Self::new();
        for entry in entries(bytes)? {
            let (entry, data) = entry?;
            log.push(Record::with_data(entry, data));
        }
        Ok(log)
    }

    /// Hands out the bytes of the log, superblock first.
    pub fn encode(&self, mut write: impl FnMut(Stretch<'_>)) {
        let mut write = |stretch: Stretch<'_>| {
            write(stretch);
            Ok::<(), Infallible>(())
        };
        let Ok(()) = write(Stretch::Bytes(&superblock(self.len())));
        for record in self.iter() {
            let Ok(()) = record.encode(&mut write);
        }
    }

    /// Adds an entry.
    pub fn push(&mut self, record: Record) {
        match self.parts.last_mut() {
            Some(part) if part.len() < PART_LEN => Arc::make_mut(part).push(record),
            _ => self.parts.push(Arc::new(vec![record])),
        }
    }

    /// Adds a mark.
    pub fn mark(&mut self, mark: Mark) {
        self.push(Record::mark(mark));
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> u64 {
        let last = self.parts.last().map_or(0, |part| part.len());
        Bytes::of_len(self.parts.len().saturating_sub(1) * PART_LEN + last).0
    }

    /// Whether it has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The entry of this number, which is counted from 0.
    #[must_use]
    pub fn get(&self, entry: u64) -> Option<&Record> {
        let entry = usize::try_from(entry).ok()?;
        self.parts.get(entry / PART_LEN)?.get(entry % PART_LEN)
    }

    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.parts.iter().flat_map(|part| part.iter())
    }

    /// A second log with the same entries, which shares them.
    #[must_use]
    pub fn fork(&self) -> Self {
        self.clone()
    }

    /// How many entries there are up to a position.
    ///
    /// # Errors
    ///
    /// When the log has no such entry or mark.
    pub fn count_to(&self, to: &Position) -> Result<u64, ReplayError> {
        let count = self.len();
        match to {
            Position::End => Ok(count),
            Position::Entry(entry) if *entry < count => Ok(entry + 1),
            Position::Entry(entry) => Err(ReplayError::NoEntry { entry: *entry, count }),
            Position::Mark(mark) => {
                let is_it =
                    |record: &Record| matches!(&record.entry().what, What::Mark(this) if this == mark);
                let index = self.iter().position(is_it);
                index
                    .map(|index| Bytes::of_len(index).0 + 1)
                    .ok_or_else(|| ReplayError::NoMark { mark: mark.clone() })
            }
        }
    }

    /// Does on a disk what was done up to a position, and answers how many entries that were. Onto what the first disk was
    /// when the log began, this gives what that disk was at the position, byte for byte.
    ///
    /// # Errors
    ///
    /// When the log has no such position; the disk is unchanged then. When the disk is too small for an entry, all before
    /// it are done.
    pub fn replay(&self, store: &mut Store, to: &Position) -> Result<u64, ReplayError> {
        let count = self.count_to(to)?;
        for (entry, record) in (0..count).zip(self.iter()) {
            record.apply(store).map_err(|source| ReplayError::Access { entry, source })?;
        }
        Ok(count)
    }
}
