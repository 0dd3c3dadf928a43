//! The content of one file, as ranges of what was written.

use std::collections::BTreeMap;

use brim_trial::Content;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// What a write wrote: all of it follows from these two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    pub(crate) content: Content,
    pub(crate) seed: u64,
}

/// How much of compressible content is drawn before it repeats.
const PATTERN: usize = 32;

impl Source {
    /// The first `length` bytes.
    pub(crate) fn bytes(&self, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.fill(&mut bytes);
        bytes
    }

    /// As many bytes from the first one on as there is room for.
    pub(crate) fn fill(&self, bytes: &mut [u8]) {
        let drawn = |bytes: &mut [u8]| Xoshiro256PlusPlus::seed_from_u64(self.seed).fill_bytes(bytes);
        match &self.content {
            Content::Zeroes => bytes.fill(0),
            Content::Random => drawn(bytes),
            Content::Compressible => {
                let mut pattern = [0; PATTERN];
                drawn(&mut pattern);
                repeat(&pattern, bytes);
            }
            Content::Text(text) => repeat(text.as_bytes(), bytes),
        }
    }
}

fn repeat(pattern: &[u8], bytes: &mut [u8]) {
    for (to, from) in bytes.iter_mut().zip(pattern.iter().cycle()) {
        *to = *from;
    }
}

/// A part of a write that nothing has been written over since.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Piece {
    length: u64,
    /// `None`: nobody knows what stands here.
    source: Option<Source>,
    /// Where in what the write wrote this begins.
    from: u64,
}

/// The pieces of one file by their offset. They do not overlap; what is between them is zeroes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Contents(BTreeMap<u64, Piece>);

impl Contents {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Has a range read as zeroes.
    pub(super) fn clear(&mut self, offset: u64, length: u64) {
        let end = offset.saturating_add(length);
        let ends = |at: u64, piece: &Piece| at.saturating_add(piece.length);
        // They do not overlap: but for the one before the range, all begin in it.
        let before = self.0.range(..offset).next_back().map(|(at, _)| *at);
        let inside = self.0.range(offset..end).map(|(at, _)| *at);
        for at in before.into_iter().chain(inside).collect::<Vec<_>>() {
            let Some(piece) = self.0.get(&at).filter(|piece| ends(at, piece) > offset).cloned() else {
                continue;
            };
            self.0.remove(&at);
            if ends(at, &piece) > end {
                let (cut, length) = (end - at, ends(at, &piece) - end);
                let from = piece.from.saturating_add(cut);
                self.0.insert(end, Piece { length, from, source: piece.source.clone() });
            }
            if at < offset {
                self.0.insert(at, Piece { length: offset - at, ..piece });
            }
        }
    }

    fn put(&mut self, offset: u64, piece: Piece) {
        self.clear(offset, piece.length);
        if piece.length > 0 {
            self.0.insert(offset, piece);
        }
    }

    /// The first `length` bytes of `source` were written.
    pub(super) fn write(&mut self, offset: u64, length: u64, source: Source) {
        self.put(offset, Piece { length, source: Some(source), from: 0 });
    }

    /// Nobody knows what stands in a range.
    pub(super) fn forget(&mut self, offset: u64, length: u64) {
        self.put(offset, Piece { length, source: None, from: 0 });
    }

    /// A range is gone, and what followed stands there.
    pub(super) fn collapse(&mut self, offset: u64, length: u64) {
        self.clear(offset, length);
        let end = offset.saturating_add(length);
        let moved = self.0.split_off(&end);
        self.0.extend(moved.into_iter().map(|(at, piece)| (at - length, piece)));
    }

    /// A hole is put in, and what stood there follows it.
    pub(super) fn insert(&mut self, offset: u64, length: u64) {
        // Splits the piece that the hole is in.
        let tail = self.cut(offset, u64::MAX - offset);
        self.clear(offset, u64::MAX - offset);
        self.0.extend(tail.0.into_iter().map(|(at, piece)| (at.saturating_add(length), piece)));
    }

    /// What stands in a range, at its place.
    pub(super) fn cut(&self, offset: u64, length: u64) -> Self {
        let end = offset.saturating_add(length);
        let before = self.0.range(..offset).next_back().into_iter();
        let overlapping = before.chain(self.0.range(offset..end)).map(|(at, piece)| (*at, piece.clone()));
        let mut wanted = Self(overlapping.collect());
        wanted.clear(0, offset);
        wanted.clear(end, u64::MAX - end);
        wanted
    }

    /// What `copied` has from `offset` on stands from `to_offset` on.
    pub(super) fn paste(&mut self, copied: Self, offset: u64, length: u64, to_offset: u64) {
        self.clear(to_offset, length);
        for (at, piece) in copied.0 {
            self.put(at - offset + to_offset, piece);
        }
    }

    /// What stands in a range; what is not known is as `read` has it, be it that it ends before.
    pub(super) fn bytes(&self, offset: u64, length: u64, read: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let mut needed = 0;
        let mut covered = offset;
        let index = |at: u64| usize::try_from(at - offset).unwrap_or(usize::MAX);
        for (at, piece) in self.cut(offset, length).0 {
            let end = at.saturating_add(piece.length);
            // Holes are zeroes, which have to be there.
            if at > covered || piece.source.is_some() {
                needed = if piece.source.is_some() { index(end) } else { index(at) };
            }
            covered = end;
            let Some(to) = bytes.get_mut(index(at)..index(end)) else { continue };
            match &piece.source {
                Some(source) => to.copy_from_slice(&piece.bytes(source)),
                None => to.iter_mut().zip(read.iter().skip(index(at))).for_each(|(to, from)| *to = *from),
            }
        }
        if covered < offset.saturating_add(length) {
            needed = bytes.len();
        }
        bytes.truncate(needed.max(read.len()));
        bytes
    }

    /// Puts what stands in a range over `bytes`, which are as many from `offset` on as somebody could read; where nothing is known
    /// to be, they stay.
    pub(super) fn lay_over(&self, offset: u64, length: u64, bytes: &mut Vec<u8>) {
        let index = |at: u64| usize::try_from(at - offset).unwrap_or(usize::MAX);
        for (at, piece) in self.cut(offset, length).0 {
            let Some(source) = &piece.source else { continue };
            let (from, until) = (index(at), index(at.saturating_add(piece.length)));
            if bytes.len() < until {
                bytes.resize(until, 0);
            }
            if let Some(to) = bytes.get_mut(from..until) {
                to.copy_from_slice(&piece.bytes(source));
            }
        }
    }
}

impl Piece {
    fn bytes(&self, source: &Source) -> Vec<u8> {
        let drawn = source.bytes(self.from + self.length);
        drawn.get(usize::try_from(self.from).unwrap_or(usize::MAX)..).unwrap_or_default().to_vec()
    }
}
