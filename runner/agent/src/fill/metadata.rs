//! Exact fill of btrfs' metadata, node by node.
//!
//! Trees grow by whole nodes, and an operation is refused while it might need more than there is, which is much more than it takes:
//! creat(2) wants 240 nodes. So what is to be taken is prepared early: a subvolume whose files fill a leaf each. A snapshot of it
//! costs a node, and from then on each leaf that is changed is copied: chmod(2) of a file takes its leaf, one node more, and asks for no
//! more than 8 nodes to be free.

use std::fs::File;

use brim_trial::Bytes;
use rustix::fs::{AtFlags, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use crate::Failure;
use crate::failure::Trying;
use crate::filesystem::Mounted;
use crate::sys;

/// The subvolume with the leaves.
const BALLAST: &str = ".brim-ballast-metadata";
/// How many nodes have to be free for a snapshot to be made, and more: at this level and below the leaves that are there have to do.
const LOW: u64 = 400;
/// The leaves it takes to come from there to nothing, and some.
const LEAVES_MIN: u64 = 480;
/// Where data and metadata share their space, so many nodes are left for the end.
const SHARED: u64 = LOW + 112;
/// How often the level is looked at before it counts as out of reach.
const ROUNDS_MAX: u32 = 2000;
/// How many nodes the last steps may go too far, each of which is given back.
const BACK_MAX: u64 = 64;

/// The ballast in the trees.
#[derive(Debug)]
pub(super) struct Trees<'a> {
    mounted: &'a Mounted,
    wanted: Bytes,
    node: u64,
    /// The subvolume.
    leaves: File,
    /// How many files are in it.
    count: u64,
    /// Those from here on share their leaf with the last snapshot.
    next: u64,
    /// The first file that was not taken out again.
    first: u64,
    snapshots: u32,
}

impl<'a> Trees<'a> {
    /// Makes the subvolume and its files, as many as it may take to come down to `wanted`. Where metadata has no space of its own
    /// (`shared`) that is the level of the space that is shared, and the ballast of data leaves only the last nodes of it.
    pub(super) fn plant(mounted: &'a Mounted, wanted: Bytes, shared: bool) -> Result<Self, Failure> {
        let what = || "make the ballast for metadata".to_owned();
        let node = mounted.node_size()?;
        sys::btrfs::create_subvolume(mounted.root(), BALLAST).trying(what)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let leaves = rustix::fs::openat(mounted.root(), BALLAST, flags, Mode::empty()).trying(what)?;
        let leaves = File::from(leaves);
        let (count, next, first, snapshots) = (0, 0, 0, 0);
        let mut trees = Self { mounted, wanted, node, leaves, count, next, first, snapshots };
        mounted.sync()?;
        let nodes = trees.free()?.saturating_sub(wanted.0) / node;
        // A third by the leaves themselves, the rest by copies of them.
        let least = if wanted.0 / node < LOW { LEAVES_MIN } else { 1 };
        let leaves = if shared { SHARED } else { (nodes / 3).max(least) };
        for _ in 0..leaves {
            match trees.grow() {
                Ok(()) => {}
                Err(Errno::NOSPC) => break,
                Err(errno) => return Err(errno).trying(what),
            }
        }
        mounted.sync()?;
        trees.next = trees.count;
        Ok(trees)
    }

    /// One file more, with a leaf of its own: no two of this size fit into one.
    fn grow(&mut self) -> rustix::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let name = self.count.to_string();
        let file = rustix::fs::openat(&self.leaves, name.as_str(), flags, Mode::from_raw_mode(0o644))?;
        let size = usize::try_from(self.node * 7 / 10 - 200).unwrap_or(2000);
        rustix::fs::fsetxattr(&file, "user.brim", &vec![0; size], XattrFlags::empty())?;
        self.count += 1;
        Ok(())
    }

    /// Brings free metadata down to what is wanted, or as near as it gets.
    pub(super) fn settle(&mut self) -> Result<(), Failure> {
        for _ in 0..ROUNDS_MAX {
            self.mounted.sync()?;
            let free = self.free()?;
            let done = match free.checked_sub(self.wanted.0) {
                Some(0) => return Ok(()),
                Some(excess) if excess < self.node => return Ok(()),
                Some(excess) => self.take(excess / self.node, free / self.node)?,
                None => self.give_back()?,
            };
            if !done {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes up to `nodes` of the `free` nodes; false when none can be had.
    fn take(&mut self, nodes: u64, free: u64) -> Result<bool, Failure> {
        let left = self.count - self.next;
        // Where the leaves that are left do not do, another snapshot has to be made while there is room for it.
        let before_low = if nodes > left { left.min(free.saturating_sub(LOW)) } else { nodes };
        if before_low == 0 {
            return self.share_again();
        }
        // Now and then a leaf takes a node of another tree with it.
        let count = match before_low {
            1..=8 => 1,
            9..=64 => before_low - 8,
            more => more * 7 / 8,
        };
        for done in 0..count {
            match self.touch() {
                Ok(()) => {}
                // What the others of this transaction have set aside comes back with the next commit.
                Err(Errno::NOSPC) => return Ok(done > 0),
                Err(errno) => return Err(errno).trying(|| "take a node of metadata".to_owned()),
            }
        }
        Ok(true)
    }

    /// Has the next leaf be copied.
    fn touch(&mut self) -> rustix::io::Result<()> {
        let mode = if self.snapshots.is_multiple_of(2) { 0o600 } else { 0o640 };
        let name = self.next.to_string();
        rustix::fs::chmodat(&self.leaves, name.as_str(), Mode::from_raw_mode(mode), AtFlags::empty())?;
        self.next += 1;
        Ok(())
    }

    /// Makes a snapshot, after which every leaf can be copied once more.
    fn share_again(&mut self) -> Result<bool, Failure> {
        let name = format!("{BALLAST}-{}", self.snapshots + 1);
        match sys::btrfs::create_snapshot(self.mounted.root(), &self.leaves, &name, false) {
            Ok(()) => {
                self.snapshots += 1;
                self.next = self.first;
                Ok(self.count > self.first)
            }
            Err(Errno::NOSPC) => Ok(false),
            Err(errno) => Err(errno).trying(|| "snapshot the ballast for metadata".to_owned()),
        }
    }

    /// Gives a leaf back that is nobody else's: that of a file that was touched since the last snapshot.
    fn give_back(&mut self) -> Result<bool, Failure> {
        if self.first >= BACK_MAX || self.first >= self.next {
            return Ok(false);
        }
        let name = self.first.to_string();
        self.first += 1;
        match rustix::fs::unlinkat(&self.leaves, name.as_str(), AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOSPC) => return Ok(false),
            Err(errno) => return Err(errno).trying(|| "give a node of metadata back".to_owned()),
        }
        Ok(true)
    }

    /// What the ballast of data leaves beside what is wanted, where both are of one space.
    pub(super) fn last(&self) -> u64 {
        SHARED * self.node
    }

    fn free(&self) -> Result<u64, Failure> {
        let counters = self.mounted.counters()?;
        Ok(counters.metadata_free().unwrap_or(counters.data_free).0)
    }
}
