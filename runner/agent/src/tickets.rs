//! The space reservations that btrfs refused: which kind of space, how much, for which thread.

use std::path::Path;

use brim_trial::event::{SpaceKind, TICKETS};
use brim_trial::{Bytes, Errno, Event, event};

use crate::Failure;
use crate::namespace;
use crate::tracepoint::{Tracepoint, Whose};

/// A recorder of `btrfs:btrfs_reserve_ticket`, which the task that asked hits when its reservation ends
/// (fs/btrfs/space-info.c, `handle_reserve_ticket`, v6.12).
#[derive(Debug)]
pub(crate) struct Tickets {
    tracepoint: Tracepoint,
    refused: Vec<Refused>,
    /// What the rings had lost when recording began anew.
    lost_before: u64,
}

#[derive(Clone, Copy, Debug)]
struct Refused {
    thread: u32,
    time: u64,
    fsid: [u8; 16],
    space: SpaceKind,
    bytes: Bytes,
    errno: Errno,
}

// fs/btrfs: include/uapi/linux/btrfs_tree.h, BTRFS_BLOCK_GROUP_*, v6.12.
const DATA: i64 = 1;
const SYSTEM: i64 = 2;

/// Tries whether tickets can be recorded here. It moves the process to a mount namespace of its own, where it mounts
/// tracefs; to be called by a process with one thread that is about to end.
///
/// # Errors
/// They cannot, and why.
pub fn try_tickets() -> Result<(), Failure> {
    let tracing = Path::new("/sys/kernel/tracing");
    namespace::leave_the_hosts_mounts()?;
    namespace::mount_tracefs(tracing)?;
    Tickets::record(tracing).map(drop)
}

impl Tickets {
    /// Starts to record.
    pub(crate) fn record(tracing: &Path) -> Result<Self, Failure> {
        let name = "btrfs/btrfs_reserve_ticket";
        let tracepoint = Tracepoint::record(tracing, name, Some("error != 0"), Whose::All)?;
        Ok(Self { tracepoint, refused: Vec::new(), lost_before: 0 })
    }

    /// Forgets what was recorded up to now.
    pub(crate) fn forget(&mut self) {
        self.tracepoint.read();
        self.refused.clear();
        self.lost_before = self.tracepoint.lost().unwrap_or(0);
    }

    /// Takes what was recorded out of the rings, so that there is room for more.
    pub(crate) fn drain(&mut self) {
        self.read();
    }

    /// The kind of space that was refused last to `thread` between two points in time of `CLOCK_MONOTONIC`.
    pub(crate) fn refused_to(
        &mut self,
        thread: u32,
        fsid: [u8; 16],
        from: u64,
        to: u64,
    ) -> Option<SpaceKind> {
        self.read();
        let mine = |ticket: &&Refused| {
            ticket.thread == thread && ticket.fsid == fsid && (from..=to).contains(&ticket.time)
        };
        self.refused.iter().rev().find(mine).map(|ticket| ticket.space)
    }

    /// What was refused on the filesystem of these `fsids` since [`Self::forget`], those alike together.
    pub(crate) fn events(&mut self, trial: u32, fsids: &[[u8; 16]]) -> Vec<Event> {
        if fsids.is_empty() {
            return Vec::new();
        }
        self.read();
        let mut tickets: Vec<event::Ticket> = Vec::new();
        for refused in self.refused.iter().filter(|ticket| fsids.contains(&ticket.fsid)) {
            let alike = |ticket: &&mut event::Ticket| {
                ticket.space == refused.space
                    && ticket.bytes == refused.bytes
                    && ticket.errno == refused.errno
            };
            match tickets.iter_mut().find(alike) {
                Some(ticket) => ticket.count += 1,
                None => tickets.push(event::Ticket {
                    trial,
                    space: refused.space,
                    bytes: refused.bytes,
                    errno: refused.errno,
                    count: 1,
                }),
            }
        }
        let mut events: Vec<Event> = tickets.into_iter().map(Event::Ticket).collect();
        let missing = match self.tracepoint.lost() {
            Ok(lost) if lost <= self.lost_before => None,
            Ok(lost) => {
                Some(format!("{} more failed than the trace rings could hold", lost - self.lost_before))
            }
            Err(error) => Some(format!("how many the trace rings lost: {error}")),
        };
        events.extend(missing.map(|why| Event::Missing { evidence: TICKETS.to_owned(), why }));
        events
    }

    fn read(&mut self) {
        for sample in self.tracepoint.read() {
            let integer = |name| self.tracepoint.integer(&sample, name);
            let (Some(flags), Some(bytes), Some(error)) =
                (integer("flags"), integer("bytes"), integer("error"))
            else {
                continue;
            };
            let fsid = self.tracepoint.field(&sample, "fsid").and_then(|bytes| bytes.try_into().ok());
            let (Some(fsid), Ok(bytes), Ok(errno)) = (fsid, u64::try_from(bytes), i32::try_from(-error))
            else {
                continue;
            };
            let space = space_of(flags);
            let (thread, time) = (sample.thread, sample.time);
            self.refused.push(Refused {
                thread,
                time,
                fsid,
                space,
                bytes: Bytes(bytes),
                errno: Errno(errno),
            });
        }
    }
}

/// The space that btrfs' flags speak of. One that data and metadata share counts as that of data.
pub(crate) fn space_of(flags: i64) -> SpaceKind {
    match flags {
        flags if flags & DATA != 0 => SpaceKind::Data,
        flags if flags & SYSTEM != 0 => SpaceKind::System,
        _ => SpaceKind::Metadata,
    }
}
