//! Shared mappings of files, and stores and loads that outlive a SIGBUS.
//!
//! A page that the kernel cannot give is answered with a SIGBUS to the thread that touches it. The handler puts an anonymous page
//! in its place, so that the store or the load ends, and leaves a mark for the thread, which looks for it after each page. Whoever
//! finds one has to give the mapping up: it is no longer one of the file alone.

use std::cell::Cell;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{Ordering, compiler_fence};
use std::sync::{Once, OnceLock};

use rustix::io;

/// A part of a file in memory, shared with everybody.
#[derive(Debug)]
pub(crate) struct Mapping {
    address: *mut libc::c_void,
    length: usize,
    /// Where in the file it begins: a multiple of a page.
    offset: u64,
}

// SAFETY: the memory belongs to the mapping until it is dropped, and is touched only by copies of bytes that several threads
// may make at once, as several processes could.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// What the calling thread touches, and whether that was answered with a SIGBUS.
struct Touched {
    start: Cell<usize>,
    end: Cell<usize>,
    hit: Cell<bool>,
}

thread_local! {
    // Without a destructor and with a constant to begin with, it can be read inside a signal handler.
    static TOUCHED: Touched = const { Touched { start: Cell::new(0), end: Cell::new(0), hit: Cell::new(false) } };
}

/// The size of a page.
pub(crate) fn page_size() -> u64 {
    static SIZE: OnceLock<u64> = OnceLock::new();
    *SIZE.get_or_init(|| {
        // SAFETY: sysconf(3) takes a number and gives one.
        u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
    })
}

fn page() -> usize {
    usize::try_from(page_size()).unwrap_or(4096)
}

impl Mapping {
    /// Maps `length` bytes of `file` from `offset` on, and what else is on their pages.
    pub(crate) fn of(file: &File, offset: u64, length: u64, writable: bool) -> io::Result<Self> {
        catch_sigbus();
        let from = offset - offset % page_size();
        let until =
            offset.checked_add(length.max(1)).and_then(|end| end.checked_next_multiple_of(page_size()));
        let length = until.and_then(|until| usize::try_from(until - from).ok()).ok_or(io::Errno::INVAL)?;
        let start = libc::off_t::try_from(from).map_err(|_| io::Errno::INVAL)?;
        let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        // SAFETY: the kernel chooses where, so that nothing else is there.
        let address = unsafe {
            libc::mmap(ptr::null_mut(), length, protection, libc::MAP_SHARED, file.as_raw_fd(), start)
        };
        if address == libc::MAP_FAILED {
            return Err(last_error());
        }
        Ok(Self { address, length, offset: from })
    }

    /// Whether it has all of a range of the file.
    pub(crate) fn covers(&self, offset: u64, length: u64) -> bool {
        let end = self.offset.saturating_add(u64::try_from(self.length).unwrap_or(u64::MAX));
        offset >= self.offset && offset.saturating_add(length) <= end
    }

    /// Stores `bytes` at `offset` of the file, page by page. `Err` says how many were stored before a page could not be had.
    pub(crate) fn store(&self, offset: u64, bytes: &[u8]) -> Result<(), usize> {
        self.each_page(offset, bytes.len(), |at, within| {
            let Some(part) = bytes.get(within.clone()) else { return };
            // SAFETY: `each_page` gives places inside the mapping, as many bytes as `within` has.
            unsafe { ptr::copy_nonoverlapping(part.as_ptr(), at, part.len()) };
        })
    }

    /// Loads from `offset` of the file, page by page, until `bytes` is full.
    pub(crate) fn load(&self, offset: u64, bytes: &mut [u8]) -> Result<(), usize> {
        self.each_page(offset, bytes.len(), |at, within| {
            let Some(part) = bytes.get_mut(within.clone()) else { return };
            // SAFETY: as above.
            unsafe { ptr::copy_nonoverlapping(at.cast_const(), part.as_mut_ptr(), part.len()) };
        })
    }

    /// Has `touch` copy each part of a range that is on one page: where it is in memory, and which bytes of the range it is.
    fn each_page(
        &self,
        offset: u64,
        length: usize,
        mut touch: impl FnMut(*mut u8, &std::ops::Range<usize>),
    ) -> Result<(), usize> {
        let skipped = usize::try_from(offset - self.offset).unwrap_or(usize::MAX);
        assert!(
            skipped.checked_add(length).is_some_and(|end| end <= self.length),
            "{length} bytes at {offset} are not in {} bytes at {}",
            self.length,
            self.offset
        );
        let mut done = 0;
        while done < length {
            let place = skipped + done;
            let part = (page() - place % page()).min(length - done);
            // SAFETY: the range is inside the mapping, as was made sure of above.
            let at = unsafe { self.address.cast::<u8>().add(place) };
            let hit = guarded(at.addr(), part, || touch(at, &(done..done + part)));
            if hit {
                return Err(done);
            }
            done += part;
        }
        Ok(())
    }

    /// `msync(2)` of a range of the file, with `MS_SYNC`.
    pub(crate) fn sync(&self, offset: u64, length: u64) -> io::Result<()> {
        let from = offset - offset % page_size();
        let skipped = usize::try_from(from - self.offset).map_err(|_| io::Errno::INVAL)?;
        let length = usize::try_from(offset - from + length).map_err(|_| io::Errno::INVAL)?;
        // SAFETY: msync(2) changes no memory, and says so where a part of the range is not mapped.
        let ended = unsafe { libc::msync(self.address.byte_add(skipped), length, libc::MS_SYNC) };
        if ended == 0 { Ok(()) } else { Err(last_error()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing points into the mapping any more: all that does borrows it.
        let _unmapped = unsafe { libc::munmap(self.address, self.length) };
    }
}

/// Does `touch`, and says whether it met a SIGBUS on the `length` bytes at `start`, which are on one page.
fn guarded(start: usize, length: usize, touch: impl FnOnce()) -> bool {
    TOUCHED.with(|touched| {
        touched.hit.set(false);
        touched.start.set(start);
        touched.end.set(start + length);
        // The handler runs on this thread, between any two instructions.
        compiler_fence(Ordering::SeqCst);
        touch();
        compiler_fence(Ordering::SeqCst);
        touched.end.set(0);
        touched.start.set(0);
        compiler_fence(Ordering::SeqCst);
        touched.hit.get()
    })
}

fn catch_sigbus() {
    static CAUGHT: Once = Once::new();
    CAUGHT.call_once(|| {
        // SAFETY: all of a `struct sigaction` may be zero.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = address_of(on_sigbus);
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: the handler calls nothing but mmap(2) and sigaction(2), which a signal handler may.
        let _ = unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) };
    });
}

/// What sigaction(2) calls with `SA_SIGINFO`.
type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

#[expect(clippy::as_conversions, reason = "a function's address is had in no other way")]
fn address_of(handler: Handler) -> usize {
    handler as usize
}

/// Puts a page where the calling thread touched one that the kernel could not give; any other SIGBUS ends the process.
extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel hands a `siginfo_t` that lives as long as this call, and a SIGBUS has an address.
    let address = unsafe { (*info).si_addr() }.addr();
    let ours = TOUCHED.try_with(|touched| {
        let inside = (touched.start.get()..touched.end.get()).contains(&address);
        inside && !touched.hit.replace(true)
    });
    let page = page();
    if ours.unwrap_or(false) {
        let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let at = ptr::without_provenance_mut(address - address % page);
        // SAFETY: the page belongs to a mapping of this thread's `Mapping`, which it is about to give up.
        if unsafe { libc::mmap(at, page, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) }
            != libc::MAP_FAILED
        {
            return;
        }
    }
    // SAFETY: the instruction is tried again, and ends the process as if this handler had never been.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

fn last_error() -> io::Errno {
    io::Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(io::Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For all threads at once: a store past the end of a file is told, one before it is stored, and nobody dies.
    #[test]
    fn a_store_past_the_end_says_where_it_ended() {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let file = tempfile::tempfile().unwrap();
                    file.set_len(2 * page_size()).unwrap();
                    for _ in 0..50 {
                        let mapping = Mapping::of(&file, 10, 4 * page_size() - 10, true).unwrap();
                        let bytes = vec![7; page() * 3];
                        assert_eq!(mapping.store(10, &bytes), Err(2 * page() - 10));
                        let mapping = Mapping::of(&file, 0, 4 * page_size(), true).unwrap();
                        let mut read = vec![0; 2 * page()];
                        assert_eq!(mapping.load(0, &mut read), Ok(()));
                        assert_eq!((read[9], read[10], read[2 * page() - 1]), (0, 7, 7));
                        assert_eq!(mapping.load(2 * page_size(), &mut read), Err(0));
                    }
                });
            }
        });
    }
}
