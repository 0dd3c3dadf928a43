//! Which of the requests that wait at a gate are let go.

use brim_device::fault::ErrorName;
use serde::{Deserialize, Serialize};

/// Requests that a gate lets go while it holds others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Those that go, in this order.
    pub which: Which,
    /// They are not done, and answered with this error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorName>,
}

/// Requests that wait at a gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// All of them, in order of arrival.
    All,
    /// All of them, the last one first.
    Reversed,
    /// The first so many, in order of arrival.
    First(u64),
    /// Those with these places in the order of arrival, counted from 1; in this order.
    Only(Vec<u64>),
}

impl Which {
    /// How many requests have to wait at the gate for this to be possible.
    #[must_use]
    pub fn at_least(&self) -> u64 {
        match self {
            Self::All | Self::Reversed => 0,
            Self::First(count) => *count,
            Self::Only(places) => places.iter().copied().max().unwrap_or(0),
        }
    }

    /// Of `held` requests in order of arrival, those that go; fewer where there are not enough.
    pub fn of<'a, T>(&self, held: &'a [T]) -> Vec<&'a T> {
        let at = |place: &u64| {
            let index = place.checked_sub(1).and_then(|index| usize::try_from(index).ok());
            index.and_then(|index| held.get(index))
        };
        match self {
            Self::All => held.iter().collect(),
            Self::Reversed => held.iter().rev().collect(),
            Self::First(count) => held.iter().take(usize::try_from(*count).unwrap_or(usize::MAX)).collect(),
            Self::Only(places) => places.iter().filter_map(at).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Which;

    #[test]
    fn places_are_counted_from_one_in_order_of_arrival() {
        let held = ["a", "b", "c"];
        for (which, goes, at_least) in [
            (Which::All, vec!["a", "b", "c"], 0),
            (Which::Reversed, vec!["c", "b", "a"], 0),
            (Which::First(2), vec!["a", "b"], 2),
            (Which::Only(vec![3, 1]), vec!["c", "a"], 3),
            (Which::Only(vec![4, 0, 2]), vec!["b"], 4),
        ] {
            assert_eq!(which.of(&held).into_iter().copied().collect::<Vec<_>>(), goes, "{which:?}");
            assert_eq!(which.at_least(), at_least, "{which:?}");
        }
    }
}
