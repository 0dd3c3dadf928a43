//! How late requests were that a fault delayed: a histogram in powers of two.

use std::collections::BTreeMap;

use brim_trial::Nanos;
use brim_trial::event::Lateness;

use super::numbers::{self, grouped};
use super::svg::{Anchor, Svg};

const WIDTH: f64 = 480.0;
const ROW: f64 = 17.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 70.0;

/// A histogram and what it comes to.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) plot: Option<String>,
    pub(super) p50: String,
    pub(super) p99: String,
    pub(super) max: String,
    pub(super) count: String,
}

impl Late {
    pub(super) fn of(row: &str, lateness: &Lateness) -> Self {
        let Lateness { count, p50, p99, max, steps } = lateness;
        let [p50, p99, max] = [p50, p99, max].map(|nanos| numbers::duration(*nanos));
        Self { plot: plot(row, &in_powers_of_two(steps)), p50, p99, max, count: grouped(*count) }
    }
}

/// Counts by their upper ends, those together that have the same next power of two.
fn in_powers_of_two(steps: &[(Nanos, u64)]) -> Vec<(Nanos, u64)> {
    let mut powers: BTreeMap<Nanos, u64> = BTreeMap::new();
    for (upper, count) in steps {
        *powers.entry(Nanos(upper.0.checked_next_power_of_two().unwrap_or(u64::MAX))).or_default() += count;
    }
    powers.into_iter().collect()
}

/// A bar for each power of two from the first to the last that has any; those between without any too.
fn plot(row: &str, histogram: &[(Nanos, u64)]) -> Option<String> {
    let (first, last) = (histogram.first()?.0.0, histogram.last()?.0.0);
    let most = histogram.iter().map(|(_, count)| *count).max()?.max(1);
    let steps =
        std::iter::successors(Some(first), |upper| upper.checked_mul(2)).take_while(|upper| *upper <= last);
    let mut svg = Svg::new();
    let mut y = 4.0;
    for upper in steps {
        let count = histogram.iter().find(|(bound, _)| bound.0 == upper).map_or(0, |(_, count)| *count);
        let length = (WIDTH - LEFT - RIGHT) * (Nanos(count).to_f64() / Nanos(most).to_f64());
        svg.text(
            "axis",
            (LEFT - 8.0, y + 11.5),
            Anchor::End,
            &format!("≤ {}", numbers::duration(Nanos(upper))),
        );
        if count > 0 {
            svg.rect("bar", (LEFT, y + 2.0), (length.max(1.5), ROW - 5.0), "");
            svg.text("value", (LEFT + length.max(1.5) + 6.0, y + 11.5), Anchor::Start, &grouped(count));
        }
        y += ROW;
    }
    svg.line("base", (LEFT, 2.0), (LEFT, y));
    Some(svg.finish(
        "lateness",
        (WIDTH, y + 4.0),
        &format!("How late requests were that \"{row}\" delayed, in powers of two"),
    ))
}
