//! What the steps of a trial have written, so that a read can be told what it ought to find. The bytes themselves are not
//! kept: they are drawn again from their seeds.

mod contents;

use std::collections::BTreeMap;

use brim_trial::Bytes;
use brim_trial::event::{Found, Lost};

use contents::Contents;
pub(crate) use contents::Source;

/// The contents of all files of a trial.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Which file each path names; a file that nothing was written to need not be here.
    names: BTreeMap<String, u64>,
    files: BTreeMap<u64, File>,
    next: u64,
    /// What of each path was made durable and not written over since.
    synced: BTreeMap<String, Contents>,
}

#[derive(Clone, Debug, Default)]
struct File {
    contents: Contents,
    links: u64,
}

impl Written {
    /// The first `length` bytes of `source` were written to `file`.
    pub(crate) fn write(&mut self, file: &str, offset: u64, length: u64, source: Source) {
        self.change(file, offset, length, |contents| contents.write(offset, length, source));
    }

    /// A range of `file` was to be changed, and nobody knows how far that went.
    pub(crate) fn unknown(&mut self, file: &str, offset: u64, length: u64) {
        self.change(file, offset, length, |contents| contents.forget(offset, length));
    }

    /// A range of `file` reads as zeroes now.
    pub(crate) fn zero(&mut self, file: &str, offset: u64, length: u64) {
        self.change(file, offset, length, |contents| contents.clear(offset, length));
    }

    /// `file` has this size now.
    pub(crate) fn truncate(&mut self, file: &str, size: u64) {
        self.zero(file, size, u64::MAX - size);
    }

    /// A range of `file` is gone, and what followed stands there.
    pub(crate) fn collapse(&mut self, file: &str, offset: u64, length: u64) {
        self.change(file, offset, u64::MAX - offset, |contents| contents.collapse(offset, length));
    }

    /// A hole of `length` bytes was put into `file`, and what stood there follows it.
    pub(crate) fn insert(&mut self, file: &str, offset: u64, length: u64) {
        self.change(file, offset, u64::MAX - offset, |contents| contents.insert(offset, length));
    }

    /// `length` bytes at `offset` of `from` stand at `to_offset` of `to` as well.
    pub(crate) fn clone_range(
        &mut self,
        (from, offset): (&str, u64),
        length: u64,
        (to, to_offset): (&str, u64),
    ) {
        let copied = self.of(from).cut(offset, length);
        self.change(to, to_offset, length, |contents| contents.paste(copied, offset, length, to_offset));
    }

    /// `to` holds what `from` holds, and no more.
    pub(crate) fn clone_file(&mut self, from: &str, to: &str) {
        let copied = self.of(from);
        self.change(to, 0, u64::MAX, |contents| *contents = copied);
    }

    /// All that is below `of` is below `to` as well.
    pub(crate) fn snapshot(&mut self, of: &str, to: &str) {
        let below = |(name, id): (&String, &u64)| {
            let rest = name.strip_prefix(of)?.strip_prefix('/')?;
            Some((format!("{to}/{rest}"), self.files.get(id)?.contents.clone()))
        };
        let copies: Vec<(String, Contents)> = self.names.iter().filter_map(below).collect();
        for (name, copied) in copies {
            self.change(&name, 0, u64::MAX, |contents| *contents = copied);
        }
    }

    /// The name `file` is gone.
    pub(crate) fn unlink(&mut self, file: &str) {
        self.synced.remove(file);
        if let Some(id) = self.names.remove(file) {
            self.drop_link(id);
        }
    }

    /// Nothing of `file` has to be durable any more.
    pub(crate) fn not_durable(&mut self, file: &str) {
        self.synced.remove(file);
    }

    /// `file` has the name `to` as well.
    pub(crate) fn link(&mut self, file: &str, to: &str) {
        let id = self.id(file);
        self.unlink(to);
        self.names.insert(to.to_owned(), id);
        if let Some(file) = self.files.get_mut(&id) {
            file.links += 1;
        }
    }

    /// What was called `from`, and all below it, is called `to`; what was called `to` is gone.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        // Names of one file: rename(2) leaves both.
        let same = |one: Option<&u64>, other: Option<&u64>| one.is_some() && one == other;
        if from == to || same(self.names.get(from), self.names.get(to)) {
            return;
        }
        let moved = self.take(from);
        for (_, id) in self.take(to) {
            self.drop_link(id);
        }
        self.put(moved, to);
    }

    /// What was called `one` is called `other`, and the reverse.
    pub(crate) fn exchange(&mut self, one: &str, other: &str) {
        let (first, second) = (self.take(one), self.take(other));
        self.put(first, other);
        self.put(second, one);
    }

    /// Takes a name away, with all below it: each with the rest of its path. Nothing of them has to be durable any more: under
    /// which name it is depends on what the disk has of the rename.
    fn take(&mut self, name: &str) -> Vec<(String, u64)> {
        let rest = |path: &str| below(path, name).map(ToOwned::to_owned);
        self.synced.retain(|path, _| rest(path).is_none());
        let taken: Vec<(String, String)> =
            self.names.keys().filter_map(|path| Some((path.clone(), rest(path)?))).collect();
        taken.into_iter().filter_map(|(path, rest)| Some((rest, self.names.remove(&path)?))).collect()
    }

    fn put(&mut self, taken: Vec<(String, u64)>, name: &str) {
        self.names.extend(taken.into_iter().map(|(rest, id)| (format!("{name}{rest}"), id)));
    }

    fn drop_link(&mut self, id: u64) {
        let Some(file) = self.files.get_mut(&id) else { return };
        file.links = file.links.saturating_sub(1);
        if file.links == 0 {
            self.files.remove(&id);
        }
    }

    /// `file` is durable as it is now.
    pub(crate) fn synced(&mut self, file: &str) {
        if self.names.contains_key(file) {
            self.synced.insert(file.to_owned(), self.of(file));
        }
    }

    /// All files are durable as they are now.
    pub(crate) fn synced_all(&mut self) {
        let of = |(name, id): (&String, &u64)| Some((name.clone(), self.files.get(id)?.contents.clone()));
        self.synced = self.names.iter().filter_map(of).collect();
    }

    /// Whether anything of `file` has to be durable.
    pub(crate) fn is_synced(&self, file: &str) -> bool {
        self.synced.get(file).is_some_and(|contents| !contents.is_empty())
    }

    /// What ought to stand in a range of `file` after a power cut, where `read` does: the same but for what is durable.
    pub(crate) fn expected_synced(&self, file: &str, offset: u64, length: u64, read: &[u8]) -> Vec<u8> {
        let mut expected = read.to_vec();
        if let Some(contents) = self.synced.get(file) {
            contents.lay_over(offset, length, &mut expected);
        }
        expected
    }

    /// What ought to stand in a range of `file`, where `read` does: what is not known of it is as it was read.
    pub(crate) fn expected(&self, file: &str, offset: u64, length: u64, read: &[u8]) -> Vec<u8> {
        let contents = self.names.get(file).and_then(|id| self.files.get(id)).map(|file| &file.contents);
        contents.map_or_else(
            || Contents::default().bytes(offset, length, read),
            |contents| contents.bytes(offset, length, read),
        )
    }

    fn of(&self, file: &str) -> Contents {
        let file = self.names.get(file).and_then(|id| self.files.get(id));
        file.map(|file| file.contents.clone()).unwrap_or_default()
    }

    fn id(&mut self, file: &str) -> u64 {
        if let Some(id) = self.names.get(file) {
            return *id;
        }
        self.next += 1;
        self.names.insert(file.to_owned(), self.next);
        self.files.insert(self.next, File { contents: Contents::default(), links: 1 });
        self.next
    }

    /// Changes a range of `file`, which is no longer as it was made durable.
    fn change(&mut self, file: &str, offset: u64, length: u64, change: impl FnOnce(&mut Contents)) {
        let id = self.id(file);
        let Some(changed) = self.files.get_mut(&id) else { return };
        change(&mut changed.contents);
        if changed.links == 1 {
            self.no_longer_synced(file, offset, length);
            return;
        }
        let names = self.names.iter().filter(|(_, other)| **other == id).map(|(name, _)| name.clone());
        for name in names.collect::<Vec<_>>() {
            self.no_longer_synced(&name, offset, length);
        }
    }

    fn no_longer_synced(&mut self, file: &str, offset: u64, length: u64) {
        if let Some(contents) = self.synced.get_mut(file) {
            contents.clear(offset, length);
        }
    }
}

/// What stands behind `name` in `path`, where that is `name` or something below it.
pub(crate) fn below<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    path.strip_prefix(name).filter(|rest| rest.is_empty() || rest.starts_with('/'))
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
    use brim_trial::Content;
    use proptest::prelude::*;

    use super::*;

    /// The longest file of the properties.
    const SIZE: usize = 256;

    #[derive(Clone, Debug)]
    enum Act {
        Write { file: usize, offset: u64, length: u64, content: Content, seed: u64 },
        Truncate { file: usize, size: u64 },
        Zero { file: usize, offset: u64, length: u64 },
        Collapse { file: usize, offset: u64, length: u64 },
        Insert { file: usize, offset: u64, length: u64 },
        Clone { file: usize, offset: u64, length: u64, other: usize, to: u64 },
        CloneFile { file: usize, other: usize },
        Rename { file: usize, other: usize },
        Exchange { file: usize, other: usize },
        Link { file: usize, other: usize },
        Unlink { file: usize },
    }

    fn act() -> impl Strategy<Value = Act> {
        let content = prop_oneof![
            Just(Content::Random),
            Just(Content::Zeroes),
            Just(Content::Compressible),
            "[a-c]{1,5}".prop_map(Content::Text),
        ];
        let range = || (0..3_usize, 0..40_u64, 0..24_u64);
        let two = || (0..3_usize, 0..3_usize);
        prop_oneof![
            (range(), content, 0..9_u64).prop_map(|((file, offset, length), content, seed)| Act::Write {
                file,
                offset,
                length,
                content,
                seed
            }),
            (0..3_usize, 0..64_u64).prop_map(|(file, size)| Act::Truncate { file, size }),
            range().prop_map(|(file, offset, length)| Act::Zero { file, offset, length }),
            range().prop_map(|(file, offset, length)| Act::Collapse { file, offset, length }),
            range().prop_map(|(file, offset, length)| Act::Insert { file, offset, length }),
            (range(), 0..3_usize, 0..40_u64).prop_map(|((file, offset, length), other, to)| Act::Clone {
                file,
                offset,
                length,
                other,
                to
            }),
            two().prop_map(|(file, other)| Act::CloneFile { file, other }),
            two().prop_map(|(file, other)| Act::Rename { file, other }),
            two().prop_map(|(file, other)| Act::Exchange { file, other }),
            two().prop_map(|(file, other)| Act::Link { file, other }),
            (0..3_usize).prop_map(|file| Act::Unlink { file }),
        ]
    }

    const NAMES: [&str; 3] = ["dir/a", "dir/b", "c"];

    /// Files of bytes, as a filesystem has them: which of them each name is.
    struct Model {
        names: [usize; 3],
        files: Vec<Vec<u8>>,
    }

    impl Model {
        fn file(&mut self, name: usize) -> &mut Vec<u8> {
            &mut self.files[self.names[name]]
        }

        fn new_file(&mut self, name: usize) {
            self.files.push(vec![0; SIZE * 64]);
            self.names[name] = self.files.len() - 1;
        }

        fn act(&mut self, act: &Act, written: &mut Written) {
            let index = |number: u64| usize::try_from(number).unwrap();
            match act.clone() {
                Act::Write { file, offset, length, content, seed } => {
                    let source = Source { content, seed };
                    self.file(file)[index(offset)..index(offset + length)]
                        .copy_from_slice(&source.bytes(length));
                    written.write(NAMES[file], offset, length, source);
                }
                Act::Truncate { file, size } => {
                    self.file(file)[index(size)..].fill(0);
                    written.truncate(NAMES[file], size);
                }
                Act::Zero { file, offset, length } => {
                    self.file(file)[index(offset)..index(offset + length)].fill(0);
                    written.zero(NAMES[file], offset, length);
                }
                Act::Collapse { file, offset, length } => {
                    self.file(file).drain(index(offset)..index(offset + length));
                    self.file(file).resize(SIZE * 64, 0);
                    written.collapse(NAMES[file], offset, length);
                }
                Act::Insert { file, offset, length } => {
                    let hole = vec![0; index(length)];
                    self.file(file).splice(index(offset)..index(offset), hole);
                    self.file(file).truncate(SIZE * 64);
                    written.insert(NAMES[file], offset, length);
                }
                Act::Clone { file, offset, length, other, to } => {
                    let copied = self.file(file)[index(offset)..index(offset + length)].to_vec();
                    self.file(other)[index(to)..index(to + length)].copy_from_slice(&copied);
                    written.clone_range((NAMES[file], offset), length, (NAMES[other], to));
                }
                Act::CloneFile { file, other } => {
                    let copied = self.file(file).clone();
                    *self.file(other) = copied;
                    written.clone_file(NAMES[file], NAMES[other]);
                }
                Act::Rename { file, other } => {
                    if self.names[file] != self.names[other] {
                        self.names[other] = self.names[file];
                        self.new_file(file);
                    }
                    written.rename(NAMES[file], NAMES[other]);
                }
                Act::Exchange { file, other } => {
                    self.names.swap(file, other);
                    written.exchange(NAMES[file], NAMES[other]);
                }
                Act::Link { file, other } => {
                    // link(2) refuses a name that is there.
                    if file != other {
                        written.unlink(NAMES[other]);
                        written.link(NAMES[file], NAMES[other]);
                        self.names[other] = self.names[file];
                    }
                }
                Act::Unlink { file } => {
                    self.new_file(file);
                    written.unlink(NAMES[file]);
                }
            }
        }
    }

    proptest! {
        /// For all operations on files: what ought to be there is what files of bytes would hold.
        #[test]
        fn it_is_as_files_would_be(acts in prop::collection::vec(act(), 0..30), at in 0..64_u64, length in 0..64_u64) {
            let mut written = Written::default();
            let mut model = Model { names: [0, 1, 2], files: vec![vec![0; SIZE * 64]; 3] };
            for act in &acts {
                model.act(act, &mut written);
            }
            let index = |number: u64| usize::try_from(number).unwrap();
            for (name, path) in NAMES.iter().enumerate() {
                let read = &model.file(name)[index(at)..index(at + length)];
                let expected = written.expected(path, at, length, read);
                prop_assert_eq!(&expected, read, "{}", path);
                prop_assert_eq!(compare(at, &expected, read), None);
            }
            // Renaming the directory takes all below it along.
            written.rename("dir", "other");
            let read = model.file(0)[index(at)..index(at + length)].to_vec();
            prop_assert_eq!(written.expected("other/a", at, length, &[]), read);
        }
    }

    fn source(seed: u64) -> Source {
        Source { content: Content::Random, seed }
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
    fn what_is_not_known_may_be_anything_and_the_rest_may_not() {
        let mut written = Written::default();
        written.write("f", 0, 12, source(1));
        written.unknown("f", 4, 4);
        let whole = source(1).bytes(12);
        let mut read = whole.clone();
        read[4..8].fill(9);
        assert_eq!(written.expected("f", 0, 12, &read), read);
        read[8] ^= 1;
        assert_ne!(written.expected("f", 0, 12, &read), read);
        // The file may end where nothing is known any more, and not before.
        written.unknown("f", 4, 8);
        assert_eq!(written.expected("f", 0, 12, &whole[..6]), whole[..6]);
        assert_eq!(written.expected("f", 0, 12, &whole[..2]), whole[..4]);
        assert_eq!(
            written.expected("f", 0, 13, &whole[..6]).len(),
            13,
            "a hole is zeroes, which have to be there"
        );
    }

    #[test]
    fn only_what_is_durable_has_to_be_there() {
        let mut written = Written::default();
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
        // Written by its other name, it is another file too.
        written.link("f", "g");
        written.synced("g");
        written.write("g", 0, 12, source(3));
        assert!(!written.is_synced("f") && !written.is_synced("g"));
        written.synced("f");
        written.rename("f", "h");
        assert!(!written.is_synced("f") && !written.is_synced("h"), "whose name is durable is not known");
        written.synced("h");
        written.unlink("h");
        assert!(!written.is_synced("h"));
    }

    #[test]
    fn a_snapshot_has_what_the_subvolume_has_and_keeps_it() {
        let mut written = Written::default();
        written.write("sub/f", 0, 8, source(7));
        written.write("subway", 0, 8, source(7));
        written.snapshot("sub", "snap");
        written.unlink("sub/f");
        assert_eq!(written.expected("snap/f", 0, 8, &[]), source(7).bytes(8));
        assert_eq!(written.expected("sub/f", 0, 8, &[]), [0; 8]);
        assert_eq!(written.files.len(), 2);
    }
}
