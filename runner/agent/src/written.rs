//! What the steps of a trial have written, so that a read can be told what it ought to find. The bytes themselves are not
//! kept: they are drawn again from their seeds.

mod contents;

use std::collections::BTreeMap;

use brim_trial::Bytes;
use brim_trial::event::{Found, Lost};
use serde::{Deserialize, Serialize};

use contents::Contents;
pub(crate) use contents::Source;

/// The contents of all files of a trial.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Written {
    /// Which file each path names; a file that nothing was written to need not be here.
    names: BTreeMap<String, u64>,
    files: BTreeMap<u64, File>,
    next: u64,
    /// What of each path was made durable and not written over since.
    synced: BTreeMap<String, Contents>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct File {
    contents: Contents,
    links: u64,
}

impl Written {
    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.synced.is_empty()
    }

    /// All that is there has become durable, as it does at an unmount.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.synced_all();
        self
    }

    /// Nothing below `path` is there any more.
    pub(crate) fn delete_subvolume(&mut self, path: &str) {
        for (_, id) in self.take(path) {
            self.drop_link(id);
        }
    }

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
mod tests;
