//! Numbers that carry their unit.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The block of the store: what is allocated, shared and freed as one.
pub const BLOCK: Bytes = Bytes(4096);

/// What every disk is a multiple of.
pub const SECTOR: Bytes = Bytes(512);

/// A size or an offset in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// No bytes.
    pub const ZERO: Self = Self(0);

    /// The length of something in memory.
    #[must_use]
    pub fn of_len(len: usize) -> Self {
        // No target has a `usize` of more than 64 bits.
        Self(u64::try_from(len).unwrap_or(u64::MAX))
    }

    /// As a length of something in memory; `None` where it would not fit.
    #[must_use]
    pub fn to_len(self) -> Option<usize> {
        usize::try_from(self.0).ok()
    }

    /// The sum, or `None` past 2^64 − 1.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference, or `None` below zero.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }

    /// The product, or `None` past 2^64 − 1.
    #[must_use]
    pub const fn checked_mul(self, count: u64) -> Option<Self> {
        match self.0.checked_mul(count) {
            Some(product) => Some(Self(product)),
            None => None,
        }
    }

    /// Whether this is a whole number of `unit`; nothing but zero is a whole number of no bytes.
    #[must_use]
    pub const fn is_multiple_of(self, unit: Self) -> bool {
        self.0.is_multiple_of(unit.0)
    }
}

/// Bytes of a disk that lie together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByteRange {
    /// The first.
    pub offset: Bytes,
    /// How many.
    pub length: Bytes,
}

impl ByteRange {
    /// Where it ends: the first byte that is not in it.
    #[must_use]
    pub const fn end(self) -> Bytes {
        Bytes(self.offset.0.saturating_add(self.length.0))
    }

    /// Whether it has a byte in common with another one.
    #[must_use]
    pub fn touches(self, other: Self) -> bool {
        self.offset.max(other.offset) < self.end().min(other.end())
    }

    /// The same bytes as ranges in order that are apart from one another.
    #[must_use]
    pub fn union(mut ranges: Vec<Self>) -> Vec<Self> {
        ranges.sort_unstable();
        let mut apart: Vec<Self> = Vec::new();
        for range in ranges.into_iter().filter(|range| range.length > Bytes::ZERO) {
            match apart.last_mut().filter(|last| range.offset <= last.end()) {
                Some(last) => last.length = Bytes(last.end().max(range.end()).0 - last.offset.0),
                None => apart.push(range),
            }
        }
        apart
    }

    /// What it has in common with another one; `None` when that is nothing.
    #[must_use]
    pub fn overlap(self, other: Self) -> Option<Self> {
        let offset = self.offset.max(other.offset);
        let length =
            self.end().min(other.end()).checked_sub(offset).filter(|length| *length > Bytes::ZERO)?;
        Some(Self { offset, length })
    }
}

/// A number from zero on, in billionths, so that the same text is always the same number: 0.25, 1.5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ratio(pub u64);

impl Ratio {
    /// Nothing, or never.
    pub const ZERO: Self = Self(0);
    /// All, or always.
    pub const ONE: Self = Self(1_000_000_000);

    /// As the floating-point number next to it.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        Nanos(self.0).to_f64() / 1e9
    }

    /// The next billionth; `None` below zero, for no number, and past 18 billion.
    #[must_use]
    pub fn from_f64(number: f64) -> Option<Self> {
        (0.0..=1.8e10).contains(&number).then(|| Self(Nanos::from_f64((number * 1e9).round()).0))
    }
}

impl Serialize for Ratio {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.to_f64())
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        Self::from_f64(number).ok_or_else(|| serde::de::Error::custom("a number from 0 on is expected here"))
    }
}

impl fmt::Display for Bytes {
    /// Exact: in the largest of TiB, GiB, MiB and KiB that divides it, else in bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] =
            [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let (unit, name) = UNITS
            .into_iter()
            .find(|(unit, _)| self.0 != 0 && self.0.is_multiple_of(*unit))
            .unwrap_or((1, "B"));
        f.pad(&format!("{} {name}", self.0 / unit))
    }
}

/// A span of time, or a moment since some start, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The sum, or `None` past 2^64 − 1.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }
}

impl Nanos {
    /// As the floating-point number next to it.
    #[must_use]
    #[expect(
        clippy::as_conversions,
        clippy::cast_precision_loss,
        reason = "a float has 53 bits of it, which is 1 in 10^15"
    )]
    pub fn to_f64(self) -> f64 {
        self.0 as f64
    }

    /// The whole nanoseconds of a number: none below zero and for no number, and at most 2^64 − 1.
    #[must_use]
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, which is what is wanted here"
    )]
    pub fn from_f64(number: f64) -> Self {
        Self(number as u64)
    }
}

impl fmt::Display for Nanos {
    /// Exact: in the largest of s, ms and µs that divides it, else in ns.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")];
        let (unit, name) = UNITS
            .into_iter()
            .find(|(unit, _)| self.0 != 0 && self.0.is_multiple_of(*unit))
            .unwrap_or((1, "ns"));
        f.pad(&format!("{} {name}", self.0 / unit))
    }
}

impl From<Nanos> for std::time::Duration {
    fn from(nanos: Nanos) -> Self {
        Self::from_nanos(nanos.0)
    }
}

impl From<std::time::Duration> for Nanos {
    /// Spans longer than 584 years are cut to that.
    fn from(duration: std::time::Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_shown_exactly() {
        for (size, text) in [
            (0, "0 B"),
            (1, "1 B"),
            (512, "512 B"),
            (1024, "1 KiB"),
            (132_096, "129 KiB"),
            (132_097, "132097 B"),
            (128 << 20, "128 MiB"),
            (3 << 30, "3 GiB"),
            (1 << 50, "1024 TiB"),
        ] {
            assert_eq!(Bytes(size).to_string(), text);
        }
        assert_eq!(format!("{:>8}", Bytes(4096)), "   4 KiB");
    }

    proptest! {
        /// For all ranges: their union has their bytes, in order, and no two of its ranges touch.
        #[test]
        fn a_union_has_the_same_bytes(ranges in prop::collection::vec((0u64..60, 0u64..9), 0..12)) {
            let range = |(offset, length)| ByteRange { offset: Bytes(offset), length: Bytes(length) };
            let ranges: Vec<ByteRange> = ranges.into_iter().map(range).collect();
            let union = ByteRange::union(ranges.clone());
            let has = |ranges: &[ByteRange], at| ranges.iter().any(|own| own.touches(range((at, 1))));
            for at in 0..80 {
                prop_assert_eq!(has(&ranges, at), has(&union, at), "{}", at);
            }
            prop_assert!(union.windows(2).all(|pair| pair[0].end() < pair[1].offset), "{:?}", union);
        }

        /// For all sizes: what is shown is the size, to the byte.
        #[test]
        fn display_loses_nothing(size in prop_oneof![any::<u64>(), (0u64..1 << 24).prop_map(|n| n << 40)]) {
            let text = Bytes(size).to_string();
            let (number, unit) = text.split_once(' ').unwrap();
            let factor = match unit { "B" => 1, "KiB" => 1 << 10, "MiB" => 1 << 20, "GiB" => 1 << 30, _ => 1 << 40 };
            prop_assert_eq!(number.parse::<u64>().unwrap() * factor, size);
        }
    }
}
