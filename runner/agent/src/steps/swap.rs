//! Swap areas in files of the filesystem under test. A host has others who need its memory: they are for guests.

use std::io::{Error, ErrorKind};
use std::os::unix::fs::FileExt;

use rustix::io;

use super::{Outcome, Steps};
use crate::{Failure, guest, sys};

// include/linux/swap.h, union swap_header, v6.12: the signature at the end of the first page, and `info` behind 1024 bytes.
const SIGNATURE: &[u8] = b"SWAPSPACE2";
const INFO: usize = 1024;
const VERSION: u32 = 1;
/// What `setup_swap_map_and_extents` (mm/swapfile.c, v6.12) does not take for empty.
const PAGES_MIN: u64 = 2;

impl Steps<'_> {
    /// Does what mkswap(8) does to a file.
    pub(super) fn mkswap(self, name: &str) -> Outcome {
        let page = sys::page_size();
        let outcome = self.with(name, "pwrite64", |file| {
            let size = u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0);
            if size / page < PAGES_MIN {
                return Err(io::Errno::INVAL);
            }
            let header = header(page, size / page - 1).ok_or(io::Errno::INVAL)?;
            file.write_all_at(&header, 0).and_then(|()| file.sync_all()).map_err(|error| raw(&error))
        });
        self.site.written().unknown(name, 0, page);
        outcome
    }

    pub(super) fn swapon(self, name: &str) -> Result<Outcome, Failure> {
        if !guest::is_here() {
            let failure = Failure::new("swap to a file", "this kernel is the host's");
            return Err(failure.refused().with_help("run it in a guest: `brim run … --kernel uml/6.12`"));
        }
        let path = self.path(name)?;
        Ok(Outcome::new("swapon", self.rescue.swap(&path).map(|()| 0)))
    }

    pub(super) fn swapoff(self, name: &str) -> Result<Outcome, Failure> {
        let path = self.path(name)?;
        Ok(Outcome::new("swapoff", self.rescue.swap_no_more(&path).map(|()| 0)))
    }

    fn path(self, name: &str) -> Result<String, Failure> {
        self.site.with(|mounted| Ok(mounted.path().join(name).display().to_string()))
    }
}

/// The first page of an area that ends with the page `last`.
fn header(page: u64, last: u64) -> Option<Vec<u8>> {
    let mut header = vec![0; usize::try_from(page).ok()?];
    header.get_mut(INFO..INFO + 4)?.copy_from_slice(&VERSION.to_ne_bytes());
    header.get_mut(INFO + 4..INFO + 8)?.copy_from_slice(&u32::try_from(last).ok()?.to_ne_bytes());
    let end = header.len();
    header.get_mut(end - SIGNATURE.len()..)?.copy_from_slice(SIGNATURE);
    Some(header)
}

fn raw(error: &Error) -> io::Errno {
    io::Errno::from_io_error(error).unwrap_or(if error.kind() == ErrorKind::WriteZero {
        io::Errno::NOSPC
    } else {
        io::Errno::IO
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_that_of_mkswap() {
        let header = header(4096, 255).unwrap();
        assert_eq!(&header[4086..], SIGNATURE);
        assert_eq!(header[1024..1032], [1, 0, 0, 0, 255, 0, 0, 0]);
        assert_eq!(header.iter().filter(|byte| **byte != 0).count(), SIGNATURE.len() + 2);
    }
}
