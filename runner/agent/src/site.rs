//! The mount that a trial works at, and its files, which stay open from their first use on. All workers share them.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use rustix::fs::{Mode, OFlags};
use rustix::io::{self, Errno};

use crate::Failure;
use crate::filesystem::Mounted;

/// Where a trial works.
#[derive(Debug)]
pub(crate) struct Site {
    /// Read by every step; only a step that is alone takes it away for a while.
    mounted: RwLock<Option<Mounted>>,
    open: Mutex<BTreeMap<String, Arc<File>>>,
}

impl Site {
    /// At `mounted`, with no file open.
    pub(crate) fn of(mounted: Mounted) -> Self {
        Self { mounted: RwLock::new(Some(mounted)), open: Mutex::default() }
    }

    /// Closes all files and gives the mount back, where there is one.
    pub(crate) fn leave(self) -> Option<Mounted> {
        self.mounted.into_inner().unwrap_or_else(PoisonError::into_inner)
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
