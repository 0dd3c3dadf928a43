//! The bytes of a log, entry by entry. Any bytes are an answer or an error, and the error says where.

use super::entry::{DISCARD, FLUSH, FUA, HEADER_LEN, MAGIC, MARK, METADATA, SUPERBLOCK_LEN, VERSION};
use super::{Entry, Flags, Mark, What};
use crate::{Bytes, SECTOR, Store};

/// The largest sector of a log: QEMU's. // block/blklogwrites.c, v10.0, `blk_log_writes_sector_size_valid`
const SECTOR_MAX: u32 = 1 << 23;

/// Why bytes are not a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Too little for a superblock.
    #[error("{len} are too short for a write log, which begins with {SUPERBLOCK_LEN} bytes of superblock")]
    TooShort {
        /// What there is.
        len: Bytes,
    },
    /// The first bytes are something else.
    #[error("not a write log: it begins with {found:#x}, a log with {MAGIC:#x}")]
    Magic {
        /// The first eight bytes.
        found: u64,
    },
    /// A version from the future.
    #[error("a write log of version {found}: only {VERSION} is known")]
    Version {
        /// At byte 8.
        found: u64,
    },
    /// The size of a sector makes no sense.
    #[error("a write log with sectors of {found} bytes: they are a power of 2 from 512 to {SECTOR_MAX}")]
    Sector {
        /// At byte 24.
        found: u32,
    },
    /// An entry is wrong.
    #[error("entry {entry} at byte {} of the log: {fault}", at.0)]
    Entry {
        /// Its number, from 0 on.
        entry: u64,
        /// Where its header is in the log.
        at: Bytes,
        /// What is wrong with it.
        fault: EntryFault,
    },
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryFault {
    /// The log ends in it.
    #[error("it ends at byte {}, but the log at byte {}", end.0, len.0)]
    Cut {
        /// The end of its header, or of its data.
        end: Bytes,
        /// Of the log.
        len: Bytes,
    },
    /// Flags that nobody has heard of, or that do not go together.
    #[error("the flags {flags:#x} mean nothing")]
    Flags {
        /// All of them.
        flags: u64,
    },
    /// Neither data, nor a flush, nor a mark: as a sector of zeroes is.
    #[error("it says nothing")]
    Empty,
    /// Data where a header has zeroes.
    #[error("its header is not followed by zeroes: this may be data")]
    Padding,
    /// More text than a sector has.
    #[error("a mark of {len} bytes: {most} fit")]
    Mark {
        /// As it says.
        len: u64,
        /// As fits.
        most: u64,
    },
    /// A mark of sectors.
    #[error("a mark that has {sectors} sectors of data")]
    MarkedSectors {
        /// As it says.
        sectors: u64,
    },
    /// No disk has these sectors.
    #[error("{sectors} sectors from sector {sector} on are past the largest disk")]
    Range {
        /// The first one.
        sector: u64,
        /// How many.
        sectors: u64,
    },
}

/// Reads a log front to back. It does no reading itself: it says where the next header is, and takes its bytes.
#[derive(Clone, Debug)]
pub struct Decoder {
    sector: Bytes,
    count: u64,
    /// Entries that were read.
    number: u64,
    at: Bytes,
    log_len: Bytes,
}

impl Decoder {
    /// How much of a log [`Decoder::new`] wants to see.
    pub const START_LEN: usize = SUPERBLOCK_LEN;

    /// For a log of `log_len` that begins with `start`.
    ///
    /// # Errors
    ///
    /// When it does not begin with a superblock that is known.
    pub fn new(start: &[u8], log_len: Bytes) -> Result<Self, LogError> {
        let too_short = || LogError::TooShort { len: log_len.min(Bytes::of_len(start.len())) };
        let (word, size) = (|at| word(start, at), start.get(24..SUPERBLOCK_LEN));
        let sizes = (word(0), word(8), word(16), size.and_then(|bytes| bytes.try_into().ok()));
        let (Some(magic), Some(version), Some(count), Some(sector)) = sizes else {
            return Err(too_short());
        };
        if magic != MAGIC {
            return Err(LogError::Magic { found: magic });
        }
        if version != VERSION {
            return Err(LogError::Version { found: version });
        }
        let found = u32::from_le_bytes(sector);
        let sector = Bytes(u64::from(found));
        if !found.is_power_of_two() || sector < SECTOR || found > SECTOR_MAX {
            return Err(LogError::Sector { found });
        }
        Ok(Self { sector, count, number: 0, at: sector, log_len })
    }

    /// Bytes of a sector of this log; headers are one, and all else is a multiple of it.
    #[must_use]
    pub const fn sector(&self) -> Bytes {
        self.sector
    }

    /// Entries of the log, as its superblock counts them. What lies behind them is not of the log.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The number of the next entry, from 0 on.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Where the header of the next entry is. The data of the entry that was read last ends here.
    #[must_use]
    pub const fn at(&self) -> Bytes {
        self.at
    }

    /// Whether all entries were read.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.number >= self.count
    }

    /// The next entry, of which `header` is the sector at [`Decoder::at`]. Its data is the next [`Entry::data_len`] bytes,
    /// which are there.
    ///
    /// # Errors
    ///
    /// When it is wrong, or the log ends in it; nothing moves then. What is behind a wrong entry cannot be found.
    pub fn entry(&mut self, header: &[u8]) -> Result<Entry, LogError> {
        let parsed = self.parse(header);
        let (entry, end) =
            parsed.map_err(|fault| LogError::Entry { entry: self.number, at: self.at, fault })?;
        self.number += 1;
        self.at = end;
        Ok(entry)
    }

    fn parse(&self, header: &[u8]) -> Result<(Entry, Bytes), EntryFault> {
        let data = self.inside(self.at, self.sector)?;
        let cut = EntryFault::Cut {
            end: data,
            len: self.at.checked_add(Bytes::of_len(header.len())).unwrap_or(data),
        };
        let header = self.sector.to_len().and_then(|len| header.get(..len)).ok_or(cut)?;
        let words = [0, 8, 16, 24].map(|at| word(header, at).unwrap_or_default());
        let [sector, sectors, flags, text_len] = words;
        let entry = self.meaning(sector, sectors, flags, text_len, header)?;
        let end = self.inside(data, entry.data_len())?;
        Ok((entry, end))
    }

    fn meaning(
        &self,
        sector: u64,
        sectors: u64,
        flags: u64,
        text_len: u64,
        header: &[u8],
    ) -> Result<Entry, EntryFault> {
        if flags & !(FLUSH | FUA | DISCARD | MARK | METADATA) != 0 || (flags & MARK != 0 && flags != MARK) {
            return Err(EntryFault::Flags { flags });
        }
        if flags == MARK {
            if sectors != 0 {
                return Err(EntryFault::MarkedSectors { sectors });
            }
            let most = self.sector.0 - Bytes::of_len(HEADER_LEN).0;
            let text = usize::try_from(text_len).ok().and_then(|len| header[HEADER_LEN..].get(..len));
            let text = text.ok_or(EntryFault::Mark { len: text_len, most })?;
            return Ok(Entry { what: What::Mark(Mark::of_bytes(text)), flags: Flags::NONE });
        }
        // The kernel has zeroes there, and replay-log looks at the first.
        // xfstests, src/log-writes/log-writes.c, `log_entry_valid`.
        if header[HEADER_LEN] != 0 {
            return Err(EntryFault::Padding);
        }
        let range = || Some((self.sector.checked_mul(sector)?, self.sector.checked_mul(sectors)?));
        let (offset, len) = range()
            .filter(|(offset, len)| offset.checked_add(*len).is_some_and(|end| end <= Store::SIZE_MAX))
            .ok_or(EntryFault::Range { sector, sectors })?;
        let what = if flags & DISCARD != 0 {
            What::Discard { offset, len }
        } else if sectors > 0 {
            What::Write { offset, len }
        } else if flags & FLUSH != 0 {
            What::Flush
        } else {
            return Err(EntryFault::Empty);
        };
        Ok(Entry { what, flags: Flags::from(flags) })
    }

    /// The end of `len` bytes of the log, which has them.
    fn inside(&self, at: Bytes, len: Bytes) -> Result<Bytes, EntryFault> {
        let end = Bytes(at.0.saturating_add(len.0));
        if end > self.log_len {
            return Err(EntryFault::Cut { end, len: self.log_len });
        }
        Ok(end)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

/// The entries of a log that is in memory.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    decoder: Decoder,
    /// An entry was wrong.
    broken: bool,
}

/// The entries of a log that is in memory, each with its data.
///
/// # Errors
///
/// When the log does not begin with a superblock that is known.
pub fn entries(bytes: &[u8]) -> Result<Entries<'_>, LogError> {
    let decoder = Decoder::new(bytes, Bytes::of_len(bytes.len()))?;
    Ok(Entries { bytes, decoder, broken: false })
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(Entry, &'a [u8]), LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken || self.decoder.is_done() {
            return None;
        }
        let from = |at: Bytes| at.to_len().and_then(|at| self.bytes.get(at..)).unwrap_or_default();
        let entry = self.decoder.entry(from(self.decoder.at()));
        self.broken = entry.is_err();
        Some(entry.map(|entry| {
            let end = self.decoder.at();
            let len = entry.data_len();
            let data = from(Bytes(end.0 - len.0));
            (entry, &data[..len.to_len().unwrap_or_default()])
        }))
    }
}
