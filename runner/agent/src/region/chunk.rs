//! btrfs' map from logical addresses to places on its devices, as the items of its trees say it.

use std::collections::BTreeMap;

use brim_trial::{ByteRange, Bytes};

use crate::Failure;
use crate::sys::btrfs::Item;

// include/uapi/linux/btrfs_tree.h, v6.12: BTRFS_BLOCK_GROUP_*.
const DATA: u64 = 1;
const SYSTEM: u64 = 2;
const METADATA: u64 = 4;
const RAID0: u64 = 1 << 3;
const RAID10: u64 = 1 << 6;
const RAID5: u64 = 1 << 7;
const RAID6: u64 = 1 << 8;
/// `struct btrfs_chunk` up to its first stripe, and the length of a stripe.
const CHUNK_HEAD: usize = 48;
const STRIPE: usize = 32;
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
    /// How much of a striped chunk is on one device before the next one has its turn.
    turn: u64,
    /// On how many devices of a striped chunk the same bytes are.
    copies: usize,
    /// Where it is: the number of the device, and where on it its part begins.
    stripes: Vec<(u64, u64)>,
}

impl Chunk {
    /// `struct btrfs_chunk`; `None` where it is cut short, or cannot be.
    fn read(data: &[u8]) -> Option<Self> {
        let (length, flags, turn) = (number(data, 0)?, number(data, 24)?, number(data, 16)?);
        let count = |at: usize| Some(usize::from(u16::from_le_bytes(data.get(at..at + 2)?.try_into().ok()?)));
        let (stripes, copies) = (count(44)?, count(46)?);
        let stripe = |index: usize| {
            let at = CHUNK_HEAD + index * STRIPE;
            Some((number(data, at)?, number(data, at + 8)?))
        };
        let stripes = (0..stripes).map(stripe).collect::<Option<Vec<_>>>()?;
        let chunk = Self { length, flags, turn, copies, stripes };
        let is_possible = chunk.columns() > 0 && (!chunk.is_striped() || turn > 0);
        is_possible.then_some(chunk)
    }

    const fn is_striped(&self) -> bool {
        self.flags & (RAID0 | RAID10 | RAID5 | RAID6) != 0
    }

    /// Over how many devices the bytes are spread, copies and parities not counted.
    fn columns(&self) -> usize {
        let stripes = self.stripes.len();
        match self.flags & (RAID0 | RAID10 | RAID5 | RAID6) {
            0 => stripes.min(1),
            RAID10 => stripes.checked_div(self.copies).unwrap_or(0),
            RAID5 => stripes.saturating_sub(1),
            RAID6 => stripes.saturating_sub(2),
            _ => stripes,
        }
    }

    /// All that the chunk takes of a device.
    fn whole(&self, device: u64) -> impl Iterator<Item = ByteRange> {
        let columns = u64::try_from(self.columns()).unwrap_or(1).max(1);
        let length = Bytes(self.length / columns);
        let here = self.stripes.iter().filter(move |(number, _)| *number == device);
        here.map(move |(_, begin)| ByteRange { offset: Bytes(*begin), length })
    }

    /// Where a part of the chunk is on a device, all copies of it; `None` where a parity is part of the answer.
    fn part(&self, offset: u64, length: u64, device: u64) -> Option<Vec<ByteRange>> {
        let here = |stripes: &[(u64, u64)], offset: u64, length: u64| {
            let here = stripes.iter().filter(|(number, _)| *number == device);
            let range =
                |(_, begin): &(u64, u64)| ByteRange { offset: Bytes(begin + offset), length: Bytes(length) };
            here.map(range).collect::<Vec<_>>()
        };
        if !self.is_striped() {
            return Some(here(&self.stripes, offset, length));
        }
        if self.flags & (RAID5 | RAID6) != 0 {
            return None;
        }
        let copies = if self.flags & RAID10 != 0 { self.copies } else { 1 };
        let columns: Vec<&[(u64, u64)]> = self.stripes.chunks(copies).collect();
        let count = u64::try_from(columns.len()).ok()?;
        let (mut found, mut at) = (Vec::new(), offset);
        let end = offset + length;
        while at < end {
            let (turn, within) = (at / self.turn, at % self.turn);
            let step = (self.turn - within).min(end - at);
            let column = columns.get(usize::try_from(turn % count).ok()?)?;
            found.extend(here(column, turn / count * self.turn + within, step));
            at += step;
        }
        Some(found)
    }
}

/// The chunks by their logical address. They do not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChunkMap(BTreeMap<u64, Chunk>);

impl ChunkMap {
    /// From the items of the chunk tree; `None` where one of them cannot be.
    pub(super) fn read(items: &[Item]) -> Option<Self> {
        items
            .iter()
            .map(|item| Some((item.offset, Chunk::read(&item.data)?)))
            .collect::<Option<_>>()
            .map(Self)
    }

    /// Everything on a device that is for `kind`, all copies. Where data and metadata share chunks, these are for both.
    pub(super) fn of(&self, kind: Kind, device: u64) -> Vec<ByteRange> {
        let chunks = self.0.values().filter(|chunk| chunk.flags & kind.flag() != 0);
        chunks.flat_map(|chunk| chunk.whole(device)).collect()
    }

    /// Where these logical addresses are on the device, all copies of them that are there.
    pub(super) fn physical(
        &self,
        logical: &[ByteRange],
        place: Place,
        device: u64,
    ) -> Result<Vec<ByteRange>, Failure> {
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
                    Place::Range => {
                        found.extend(chunk.part(at - start, part_end - at, device).ok_or_else(parity)?);
                    }
                    Place::Chunk => found.extend(chunk.whole(device)),
                }
                at = part_end;
            }
        }
        Ok(found)
    }
}

fn parity() -> Failure {
    let why = "on RAID 5 and 6 every write goes to a parity as well";
    Failure::new("find a file on the disk", why).refused().with_help("name `block-group-of:PATH` or `data`")
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
fn number(data: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(data.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(offset: u64, length: u64) -> ByteRange {
        ByteRange { offset: Bytes(offset), length: Bytes(length) }
    }

    /// All on device 1.
    fn item(logical: u64, length: u64, flags: u64, copies: &[u64]) -> Item {
        let stripes: Vec<(u64, u64)> = copies.iter().map(|copy| (1, *copy)).collect();
        chunk(logical, length, flags, 1, &stripes)
    }

    fn chunk(logical: u64, length: u64, flags: u64, copies: u8, stripes: &[(u64, u64)]) -> Item {
        let mut data = vec![0; CHUNK_HEAD];
        data[16..24].copy_from_slice(&10_u64.to_le_bytes());
        data[46] = copies;
        data[..8].copy_from_slice(&length.to_le_bytes());
        data[24..32].copy_from_slice(&flags.to_le_bytes());
        data[44..46].copy_from_slice(&u16::try_from(stripes.len()).unwrap().to_le_bytes());
        for (device, begin) in stripes {
            data.extend([*device, *begin].into_iter().flat_map(u64::to_le_bytes));
            data.extend([0; 16]);
        }
        Item { offset: logical, data }
    }

    #[test]
    fn a_duplicated_chunk_has_two_places() {
        let items = [item(1000, 100, DATA, &[50]), item(1100, 40, METADATA | (1 << 5), &[500, 700])];
        let map = ChunkMap::read(&items).unwrap();
        assert_eq!(map.of(Kind::Data, 1), [range(50, 100)]);
        assert_eq!(map.of(Kind::Metadata, 1), [range(500, 40), range(700, 40)]);
        assert!(map.of(Kind::System, 1).is_empty() && map.of(Kind::Data, 2).is_empty());
        let across = map.physical(&[range(1090, 20)], Place::Range, 1).unwrap();
        assert_eq!(across, [range(140, 10), range(500, 10), range(700, 10)]);
        assert_eq!(map.physical(&[range(1010, 1)], Place::Chunk, 1).unwrap(), [range(50, 100)]);
        assert!(map.physical(&[range(1130, 20)], Place::Range, 1).is_err(), "behind the last chunk");
    }

    /// Each device has its part; on those that are spread, turns are 10 bytes here.
    #[test]
    fn chunks_of_several_devices_are_where_their_stripes_say() {
        let raid1 = chunk(0, 100, DATA | (1 << 4), 1, &[(1, 500), (3, 700)]);
        let turns = chunk(100, 60, DATA | RAID0, 1, &[(1, 1000), (2, 2000), (3, 3000)]);
        let pairs = chunk(200, 40, METADATA | RAID10, 2, &[(1, 4000), (2, 5000), (3, 6000), (4, 7000)]);
        let raid5 = chunk(300, 40, SYSTEM | RAID5, 1, &[(1, 8000), (2, 8100), (3, 8200)]);
        let map = ChunkMap::read(&[raid1, turns, pairs, raid5]).unwrap();
        assert_eq!(map.of(Kind::Data, 1), [range(500, 100), range(1000, 20)]);
        assert_eq!(map.of(Kind::Data, 2), [range(2000, 20)]);
        assert_eq!(map.of(Kind::Metadata, 3), [range(6000, 20)]);
        assert_eq!(map.of(Kind::System, 2), [range(8100, 20)]);
        assert!(map.of(Kind::Data, 4).is_empty());
        let part =
            |offset, length, device| map.physical(&[range(offset, length)], Place::Range, device).unwrap();
        assert_eq!(part(10, 5, 3), [range(710, 5)]);
        assert!(part(10, 5, 2).is_empty());
        // Bytes 5 to 45 of RAID0: the end of turn 0, turns 1 to 3, and the beginning of turn 4.
        assert_eq!(part(105, 40, 1), [range(1005, 5), range(1010, 10)]);
        assert_eq!(part(105, 40, 2), [range(2000, 10), range(2010, 5)]);
        assert_eq!(part(105, 40, 3), [range(3000, 10)]);
        // Turns of RAID10 alternate between pairs of devices.
        assert_eq!(part(200, 25, 2), [range(5000, 10), range(5010, 5)]);
        assert_eq!(part(200, 25, 4), [range(7000, 10)]);
        assert!(map.physical(&[range(300, 1)], Place::Range, 1).is_err(), "parity");
        assert_eq!(map.physical(&[range(300, 1)], Place::Chunk, 1).unwrap(), [range(8000, 20)]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(ChunkMap::read(&[chunk(0, 10, DATA, 1, &[])]), None);
        assert_eq!(ChunkMap::read(&[chunk(0, 10, DATA | RAID10, 0, &[(1, 0), (2, 0)])]), None);
        assert_eq!(ChunkMap::read(&[chunk(0, 10, DATA | RAID5, 1, &[(1, 0)])]), None);
        let mut cut = chunk(0, 10, DATA, 1, &[(1, 0)]);
        cut.data.truncate(60);
        assert_eq!(ChunkMap::read(&[cut]), None);
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
            let found = map.physical(&[range(from, length)], Place::Range, 1).unwrap();
            let mut found: Vec<u64> = found.iter().flat_map(|range| range.offset.0..range.end().0).collect();
            let index = |number: u64| usize::try_from(number).unwrap();
            let mut expected: Vec<u64> = expected[index(from)..index(from + length)].concat();
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
