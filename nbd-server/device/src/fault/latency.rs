//! How much longer a request takes.

use rand_distr::{Distribution, Exp, LogNormal, Normal, Pareto};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::Rng;
use serde::{Deserialize, Serialize};

use crate::random::scale;
use crate::{Nanos, Ratio};

/// What the tails of distributions end at unless a row says otherwise: a request that takes an hour is a hang, for which
/// there are gates.
const LONGEST: Nanos = Nanos(3_600_000_000_000);

/// A delay and where its tail ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delay {
    /// How long.
    pub latency: Latency,
    /// What is longer than this is cut to it; an hour if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Nanos>,
}

/// A latency, the same for all or drawn for each request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Latency {
    /// Always this long.
    Fixed(Nanos),
    /// From one to the other, each as likely.
    Uniform {
        /// The shortest.
        min: Nanos,
        /// The longest.
        max: Nanos,
    },
    /// The bell curve; what falls below zero is no delay.
    Normal {
        /// Its middle.
        mean: Nanos,
        /// Its standard deviation.
        deviation: Nanos,
    },
    /// As long as a wait for something that may come at any moment.
    Exponential {
        /// The mean.
        mean: Nanos,
    },
    /// What disks and networks come close to: the logarithm is on a bell curve.
    Lognormal {
        /// Half of all are below.
        median: Nanos,
        /// The standard deviation of the natural logarithm: 0.5 is mild, 2 has a long tail.
        sigma: Ratio,
    },
    /// A heavy tail: the probability of more than `t` is `(min / t) ^ shape`.
    Pareto {
        /// The shortest, and the most likely.
        min: Nanos,
        /// The smaller, the heavier the tail; at 1 and below it has no mean.
        shape: Ratio,
    },
    /// Values as often as they were counted.
    Histogram(Vec<Bucket>),
}

/// A value of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// How long.
    pub latency: Nanos,
    /// How often.
    pub count: u64,
}

impl From<Latency> for Delay {
    fn from(latency: Latency) -> Self {
        Self { latency, at_most: None }
    }
}

impl Delay {
    /// What is wrong with its numbers.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        match &self.latency {
            Latency::Uniform { min, max } if max < min => Err("the longest is below the shortest"),
            Latency::Exponential { mean: Nanos(0) } => Err("the mean is zero"),
            Latency::Lognormal { median: Nanos(0), .. } => Err("the median is zero"),
            Latency::Pareto { min: Nanos(0), .. } => Err("the shortest is zero"),
            Latency::Pareto { shape: Ratio::ZERO, .. } => Err("the shape is zero"),
            Latency::Histogram(buckets) => {
                let total = buckets.iter().try_fold(0u64, |sum, bucket| sum.checked_add(bucket.count));
                match total {
                    Some(0) => Err("the histogram has no counts"),
                    Some(_) => Ok(()),
                    None => Err("the counts of the histogram add up to more than 2^64"),
                }
            }
            _ => Ok(()),
        }
    }

    /// Draws one. What was checked always has a distribution; a row that was not has no delay.
    pub(super) fn draw(&self, dice: &mut Xoshiro256PlusPlus) -> Nanos {
        let drawn = match &self.latency {
            Latency::Fixed(latency) => *latency,
            Latency::Uniform { min, max } => {
                let span = u128::from(max.0.saturating_sub(min.0)) + 1;
                Nanos(min.0.saturating_add(scale(dice.next_u64(), span)))
            }
            Latency::Normal { mean, deviation } => {
                Normal::new(mean.to_f64(), deviation.to_f64()).map_or(Nanos(0), |curve| sample(&curve, dice))
            }
            Latency::Exponential { mean } => {
                Exp::new(1.0 / mean.to_f64()).map_or(Nanos(0), |curve| sample(&curve, dice))
            }
            Latency::Lognormal { median, sigma } => LogNormal::new(median.to_f64().ln(), sigma.to_f64())
                .map_or(Nanos(0), |curve| sample(&curve, dice)),
            Latency::Pareto { min, shape } => {
                Pareto::new(min.to_f64(), shape.to_f64()).map_or(Nanos(0), |curve| sample(&curve, dice))
            }
            Latency::Histogram(buckets) => pick(buckets, dice),
        };
        drawn.min(self.at_most.unwrap_or(LONGEST))
    }
}

fn sample(curve: &impl Distribution<f64>, dice: &mut Xoshiro256PlusPlus) -> Nanos {
    Nanos::from_f64(curve.sample(dice))
}

fn pick(buckets: &[Bucket], dice: &mut Xoshiro256PlusPlus) -> Nanos {
    let total: u128 = buckets.iter().map(|bucket| u128::from(bucket.count)).sum();
    let mut left = scale(dice.next_u64(), total);
    for bucket in buckets {
        if left < bucket.count {
            return bucket.latency;
        }
        left -= bucket.count;
    }
    Nanos(0)
}
