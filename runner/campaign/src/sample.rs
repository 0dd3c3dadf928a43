//! A seeded sample without replacement.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

/// `wanted` different numbers below `all`, in order; all of them where there are no more. Each set is as likely as any other
/// (Floyd's algorithm, in Bentley's Programming Pearls, CACM 30, 1987).
pub(crate) fn sample(all: u64, wanted: u64, seed: u64) -> BTreeSet<u64> {
    if wanted >= all {
        return (0..all).collect();
    }
    let mut chosen = BTreeSet::new();
    for last in all - wanted..all {
        let drawn = draw(seed, last, last + 1);
        if !chosen.insert(drawn) {
            chosen.insert(last);
        }
    }
    chosen
}

/// A number below `bound`, drawn from `seed` and `which`. Its bias is below 2^-64 of the range: nobody sees it.
fn draw(seed: u64, which: u64, bound: u64) -> u64 {
    let mut hash = Sha256::new();
    hash.update(b"sample");
    hash.update(seed.to_le_bytes());
    hash.update(which.to_le_bytes());
    let drawn = hash.finalize().iter().take(8).fold(0u128, |number, byte| (number << 8) | u128::from(*byte));
    u64::try_from((drawn * u128::from(bound)) >> 64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// For all sizes and seeds: as many as were asked for, all below the bound, the same for the same seed.
        #[test]
        fn a_sample_is_what_was_asked_for(all in 0u64..5000, wanted in 0u64..300, seed in any::<u64>()) {
            let sampled = sample(all, wanted, seed);
            prop_assert_eq!(u64::try_from(sampled.len()).unwrap(), wanted.min(all));
            prop_assert!(sampled.iter().all(|number| *number < all));
            prop_assert_eq!(&sampled, &sample(all, wanted, seed));
        }
    }

    /// Of 100 numbers each is in about a tenth of 2000 samples of 10: none is left out, none is favoured.
    #[test]
    fn every_number_has_its_chance() {
        let mut counts = [0u32; 100];
        for seed in 0..2000 {
            for number in sample(100, 10, seed) {
                counts[usize::try_from(number).unwrap()] += 1;
            }
        }
        // 200 expected, and a standard deviation of 13.4.
        assert!(counts.iter().all(|count| (140..=260).contains(count)), "{counts:?}");
    }
}
