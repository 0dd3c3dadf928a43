//! Write logs in files of the user's.

use std::path::Path;

use brim_device::log::Mark;
use brim_device::{Bytes, Store};
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

/// The log of a whole run: of the disk of each trial, one after the other. Between two of them it has what makes the one from the
/// other, so that a replay up to any entry is the disk of that trial at that moment.
#[derive(Debug)]
pub(crate) struct RunLog {
    file: LogFile,
    /// What a replay of all that is in it gives.
    content: Store,
}

impl RunLog {
    /// In a new file.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        let file = create(path)?;
        // The first trial's disk grows from nothing: the format knows no sizes.
        let content = Store::new(Bytes(512)).map_err(|error| RigError::server(&error))?;
        Ok(Self { file, content })
    }

    /// Has it kept of `disk`, behind a mark.
    pub(crate) fn begin(self, disk: &Disk, mark: &str) {
        disk.continue_log(self.file, &self.content);
        put(disk, mark);
    }

    /// Takes it from `disk`.
    pub(crate) fn end(disk: &Disk) -> Result<Option<Self>, RigError> {
        let file = disk.hand_log_on().map_err(|source| RigError::WriteLog { source })?;
        Ok(file.map(|file| Self { file, content: disk.snapshot() }))
    }

    /// Waits until all of it is written.
    pub(crate) fn finish(self) -> Result<(), RigError> {
        self.file.finish().map_err(|source| RigError::WriteLog { source })
    }
}

/// Puts a mark of ours into the log of a disk, where one is kept.
pub(crate) fn put(disk: &Disk, mark: &str) {
    if let Ok(mark) = Mark::new(mark) {
        let _is_kept = disk.mark(mark);
    }
}
