//! A head over a platter: one request after the other, each where the head has to go.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::Rng;
use serde::{Deserialize, Serialize};

use super::row::Request;
use crate::{Bytes, Nanos};

/// A disk with one head. A request that goes on where the last one ended only transfers; any other first moves the head, for
/// `min` and the square root of its part of the way across the disk times the rest to `max`, and waits for the platter, up to
/// one revolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seek {
    /// To the next track.
    pub min: Nanos,
    /// Across the whole disk.
    pub max: Nanos,
    /// Revolutions a minute.
    pub rpm: u32,
    /// Bytes a second that pass under the head.
    pub bytes_per_second: u64,
}

impl Seek {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        match self {
            Self { min, max, .. } if max < min => Err("the longest seek is below the shortest"),
            Self { rpm: 0, .. } => Err("the platter does not turn"),
            Self { bytes_per_second: 0, .. } => Err("nothing passes under the head"),
            _ => Ok(()),
        }
    }
}

/// Where the head is, and until when it is busy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    at: Bytes,
    busy_until: Nanos,
}

impl Head {
    /// When a request that comes now is done, on a disk of `size`.
    pub(super) fn serve(
        &mut self,
        seek: &Seek,
        now: Nanos,
        size: Bytes,
        request: &Request,
        dice: &mut Xoshiro256PlusPlus,
    ) -> Nanos {
        let start = self.busy_until.max(now);
        let way = request.offset.0.abs_diff(self.at.0);
        let moving = if way == 0 {
            Nanos(0)
        } else {
            let part = (Nanos(way).to_f64() / Nanos(size.0.max(1)).to_f64()).sqrt().min(1.0);
            let spread = Nanos(seek.max.0.saturating_sub(seek.min.0)).to_f64();
            let revolution = 60_000_000_000 / u64::from(seek.rpm.max(1));
            let turning = u64::try_from((u128::from(dice.next_u64()) * u128::from(revolution)) >> 64);
            let way = seek.min.0.saturating_add(Nanos::from_f64(spread * part).0);
            Nanos(way.saturating_add(turning.unwrap_or(0)))
        };
        let transfer = u128::from(request.len.0) * 1_000_000_000 / u128::from(seek.bytes_per_second.max(1));
        let took = moving.0.saturating_add(u64::try_from(transfer).unwrap_or(u64::MAX));
        self.at = Bytes(request.offset.0.saturating_add(request.len.0));
        self.busy_until = Nanos(start.0.saturating_add(took));
        self.busy_until
    }
}
