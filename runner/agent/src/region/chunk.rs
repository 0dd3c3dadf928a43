//! btrfs' map from logical addresses to places on its one device, as the items of its trees say it.

use std::collections::BTreeMap;

use brim_trial::{ByteRange, Bytes};

use crate::Failure;
use crate::sys::btrfs::Item;

// include/uapi/linux/btrfs_tree.h, v6.12: BTRFS_BLOCK_GROUP_*.
const DATA: u64 = 1;
const SYSTEM: u64 = 2;
const METADATA: u64 = 4;
/// RAID0, RAID10, RAID5 and RAID6: those that lay a chunk out in turns over several devices.
const STRIPED: u64 = (1 << 3) | (1 << 6) | (1 << 7) | (1 << 8);
/// `struct btrfs_chunk` up to its first stripe, and the length of a stripe.
const CHUNK_HEAD: usize = 48;
const STRIPE: usize = 32;
/// The one device of every filesystem that brim makes.
const FIRST_DEVICE: u64 = 1;
/// `BTRFS_FILE_EXTENT_INLINE`.
const INLINE: u8 = 0;

/// What a chunk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Metadata,
    System,
}

impl Kind {
    const fn flag(self) -> u64 {
        match self {
            Self::Data => DATA,
            Self::Metadata => METADATA,
            Self::System => SYSTEM,
        }
    }
}

/// What of a chunk is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The bytes of the range alone.
    Range,
    /// All of every chunk that has one of them.
    Chunk,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Chunk {
    length: u64,
    flags: u64,
    /// Where each copy begins on the device.
    copies: Vec<u64>,
}

impl Chunk {
    /// `struct btrfs_chunk`; `None` where it is cut short or of several devices.
    fn read(data: &[u8]) -> Option<Self> {
        let (length, flags) = (number(data, 0)?, number(data, 24)?);
        let stripes = usize::from(u16::from_le_bytes(data.get(44..46)?.try_into().ok()?));
        let stripe = |index: usize| {
            let at = CHUNK_HEAD + index * STRIPE;
            (number(data, at)? == FIRST_DEVICE).then_some(())?;
            number(data, at + 8)
        };
        (flags & STRIPED == 0).then_some(())?;
        Some(Self { length, flags, copies: (0..stripes).map(stripe).collect::<Option<_>>()? })
    }

    /// All copies of a part.
    fn part(&self, offset: u64, length: u64) -> impl Iterator<Item = ByteRange> {
        self.copies.iter().map(move |copy| ByteRange { offset: Bytes(copy + offset), length: Bytes(length) })
    }
}

/// The chunks by their logical address. They do not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChunkMap(BTreeMap<u64, Chunk>);

impl ChunkMap {
    /// From the items of the chunk tree; `None` where one of them is of several devices.
    pub(super) fn read(items: &[Item]) -> Option<Self> {
        items
            .iter()
            .map(|item| Some((item.offset, Chunk::read(&item.data)?)))
            .collect::<Option<_>>()
            .map(Self)
    }

    /// Everything that is for `kind`, all copies. Where data and metadata share chunks, these are for both.
    pub(super) fn of(&self, kind: Kind) -> Vec<ByteRange> {
        let chunks = self.0.values().filter(|chunk| chunk.flags & kind.flag() != 0);
        chunks.flat_map(|chunk| chunk.part(0, chunk.length)).collect()
    }

    /// Where these logical addresses are on the device, all copies of them.
    pub(super) fn physical(&self, logical: &[ByteRange], place: Place) -> Result<Vec<ByteRange>, Failure> {
        let mut found = Vec::new();
        for range in logical {
            let (mut at, end) = (range.offset.0, range.end().0);
            while at < end {
                let (start, chunk) = self
                    .0
                    .range(..=at)
                    .next_back()
                    .filter(|(start, chunk)| at - **start < chunk.length)
                    .ok_or_else(|| Failure::new("find a place on the disk", format!("no chunk has {at}")))?;
                let part_end = end.min(start + chunk.length);
                match place {
                    Place::Range => found.extend(chunk.part(at - start, part_end - at)),
                    Place::Chunk => found.extend(chunk.part(0, chunk.length)),
                }
                at = part_end;
            }
        }
        Ok(found)
    }
}

/// The logical addresses in a `struct btrfs_file_extent_item`: none of them for a hole, `None` where the bytes are in the
/// item itself. Of what is compressed it is all of the extent, as no part of it stands for a part of the file.
pub(super) fn extent(data: &[u8]) -> Option<ByteRange> {
    let (compression, kind) = (*data.get(16)?, *data.get(20)?);
    if kind == INLINE {
        return None;
    }
    let (begin, length) = (number(data, 21)?, number(data, 29)?);
    let (offset, count) = (number(data, 37)?, number(data, 45)?);
    Some(match (begin, compression) {
        (0, _) => ByteRange::default(),
        (_, 0) => ByteRange { offset: Bytes(begin + offset), length: Bytes(count) },
        _ => ByteRange { offset: Bytes(begin), length: Bytes(length) },
    })
}

/// A little-endian number at an offset.
pub(super) fn number(data: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(data.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(offset: u64, length: u64) -> ByteRange {
        ByteRange { offset: Bytes(offset), length: Bytes(length) }
    }

    fn item(logical: u64, length: u64, flags: u64, copies: &[u64]) -> Item {
        let mut data = vec![0; CHUNK_HEAD];
        data[..8].copy_from_slice(&length.to_le_bytes());
        data[24..32].copy_from_slice(&flags.to_le_bytes());
        data[44..46].copy_from_slice(&u16::try_from(copies.len()).unwrap().to_le_bytes());
        for copy in copies {
            data.extend([1_u64, *copy].into_iter().flat_map(u64::to_le_bytes));
            data.extend([0; 16]);
        }
        Item { offset: logical, data }
    }

    #[test]
    fn a_duplicated_chunk_has_two_places() {
        let items = [item(1000, 100, DATA, &[50]), item(1100, 40, METADATA | (1 << 5), &[500, 700])];
        let map = ChunkMap::read(&items).unwrap();
        assert_eq!(map.of(Kind::Data), [range(50, 100)]);
        assert_eq!(map.of(Kind::Metadata), [range(500, 40), range(700, 40)]);
        assert!(map.of(Kind::System).is_empty());
        let across = map.physical(&[range(1090, 20)], Place::Range).unwrap();
        assert_eq!(across, [range(140, 10), range(500, 10), range(700, 10)]);
        assert_eq!(map.physical(&[range(1010, 1)], Place::Chunk).unwrap(), [range(50, 100)]);
        assert!(map.physical(&[range(1130, 20)], Place::Range).is_err(), "behind the last chunk");
    }

    #[test]
    fn chunks_of_several_devices_are_refused() {
        assert_eq!(ChunkMap::read(&[item(0, 10, DATA | (1 << 3), &[0, 9])]), None);
        let mut other = item(0, 10, DATA, &[0]);
        other.data[CHUNK_HEAD] = 2;
        assert_eq!(ChunkMap::read(&[other]), None);
    }

    #[test]
    fn extents_are_read_from_their_items() {
        let item = |kind: u8, compression: u8, numbers: [u64; 4]| {
            let mut data = vec![0; 21];
            (data[16], data[20]) = (compression, kind);
            data.extend(numbers.into_iter().flat_map(u64::to_le_bytes));
            data
        };
        assert_eq!(extent(&item(1, 0, [1000, 80, 16, 32])), Some(range(1016, 32)));
        assert_eq!(extent(&item(2, 0, [1000, 80, 0, 80])), Some(range(1000, 80)), "preallocated");
        assert_eq!(extent(&item(1, 3, [1000, 8, 16, 32])), Some(range(1000, 8)), "compressed");
        assert_eq!(extent(&item(1, 0, [0, 0, 0, 32])), Some(range(0, 0)), "a hole");
        assert_eq!(extent(&item(INLINE, 0, [1, 2, 3, 4])), None);
        assert_eq!(extent(&[1; 30]), None, "cut short");
    }

    proptest! {
        /// For all maps and ranges in them: every logical byte has its place in each copy of its chunk, in order.
        #[test]
        fn every_byte_has_its_place(
            lengths in prop::collection::vec((1..50_u64, 1..3_usize), 1..6), from in 0..100_u64, length in 0..100_u64,
        ) {
            let (mut logical, mut physical, mut items) = (0, 1_000_000, Vec::new());
            let mut expected: Vec<Vec<u64>> = Vec::new();
            for (chunk, copies) in lengths {
                // Copies lie apart from each other and from those of the next chunk.
                let copies: Vec<u64> = (0..copies).map(|_| { physical -= 100; physical }).collect();
                expected.extend((0..chunk).map(|at| copies.iter().map(|copy| copy + at).collect()));
                items.push(item(logical, chunk, DATA, &copies));
                logical += chunk;
            }
            let from = from.min(logical);
            let length = length.min(logical - from);
            let map = ChunkMap::read(&items).unwrap();
            let found = map.physical(&[range(from, length)], Place::Range).unwrap();
            let mut found: Vec<u64> = found.iter().flat_map(|range| range.offset.0..range.end().0).collect();
            let index = |number: u64| usize::try_from(number).unwrap();
            let mut expected: Vec<u64> = expected[index(from)..index(from + length)].concat();
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
