//! An entry without its data, and the sector it is on disk.

use std::borrow::Cow;
use std::fmt;

use crate::{Bytes, SECTOR};

/// Of a superblock. // drivers/md/dm-log-writes.c, v6.1, `WRITE_LOG_MAGIC`
pub(super) const MAGIC: u64 = 0x6a_7366_7773_6872;
/// Of a superblock. // drivers/md/dm-log-writes.c, v6.1, `WRITE_LOG_VERSION`
pub(super) const VERSION: u64 = 1;
/// Bytes of a superblock that mean something. // drivers/md/dm-log-writes.c, v6.1, `struct log_write_super`
pub(super) const SUPERBLOCK_LEN: usize = 28;
/// Bytes of an entry's header before the text of a mark. // drivers/md/dm-log-writes.c, v6.1, `struct log_write_entry`
pub(super) const HEADER_LEN: usize = 32;
/// Bytes of a sector of the logs that are made here: no request of a disk is of less.
pub(super) const SECTOR_LEN: usize = 512;

// drivers/md/dm-log-writes.c, v6.1, `LOG_FLUSH_FLAG` and so on.
pub(super) const FLUSH: u64 = 1 << 0;
pub(super) const FUA: u64 = 1 << 1;
pub(super) const DISCARD: u64 = 1 << 2;
pub(super) const MARK: u64 = 1 << 3;
pub(super) const METADATA: u64 = 1 << 4;

/// What a change asked for beside itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// All that was done before is durable.
    pub flush: bool,
    /// The change itself is durable (force unit access).
    pub fua: bool,
    /// Whoever wrote calls it metadata. NBD has no word for it; the kernel's own logs have it.
    pub metadata: bool,
}

impl Flags {
    /// None of them.
    pub const NONE: Self = Self { flush: false, fua: false, metadata: false };
    /// Force unit access alone.
    pub const FUA: Self = Self { fua: true, ..Self::NONE };

    fn bits(self) -> u64 {
        [(self.flush, FLUSH), (self.fua, FUA), (self.metadata, METADATA)]
            .into_iter()
            .filter_map(|(is_set, bit)| is_set.then_some(bit))
            .sum()
    }

    /// The names of those that are set, as the kernel calls them but small.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [(self.flush, "flush"), (self.fua, "fua"), (self.metadata, "metadata")]
            .into_iter()
            .filter_map(|(is_set, name)| is_set.then_some(name))
    }
}

impl From<u64> for Flags {
    /// Of the bits on disk; other bits than these three are not looked at.
    fn from(bits: u64) -> Self {
        Self { flush: bits & FLUSH != 0, fua: bits & FUA != 0, metadata: bits & METADATA != 0 }
    }
}

/// Why a text cannot be a mark.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MarkError {
    /// It does not fit beside the header.
    #[error("a mark of {len} is longer than {}", Mark::LEN_MAX)]
    TooLong {
        /// Of the text.
        len: Bytes,
    },
    /// The tools compare marks as strings of C, which end at a zero.
    #[error("a mark has a zero byte at {index}")]
    Zero {
        /// Where in the text.
        index: usize,
    },
}

/// A name that a user gave to a moment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(Box<[u8]>);

impl Mark {
    /// The longest mark: what is left of a sector by the header, and one zero that the tools look for.
    // drivers/md/dm-log-writes.c, v6.1, `log_mark`; xfstests, src/log-writes/replay-log.c, `should_stop`.
    pub const LEN_MAX: Bytes = Bytes(SECTOR.0 - 32 - 1);

    /// A mark with this text.
    ///
    /// # Errors
    ///
    /// When the text is longer than [`Mark::LEN_MAX`], or has a zero byte.
    pub fn new(text: &str) -> Result<Self, MarkError> {
        let len = Bytes::of_len(text.len());
        if len > Self::LEN_MAX {
            return Err(MarkError::TooLong { len });
        }
        match text.bytes().position(|byte| byte == 0) {
            Some(index) => Err(MarkError::Zero { index }),
            None => Ok(Self(text.as_bytes().into())),
        }
    }

    /// What a log has as a mark, up to a zero. The sectors of other logs may be larger, and their marks longer.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self(bytes.split(|byte| *byte == 0).next().unwrap_or_default().into())
    }

    /// The text; what in it is not UTF-8 is shown as U+FFFD.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mark({:?})", self.text())
    }
}

/// What an entry says was done. Offsets and lengths are of whole sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Data was written; it follows the entry.
    Write {
        /// First byte on the disk.
        offset: Bytes,
        /// How much; not zero.
        len: Bytes,
    },
    /// A range was discarded; on brim's disks it reads as zeroes then.
    Discard {
        /// First byte on the disk.
        offset: Bytes,
        /// How much.
        len: Bytes,
    },
    /// What was done before was made durable, and nothing else.
    Flush,
    /// A user marked the moment.
    Mark(Mark),
}

/// An entry of a log, without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What was done.
    pub what: What,
    /// What was asked for beside it. A flush has that flag, a mark has none.
    pub flags: Flags,
}

impl Entry {
    /// How much data follows it in a log.
    #[must_use]
    pub const fn data_len(&self) -> Bytes {
        match self.what {
            What::Write { len, .. } => len,
            What::Discard { .. } | What::Flush | What::Mark(_) => Bytes::ZERO,
        }
    }

    /// The first byte behind what it changes on the disk; zero if it changes nothing.
    #[must_use]
    pub const fn end(&self) -> Bytes {
        match self.what {
            // A sum past 64 bits is past the end of any disk, as this is.
            What::Write { offset, len } | What::Discard { offset, len } => {
                Bytes(offset.0.saturating_add(len.0))
            }
            What::Flush | What::Mark(_) => Bytes::ZERO,
        }
    }

    /// The sector that it is in a log with sectors of 512 bytes. A longer mark, from a log with larger sectors, is cut to
    /// [`Mark::LEN_MAX`], as the kernel cuts those that it is given.
    ///
    /// # Panics
    ///
    /// When the range is not of whole sectors.
    #[must_use]
    pub fn encode(&self) -> [u8; SECTOR_LEN] {
        let nothing = (Bytes::ZERO, Bytes::ZERO);
        let no_text: &[u8] = &[];
        let ((offset, len), bits, text) = match &self.what {
            What::Write { offset, len } => ((*offset, *len), 0, no_text),
            What::Discard { offset, len } => ((*offset, *len), DISCARD, no_text),
            What::Flush => (nothing, FLUSH, no_text),
            What::Mark(Mark(text)) => (nothing, MARK, &text[..text.len().min(SECTOR_LEN - HEADER_LEN - 1)]),
        };
        assert!(
            offset.is_multiple_of(SECTOR) && len.is_multiple_of(SECTOR),
            "{len} at {offset} in a log of sectors"
        );
        // What `MARK` goes with is nothing: replay-log takes the text for damage otherwise.
        let bits = if bits == MARK { MARK } else { bits | self.flags.bits() };
        // Only a mark has a length there. // drivers/md/dm-log-writes.c, v6.1, `log_writes_map`
        let words = [offset.0 / SECTOR.0, len.0 / SECTOR.0, bits, Bytes::of_len(text.len()).0];
        let mut sector = [0; SECTOR_LEN];
        for (place, word) in sector.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        sector[HEADER_LEN..][..text.len()].copy_from_slice(text);
        sector
    }
}

/// The first sector of a log with so many entries and with sectors of 512 bytes.
#[must_use]
pub fn superblock(count: u64) -> [u8; SECTOR_LEN] {
    let mut sector = [0; SECTOR_LEN];
    for (place, word) in sector.chunks_exact_mut(8).zip([MAGIC, VERSION, count, SECTOR.0]) {
        // The size of a sector has 32 bits; the next four bytes are padding, and zero as its upper half is.
        place.copy_from_slice(&word.to_le_bytes());
    }
    sector
}
