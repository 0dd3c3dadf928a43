//! Write logs in files of the user's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use brim_device::log::Mark;
use brim_device::{SECTOR, Store};
use brim_trial::Plan;
use nbd_server::{Disk, LogFile};

use crate::error::Error;
use crate::rig::RigError;

/// Has everything that changes `disk` from here on written to a new file.
pub(crate) fn start(disk: &Disk, path: &Path) -> Result<(), Error> {
    disk.start_log_to(create(path)?);
    Ok(())
}

fn create(path: &Path) -> Result<LogFile, Error> {
    LogFile::create(path).map_err(|error| Error::Usage {
        what: format!("the write log {} cannot be made: {error}", path.display()),
        help: "name a file that is not there yet, in a directory that is".to_owned(),
    })
}

/// Waits until the log of `disk` is written, where one is kept.
pub(crate) fn finish(disk: &Disk) -> Result<(), Error> {
    disk.stop_log().map(drop).map_err(|error| Error::Serve {
        what: format!("the write log could not be written: {error}"),
        help: "what is in it can be read: brim log show".to_owned(),
    })
}

/// The logs of a whole run: of the disk of each trial, one after the other. Between two of them a log has what makes the one from the
/// other, so that a replay up to any entry is the disk of that trial at that moment. Several disks have a file each.
#[derive(Debug)]
pub(crate) struct RunLog {
    /// By the names of the disks; that of a trial's only disk is `None`.
    files: BTreeMap<Option<String>, OneLog>,
}

#[derive(Debug)]
struct OneLog {
    /// `None` while a disk has it.
    file: Option<LogFile>,
    /// What a replay of all that is in it gives.
    content: Store,
}

impl RunLog {
    /// In new files for these plans: at `path` for a disk that is alone, at `path` and the name of the disk for one of several.
    pub(crate) fn create(path: &Path, plans: &[&Plan]) -> Result<Self, Error> {
        let mut files = BTreeMap::new();
        for plan in plans {
            let names: Vec<String> = plan.devices.iter().map(|device| device.name.clone()).collect();
            for key in keys(&names) {
                if files.contains_key(&key) {
                    continue;
                }
                let path = key.as_ref().map_or_else(|| path.to_owned(), |name| beside(path, name));
                // The first trial's disk grows from nothing: the format knows no sizes.
                let content = Store::new(SECTOR).map_err(|error| RigError::server(&error))?;
                files.insert(key, OneLog { file: Some(create(&path)?), content });
            }
        }
        Ok(Self { files })
    }

    /// Has them kept of these disks, behind a mark.
    pub(crate) fn begin(&mut self, disks: &[(String, Disk)], mark: &str) {
        for (key, disk) in each(disks) {
            let log = self.files.get_mut(&key);
            if let Some((file, content)) = log.and_then(|log| Some((log.file.take()?, &log.content))) {
                disk.continue_log(file, content);
                put(disk, mark);
            }
        }
    }

    /// Takes them from these disks.
    pub(crate) fn end(&mut self, disks: &[(String, Disk)]) -> Result<(), RigError> {
        for (key, disk) in each(disks) {
            let file = disk.hand_log_on().map_err(|source| RigError::WriteLog { source })?;
            if let (Some(log), Some(file)) = (self.files.get_mut(&key), file) {
                *log = OneLog { file: Some(file), content: disk.snapshot() };
            }
        }
        Ok(())
    }

    /// Waits until all of them are written.
    pub(crate) fn finish(self) -> Result<(), RigError> {
        let files = self.files.into_values().filter_map(|log| log.file);
        files.map(LogFile::finish).try_for_each(|ended| ended.map_err(|source| RigError::WriteLog { source }))
    }
}

/// What the logs of disks with these names are found by.
fn keys(names: &[String]) -> Vec<Option<String>> {
    match names {
        [_] => vec![None],
        several => several.iter().cloned().map(Some).collect(),
    }
}

fn each(disks: &[(String, Disk)]) -> impl Iterator<Item = (Option<String>, &Disk)> {
    let names: Vec<String> = disks.iter().map(|(name, _)| name.clone()).collect();
    keys(&names).into_iter().zip(disks.iter().map(|(_, disk)| disk))
}

/// `run.log.a` beside `run.log`.
fn beside(path: &Path, name: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(".");
    path.push(name);
    path.into()
}

/// Puts a mark of ours into the log of a disk, where one is kept.
pub(crate) fn put(disk: &Disk, mark: &str) {
    if let Ok(mark) = Mark::new(mark) {
        let _is_kept = disk.mark(mark);
    }
}
