//! The extents of a file, and where on its device they lie.

use std::fs::File;

use brim_trial::event::Extents;
use brim_trial::{ByteRange, Bytes};
use rustix::io;
use rustix::ioctl::{self, Updater, opcode};

// include/uapi/linux/fs.h and fiemap.h, v6.12.
const FIEMAP: ioctl::Opcode = opcode::read_write::<Head>(b'f', 11);
const LAST: u32 = 0x1;
const DELALLOC: u32 = 0x4;
const ENCODED: u32 = 0x8;
const INLINE: u32 = 0x200;
const UNWRITTEN: u32 = 0x800;
const SHARED: u32 = 0x2000;
/// Without a place (UNKNOWN, DELALLOC), or with one that says nothing of the bytes (ENCODED, `DATA_INLINE`).
const NO_PLACE: u32 = 0x2 | 0x4 | 0x8 | 0x200;
/// How many extents are asked for at once.
const COUNT: usize = 256;

/// `struct fiemap` without its extents.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Head {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
}

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    more_reserved: [u32; 3],
}

#[repr(C)]
struct Map {
    head: Head,
    extents: [Extent; COUNT],
}

/// Why it cannot be said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FiemapError {
    /// The system call failed.
    #[error("{}", std::io::Error::from(*.0))]
    Call(rustix::io::Errno),
    /// A part of the file is not where it is going to be.
    #[error("the byte at {0} has no place on the disk yet")]
    NoPlace(Bytes),
}

/// The bytes of the device that hold the file, in the order of the file. For a filesystem whose FIEMAP speaks of the
/// device, as that of ext4 and xfs does.
pub(crate) fn fiemap(file: &File) -> Result<Vec<ByteRange>, FiemapError> {
    let mut ranges = Vec::new();
    let mut missing = None;
    each(file, |extent| {
        if extent.flags & NO_PLACE != 0 {
            missing = missing.or(Some(Bytes(extent.logical)));
        }
        ranges.push(ByteRange { offset: Bytes(extent.physical), length: Bytes(extent.length) });
    })
    .map_err(FiemapError::Call)?;
    missing.map_or(Ok(ranges), |at| Err(FiemapError::NoPlace(at)))
}

/// How many extents the file has, and of which kinds.
pub(crate) fn extents(file: &File) -> io::Result<Extents> {
    let mut found = Extents::default();
    each(file, |extent| {
        let flagged = |flag: u32| u64::from(extent.flags & flag != 0);
        found.count += 1;
        found.shared += flagged(SHARED);
        found.unwritten += flagged(UNWRITTEN);
        found.delalloc += flagged(DELALLOC);
        found.inline += flagged(INLINE);
        found.encoded += flagged(ENCODED);
        found.bytes.0 = found.bytes.0.saturating_add(extent.length);
    })?;
    Ok(found)
}

/// Looks at each extent of the file, in its order.
fn each(file: &File, mut look: impl FnMut(&Extent)) -> io::Result<()> {
    let mut start = 0;
    loop {
        let count = u32::try_from(COUNT).unwrap_or(0);
        let head = Head { start, length: u64::MAX - start, count, ..Head::default() };
        let mut map = Box::new(Map { head, extents: [Extent::default(); COUNT] });
        // SAFETY: FS_IOC_FIEMAP reads the head and writes it and at most as many extents behind it as the head says.
        unsafe { ioctl::ioctl(file, Updater::<FIEMAP, Map>::new(&mut map)) }?;
        let mapped = usize::try_from(map.head.mapped).unwrap_or(0);
        for extent in map.extents.iter().take(mapped) {
            look(extent);
            start = extent.logical.saturating_add(extent.length);
            if extent.flags & LAST != 0 {
                return Ok(());
            }
        }
        if mapped == 0 {
            return Ok(());
        }
    }
}
