//! btrfs' log trees, as a superblock on the disk names them: what an fsync has left there until the next commit.

use std::collections::BTreeSet;

use brim_trial::{ByteRange, Bytes};

use super::chunk::number;
use crate::Failure;

/// What the primary superblock takes (fs/btrfs/disk-io.h, v6.12: `BTRFS_SUPER_INFO_OFFSET` and `_SIZE`).
pub(super) const SUPERBLOCK: ByteRange = ByteRange { offset: Bytes(64 << 10), length: Bytes(4096) };

// include/uapi/linux/btrfs_tree.h, v6.12: `struct btrfs_super_block`, by offset.
const MAGIC_AT: usize = 64;
const MAGIC: u64 = u64::from_le_bytes(*b"_BHRfS_M");
const LOG_ROOT_AT: usize = 96;
const NODE_SIZE_AT: usize = 148;

// The same: `struct btrfs_header`, behind which are items or pointers.
const ADDRESS_AT: usize = 48;
const OWNER_AT: usize = 88;
const COUNT_AT: usize = 96;
const LEVEL_AT: usize = 100;
const HEADER: usize = 101;
/// `struct btrfs_key_ptr`: a key of 17 bytes, then the address.
const POINTER: usize = 33;
/// `struct btrfs_item`: a key, then where its data are behind the header, and how many.
const ITEM: usize = 25;
const KEY: usize = 17;
/// The kind of a key, behind its object.
const KIND_AT: usize = 8;
const ROOT_ITEM: u8 = 132;
/// `struct btrfs_root_item`: behind the inode and two numbers.
const ROOT_ADDRESS_AT: usize = 176;
/// `BTRFS_TREE_LOG_OBJECTID`: of the tree of log trees, and of each of them.
const LOG_OWNER: u64 = 6_u64.wrapping_neg();
/// `BTRFS_MAX_LEVEL`.
const LEVELS_MAX: u8 = 8;

/// Reads so many bytes at a logical address.
pub(super) type Read<'a> = &'a mut dyn FnMut(ByteRange) -> Result<Vec<u8>, Failure>;

/// The logical addresses of all blocks of the log trees that a superblock names: none where it names no log.
pub(super) fn blocks(superblock: &[u8], read: Read<'_>) -> Result<Vec<ByteRange>, Failure> {
    let field = |at: usize| number(superblock, at).ok_or_else(|| odd("the superblock is cut short"));
    if field(MAGIC_AT)? != MAGIC {
        return Err(odd("no superblock of btrfs is there"));
    }
    let size = u32_at(superblock, NODE_SIZE_AT).ok_or_else(|| odd("the superblock is cut short"))?;
    let log_root = field(LOG_ROOT_AT)?;
    let mut walk = Walk { size: Bytes(u64::from(size)), seen: BTreeSet::new(), read };
    if log_root != 0 {
        walk.node(log_root, LEVELS_MAX)?;
    }
    let Walk { seen, size, .. } = walk;
    Ok(seen.into_iter().map(|address| ByteRange { offset: Bytes(address), length: size }).collect())
}

struct Walk<'a> {
    size: Bytes,
    seen: BTreeSet<u64>,
    read: Read<'a>,
}

impl Walk<'_> {
    /// A block of a tree below `above`, and what is below it.
    fn node(&mut self, address: u64, above: u8) -> Result<(), Failure> {
        if !self.seen.insert(address) {
            return Ok(());
        }
        let node = (self.read)(ByteRange { offset: Bytes(address), length: self.size })?;
        let is_it = number(&node, ADDRESS_AT) == Some(address) && number(&node, OWNER_AT) == Some(LOG_OWNER);
        let level = node.get(LEVEL_AT).copied().filter(|level| is_it && *level < above);
        let Some(level) = level else {
            return Err(odd(&format!("no block of a log tree is at the logical address {address}")));
        };
        for below in below(&node, level).ok_or_else(|| odd("a block of a log tree is cut short"))? {
            // The log tree of a subvolume begins anew with the levels.
            self.node(below, if level == 0 { LEVELS_MAX } else { level })?;
        }
        Ok(())
    }
}

/// The addresses in a block: of the blocks below it, or of the trees that its items are the roots of.
fn below(node: &[u8], level: u8) -> Option<Vec<u64>> {
    let count = usize::try_from(u32_at(node, COUNT_AT)?).ok()?;
    let mut found = Vec::new();
    for index in 0..count {
        if level > 0 {
            found.push(number(node, HEADER + index * POINTER + KEY)?);
            continue;
        }
        let item = HEADER + index * ITEM;
        if *node.get(item + KIND_AT)? == ROOT_ITEM {
            let data = usize::try_from(u32_at(node, item + KEY)?).ok()?;
            found.push(number(node, HEADER + data + ROOT_ADDRESS_AT)?);
        }
    }
    Some(found)
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(data.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn odd(why: &str) -> Failure {
    Failure::new("read the log tree", why)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const SIZE: usize = 4096;

    fn superblock(log_root: u64) -> Vec<u8> {
        let mut block = vec![0; 4096];
        block[MAGIC_AT..MAGIC_AT + 8].copy_from_slice(b"_BHRfS_M");
        block[LOG_ROOT_AT..LOG_ROOT_AT + 8].copy_from_slice(&log_root.to_le_bytes());
        block[NODE_SIZE_AT..NODE_SIZE_AT + 4].copy_from_slice(&u32::try_from(SIZE).unwrap().to_le_bytes());
        block
    }

    fn header(address: u64, level: u8, count: u32) -> Vec<u8> {
        let mut node = vec![0; SIZE];
        node[ADDRESS_AT..ADDRESS_AT + 8].copy_from_slice(&address.to_le_bytes());
        node[OWNER_AT..OWNER_AT + 8].copy_from_slice(&LOG_OWNER.to_le_bytes());
        node[COUNT_AT..COUNT_AT + 4].copy_from_slice(&count.to_le_bytes());
        node[LEVEL_AT] = level;
        node
    }

    /// A node that points to others.
    fn node(address: u64, level: u8, below: &[u64]) -> Vec<u8> {
        let mut node = header(address, level, u32::try_from(below.len()).unwrap());
        for (index, below) in below.iter().enumerate() {
            let at = HEADER + index * POINTER + KEY;
            node[at..at + 8].copy_from_slice(&below.to_le_bytes());
        }
        node
    }

    /// A leaf with an item of another kind, and the roots of these trees.
    fn leaf(address: u64, roots: &[u64]) -> Vec<u8> {
        let mut node = header(address, 0, u32::try_from(roots.len() + 1).unwrap());
        node[HEADER + KIND_AT] = 1;
        for (index, root) in roots.iter().enumerate() {
            let (item, data) = (HEADER + (index + 1) * ITEM, 1000 + index * 500);
            node[item + KIND_AT] = ROOT_ITEM;
            node[item + KEY..item + KEY + 4].copy_from_slice(&u32::try_from(data).unwrap().to_le_bytes());
            let at = HEADER + data + ROOT_ADDRESS_AT;
            node[at..at + 8].copy_from_slice(&root.to_le_bytes());
        }
        node
    }

    fn walk(log_root: u64, nodes: &[Vec<u8>]) -> Result<Vec<u64>, Failure> {
        let nodes: BTreeMap<u64, &Vec<u8>> =
            nodes.iter().map(|node| (number(node, ADDRESS_AT).unwrap(), node)).collect();
        let mut read = |range: ByteRange| {
            nodes.get(&range.offset.0).map(|node| (*node).clone()).ok_or_else(|| odd("nothing there"))
        };
        let blocks = blocks(&superblock(log_root), &mut read)?;
        assert!(blocks.iter().all(|block| block.length.0 == 4096));
        Ok(blocks.into_iter().map(|block| block.offset.0).collect())
    }

    #[test]
    fn a_log_is_its_roots_and_all_below_them() {
        let nodes = [
            leaf(1000, &[2000, 9000]),
            node(2000, 1, &[3000, 4000]),
            leaf(3000, &[]),
            leaf(4000, &[]),
            leaf(9000, &[]),
        ];
        assert_eq!(walk(1000, &nodes).unwrap(), [1000, 2000, 3000, 4000, 9000]);
        assert!(walk(0, &[]).unwrap().is_empty(), "no log");
    }

    #[test]
    fn what_is_no_log_tree_is_told() {
        assert!(walk(1000, &[]).is_err(), "nothing at the root");
        let mut other = leaf(1000, &[]);
        other[OWNER_AT] = 5;
        assert!(walk(1000, &[other]).is_err(), "a block of another tree");
        assert!(
            walk(1000, &[node(1000, 1, &[2000]), node(2000, 1, &[1000])]).is_err(),
            "levels that do not fall"
        );
        let mut long = leaf(1000, &[]);
        long[COUNT_AT..COUNT_AT + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(walk(1000, &[long]).is_err(), "more items than there is room for");
        assert!(blocks(&[0; 4096], &mut |_| Ok(Vec::new())).is_err(), "no superblock");
    }
}
