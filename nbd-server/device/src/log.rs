//! The write log: every change of a disk with its data, flushes, and the marks of its user, in the format of the kernel's
//! dm-log-writes, which xfstests' replay-log and QEMU's blklogwrites share.
//!
//! A [`Record`] is what one change leaves in a log, a [`WriteLog`] keeps records in memory and replays them onto a
//! [`Store`](crate::Store), a [`Decoder`] reads the bytes of a log entry by entry, and [`Record::encode`] makes them. No
//! files here.
//!
//! On disk a log is a superblock of one sector and then, entry after entry, a sector of header and the data of a write
//! (drivers/md/dm-log-writes.c, v6.1, "The disk format for this is braindead simple"):
//!
//! | superblock | | header of an entry | |
//! |---|---|---|---|
//! | 0 | magic | 0 | first sector |
//! | 8 | version: 1 | 8 | count of sectors |
//! | 16 | count of entries | 16 | flags |
//! | 24 | bytes of a sector (32 bits) | 24 | bytes of a mark |
//! | | | 32 | text of a mark |
//!
//! All numbers are little-endian, of 64 bits where nothing else is said. A mark's text lies in the sector of its header; no
//! sectors of data follow, nor do they after a discard.

mod decode;
mod entry;
mod history;
mod record;

pub use decode::{Decoder, Entries, EntryFault, LogError, entries};
pub use entry::{Entry, Flags, Mark, MarkError, What, superblock};
pub use history::{Position, ReplayError, WriteLog};
pub use record::{Data, Record, Stretch};
