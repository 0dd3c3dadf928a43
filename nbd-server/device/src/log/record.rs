//! What a change of a disk leaves in a log: an entry, and the data of it.

use std::sync::Arc;

use super::{Entry, Flags, Mark, What};
use crate::store::{AccessError, Page, Piece};
use crate::{BLOCK, Bytes, SECTOR, Store};

/// The longest entry. replay-log takes the whole of a write into memory, and where a device cannot discard it zeroes
/// nothing of a discard that is longer than this.
// xfstests, src/log-writes/log-writes.c, `log_replay_next_entry` and `zero_range`.
const ENTRY_MAX: Bytes = Bytes(128 << 20);

/// The longest zeroing that is logged as a write of zeroes.
const ZEROES_MAX: Bytes = Bytes(1 << 30);

/// The longest discard that is logged in entries of [`ENTRY_MAX`]; a longer one is one entry, for it would be thousands.
const DISCARD_MAX: Bytes = Bytes(1 << 40);

/// Data in memory, or that it is zeroes.
#[derive(Clone, Debug)]
enum Chunk {
    /// Shared with the disk while that leaves it as it was.
    Page(Page),
    Bytes(Box<[u8]>),
    Zeroes(Bytes),
}

/// A part of what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// So many zeroes, which need not be written one by one: a file can have a hole for them.
    Zeroes(Bytes),
}

impl Stretch<'_> {
    /// How long it is.
    #[must_use]
    pub fn len(&self) -> Bytes {
        match self {
            Self::Bytes(bytes) => Bytes::of_len(bytes.len()),
            Self::Zeroes(len) => *len,
        }
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == Bytes::ZERO
    }
}

/// The data of a record. A clone shares it.
#[derive(Clone, Debug)]
pub struct Data(Arc<[Chunk]>);

impl Data {
    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self(Arc::from([]))
    }

    fn zeroes(len: Bytes) -> Self {
        Self(Arc::from([Chunk::Zeroes(len)]))
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        Self(Arc::from([Chunk::Bytes(bytes.into())]))
    }

    /// What a disk holds there: whole pages without a copy.
    fn of_store(store: &Store, offset: Bytes, len: Bytes) -> Result<Self, AccessError> {
        let mut chunks: Vec<Chunk> = Vec::new();
        store.visit(offset, len, |piece| match (piece, chunks.last_mut()) {
            (Piece::Hole(more), Some(Chunk::Zeroes(len))) => len.0 += more.0,
            (Piece::Hole(len), _) => chunks.push(Chunk::Zeroes(len)),
            (Piece::Data(page, range), _) if range.len() == Page::LEN => {
                chunks.push(Chunk::Page(page.clone()));
            }
            (Piece::Data(page, range), _) => chunks.push(Chunk::Bytes(page[range].into())),
        })?;
        Ok(Self(chunks.into()))
    }

    /// It, part by part in order.
    pub fn stretches(&self) -> impl Iterator<Item = Stretch<'_>> {
        self.0.iter().map(|chunk| match chunk {
            Chunk::Page(page) => Stretch::Bytes(&page[..]),
            Chunk::Bytes(bytes) => Stretch::Bytes(bytes),
            Chunk::Zeroes(len) => Stretch::Zeroes(*len),
        })
    }

    /// The memory that it takes at most: pages that the disk still shares are counted in full, zeroes take none.
    #[must_use]
    pub fn memory(&self) -> Bytes {
        let lens = self.stretches().map(|stretch| match stretch {
            Stretch::Bytes(_) => stretch.len().0,
            Stretch::Zeroes(_) => 0,
        });
        Bytes(lens.sum())
    }
}

/// An entry with its data.
///
/// The functions that make records of changes look at the disk *after* the change, under the same lock: what is not of whole
/// sectors is widened to them with what the disk holds, since a log has nothing smaller. Mostly a change is one record.
#[derive(Clone, Debug)]
pub struct Record {
    entry: Entry,
    data: Data,
}

impl Record {
    /// A flush.
    #[must_use]
    pub fn flush() -> Self {
        let flags = Flags { flush: true, ..Flags::NONE };
        Self { entry: Entry { what: What::Flush, flags }, data: Data::none() }
    }

    /// A mark.
    #[must_use]
    pub fn mark(mark: Mark) -> Self {
        Self { entry: Entry { what: What::Mark(mark), flags: Flags::NONE }, data: Data::none() }
    }

    /// An entry with the data that a log has behind it.
    ///
    /// # Panics
    ///
    /// When there is less or more of it than the entry says.
    #[must_use]
    pub fn with_data(entry: Entry, data: &[u8]) -> Self {
        let len = Bytes::of_len(data.len());
        assert!(len == entry.data_len(), "{len} of data for {entry:?}");
        let data = if data.is_empty() { Data::none() } else { Data::of_bytes(data) };
        Self { entry, data }
    }

    /// What a write leaves that the disk has just done.
    ///
    /// # Errors
    ///
    /// When the range ends past the disk.
    pub fn written(store: &Store, offset: Bytes, len: Bytes, flags: Flags) -> Result<Vec<Self>, AccessError> {
        let end = checked_end(store, offset, len)?;
        let mut records = Vec::new();
        if len > Bytes::ZERO {
            // The disk is of whole sectors, and so the wider range is on it.
            let (first, last) = (round_down(offset), Bytes(end.0.next_multiple_of(SECTOR.0)));
            for (offset, len) in parts(first, last, ENTRY_MAX) {
                let data = Data::of_store(store, offset, len)?;
                let entry = Entry { what: What::Write { offset, len }, flags };
                records.push(Self { entry, data });
            }
        }
        Ok(flushing_once(records))
    }

    /// What a discard leaves that the disk has just done. It is one of whole sectors, and writes of what the disk holds in
    /// sectors that it only touches.
    ///
    /// # Errors
    ///
    /// When the range ends past the disk.
    pub fn discarded(
        store: &Store,
        offset: Bytes,
        len: Bytes,
        flags: Flags,
    ) -> Result<Vec<Self>, AccessError> {
        let part_max = if len > DISCARD_MAX { len } else { ENTRY_MAX };
        Self::cleared(store, offset, len, flags, |offset, end| {
            let discard = |(offset, len)| Self {
                entry: Entry { what: What::Discard { offset, len }, flags },
                data: Data::none(),
            };
            parts(offset, end, part_max).map(discard).collect()
        })
    }

    /// What a zeroing leaves that the disk has just done. There is no such entry: it is a write of zeroes, because what a
    /// device reads as after a discard is its own affair. Past 1 GiB it is a discard, which reads as zeroes wherever brim
    /// replays it, and in a file, but takes no space in the log.
    ///
    /// # Errors
    ///
    /// When the range ends past the disk.
    pub fn zeroed(store: &Store, offset: Bytes, len: Bytes, flags: Flags) -> Result<Vec<Self>, AccessError> {
        if len > ZEROES_MAX {
            return Self::discarded(store, offset, len, flags);
        }
        Self::cleared(store, offset, len, flags, |offset, end| {
            let write = |(offset, len)| Self {
                entry: Entry { what: What::Write { offset, len }, flags },
                data: Data::zeroes(len),
            };
            parts(offset, end, ENTRY_MAX).map(write).collect()
        })
    }

    /// `whole` for the sectors that lie in the range, and writes for those that it only touches.
    fn cleared(
        store: &Store,
        offset: Bytes,
        len: Bytes,
        flags: Flags,
        whole: impl FnOnce(Bytes, Bytes) -> Vec<Self>,
    ) -> Result<Vec<Self>, AccessError> {
        let end = checked_end(store, offset, len)?;
        let (first, last) = (Bytes(offset.0.next_multiple_of(SECTOR.0)), round_down(end));
        if first >= last {
            return Self::written(store, offset, len, flags);
        }
        let mut records = Self::written(store, offset, Bytes(first.0 - offset.0), flags)?;
        records.extend(whole(first, last));
        records.extend(Self::written(store, last, Bytes(end.0 - last.0), flags)?);
        Ok(flushing_once(records))
    }

    /// The entry.
    #[must_use]
    pub const fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The data of a write.
    #[must_use]
    pub const fn data(&self) -> &Data {
        &self.data
    }

    /// Hands out the bytes that it is in a log: its header, then its data. They are whole sectors.
    ///
    /// # Errors
    ///
    /// The first one of `write`, after which nothing more is handed out.
    pub fn encode<E>(&self, mut write: impl FnMut(Stretch<'_>) -> Result<(), E>) -> Result<(), E> {
        write(Stretch::Bytes(&self.entry.encode()))?;
        self.data.stretches().try_for_each(write)
    }

    /// Does on a disk what was done. A discard reads as zeroes.
    ///
    /// # Errors
    ///
    /// When the range ends past the disk; nothing is done then.
    pub fn apply(&self, store: &mut Store) -> Result<(), AccessError> {
        match self.entry.what {
            What::Write { offset, len } => {
                checked_end(store, offset, len)?;
                let mut at = offset;
                for chunk in self.data.0.iter() {
                    at.0 += apply_chunk(chunk, store, at)?.0;
                }
                Ok(())
            }
            What::Discard { offset, len } => store.trim(offset, len),
            What::Flush | What::Mark(_) => Ok(()),
        }
    }
}

/// Writes a chunk, and answers how long it is.
fn apply_chunk(chunk: &Chunk, store: &mut Store, at: Bytes) -> Result<Bytes, AccessError> {
    match chunk {
        Chunk::Page(page) if at.is_multiple_of(BLOCK) => {
            store.write_pages(at, BLOCK, std::slice::from_ref(page))?;
            Ok(BLOCK)
        }
        Chunk::Page(page) => store.write(at, &page[..]).map(|()| BLOCK),
        Chunk::Bytes(bytes) => store.write(at, bytes).map(|()| Bytes::of_len(bytes.len())),
        Chunk::Zeroes(len) => store.zero(at, *len).map(|()| *len),
    }
}

fn checked_end(store: &Store, offset: Bytes, len: Bytes) -> Result<Bytes, AccessError> {
    let size = store.size();
    let end = offset.checked_add(len).filter(|end| *end <= size);
    end.ok_or(AccessError::PastEnd { offset, len, size })
}

fn round_down(offset: Bytes) -> Bytes {
    Bytes(offset.0 - offset.0 % SECTOR.0)
}

/// The range in parts of at most `len_max`.
fn parts(offset: Bytes, end: Bytes, len_max: Bytes) -> impl Iterator<Item = (Bytes, Bytes)> {
    let mut at = offset;
    std::iter::from_fn(move || {
        let len = Bytes((end.0 - at.0).min(len_max.0));
        let part = (at, len);
        at.0 += len.0;
        (len > Bytes::ZERO).then_some(part)
    })
}

/// A flush comes before its change, and so before the first part of it only.
fn flushing_once(mut records: Vec<Record>) -> Vec<Record> {
    for record in records.iter_mut().skip(1) {
        record.entry.flags.flush = false;
    }
    records
}
