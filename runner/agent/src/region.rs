//! Regions by name: which bytes of the disk they are, on the filesystem that is mounted, at this moment.

mod chunk;

use std::fs::File;

use brim_trial::{ByteRange, Bytes, FilesystemKind};

use crate::Failure;
use crate::device::Device;
use crate::failure::Trying;
use crate::site::Site;
use crate::sys;
use chunk::{ChunkMap, Kind, Place};

/// What a name may be, for messages.
const NAMES: &str =
    "`superblock`, `file:PATH`, and on btrfs `data`, `metadata`, `system` and `block-group-of:PATH`";

/// The bytes of the region `name`, in order; those that lie together are one range.
///
/// On btrfs of several disks these are the bytes on this one.
pub(crate) fn resolve(name: &str, site: &Site, device: &Device) -> Result<Vec<ByteRange>, Failure> {
    let kind = site.with(|mounted| Ok(mounted.kind()))?;
    let (word, path) = match name.split_once(':') {
        Some((word, path)) => (word, Some(path)),
        None => (name, None),
    };
    let found = match (word, path, kind) {
        ("superblock", None, _) => superblocks(kind, device.size()?),
        ("file", Some(path), FilesystemKind::Btrfs) => {
            places(path, site)?.physical(&extents(path, site)?, Place::Range, number(name, site, device)?)?
        }
        ("file", Some(path), _) => {
            sys::fiemap(&open(path, site)?).map_err(|why| of_file(path, &why.to_string()))?
        }
        ("block-group-of", Some(path), FilesystemKind::Btrfs) => {
            places(path, site)?.physical(&extents(path, site)?, Place::Chunk, number(name, site, device)?)?
        }
        ("data", None, FilesystemKind::Btrfs) => chunks(site)?.of(Kind::Data, number(name, site, device)?),
        ("metadata", None, FilesystemKind::Btrfs) => {
            chunks(site)?.of(Kind::Metadata, number(name, site, device)?)
        }
        ("system", None, FilesystemKind::Btrfs) => {
            chunks(site)?.of(Kind::System, number(name, site, device)?)
        }
        ("log-tree", None, _) => {
            let why =
                "each fsync makes the log tree anew, in blocks that nobody knows before they are written";
            return Err(refused(name, why).with_help("name `metadata`: the log tree is in it"));
        }
        _ => return Err(refused(name, &format!("{kind} has no such region")).with_help(NAMES)),
    };
    if found.is_empty() {
        return Err(refused(name, "it has no byte on this disk yet"));
    }
    Ok(joined(found))
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

fn open(path: &str, site: &Site) -> Result<File, Failure> {
    site.look(path).trying(|| format!("open {path} to find where it lies")).map_err(Failure::refused)
}

fn chunks(site: &Site) -> Result<ChunkMap, Failure> {
    let what = || "read the chunk tree".to_owned();
    let items = site.at(|root| sys::btrfs::chunk_items(root)).trying(what)?;
    ChunkMap::read(&items).ok_or_else(|| Failure::new(what(), "a chunk is not as btrfs writes it"))
}

/// The number that btrfs has given the disk.
fn number(region: &str, site: &Site, device: &Device) -> Result<u64, Failure> {
    let devices =
        site.at(|root| sys::btrfs::devices(root)).trying(|| "ask btrfs for its devices".to_owned())?;
    let number = devices.iter().find(|(_, path)| path == device.path()).map(|(number, _)| *number);
    number.ok_or_else(|| refused(region, "the disk is not in the filesystem"))
}

/// The chunks, for somebody who asks about `path`.
fn places(path: &str, site: &Site) -> Result<ChunkMap, Failure> {
    chunks(site).map_err(|failure| Failure { what: format!("{} for {path}", failure.what), ..failure })
}

/// The logical addresses of a file on btrfs, also of what is allocated and not written.
fn extents(path: &str, site: &Site) -> Result<Vec<ByteRange>, Failure> {
    let file = open(path, site)?;
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
