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
