//! Sizes that may depend on how often a phase has gone round: `${i} * 132096 B`.

use std::fmt;

use brim_device::{BLOCK, Bytes};
use serde::{Deserialize, Serialize};

/// A size or a count, worked out anew at each iteration of its phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expression {
    /// A number of bytes.
    Size(Bytes),
    /// A number without a unit.
    Count(u64),
    /// The iteration, from 0: `${i}`.
    Iteration,
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
#[error("`{expression}` at iteration {iteration} is below zero or past 2^64")]
pub struct OutOfRange {
    /// The expression, as text.
    pub expression: String,
    /// The iteration, from 0.
    pub iteration: u64,
}

impl Expression {
    /// What this expression counts.
    ///
    /// # Errors
    /// The sides of one of its operators do not go together.
    pub fn dimension(&self) -> Result<Dimension, DimensionError> {
        match self {
            Self::Size(_) => Ok(Dimension::Size),
            Self::Count(_) | Self::Iteration => Ok(Dimension::Count),
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

    /// The value at `iteration` (from 0), in bytes or pieces.
    ///
    /// # Errors
    /// The value is below zero or does not fit in 64 bits.
    pub fn value(&self, iteration: u64) -> Result<u64, OutOfRange> {
        self.checked(iteration).ok_or_else(|| OutOfRange { expression: self.to_string(), iteration })
    }

    fn checked(&self, iteration: u64) -> Option<u64> {
        match self {
            Self::Size(size) => Some(size.0),
            Self::Count(count) => Some(*count),
            Self::Iteration => Some(iteration),
            Self::Add(left, right) => left.checked(iteration)?.checked_add(right.checked(iteration)?),
            Self::Subtract(left, right) => left.checked(iteration)?.checked_sub(right.checked(iteration)?),
            Self::Multiply(left, right) => left.checked(iteration)?.checked_mul(right.checked(iteration)?),
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
        assert_eq!(offset.value(0), Ok(0));
        assert_eq!(offset.value(3), Ok(396_288));
        assert!(offset.value(u64::MAX).is_err());
    }

    #[test]
    fn sizes_and_counts_are_kept_apart() {
        let size = Expression::Size(Bytes(1));
        assert_eq!(times(size.clone(), size.clone()).dimension(), Err(DimensionError::Square));
        let mixed = Expression::Add(Box::new(size), Box::new(Expression::Iteration));
        assert_eq!(mixed.dimension(), Err(DimensionError::Mixed));
    }
}
