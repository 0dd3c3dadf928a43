//! How late delayed requests are.

use hdrhistogram::Histogram;

use crate::Nanos;

/// How much later than asked requests were answered.
#[derive(Clone, Debug)]
pub struct Lateness {
    histogram: Histogram<u64>,
    sum: u64,
    /// Of each bound, how many were late by at most that, and by more than the one before.
    within: [u64; Lateness::BOUNDS.len()],
}

impl Lateness {
    /// Up to an hour; what is longer counts as that.
    const LONGEST: u64 = 3_600_000_000_000;

    /// What is counted exactly, for those who count in steps that never change: 10 µs to 1 s.
    pub const BOUNDS: [Nanos; 16] = [
        Nanos(10_000),
        Nanos(20_000),
        Nanos(50_000),
        Nanos(100_000),
        Nanos(200_000),
        Nanos(500_000),
        Nanos(1_000_000),
        Nanos(2_000_000),
        Nanos(5_000_000),
        Nanos(10_000_000),
        Nanos(20_000_000),
        Nanos(50_000_000),
        Nanos(100_000_000),
        Nanos(200_000_000),
        Nanos(500_000_000),
        Nanos(1_000_000_000),
    ];

    /// To two digits, which is 1 %.
    pub(super) fn new() -> Option<Self> {
        let histogram = Histogram::new_with_bounds(1, Self::LONGEST, 2).ok()?;
        Some(Self { histogram, sum: 0, within: [0; Self::BOUNDS.len()] })
    }

    pub(super) fn record(&mut self, lateness: Nanos) {
        self.histogram.saturating_record(lateness.0);
        self.sum = self.sum.saturating_add(lateness.0);
        let bound = Self::BOUNDS.partition_point(|bound| *bound < lateness);
        self.within.get_mut(bound).into_iter().for_each(|count| *count += 1);
    }

    /// All of it together.
    #[must_use]
    pub const fn sum(&self) -> Nanos {
        Nanos(self.sum)
    }

    /// With each of [`Lateness::BOUNDS`] how many requests were late by at most that.
    pub fn within(&self) -> impl Iterator<Item = (Nanos, u64)> {
        let mut total = 0;
        Self::BOUNDS.into_iter().zip(self.within).map(move |(bound, count)| {
            total += count;
            (bound, total)
        })
    }

    /// How many requests were waited with.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// What so many of 100 requests were at most late by, to 1 %.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Nanos {
        Nanos(self.histogram.value_at_percentile(percent))
    }

    /// The worst, to 1 %.
    #[must_use]
    pub fn max(&self) -> Nanos {
        Nanos(self.histogram.max())
    }

    /// Counts by lateness: the upper end of each step that has any, to 1 %.
    pub fn steps(&self) -> impl Iterator<Item = (Nanos, u64)> {
        self.histogram.iter_recorded().map(|step| (Nanos(step.value_iterated_to()), step.count_at_value()))
    }
}
