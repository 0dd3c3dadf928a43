//! A sparse disk as bytes: a map of what is not zero, then that, as GNU tar has it in its PAX format 1.0 (tar's manual, "Storing
//! Sparse Files"): so the disk in a bundle is a sparse file for every tar.

use std::io::{self, BufRead, BufReader, Read};

use brim_device::{BLOCK, ByteRange, Bytes, Piece, SECTOR, Store};

/// What a map is padded to: a record of an archive.
const RECORD: Bytes = SECTOR;
/// The longest line of a map: a number of 64 bits.
const DIGITS_MAX: u64 = 20;

/// The map of a disk.
pub(crate) struct Map(pub(crate) Vec<ByteRange>);

impl Map {
    /// Of all that is not zero, in order and apart.
    pub(crate) fn of(disk: &Store) -> Self {
        let mut ranges: Vec<ByteRange> = Vec::new();
        let mut at = Bytes::ZERO;
        let whole = disk.visit(Bytes::ZERO, disk.size(), |piece| {
            let length = piece.len();
            let is_zero = match &piece {
                Piece::Hole(_) => true,
                Piece::Data(page, range) => {
                    page.get(range.clone()).is_none_or(|bytes| bytes.iter().all(|byte| *byte == 0))
                }
            };
            if !is_zero {
                match ranges.last_mut().filter(|last| last.end() == at) {
                    Some(last) => last.length = Bytes(last.length.0 + length.0),
                    None => ranges.push(ByteRange { offset: at, length }),
                }
            }
            at = Bytes(at.0 + length.0);
        });
        assert!(whole.is_ok(), "a disk ends where it ends");
        Self(ranges)
    }

    /// How many bytes of data follow.
    pub(crate) fn data(&self) -> Bytes {
        Bytes(self.0.iter().map(|range| range.length.0).sum())
    }

    /// As text, padded. A disk that ends in a hole has that told by an empty range at its end.
    pub(crate) fn text(&self, size: Bytes) -> Vec<u8> {
        let mut ranges = self.0.clone();
        if ranges.last().is_none_or(|last| last.end() < size) {
            ranges.push(ByteRange { offset: size, length: Bytes::ZERO });
        }
        let mut lines = vec![ranges.len().to_string()];
        lines
            .extend(ranges.iter().flat_map(|range| [range.offset.0.to_string(), range.length.0.to_string()]));
        let mut text = lines.join("\n").into_bytes();
        text.push(b'\n');
        text.resize(text.len().next_multiple_of(RECORD.to_len().unwrap_or(1)), 0);
        text
    }

    /// Reads it, padded, for a disk of `size`. `None` for what is no map.
    fn read(from: &mut impl BufRead, size: Bytes) -> io::Result<Option<Self>> {
        let mut length = Bytes::ZERO;
        let Some(count) = number(from, &mut length)? else { return Ok(None) };
        let mut ranges: Vec<ByteRange> = Vec::new();
        let mut end = Bytes::ZERO;
        for _ in 0..count {
            let (Some(offset), Some(bytes)) = (number(from, &mut length)?, number(from, &mut length)?) else {
                return Ok(None);
            };
            let range = ByteRange { offset: Bytes(offset), length: Bytes(bytes) };
            let fits = range.offset.checked_add(range.length).is_some_and(|end| end <= size);
            // The blocks of a disk, its last one up to its end.
            let whole = range.offset.is_multiple_of(BLOCK)
                && (range.length.is_multiple_of(BLOCK) || range.end() == size);
            let end_of_disk = range.length == Bytes::ZERO && range.offset == size;
            if range.offset < end || !fits || !(whole || end_of_disk) {
                return Ok(None);
            }
            end = range.end();
            if range.length > Bytes::ZERO {
                ranges.push(range);
            }
        }
        let padding = length.0.next_multiple_of(RECORD.0) - length.0;
        let skipped = io::copy(&mut from.take(padding), &mut io::sink())?;
        Ok((skipped == padding).then_some(Self(ranges)))
    }
}

/// A number and the end of its line; adds how long both were.
fn number(from: &mut impl BufRead, length: &mut Bytes) -> io::Result<Option<u64>> {
    let mut line = Vec::new();
    from.take(DIGITS_MAX + 1).read_until(b'\n', &mut line)?;
    length.0 += Bytes::of_len(line.len()).0;
    let Some((b'\n', digits)) = line.split_last() else { return Ok(None) };
    let digits =
        std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    Ok(digits.and_then(|digits| digits.parse().ok()))
}

/// A disk as its map and its data, piece by piece.
pub(crate) fn pieces(disk: &Store, map: &Map, mut show: impl FnMut(&[u8])) {
    show(&map.text(disk.size()));
    for range in &map.0 {
        let whole = disk.visit(range.offset, range.length, |piece| match piece {
            Piece::Data(page, bytes) => show(page.get(bytes).unwrap_or_default()),
            Piece::Hole(length) => show(&vec![0; length.to_len().unwrap_or_default()]),
        });
        assert!(whole.is_ok(), "{range:?} is of a disk of {}", disk.size());
    }
}

/// A disk as bytes, without its size.
#[must_use]
pub fn encode(disk: &Store) -> Vec<u8> {
    let map = Map::of(disk);
    let mut bytes = Vec::new();
    pieces(disk, &map, |piece| bytes.extend_from_slice(piece));
    bytes
}

/// The disk of `size` that [`encode`] has made these bytes of; `None` where they are no such disk.
///
/// # Errors
/// They could not be read, or are cut short.
pub fn decode(bytes: impl Read, size: Bytes) -> io::Result<Option<Store>> {
    let mut bytes = BufReader::new(bytes);
    let Ok(mut disk) = Store::new(size) else { return Ok(None) };
    let Some(map) = Map::read(&mut bytes, size)? else { return Ok(None) };
    let mut block = [0; 4096];
    for range in map.0 {
        let mut at = range.offset;
        while at < range.end() {
            let length = BLOCK.min(Bytes(range.end().0 - at.0));
            let here = length.to_len().and_then(|length| block.get_mut(..length)).unwrap_or_default();
            bytes.read_exact(here)?;
            // What is zero takes no memory: a map that calls it data gains nothing.
            if here.iter().any(|byte| *byte != 0) && disk.write(at, here).is_err() {
                return Ok(None);
            }
            at = Bytes(at.0 + length.0);
        }
    }
    // Nothing follows.
    Ok(bytes.fill_buf()?.is_empty().then_some(disk))
}
