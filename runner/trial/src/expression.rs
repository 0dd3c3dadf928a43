//! Sizes that may depend on how often a worker has gone round, and on which of its copies it is: `${i} * 132096 B`.

use std::fmt;

use brim_device::{BLOCK, Bytes};
use serde::{Deserialize, Serialize};

/// One time round the steps of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Which time, from 0: `${i}`.
    pub iteration: u64,
    /// Which of the worker's copies, from 0: `${copy}`.
    pub copy: u64,
}

/// A size or a count, worked out anew in each round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expression {
    /// A number of bytes.
    Size(Bytes),
    /// A number without a unit.
    Count(u64),
    /// The iteration, from 0: `${i}`.
    Iteration,
    /// Which of the worker's copies, from 0: `${copy}`.
    Copy,
    /// Both sides have the same dimension.
    Add(Box<Expression>, Box<Expression>),
    /// Both sides have the same dimension.
    Subtract(Box<Expression>, Box<Expression>),
    /// At most one side is a size.
    Multiply(Box<Expression>, Box<Expression>),
}

/// What an expression counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// Bytes.
    Size,
    /// Pieces.
    Count,
}

/// The sides of an operator do not go together.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DimensionError {
    /// A size with a number that has no unit.
    #[error("a size and a number without a unit cannot be added or subtracted")]
    Mixed,
    /// Bytes times bytes.
    #[error("a size times a size is not a size")]
    Square,
}

/// The value does not fit, or is below zero.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{expression}` in round {} of copy {} is below zero or past 2^64", round.iteration, round.copy)]
pub struct OutOfRange {
    /// The expression, as text.
    pub expression: String,
    /// When.
    pub round: Round,
}

impl Expression {
    /// What this expression counts.
    ///
    /// # Errors
    /// The sides of one of its operators do not go together.
    pub fn dimension(&self) -> Result<Dimension, DimensionError> {
        match self {
            Self::Size(_) => Ok(Dimension::Size),
            Self::Count(_) | Self::Iteration | Self::Copy => Ok(Dimension::Count),
            Self::Add(left, right) | Self::Subtract(left, right) => {
                let (left, right) = (left.dimension()?, right.dimension()?);
                if left == right { Ok(left) } else { Err(DimensionError::Mixed) }
            }
            Self::Multiply(left, right) => match (left.dimension()?, right.dimension()?) {
                (Dimension::Size, Dimension::Size) => Err(DimensionError::Square),
                (Dimension::Count, Dimension::Count) => Ok(Dimension::Count),
                _ => Ok(Dimension::Size),
            },
        }
    }

    /// The value in a round, in bytes or pieces.
    ///
    /// # Errors
    /// The value is below zero or does not fit in 64 bits.
    pub fn value(&self, round: Round) -> Result<u64, OutOfRange> {
        self.checked(round).ok_or_else(|| OutOfRange { expression: self.to_string(), round })
    }

    fn checked(&self, round: Round) -> Option<u64> {
        match self {
            Self::Size(size) => Some(size.0),
            Self::Count(count) => Some(*count),
            Self::Iteration => Some(round.iteration),
            Self::Copy => Some(round.copy),
            Self::Add(left, right) => left.checked(round)?.checked_add(right.checked(round)?),
            Self::Subtract(left, right) => left.checked(round)?.checked_sub(right.checked(round)?),
            Self::Multiply(left, right) => left.checked(round)?.checked_mul(right.checked(round)?),
        }
    }
}

impl From<Bytes> for Expression {
    fn from(size: Bytes) -> Self {
        Self::Size(size)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A record of 132096 B is known by that number, not as 129 KiB.
            Self::Size(size) if !size.is_multiple_of(BLOCK) => write!(f, "{} B", size.0),
            Self::Size(size) => write!(f, "{size}"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Iteration => f.write_str("i"),
            Self::Copy => f.write_str("copy"),
            Self::Add(left, right) => write!(f, "({left} + {right})"),
            Self::Subtract(left, right) => write!(f, "({left} - {right})"),
            Self::Multiply(left, right) => write!(f, "{left} × {right}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(left: Expression, right: Expression) -> Expression {
        Expression::Multiply(Box::new(left), Box::new(right))
    }

    #[test]
    fn an_offset_moves_on_with_the_iteration() {
        let offset = times(Expression::Iteration, Expression::Size(Bytes(132_096)));
        assert_eq!(offset.dimension(), Ok(Dimension::Size));
        let value = |iteration| offset.value(Round { iteration, copy: 7 });
        assert_eq!(value(0), Ok(0));
        assert_eq!(value(3), Ok(396_288));
        assert!(value(u64::MAX).is_err());
        assert_eq!(Expression::Copy.value(Round { iteration: 0, copy: 7 }), Ok(7));
    }

    #[test]
    fn sizes_and_counts_are_kept_apart() {
        let size = Expression::Size(Bytes(1));
        assert_eq!(times(size.clone(), size.clone()).dimension(), Err(DimensionError::Square));
        let mixed = Expression::Add(Box::new(size), Box::new(Expression::Iteration));
        assert_eq!(mixed.dimension(), Err(DimensionError::Mixed));
    }
}
