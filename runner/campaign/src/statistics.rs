//! Rates and how sure they are.
//!
//! An interval that is shown is Wilson's (Wilson 1927), which keeps what it promises for few trials and for rates near 0 and 1. A
//! decision that ends a cell is looked at again after every trial, and an interval for a fixed number of trials would then be
//! wrong far more often than it says; so decisions rest on a confidence sequence, which holds for all numbers of trials at once:
//! the mixture of likelihoods over a uniform prior (Robbins 1970), whose chance of ever exceeding 1/α at the true rate is at
//! most α (Ville 1939).

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};
use statrs::function::beta::ln_beta;
use statrs::stats_tests::Alternative;
use statrs::stats_tests::fisher::fishers_exact;

/// Trials that say something of a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Those that reproduced.
    pub hits: u32,
    /// Those that did not.
    pub misses: u32,
}

/// On which side of a rate another is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Below it.
    Below,
    /// Above it.
    Above,
}

impl Tally {
    /// How many.
    #[must_use]
    pub fn trials(self) -> u64 {
        u64::from(self.hits) + u64::from(self.misses)
    }

    /// The share of those that reproduced; `None` without trials.
    #[must_use]
    pub fn rate(self) -> Option<f64> {
        let trials = f64::from(self.hits) + f64::from(self.misses);
        (trials > 0.0).then(|| f64::from(self.hits) / trials)
    }
}

/// The Wilson score interval of the rate at `confidence`, without continuity correction; everything without trials.
#[must_use]
pub fn wilson(tally: Tally, confidence: f64) -> (f64, f64) {
    let Some(rate) = tally.rate() else { return (0.0, 1.0) };
    let trials = f64::from(tally.hits) + f64::from(tally.misses);
    let z = Normal::standard().inverse_cdf(f64::midpoint(1.0, confidence));
    let square = z * z / trials;
    let centre = (rate + square / 2.0) / (1.0 + square);
    let spread = z / (1.0 + square) * (rate * (1.0 - rate) / trials + square / (4.0 * trials)).sqrt();
    // At the ends the interval is exact, and the arithmetic is not.
    let low = if tally.hits == 0 { 0.0 } else { (centre - spread).max(0.0) };
    let high = if tally.misses == 0 { 1.0 } else { (centre + spread).min(1.0) };
    (low, high)
}

/// On which side of `bar` (between 0 and 1, neither itself) the rate is, where that is certain: the chance that this is ever
/// wrong, however often it is asked while trials come in, is at most `alpha`.
#[must_use]
pub fn side(tally: Tally, bar: f64, alpha: f64) -> Option<Side> {
    let (hits, misses) = (f64::from(tally.hits), f64::from(tally.misses));
    let mixture = ln_beta(1.0 + hits, 1.0 + misses) - hits * bar.ln() - misses * (-bar).ln_1p();
    let rate = tally.rate()?;
    (mixture >= -alpha.ln()).then_some(if rate > bar { Side::Above } else { Side::Below })
}

/// The chance that two cells with the same rate differ as much as these or more: Fisher's exact test, two-sided.
#[must_use]
pub fn fisher(one: Tally, other: Tally) -> f64 {
    let table = [one.hits, other.hits, one.misses, other.misses].map(u64::from);
    // It refuses empty margins, where nothing can differ; and where next to nothing is left of 1, it may be a little less than 0.
    fishers_exact(&table, Alternative::TwoSided).unwrap_or(1.0).clamp(0.0, 1.0)
}

/// To six digits: machines may differ in the last ones of a logarithm.
#[must_use]
pub fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tally(hits: u32, trials: u32) -> Tally {
        Tally { hits, misses: trials - hits }
    }

    /// Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    #[test]
    fn wilson_is_what_was_published() {
        for (hits, trials, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let (from, to) = wilson(tally(hits, trials), 0.95);
            assert!((from - low).abs() < 5e-5 && (to - high).abs() < 5e-5, "{hits}/{trials}: {from}..{to}");
        }
        assert!(wilson(Tally::default(), 0.95) == (0.0, 1.0));
    }

    /// Fisher's tea (The Design of Experiments, 1935), the table in R's manual of fisher.test, and one without a difference.
    #[test]
    fn fisher_is_what_was_published() {
        for (one, other, p) in [
            (tally(3, 4), tally(1, 4), 0.4857),
            (tally(2, 17), tally(10, 13), 0.000_536_7),
            (tally(1, 10), tally(11, 14), 0.002_759),
            (tally(5, 10), tally(5, 10), 1.0),
        ] {
            let got = fisher(one, other);
            assert!((got - p).abs() < p * 1e-3, "{one:?} {other:?}: {got}");
        }
        assert!((fisher(tally(0, 5), tally(0, 9)) - 1.0).abs() < 1e-9);
        assert!((fisher(Tally::default(), tally(3, 9)) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn few_trials_decide_what_is_plain() {
        let first = |hit: bool| {
            (1..100).find(|trials| side(tally(if hit { *trials } else { 0 }, *trials), 0.5, 0.05).is_some())
        };
        // 2^8 / 9 > 20.
        assert_eq!((first(true), first(false)), (Some(8), Some(8)));
        assert_eq!(side(Tally::default(), 0.5, 0.05), None);
        assert_eq!(side(tally(50, 100), 0.5, 0.05), None);
    }

    proptest! {
        /// For all tallies: the rate is in its interval, and more confidence makes it no narrower.
        #[test]
        fn an_interval_holds_its_rate(hits in 0u32..500, misses in 0u32..500) {
            let tally = Tally { hits, misses };
            let (low, high) = wilson(tally, 0.95);
            prop_assert!((0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high));
            if let Some(rate) = tally.rate() {
                prop_assert!(low <= rate && rate <= high);
            }
            let (wider_low, wider_high) = wilson(tally, 0.99);
            prop_assert!(wider_low <= low && high <= wider_high);
        }

        /// For all tables: which cell comes first does not matter, nor whether hits or misses are counted.
        #[test]
        fn a_comparison_has_no_direction(a in 0u32..60, b in 0u32..60, c in 0u32..60, d in 0u32..60) {
            let (one, other) = (Tally { hits: a, misses: b }, Tally { hits: c, misses: d });
            let swapped = |tally: Tally| Tally { hits: tally.misses, misses: tally.hits };
            let p = fisher(one, other);
            prop_assert!((p - fisher(other, one)).abs() < 1e-6 && (p - fisher(swapped(one), swapped(other))).abs() < 1e-6);
            prop_assert!((0.0..=1.0).contains(&p));
        }
    }
}
