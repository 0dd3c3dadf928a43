//! What a case is made of, by its number.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::{CELL_MIN, as_len, as_u64};

pub(crate) struct Dice(Xoshiro256PlusPlus);

impl Dice {
    pub(crate) fn new(case: u64, stream: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(case << 8 | stream))
    }

    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.0.next_u64() % most.max(1)
    }

    pub(crate) fn index(&mut self, most: usize) -> usize {
        as_len(self.below(as_u64(most)))
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// Where requests begin and end: blocks, sectors, and bytes just beside.
pub(crate) fn bounds(size: u64, dice: &mut Dice) -> Vec<u64> {
    let mut places = Vec::new();
    for _ in 0..24 {
        let unit = [1, 512, 4096][dice.index(3)];
        let (at, beside) = (dice.below(size / unit) * unit, CELL_MIN + dice.below(9));
        places.push([at, at, at.saturating_sub(beside), at + beside][dice.index(4)]);
    }
    places.sort_unstable();
    let mut bounds = vec![0];
    for place in places {
        let before = bounds.last().copied().unwrap_or(0);
        if before + CELL_MIN <= place && place + CELL_MIN <= size {
            bounds.push(place);
        }
    }
    bounds.push(size);
    bounds
}
