//! Files that are open, by what the steps call them.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io;

use crate::sys;
use crate::written::below;

/// A file that is open.
#[derive(Debug)]
pub(crate) struct Handle {
    file: File,
    /// A step opened it, and a step closes it.
    kept: bool,
    /// What is written to it stands at its end, wherever it was to stand.
    appends: bool,
    /// Its buffers have to be aligned.
    direct: bool,
    /// No name leads to it.
    nameless: AtomicBool,
}

impl Handle {
    /// A file that was opened because a step works on it.
    pub(crate) fn of(file: File) -> Self {
        Self { file, kept: false, appends: false, direct: false, nameless: AtomicBool::new(false) }
    }

    /// A file that a step opens.
    pub(crate) fn kept(file: File, appends: bool, direct: bool, nameless: bool) -> Self {
        Self { file, kept: true, appends, direct, nameless: AtomicBool::new(nameless) }
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.kept || self.is_nameless()
    }

    pub(crate) fn appends(&self) -> bool {
        self.appends
    }

    pub(crate) fn is_direct(&self) -> bool {
        self.direct
    }

    pub(crate) fn is_nameless(&self) -> bool {
        self.nameless.load(Ordering::Relaxed)
    }

    /// Its name is gone.
    pub(crate) fn lose_name(&self) {
        self.nameless.store(true, Ordering::Relaxed);
    }

    /// Closes it, and says what close(2) says.
    pub(super) fn close(self) -> io::Result<()> {
        sys::close(self.file)
    }
}

impl Deref for Handle {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

/// What a file that is open is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) name: String,
    /// For direct I/O, which has a descriptor of its own.
    pub(super) direct: bool,
}

/// The files that are open.
#[derive(Debug, Default)]
pub(super) struct Handles(BTreeMap<Key, Arc<Handle>>);

impl Handles {
    pub(super) fn get(&self, key: &Key) -> Option<Arc<Handle>> {
        self.0.get(key).cloned()
    }

    /// The one that is there, or `handle` from now on.
    pub(super) fn get_or_put(&mut self, key: Key, handle: Handle) -> Arc<Handle> {
        Arc::clone(self.0.entry(key).or_insert_with(|| Arc::new(handle)))
    }

    /// Takes out what is open by a name.
    pub(super) fn take(&mut self, name: &str) -> Vec<Arc<Handle>> {
        self.take_if(name, |_| true)
    }

    /// Takes out what is open by a name, where `which` says so.
    pub(super) fn take_if(&mut self, name: &str, which: impl Fn(&Handle) -> bool) -> Vec<Arc<Handle>> {
        let keys = [false, true].map(|direct| Key { name: name.to_owned(), direct });
        let taken = keys
            .into_iter()
            .filter_map(|key| self.0.get(&key).is_some_and(|handle| which(handle)).then_some(key));
        taken.collect::<Vec<_>>().iter().filter_map(|key| self.0.remove(key)).collect()
    }

    /// Takes out what is open by the names that `which` picks.
    pub(super) fn take_all(&mut self, which: impl Fn(&str) -> bool) -> Vec<Arc<Handle>> {
        let keys: Vec<Key> = self.0.keys().filter(|key| which(&key.name)).cloned().collect();
        keys.iter().filter_map(|key| self.0.remove(key)).collect()
    }

    /// Gives what is open by `from`, and by names below it, a place by `to`; what is open there is given back.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> Vec<Arc<Handle>> {
        if from == to {
            return Vec::new();
        }
        let moved = self.take_below(from);
        let replaced = self.take_below(to).into_iter().map(|(_, _, handle)| handle).collect();
        self.put_below(moved, to);
        replaced
    }

    pub(super) fn exchange(&mut self, one: &str, other: &str) {
        let (first, second) = (self.take_below(one), self.take_below(other));
        self.put_below(first, other);
        self.put_below(second, one);
    }

    fn take_below(&mut self, name: &str) -> Vec<(String, bool, Arc<Handle>)> {
        let keys: Vec<(Key, String)> =
            self.0.keys().filter_map(|key| Some((key.clone(), below(&key.name, name)?.to_owned()))).collect();
        keys.into_iter().filter_map(|(key, rest)| Some((rest, key.direct, self.0.remove(&key)?))).collect()
    }

    fn put_below(&mut self, moved: Vec<(String, bool, Arc<Handle>)>, name: &str) {
        for (rest, direct, handle) in moved {
            self.0.insert(Key { name: format!("{name}{rest}"), direct }, handle);
        }
    }
}
