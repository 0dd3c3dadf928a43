//! Regions by name: which bytes of the disk they are, on the filesystem that is mounted, at this moment.

mod chunk;
mod log_tree;

use std::fs::File;
use std::sync::Arc;

use brim_trial::{ByteRange, Bytes, FilesystemKind};
use rustix::fs::{Mode, OFlags};

use crate::Failure;
use crate::asks::Asks;
use crate::device::Device;
use crate::devices::Devices;
use crate::failure::Trying;
use crate::site::Site;
use crate::sys;
use chunk::{ChunkMap, Kind, Place};

/// What a name may be, for messages.
const NAMES: &str = "`superblock`, `file:PATH`, and on btrfs `data`, `metadata`, `system`, `log-tree` and `block-group-of:PATH`";

/// Where regions are looked for: a mounted filesystem, and one of its disks.
#[derive(Debug)]
pub(crate) struct Ground<'a> {
    kind: FilesystemKind,
    root: File,
    devices: &'a Devices,
    device: Arc<Device>,
}

impl<'a> Ground<'a> {
    /// The filesystem with this root, and the disk of this name, or the first.
    pub(crate) fn at(
        kind: FilesystemKind,
        root: File,
        devices: &'a Devices,
        disk: Option<&str>,
    ) -> Result<Self, Failure> {
        Ok(Self { kind, root, devices, device: devices.get(disk)? })
    }

    /// Where a trial works.
    pub(crate) fn of(trial: &Site, devices: &'a Devices, disk: Option<&str>) -> Result<Self, Failure> {
        let (kind, root) = trial.with(|mounted| {
            let root = mounted.root().try_clone().trying(|| "look at the mount".to_owned())?;
            Ok((mounted.kind(), root))
        })?;
        Self::at(kind, root, devices, disk)
    }

    /// The number that btrfs has given the disk.
    fn number(&self, region: &str) -> Result<u64, Failure> {
        let members = self.members()?;
        let number = members.iter().find(|(_, path)| path == self.device.path()).map(|(number, _)| *number);
        number.ok_or_else(|| refused(region, "the disk is not in the filesystem"))
    }

    /// The devices of the filesystem: the number of each, and its path.
    fn members(&self) -> Result<Vec<(u64, String)>, Failure> {
        sys::btrfs::devices(&self.root).trying(|| "ask btrfs for its devices".to_owned())
    }
}

/// The bytes of the region `name`, in order; those that lie together are one range.
///
/// On btrfs of several disks these are the bytes on this one.
pub(crate) fn resolve(name: &str, ground: &Ground<'_>, asks: &Asks) -> Result<Vec<ByteRange>, Failure> {
    let kind = ground.kind;
    let (word, path) = match name.split_once(':') {
        Some((word, path)) => (word, Some(path)),
        None => (name, None),
    };
    let found = match (word, path, kind) {
        ("superblock", None, _) => superblocks(kind, ground.device.size()?),
        ("file", Some(path), FilesystemKind::Btrfs) => {
            places(path, ground)?.physical(&extents(path, ground)?, Place::Range, ground.number(name)?)?
        }
        ("file", Some(path), _) => {
            sys::fiemap(&open(path, ground)?).map_err(|why| of_file(path, &why.to_string()))?
        }
        ("block-group-of", Some(path), FilesystemKind::Btrfs) => {
            places(path, ground)?.physical(&extents(path, ground)?, Place::Chunk, ground.number(name)?)?
        }
        ("data", None, FilesystemKind::Btrfs) => chunks(ground)?.of(Kind::Data, ground.number(name)?),
        ("metadata", None, FilesystemKind::Btrfs) => chunks(ground)?.of(Kind::Metadata, ground.number(name)?),
        ("system", None, FilesystemKind::Btrfs) => chunks(ground)?.of(Kind::System, ground.number(name)?),
        ("log-tree", None, FilesystemKind::Btrfs) => log_trees(name, ground, asks)?,
        _ => return Err(refused(name, &format!("{kind} has no such region")).with_help(NAMES)),
    };
    if found.is_empty() {
        return Err(refused(name, "it has no byte on this disk yet"));
    }
    Ok(joined(found))
}

/// The log trees that are on the disk, all copies. The kernel tells nobody where they are, so they are read from the disks, of which
/// no fault sees anything.
fn log_trees(name: &str, ground: &Ground<'_>, asks: &Asks) -> Result<Vec<ByteRange>, Failure> {
    let (chunks, here, members) = (chunks(ground)?, ground.number(name)?, ground.members()?);
    let disks = ground.devices.named();
    let disk_at = |path: &str| disks.iter().find(|(_, device)| device.path() == path).map(|(disk, _)| disk);
    let mut read = |logical: ByteRange| {
        // One copy is as good as the other, and a block lies within one chunk, and within one turn of a striped one.
        for (number, path) in &members {
            let copies = chunks.physical(&[logical], Place::Range, *number)?;
            let whole = copies.first().filter(|copy| copy.length == logical.length);
            if let (Some(copy), Some(disk)) = (whole, disk_at(path)) {
                return asks.peek(disk, *copy);
            }
        }
        Err(Failure::new("read the log tree", "no disk that is here has a whole copy of it"))
    };
    let disk = disk_at(ground.device.path());
    let disk = disk.ok_or_else(|| refused(name, "the disk is not here"))?;
    let blocks = log_tree::blocks(&asks.peek(disk, log_tree::SUPERBLOCK)?, &mut read)?;
    if blocks.is_empty() {
        return Err(refused(name, "the superblock names no log tree").with_help(
            "there is one from an fsync on until the next commit; an fsync that has to commit leaves none",
        ));
    }
    chunks.physical(&blocks, Place::Range, here)
}

/// What the user asked for that cannot be.
fn refused(name: &str, why: &str) -> Failure {
    Failure::new(format!("find the region \"{name}\""), why).refused()
}

fn of_file(path: &str, why: &str) -> Failure {
    refused(&format!("file:{path}"), why)
        .with_help("a file has its place once it is allocated or written back: `arm` the fault after that")
}

/// Where each filesystem has its superblocks. Of ext4 and xfs the first alone: they write the others at mkfs and resize.
fn superblocks(kind: FilesystemKind, size: Bytes) -> Vec<ByteRange> {
    let all: &[(u64, u64)] = match kind {
        // fs/btrfs/disk-io.h, btrfs_sb_offset, v6.12: BTRFS_SUPER_INFO_SIZE at each.
        FilesystemKind::Btrfs => &[(64 << 10, 4096), (64 << 20, 4096), (256 << 30, 4096)],
        // fs/ext4/super.c, v6.12: 1024 bytes behind the boot block.
        FilesystemKind::Ext4 => &[(1024, 1024)],
        // fs/xfs/libxfs/xfs_format.h, XFS_SB_DADDR, v6.12: the first sector.
        FilesystemKind::Xfs => &[(0, 512)],
    };
    let ranges =
        all.iter().map(|(offset, length)| ByteRange { offset: Bytes(*offset), length: Bytes(*length) });
    ranges.filter(|range| range.end() <= size).collect()
}

fn open(path: &str, ground: &Ground<'_>) -> Result<File, Failure> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(&ground.root, path, flags, Mode::empty()).map(File::from);
    opened.trying(|| format!("open {path} to find where it lies")).map_err(Failure::refused)
}

fn chunks(ground: &Ground<'_>) -> Result<ChunkMap, Failure> {
    let what = || "read the chunk tree".to_owned();
    let items = sys::btrfs::chunk_items(&ground.root).trying(what)?;
    ChunkMap::read(&items).ok_or_else(|| Failure::new(what(), "a chunk is not as btrfs writes it"))
}

/// The chunks, for somebody who asks about `path`.
fn places(path: &str, ground: &Ground<'_>) -> Result<ChunkMap, Failure> {
    chunks(ground).map_err(|failure| Failure { what: format!("{} for {path}", failure.what), ..failure })
}

/// The logical addresses of a file on btrfs, also of what is allocated and not written.
fn extents(path: &str, ground: &Ground<'_>) -> Result<Vec<ByteRange>, Failure> {
    let file = open(path, ground)?;
    // FIEMAP leaves out where a preallocated extent lies while something dirty is in it; the tree has it always.
    let items = sys::btrfs::extent_items(&file).trying(|| format!("read the extents of {path}"))?;
    let extents = items.iter().map(|item| chunk::extent(&item.data));
    let extents = extents.collect::<Option<Vec<_>>>();
    let extents = extents.ok_or_else(|| of_file(path, "it is inside a leaf of a tree, and not in data"))?;
    let extents: Vec<ByteRange> = extents.into_iter().filter(|extent| extent.length > Bytes::ZERO).collect();
    if extents.is_empty() { Err(of_file(path, "it has no byte on the disk yet")) } else { Ok(extents) }
}

/// The same bytes, in order, with those that lie together as one range.
fn joined(mut ranges: Vec<ByteRange>) -> Vec<ByteRange> {
    ranges.sort_unstable();
    let mut joined: Vec<ByteRange> = Vec::new();
    for range in ranges {
        match joined.last_mut().filter(|last| range.offset <= last.end()) {
            Some(last) => last.length = Bytes(last.end().max(range.end()).0 - last.offset.0),
            None => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(offset: u64, length: u64) -> ByteRange {
        ByteRange { offset: Bytes(offset), length: Bytes(length) }
    }

    #[test]
    fn superblocks_are_where_the_disk_reaches() {
        let count = |size| superblocks(FilesystemKind::Btrfs, Bytes(size)).len();
        assert_eq!(count((64 << 20) + 4095), 1);
        assert_eq!(count((64 << 20) + 4096), 2);
        assert_eq!(count(1 << 40), 3);
        assert_eq!(superblocks(FilesystemKind::Ext4, Bytes(1 << 20)), [range(1024, 1024)]);
    }

    #[test]
    fn what_lies_together_is_one_range() {
        assert_eq!(
            joined(vec![range(20, 5), range(0, 4), range(4, 4), range(21, 2)]),
            [range(0, 8), range(20, 5)]
        );
    }
}
