//! The write log of a disk in a file of the user's.

use std::path::Path;

use nbd_server::{Disk, LogFile};

use crate::error::Error;

/// Has everything that changes `disk` from here on written to a new file.
pub(crate) fn start(disk: &Disk, path: &Path) -> Result<(), Error> {
    let file = LogFile::create(path).map_err(|error| Error::Usage {
        what: format!("the write log {} cannot be made: {error}", path.display()),
        help: "name a file that is not there yet, in a directory that is".to_owned(),
    })?;
    disk.start_log_to(file);
    Ok(())
}

/// Waits until the log of `disk` is written, where one is kept.
pub(crate) fn finish(disk: &Disk) -> Result<(), Error> {
    disk.stop_log().map(drop).map_err(|error| Error::Serve {
        what: format!("the write log could not be written: {error}"),
        help: "what is in it can be read: brim log show".to_owned(),
    })
}
