//! What becomes of one request.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::row::{ErrorName, Flip};
use crate::random::scale;
use crate::{Bytes, Nanos};

/// When and where a request is decided about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Since any start, the same for all requests of a table.
    pub now: Nanos,
    /// The size of the disk.
    pub size: Bytes,
}

/// A row for as long as it is in its table; another row never has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(pub(super) u64);

/// What becomes of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// When it is to be done and answered; at once if absent.
    pub due: Option<Nanos>,
    /// The rows that made it wait, for [`super::FaultTable::was_late`].
    pub delayed_by: Vec<RowId>,
    /// What is done instead of what it asks for, and the row that says so. A hold is for at once, all else for when it is due.
    pub outcome: Option<(RowId, Outcome)>,
}

impl Decision {
    /// Whether it is simply done.
    #[must_use]
    pub const fn is_pass(&self) -> bool {
        self.due.is_none() && self.outcome.is_none()
    }
}

/// What is done instead of what a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is parked until its gate lets it go.
    Hold {
        /// For so long at most.
        limit: Option<Nanos>,
    },
    /// Nothing, and it is answered with this error.
    Error(ErrorName),
    /// Nothing, and it is answered as if it were done.
    Drop,
    /// What it asks for, but that nothing becomes durable by it.
    Volatile,
    /// Only its first bytes are written.
    Torn {
        /// How many.
        keep: Bytes,
    },
    /// It is done in another place.
    Misdirect {
        /// Its first byte there.
        to: Bytes,
    },
    /// Bits of its data are flipped: those that [`Outcome::flipped`] tells.
    Flip {
        /// How many, and for how long.
        flip: Flip,
        /// What they are drawn from.
        seed: u64,
    },
    /// It is done and answered; then the connection ends.
    Disconnect,
    /// The connection ends at once.
    Close,
}

impl Outcome {
    /// The bits that a [`Outcome::Flip`] flips in `len` bytes of data, by their number from the first bit of the first byte. Some
    /// may be there twice, and stay as they are then.
    pub fn flipped(flip: Flip, seed: u64, len: Bytes) -> impl Iterator<Item = u64> {
        let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
        let bits = u128::from(len.0) * 8;
        let count = if len == Bytes::ZERO { 0 } else { flip.bits };
        (0..count).map(move |_| scale(dice.next_u64(), bits))
    }
}
