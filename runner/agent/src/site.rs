//! The mount that a trial works at, and its files, which stay open from their first use on. All workers share them.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use rustix::fs::{Mode, OFlags};
use rustix::io::{self, Errno};

use crate::Failure;
use crate::filesystem::{Mounted, Place};
use crate::written::Written;

/// Where a trial works.
#[derive(Debug)]
pub(crate) struct Site {
    /// Read by every step; only a step that is alone takes it away for a while.
    mounted: RwLock<Option<Mounted>>,
    open: Mutex<BTreeMap<String, Arc<File>>>,
    written: Mutex<Written>,
    /// The fsids in btrfs' tracepoints: a fork has another one each time that it is mounted.
    fsids: Mutex<Vec<[u8; 16]>>,
}

impl Site {
    /// At `mounted`, where this was written before, with no file open.
    pub(crate) fn of(mounted: Mounted, written: Written) -> Self {
        let fsids = Mutex::new(mounted.fsid().into_iter().collect());
        let mounted = RwLock::new(Some(mounted));
        Self { mounted, open: Mutex::default(), written: Mutex::new(written), fsids }
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
    pub(crate) fn file(&self, name: &str) -> io::Result<Arc<File>> {
        if let Some(file) = self.open().get(name) {
            return Ok(Arc::clone(file));
        }
        // No lock is held across the system calls: another worker's may be what they wait for.
        self.make_parents(name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let opened = self.at(|root| rustix::fs::openat(root, name, flags, Mode::from_raw_mode(0o644)))?;
        let opened = Arc::new(File::from(opened));
        Ok(Arc::clone(self.open().entry(name.to_owned()).or_insert(opened)))
    }

    /// Closes the file `name`, where it is open.
    pub(crate) fn close(&self, name: &str) {
        let closed = self.open().remove(name);
        drop(closed);
    }

    /// Closes all files below the directory `path`.
    pub(crate) fn close_below(&self, path: &str) {
        let is_below = |name: &str| name.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        let mut open = self.open();
        let names: Vec<String> = open.keys().filter(|name| is_below(name)).cloned().collect();
        let closed: Vec<_> = names.iter().filter_map(|name| open.remove(name)).collect();
        drop(open);
        drop(closed);
    }

    /// What is at `name`, as it is, for reading: no file is made and none stays open.
    pub(crate) fn look(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        self.at(|root| rustix::fs::openat(root, name, flags, Mode::empty())).map(File::from)
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

    /// Closes all files, unmounts, does `between` and mounts again. No other worker may be at work. Beside what `between`
    /// comes to stands the kernel's word on the mount; where it is an error, nothing is mounted.
    pub(crate) fn without_mount<T>(
        &self,
        between: impl FnOnce(&mut Place) -> Result<T, Failure>,
    ) -> Result<(T, Result<(), brim_trial::Errno>), Failure> {
        self.open().clear();
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

    fn open(&self) -> MutexGuard<'_, BTreeMap<String, Arc<File>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
