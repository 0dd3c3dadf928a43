//! Rates: so many requests or bytes a second, with a burst.

use serde::{Deserialize, Serialize};

use super::row::Request;
use crate::Nanos;

const SECOND: u128 = 1_000_000_000;

/// A rate that requests keep to, those of all connections together: a token bucket of `burst` that is full at first and refills
/// at `per_second`. What finds it empty waits its turn, in order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// What is counted.
    pub unit: Unit,
    /// How many of them a second.
    pub per_second: u64,
    /// How many may go at once after a pause. With none, each takes as long as its part of a second is.
    #[serde(default)]
    pub burst: u64,
}

/// What a [`Limit`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Each request.
    Requests,
    /// The bytes it reads, writes, trims or zeroes; a flush has none.
    Bytes,
}

impl Limit {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.per_second == 0 {
            Err("a rate of zero lets nothing through: hold requests instead")
        } else {
            Ok(())
        }
    }
}

/// How far ahead of its rate a limit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    /// When the bucket would be full again, in nanoseconds times `per_second`, so that nothing is rounded.
    full_at: u128,
}

impl Pace {
    /// When a request that comes now has its turn.
    pub(super) fn admit(&mut self, limit: &Limit, now: Nanos, request: &Request) -> Nanos {
        let rate = u128::from(limit.per_second.max(1));
        let tokens = match limit.unit {
            Unit::Requests => 1,
            Unit::Bytes => request.len.0,
        };
        let now_scaled = u128::from(now.0) * rate;
        self.full_at = self.full_at.max(now_scaled) + u128::from(tokens) * SECOND;
        let due = self.full_at.saturating_sub(u128::from(limit.burst) * SECOND);
        Nanos(u64::try_from(due.div_ceil(rate)).unwrap_or(u64::MAX)).max(now)
    }
}
