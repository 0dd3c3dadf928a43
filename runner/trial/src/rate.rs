//! How often something that cannot be made to happen happens, and whether that is as often as was known.

use std::fmt;

use brim_device::Ratio;
use serde::{Deserialize, Serialize};

/// A share of all trials that is known to reproduce, and why it cannot be made exact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// At least so many.
    pub at_least: Ratio,
    /// At most so many.
    pub at_most: Ratio,
    /// What it depends on that no scenario settles.
    pub why: String,
}

/// Where a rate is, with a confidence of 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end, from 0 on.
    pub low: f64,
    /// Its upper end, up to 1.
    pub high: f64,
}

/// Half the width of an interval of 95 %, in standard deviations of a normal distribution.
const Z: f64 = 1.959_963_984_540_054;

impl Interval {
    /// The score interval (Wilson 1927) of the rate at which `hits` of `trials` happen; all there is without trials. It keeps what it
    /// promises for few trials and for rates near 0 and 1, where the textbooks' interval does not.
    #[must_use]
    pub fn of(hits: u32, trials: u32) -> Self {
        if trials == 0 {
            return Self { low: 0.0, high: 1.0 };
        }
        let (hits, trials) = (f64::from(hits.min(trials)), f64::from(trials));
        let (rate, square) = (hits / trials, Z * Z / trials);
        let centre = (rate + square / 2.0) / (1.0 + square);
        let spread = Z / (1.0 + square) * (rate * (1.0 - rate) / trials + square / (4.0 * trials)).sqrt();
        // At the ends the interval is exact, and the arithmetic is not.
        let low = if hits > 0.0 { (centre - spread).max(0.0) } else { 0.0 };
        let high = if hits < trials { (centre + spread).min(1.0) } else { 1.0 };
        Self { low, high }
    }
}

impl Rate {
    /// Whether what was measured can be this rate.
    #[must_use]
    pub fn overlaps(&self, measured: Interval) -> bool {
        measured.low <= self.at_most.to_f64() && measured.high >= self.at_least.to_f64()
    }
}

impl fmt::Display for Rate {
    /// `2 % to 10 %`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", percent(self.at_least.to_f64()), percent(self.at_most.to_f64()))
    }
}

impl fmt::Display for Interval {
    /// `1.4 % to 6.4 %`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", percent(self.low), percent(self.high))
    }
}

/// A share in per cent, with a digit behind the point where there is one.
fn percent(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    format!("{} %", text.trim_end_matches(".0"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Worked examples of Newcombe (1998), table I, method 3.
    #[test]
    fn intervals_are_those_that_were_published() {
        for (hits, trials, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
            (29, 29, 0.8830, 1.0),
        ] {
            let Interval { low: from, high: to } = Interval::of(hits, trials);
            assert!((from - low).abs() < 5e-5 && (to - high).abs() < 5e-5, "{hits}/{trials}: {from} {to}");
        }
    }

    proptest! {
        /// For all counts: the rate that was seen is in the interval, and more trials at that rate make it narrower.
        #[test]
        fn an_interval_is_around_what_was_seen(trials in 1..500_u32, share in 0.0..=1.0_f64) {
            let hits = (0..=trials).find(|hits| f64::from(*hits) >= share * f64::from(trials)).unwrap_or(trials);
            let rate = f64::from(hits) / f64::from(trials);
            let once = Interval::of(hits, trials);
            prop_assert!(once.low <= rate && rate <= once.high);
            let twice = Interval::of(hits * 2, trials * 2);
            prop_assert!(twice.high - twice.low < once.high - once.low);
        }
    }

    #[test]
    fn a_rate_is_as_known_where_the_intervals_meet() {
        let known = |at_least, at_most| Rate {
            at_least: Ratio::from_f64(at_least).unwrap(),
            at_most: Ratio::from_f64(at_most).unwrap(),
            why: String::new(),
        };
        assert!(known(0.02, 0.1).overlaps(Interval::of(6, 200)));
        // None of 20 can still be 2 %; none of 200 cannot, and neither can 30.
        assert!(known(0.02, 0.1).overlaps(Interval::of(0, 20)));
        assert!(!known(0.02, 0.1).overlaps(Interval::of(0, 200)));
        assert!(!known(0.02, 0.1).overlaps(Interval::of(40, 200)));
        assert_eq!(known(0.02, 0.1).to_string(), "2 % to 10 %");
        assert_eq!(Interval::of(6, 200).to_string(), "1.4 % to 6.4 %");
    }
}
