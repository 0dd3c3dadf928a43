//! The mount that a trial works at, and its files, which stay open from their first use on. All workers share them.

mod handles;

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use rustix::fs::{Mode, OFlags};
use rustix::io::{self, Errno};

use crate::Failure;
use crate::filesystem::{Mounted, Place};
use crate::rescue::Rescue;
use crate::sys::Mapping;
use crate::watch;
use crate::written::{Written, below};
pub(crate) use handles::Handle;
use handles::{Handles, Key};

/// Where a trial works.
#[derive(Debug)]
pub(crate) struct Site {
    /// Read by every step; only a step that is alone takes it away for a while.
    mounted: RwLock<Option<Mounted>>,
    open: Mutex<Handles>,
    /// What each thread has mapped of each file: a page that one could not have is no longer that of the file, in its mapping alone.
    mappings: Mutex<BTreeMap<(String, u32), Arc<Mapping>>>,
    written: Mutex<Written>,
    /// What had been written when a snapshot of the disk was kept, by its name.
    written_before: Mutex<BTreeMap<String, Written>>,
    /// The fsids in btrfs' tracepoints: a fork has another one each time that it is mounted.
    fsids: Mutex<Vec<[u8; 16]>>,
    rescue: Arc<Rescue>,
}

impl Site {
    /// At `mounted`, where this was written before, with no file open.
    pub(crate) fn of(mounted: Mounted, written: Written, rescue: &Arc<Rescue>) -> Self {
        let fsids = Mutex::new(mounted.fsid().into_iter().collect());
        let mounted = RwLock::new(Some(mounted));
        let (open, written_before) = Default::default();
        Self {
            mounted,
            open,
            mappings: Mutex::default(),
            written: Mutex::new(written),
            written_before,
            fsids,
            rescue: Arc::clone(rescue),
        }
    }

    /// Closes all files and gives the mount back, where there is one, and what was written.
    pub(crate) fn leave(self) -> (Option<Mounted>, Written) {
        let written = self.written.into_inner().unwrap_or_else(PoisonError::into_inner);
        (self.mounted.into_inner().unwrap_or_else(PoisonError::into_inner), written)
    }

    /// Works with the mount.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&Mounted) -> Result<T, Failure>) -> Result<T, Failure> {
        match self.mounted().as_ref() {
            Some(mounted) => work(mounted),
            None => Err(Failure::new("work at the mount", "nothing is mounted any more").refused()),
        }
    }

    /// Makes a system call that starts from the root of the mount.
    pub(crate) fn at<T>(&self, call: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        call(self.mounted().as_ref().ok_or(Errno::NODEV)?.root())
    }

    /// The file `name`, which is made, with the directories on its way, if it is not there.
    pub(crate) fn file(&self, name: &str) -> io::Result<Arc<Handle>> {
        self.opened(name, false)
    }

    /// As [`Site::file`], for direct I/O.
    pub(crate) fn direct(&self, name: &str) -> io::Result<Arc<Handle>> {
        self.opened(name, true)
    }

    fn opened(&self, name: &str, direct: bool) -> io::Result<Arc<Handle>> {
        let key = Key { name: name.to_owned(), direct };
        if let Some(handle) = self.open().get(&key) {
            return Ok(handle);
        }
        // No lock is held across the system calls: another worker's may be what they wait for.
        let mut flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        flags.set(OFlags::DIRECT, direct);
        let opened = match self.nameless(name) {
            Some(handle) if direct => reopen(&handle, flags - OFlags::CREATE)?,
            _ => self.open_at(name, flags)?,
        };
        Ok(self.open().get_or_put(key, Handle::of(opened)))
    }

    /// Opens what is at `name`, or makes it if `flags` say so, with the directories on its way.
    pub(crate) fn open_at(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let open = || self.at(|root| rustix::fs::openat(root, name, flags, Mode::from_raw_mode(0o644)));
        let made = if flags.contains(OFlags::CREATE) { self.with_parents(name, open) } else { open() };
        made.map(File::from)
    }

    /// Does `call`, which makes `name`; where a directory on the way is not there, it is made first.
    pub(crate) fn with_parents<T>(&self, name: &str, call: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match call() {
            Err(Errno::NOENT) if name.contains('/') => {
                self.make_parents(name)?;
                call()
            }
            result => result,
        }
    }

    /// A file, or a directory, which cannot be opened for writing.
    pub(crate) fn file_or_directory(&self, name: &str) -> io::Result<Arc<Handle>> {
        match self.file(name) {
            Err(Errno::ISDIR) => self.look(name).map(Handle::of).map(Arc::new),
            result => result,
        }
    }

    /// As [`Site::file`], of a file that has to be there.
    pub(crate) fn open_if_there(&self, name: &str) -> io::Result<Arc<Handle>> {
        let key = Key { name: name.to_owned(), direct: false };
        if let Some(handle) = self.open().get(&key) {
            return Ok(handle);
        }
        let opened = self.open_at(name, OFlags::RDWR | OFlags::CLOEXEC)?;
        Ok(self.open().get_or_put(key, Handle::of(opened)))
    }

    /// A file that has to be there, to be read from: it may be on a read-only snapshot.
    pub(crate) fn source(&self, name: &str) -> io::Result<Arc<Handle>> {
        let open = self.open().get(&Key { name: name.to_owned(), direct: false });
        open.map_or_else(|| self.look(name).map(Handle::of).map(Arc::new), Ok)
    }

    /// A mapping of the calling thread's that has a range of the file `name`, which is made if it is not there; the system call that
    /// failed, if one did.
    pub(crate) fn mapping(
        &self,
        name: &str,
        offset: u64,
        length: u64,
    ) -> Result<Arc<Mapping>, (&'static str, Errno)> {
        let key = (name.to_owned(), watch::this_thread());
        if let Some(mapping) = self.mappings().get(&key).filter(|mapping| mapping.covers(offset, length)) {
            return Ok(Arc::clone(mapping));
        }
        let file = self.file(name).map_err(|errno| ("openat", errno))?;
        let mapping = Mapping::of(&file, offset, length, true).map_err(|errno| ("mmap", errno))?;
        let mapping = Arc::new(mapping);
        let replaced = self.mappings().insert(key, Arc::clone(&mapping));
        drop(replaced);
        Ok(mapping)
    }

    /// Forgets what the calling thread has mapped of the file `name`.
    pub(crate) fn give_up_mapping(&self, name: &str) {
        let given_up = self.mappings().remove(&(name.to_owned(), watch::this_thread()));
        drop(given_up);
    }

    fn unmap(&self, is_it: impl Fn(&str) -> bool) {
        let mut mappings = self.mappings();
        let keys: Vec<_> = mappings.keys().filter(|(name, _)| is_it(name)).cloned().collect();
        let unmapped: Vec<_> = keys.iter().filter_map(|key| mappings.remove(key)).collect();
        drop(mappings);
        drop(unmapped);
    }

    fn mappings(&self) -> MutexGuard<'_, BTreeMap<(String, u32), Arc<Mapping>>> {
        self.mappings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the steps work on `handle` when they say `name`.
    pub(crate) fn put(&self, name: &str, handle: Handle) {
        self.close(name);
        let _there_is_none = self.open().get_or_put(Key { name: name.to_owned(), direct: false }, handle);
    }

    /// Whether `name` stands for a file that is open and has no such name, or no name at all.
    pub(crate) fn nameless(&self, name: &str) -> Option<Arc<Handle>> {
        self.open().get(&Key { name: name.to_owned(), direct: false }).filter(|handle| handle.is_nameless())
    }

    /// Closes the file `name`, where it is open, and unmaps it.
    pub(crate) fn close(&self, name: &str) {
        self.unmap(|mapped| mapped == name);
        let closed = self.open().take(name);
        drop(closed);
    }

    /// As [`Site::close`], with what close(2) says; `None` where the file is not open.
    pub(crate) fn close_told(&self, name: &str) -> Option<io::Result<()>> {
        self.unmap(|mapped| mapped == name);
        let closed = self.open().take(name);
        let mut told = None;
        for handle in closed {
            let result = Arc::into_inner(handle).map_or(Ok(()), Handle::close);
            told = Some(told.unwrap_or(Ok(())).and(result));
        }
        told
    }

    /// Closes the file `name` at the end of a round, unless a step opened it by `open` or `tmpfile`.
    pub(crate) fn close_of_round(&self, name: &str) {
        let closed = self.open().take_if(name, |handle| !handle.is_kept());
        if !closed.is_empty() {
            self.unmap(|mapped| mapped == name);
        }
        drop(closed);
    }

    /// What was called `from` is called `to` now, with all below it.
    pub(crate) fn renamed(&self, from: &str, to: &str) {
        self.unmap(|mapped| [from, to].iter().any(|name| below(mapped, name).is_some()));
        let closed = self.open().rename(from, to);
        drop(closed);
    }

    /// What was called `one` is called `other` now, and the reverse.
    pub(crate) fn exchanged(&self, one: &str, other: &str) {
        self.unmap(|mapped| [one, other].iter().any(|name| below(mapped, name).is_some()));
        self.open().exchange(one, other);
    }

    /// Closes all files below the directory `path`.
    pub(crate) fn close_below(&self, path: &str) {
        let is_below = |name: &str| below(name, path).is_some_and(|rest| !rest.is_empty());
        self.unmap(is_below);
        let closed = self.open().take_all(is_below);
        drop(closed);
    }

    /// What is at `name`, as it is, for reading: no file is made and none stays open.
    pub(crate) fn look(&self, name: &str) -> io::Result<File> {
        self.look_with(name, OFlags::empty())
    }

    /// As [`Site::look`], with more flags.
    pub(crate) fn look_with(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | flags;
        match self.nameless(name) {
            Some(handle) => reopen(&handle, flags),
            None => self.open_at(name, flags),
        }
    }

    /// The directory that `path` is to be made in, which is made if it is not there, and the last part of `path`.
    pub(crate) fn parent<'b>(&self, path: &'b str) -> io::Result<(File, &'b str)> {
        self.make_parents(path)?;
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        Ok((self.look(parent)?, name))
    }

    /// Whether there is a mount: one that failed leaves none.
    pub(crate) fn is_mounted(&self) -> bool {
        self.mounted().is_some()
    }

    /// Every fsid that the mount has had in btrfs' tracepoints.
    pub(crate) fn fsids(&self) -> Vec<[u8; 16]> {
        self.fsids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the trial has written.
    pub(crate) fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk's content is kept as `name`.
    pub(crate) fn keep_written(&self, name: &str) {
        let written = self.written().clone();
        self.written_before.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), written);
    }

    /// The disk's content is again what was kept as `name`.
    pub(crate) fn restore_written(&self, name: &str) {
        let before = self.written_before.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        *self.written() = before.unwrap_or_default();
    }

    /// Closes all files, unmounts, does `between` and mounts again. No other worker may be at work. Beside what `between`
    /// comes to stands the kernel's word on the mount; where it is an error, nothing is mounted.
    pub(crate) fn without_mount<T>(
        &self,
        between: impl FnOnce(&mut Place) -> Result<T, Failure>,
    ) -> Result<(T, Result<(), brim_trial::Errno>), Failure> {
        self.rescue.free_the_mount();
        self.unmap(|_| true);
        let closed = std::mem::take(&mut *self.open());
        drop(closed);
        let mut mounted = self.mounted.write().unwrap_or_else(PoisonError::into_inner);
        let nothing = || Failure::new("unmount", "nothing is mounted any more").refused();
        let mut place = mounted.take().ok_or_else(nothing)?.unmount()?;
        let done = between(&mut place)?;
        match place.mount() {
            Ok(again) => {
                self.fsids.lock().unwrap_or_else(PoisonError::into_inner).extend(again.fsid());
                *mounted = Some(again);
                Ok((done, Ok(())))
            }
            Err(Failure { errno: Some(errno), .. }) => Ok((done, Err(errno))),
            Err(failure) => Err(failure),
        }
    }

    /// Has the mount take other options over while it goes on.
    pub(crate) fn remount_live(&self, options: &[String]) -> Result<io::Result<()>, Failure> {
        self.with(|mounted| mounted.remount(options))
    }

    /// Makes the directories on the way to `name`.
    pub(crate) fn make_parents(&self, name: &str) -> io::Result<()> {
        for (end, _) in name.match_indices('/') {
            let parent = name.get(..end).unwrap_or_default();
            match self.at(|root| rustix::fs::mkdirat(root, parent, Mode::from_raw_mode(0o755))) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn mounted(&self) -> RwLockReadGuard<'_, Option<Mounted>> {
        self.mounted.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> MutexGuard<'_, Handles> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a file again that has no name.
fn reopen(handle: &Handle, flags: OFlags) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    rustix::fs::open(path, flags, Mode::empty()).map(File::from)
}
