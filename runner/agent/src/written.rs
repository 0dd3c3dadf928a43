//! What the steps of a trial have written, so that a read can be told what it ought to find. The bytes themselves are not
//! kept: they are drawn again from their seeds.

use std::collections::BTreeMap;

use brim_trial::Bytes;
use brim_trial::Content;
use brim_trial::event::{Found, Lost};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// What a write wrote: all of it follows from these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    pub(crate) content: Content,
    pub(crate) seed: u64,
}

/// A part of a write that nothing has been written over since.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Piece {
    length: u64,
    source: Source,
    /// Where in what the write wrote this begins.
    from: u64,
}

/// The pieces of one file by their offset. They do not overlap; what is between them is zeroes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Contents(BTreeMap<u64, Piece>);

/// The contents of all files of a trial, by path.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Written {
    files: BTreeMap<String, Contents>,
    /// What of them was made durable and not written over since.
    synced: BTreeMap<String, Contents>,
}

impl Source {
    /// The first `length` bytes.
    pub(crate) fn bytes(self, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        if self.content == Content::Random {
            Xoshiro256PlusPlus::seed_from_u64(self.seed).fill_bytes(&mut bytes);
        }
        bytes
    }
}

impl Contents {
    /// Forgets what stands in a range.
    fn clear(&mut self, offset: u64, length: u64) {
        let end = offset.saturating_add(length);
        let overlapping = |(at, piece): (&u64, &Piece)| (at + piece.length > offset).then_some((*at, *piece));
        let pieces: Vec<(u64, Piece)> = self.0.range(..end).filter_map(overlapping).collect();
        for (at, piece) in pieces {
            self.0.remove(&at);
            if at < offset {
                self.0.insert(at, Piece { length: offset - at, ..piece });
            }
            if at + piece.length > end {
                let cut = end - at;
                self.0.insert(end, Piece { length: piece.length - cut, from: piece.from + cut, ..piece });
            }
        }
    }

    fn put(&mut self, offset: u64, piece: Piece) {
        self.clear(offset, piece.length);
        if piece.length > 0 {
            self.0.insert(offset, piece);
        }
    }

    /// What stands in a range.
    fn bytes(&self, offset: u64, length: u64) -> Vec<u8> {
        let mut wanted = Self(self.0.clone());
        wanted.clear(0, offset);
        wanted.clear(offset.saturating_add(length), u64::MAX);
        let mut bytes = Source { content: Content::Zeroes, seed: 0 }.bytes(length);
        for (at, Piece { length, source, from }) in wanted.0 {
            let drawn = source.bytes(from + length);
            let drawn = drawn.iter().skip(usize::try_from(from).unwrap_or(usize::MAX));
            let skipped = usize::try_from(at - offset).unwrap_or(usize::MAX);
            for (to, from) in bytes.iter_mut().skip(skipped).zip(drawn) {
                *to = *from;
            }
        }
        bytes
    }
}

impl Written {
    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.synced.is_empty()
    }

    /// All that is there has become durable, as it does at an unmount.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.synced_all();
        self
    }

    /// Nothing below `path` is there any more.
    pub(crate) fn delete_subvolume(&mut self, path: &str) {
        let is_below = |name: &String| name.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        self.files.retain(|name, _| !is_below(name));
        self.synced.retain(|name, _| !is_below(name));
    }

    /// The first `length` bytes of `source` were written to `file`.
    pub(crate) fn write(&mut self, file: &str, offset: u64, length: u64, source: Source) {
        let piece = Piece { length, source, from: 0 };
        self.files.entry(file.to_owned()).or_default().put(offset, piece);
        self.no_longer_synced(file, offset, length);
    }

    /// `file` has this size now.
    pub(crate) fn truncate(&mut self, file: &str, size: u64) {
        if let Some(contents) = self.files.get_mut(file) {
            contents.clear(size, u64::MAX);
        }
        self.no_longer_synced(file, size, u64::MAX);
    }

    /// `file` is gone.
    pub(crate) fn unlink(&mut self, file: &str) {
        self.files.remove(file);
        self.synced.remove(file);
    }

    /// `file` is durable as it is now.
    pub(crate) fn synced(&mut self, file: &str) {
        if let Some(contents) = self.files.get(file) {
            self.synced.insert(file.to_owned(), contents.clone());
        }
    }

    /// All files are durable as they are now.
    pub(crate) fn synced_all(&mut self) {
        self.synced = self.files.clone();
    }

    /// Whether anything of `file` has to be durable.
    pub(crate) fn is_synced(&self, file: &str) -> bool {
        self.synced.get(file).is_some_and(|contents| !contents.0.is_empty())
    }

    fn no_longer_synced(&mut self, file: &str, offset: u64, length: u64) {
        if let Some(contents) = self.synced.get_mut(file) {
            contents.clear(offset, length);
        }
    }

    /// What ought to stand in a range of `file` after a power cut, where `read` does: the same but for what is durable.
    pub(crate) fn expected_synced(&self, file: &str, offset: u64, length: u64, read: &[u8]) -> Vec<u8> {
        let mut expected = read.to_vec();
        let Some(contents) = self.synced.get(file) else {
            return expected;
        };
        let end = offset.saturating_add(length);
        for (at, piece) in contents.0.range(..end).filter(|(at, piece)| *at + piece.length > offset) {
            let (from, until) = ((*at).max(offset), (at + piece.length).min(end));
            let durable = contents.bytes(from, until - from);
            let index = |at: u64| usize::try_from(at - offset).unwrap_or(usize::MAX);
            if expected.len() < index(until) {
                expected.resize(index(until), 0);
            }
            expected[index(from)..index(until)].copy_from_slice(&durable);
        }
        expected
    }

    /// `length` bytes at `offset` of `from` stand at `to_offset` of `to` as well.
    pub(crate) fn clone_range(
        &mut self,
        (from, offset): (&str, u64),
        length: u64,
        (to, to_offset): (&str, u64),
    ) {
        let mut copied = self.files.get(from).cloned().unwrap_or_default();
        copied.clear(0, offset);
        copied.clear(offset.saturating_add(length), u64::MAX);
        let target = self.files.entry(to.to_owned()).or_default();
        target.clear(to_offset, length);
        for (at, piece) in copied.0 {
            target.put(at - offset + to_offset, piece);
        }
        self.no_longer_synced(to, to_offset, length);
    }

    /// All that is below `of` is below `to` as well.
    pub(crate) fn snapshot(&mut self, of: &str, to: &str) {
        let below = |(file, contents): (&String, &Contents)| {
            let rest = file.strip_prefix(of)?.strip_prefix('/')?;
            Some((format!("{to}/{rest}"), contents.clone()))
        };
        let copies: Vec<(String, Contents)> = self.files.iter().filter_map(below).collect();
        self.files.extend(copies);
    }

    /// What ought to stand in a range of `file`.
    pub(crate) fn expected(&self, file: &str, offset: u64, length: u64) -> Vec<u8> {
        self.files.get(file).map_or_else(
            || Contents::default().bytes(offset, length),
            |contents| contents.bytes(offset, length),
        )
    }
}

/// How what was read at `offset` differs from what ought to be there.
pub(crate) fn compare(offset: u64, expected: &[u8], read: &[u8]) -> Option<Lost> {
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let short = expected.len().saturating_sub(read.len());
    let others = || expected.iter().zip(read).enumerate().filter(|(_, (expected, read))| expected != read);
    let bytes = others().count();
    let first = others().next().map_or(read.len(), |(at, _)| at);
    let found = match (bytes, short) {
        (0, 0) => return None,
        (0, _) => Found::End,
        _ if others().all(|(_, (_, read))| *read == 0) => Found::Zeroes,
        _ => Found::Other,
    };
    Some(Lost { first: Bytes(offset + count(first)), bytes: Bytes(count(bytes + short)), found })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The longest file of the properties.
    const SIZE: usize = 64;

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Write { offset: u64, length: u64, seed: u64 },
        Truncate { size: u64 },
        Clone { offset: u64, length: u64, to: u64 },
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0..40_u64, 0..24_u64, 0..9_u64).prop_map(|(offset, length, seed)| Act::Write {
                offset,
                length,
                seed
            }),
            (0..64_u64).prop_map(|size| Act::Truncate { size }),
            (0..40_u64, 0..24_u64, 0..40_u64).prop_map(|(offset, length, to)| Act::Clone {
                offset,
                length,
                to
            }),
        ]
    }

    proptest! {
        /// For all writes, truncations and clones: what ought to be there is what a file of bytes would hold.
        #[test]
        fn it_is_as_a_file_would_be(acts in prop::collection::vec(act(), 0..20), at in 0..64_u64, length in 0..64_u64) {
            let mut written = Written::default();
            let mut file = [0_u8; SIZE * 2];
            let index = |number: u64| usize::try_from(number).unwrap();
            for act in acts {
                match act {
                    Act::Write { offset, length, seed } => {
                        let source = Source { content: Content::Random, seed };
                        written.write("f", offset, length, source);
                        file[index(offset)..index(offset + length)].copy_from_slice(&source.bytes(length));
                    }
                    Act::Truncate { size } => {
                        written.truncate("f", size);
                        file[index(size)..].fill(0);
                    }
                    Act::Clone { offset, length, to } => {
                        written.clone_range(("f", offset), length, ("f", to));
                        file.copy_within(index(offset)..index(offset + length), index(to));
                    }
                }
            }
            let expected = written.expected("f", at, length);
            prop_assert_eq!(&expected, &file[index(at)..index(at + length)]);
            prop_assert_eq!(compare(at, &expected, &expected), None);
        }
    }

    #[test]
    fn a_difference_says_where_how_much_and_what_stands_there() {
        let lost = |read: &[u8]| compare(100, &[1, 2, 3, 4], read);
        let found = |first, bytes, found| Some(Lost { first: Bytes(first), bytes: Bytes(bytes), found });
        assert_eq!(lost(&[1, 0, 0, 4]), found(101, 2, Found::Zeroes));
        assert_eq!(lost(&[1, 2]), found(102, 2, Found::End));
        assert_eq!(lost(&[1, 9, 0]), found(101, 3, Found::Other));
    }

    #[test]
    fn only_what_is_durable_has_to_be_there() {
        let mut written = Written::default();
        let source = |seed| Source { content: Content::Random, seed };
        written.write("f", 0, 8, source(1));
        assert!(!written.is_synced("f"));
        assert_eq!(written.expected_synced("f", 0, 8, &[]), [0; 0]);
        written.synced("f");
        written.write("f", 4, 8, source(2));
        assert!(written.is_synced("f"));
        let first = source(1).bytes(8);
        // Of the second write anything may be there, of the first what it did not write over has to.
        let read = [9; 12];
        let mut expected = read.to_vec();
        expected[..4].copy_from_slice(&first[..4]);
        assert_eq!(written.expected_synced("f", 0, 12, &read), expected);
        assert_eq!(written.expected_synced("f", 0, 12, &[]), first[..4]);
        assert_eq!(written.expected_synced("f", 2, 1, &[7]), first[2..3]);
        written.synced_all();
        assert_eq!(written.expected_synced("f", 4, 8, &[0; 8]), source(2).bytes(8));
        written.unlink("f");
        assert!(!written.is_synced("f"));
    }

    #[test]
    fn a_snapshot_has_what_the_subvolume_has_and_keeps_it() {
        let mut written = Written::default();
        let source = Source { content: Content::Random, seed: 7 };
        written.write("sub/f", 0, 8, source);
        written.write("subway", 0, 8, source);
        written.snapshot("sub", "snap");
        written.unlink("sub/f");
        assert_eq!(written.expected("snap/f", 0, 8), source.bytes(8));
        assert_eq!(written.expected("sub/f", 0, 8), [0; 8]);
        assert_eq!(written.files.len(), 2);
    }
}
