//! How many, or how much, a condition allows.

use std::fmt;

use brim_device::Bytes;
use serde::{Deserialize, Serialize};

/// From `at_least` on, up to `at_most` where there is one; both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Nothing below it.
    pub at_least: u64,
    /// Nothing above it.
    pub at_most: Option<u64>,
}

/// A counter's way from one reading to another, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Up by so much.
    Grew(Limits),
    /// Down by so much.
    Shrank(Limits),
    /// Neither.
    Unchanged,
}

impl Limits {
    /// Once or more.
    pub const SOME: Self = Self { at_least: 1, at_most: None };

    /// This and nothing else.
    #[must_use]
    pub fn exactly(count: u64) -> Self {
        Self { at_least: count, at_most: Some(count) }
    }

    /// Whether `count` is allowed.
    #[must_use]
    pub fn contain(self, count: u64) -> bool {
        count >= self.at_least && self.at_most.is_none_or(|most| count <= most)
    }

    /// Whether a count is allowed of which `seen` were seen, and perhaps more happened; `None` where that settles nothing.
    #[must_use]
    pub fn contain_at_least(self, seen: u64) -> Option<bool> {
        match self.at_most {
            Some(most) if seen > most => Some(false),
            None if seen >= self.at_least => Some(true),
            _ => None,
        }
    }

    /// In words, with `show` for a number: `at least 3`.
    fn words(self, show: impl Fn(u64) -> String) -> String {
        match self {
            Self { at_least: 0, at_most: None } => "whatever".to_owned(),
            Self { at_least, at_most: None } => format!("at least {}", show(at_least)),
            Self { at_least: 0, at_most: Some(most) } if most > 0 => format!("at most {}", show(most)),
            Self { at_least, at_most: Some(most) } if at_least == most => format!("exactly {}", show(most)),
            Self { at_least, at_most: Some(most) } => format!("{} to {}", show(at_least), show(most)),
        }
    }

    /// Of bytes: `at least 4 KiB`.
    #[must_use]
    pub fn of_bytes(self) -> String {
        self.words(|bytes| Bytes(bytes).to_string())
    }

    /// Of something that happens: `exactly once`, `at least 3 times`.
    #[must_use]
    pub fn of_times(self) -> String {
        match self {
            Self { at_least: 0, at_most: Some(0) } => "never".to_owned(),
            Self { at_least: 1, at_most: Some(1) } => "exactly once".to_owned(),
            Self::SOME => "at least once".to_owned(),
            Self { at_least: 0, at_most: Some(1) } => "at most once".to_owned(),
            _ => format!("{self} times"),
        }
    }
}

impl fmt::Display for Limits {
    /// Of a count: `at least 3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words(|count| count.to_string()))
    }
}

impl Change {
    /// Whether the way from `before` to `after` is this one.
    #[must_use]
    pub fn fits(self, before: i128, after: i128) -> bool {
        let up = after - before;
        // Past 2^64 is past every limit.
        let bytes = u64::try_from(up.unsigned_abs()).unwrap_or(u64::MAX);
        match self {
            Self::Grew(limits) => up >= 0 && limits.contain(bytes),
            Self::Shrank(limits) => up <= 0 && limits.contain(bytes),
            Self::Unchanged => up == 0,
        }
    }
}

impl fmt::Display for Change {
    /// What the counter does: `grows by at least 4 KiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grew(limits) => write!(f, "grows by {}", limits.of_bytes()),
            Self::Shrank(limits) => write!(f, "shrinks by {}", limits.of_bytes()),
            Self::Unchanged => f.write_str("stays as it is"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits() -> impl Strategy<Value = Limits> {
        (0..6u64, proptest::option::of(0..6u64)).prop_map(|(at_least, at_most)| Limits { at_least, at_most })
    }

    proptest! {
        /// For all limits and all counts of which only a part was seen: what that part settles, the whole count does not undo.
        #[test]
        fn what_a_part_settles_holds_for_the_whole(limits in limits(), seen in 0..8u64, more in 0..8u64) {
            if let Some(settled) = limits.contain_at_least(seen) {
                prop_assert_eq!(limits.contain(seen + more), settled);
            }
        }

        /// For all ways of a counter: it grew or shrank by exactly so much, and by nothing else.
        #[test]
        fn a_change_is_what_it_is(before in 0..1_000_i128, after in 0..1_000_i128) {
            let by = Limits::exactly(u64::try_from((after - before).unsigned_abs()).unwrap());
            let (grew, shrank) = (Change::Grew(by).fits(before, after), Change::Shrank(by).fits(before, after));
            prop_assert_eq!(grew, after >= before);
            prop_assert_eq!(shrank, after <= before);
            prop_assert_eq!(Change::Unchanged.fits(before, after), before == after);
        }
    }

    #[test]
    fn limits_read_as_sentences() {
        let limits = |at_least, at_most| Limits { at_least, at_most };
        assert_eq!(limits(3, None).to_string(), "at least 3");
        assert_eq!(limits(0, Some(3)).to_string(), "at most 3");
        assert_eq!(limits(2, Some(3)).to_string(), "2 to 3");
        assert_eq!(Limits::exactly(4096).of_bytes(), "exactly 4 KiB");
        assert_eq!(Limits::exactly(1).of_times(), "exactly once");
        assert_eq!(limits(2, None).of_times(), "at least 2 times");
        assert_eq!(Limits::exactly(0).of_times(), "never");
    }
}
