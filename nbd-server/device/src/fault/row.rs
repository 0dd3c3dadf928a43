//! The words of the table: requests, conditions, and what is done.

use serde::{Deserialize, Serialize};

use super::latency::Delay;
use super::limit::Limit;
use super::seek::Seek;
use crate::{ByteRange, Bytes, Nanos, Ratio};

/// What a request does to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Reads data.
    Read,
    /// Writes data.
    Write,
    /// Makes finished writes durable.
    Flush,
    /// Discards a range.
    Trim,
    /// Zeroes a range.
    Zeroes,
}

impl Op {
    /// Every operation.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Flush, Self::Trim, Self::Zeroes];

    /// Where it is in [`Op::ALL`].
    pub(super) const fn index(self) -> usize {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Flush => 2,
            Self::Trim => 3,
            Self::Zeroes => 4,
        }
    }

    /// The word for it in scenarios.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Trim => "trim",
            Self::Zeroes => "zeroes",
        }
    }
}

/// Operations that a row is about: those named, or any where none is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ops(Vec<Op>);

impl Ops {
    /// Whether it is about an operation.
    #[must_use]
    pub fn contains(&self, op: Op) -> bool {
        self.0.is_empty() || self.0.contains(&op)
    }

    /// Whether it is about any operation, because none is named.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that are named.
    #[must_use]
    pub fn named(&self) -> &[Op] {
        &self.0
    }
}

impl From<Op> for Ops {
    fn from(op: Op) -> Self {
        Self(vec![op])
    }
}

impl From<Option<Op>> for Ops {
    /// Any for `None`.
    fn from(op: Option<Op>) -> Self {
        Self(op.into_iter().collect())
    }
}

impl FromIterator<Op> for Ops {
    fn from_iter<I: IntoIterator<Item = Op>>(ops: I) -> Self {
        Self(ops.into_iter().collect())
    }
}

/// A request as the table sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// What it does.
    pub op: Op,
    /// First byte; zero for a flush.
    pub offset: Bytes,
    /// Bytes from there; zero for a flush.
    pub len: Bytes,
    /// What it changes has to be durable before the answer (`NBD_CMD_FLAG_FUA`).
    pub fua: bool,
}

impl Request {
    /// One without FUA.
    #[must_use]
    pub const fn new(op: Op, offset: Bytes, len: Bytes) -> Self {
        Self { op, offset, len, fua: false }
    }

    /// As written in the request.
    pub(super) const fn place(&self) -> ByteRange {
        ByteRange { offset: self.offset, length: self.len }
    }

    /// The bytes that it is about; `None` for a flush, which is about all.
    #[must_use]
    pub const fn range(&self) -> Option<ByteRange> {
        match self.op {
            Op::Flush => None,
            _ => Some(self.place()),
        }
    }
}

/// One fault: when it strikes and what it does. A row that holds is a gate of its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Unique in its table.
    pub name: String,
    /// Which requests.
    #[serde(default)]
    pub when: When,
    /// What happens to them.
    pub then: Then,
}

/// Which requests a row is about. All that is absent is no condition.
///
/// A request that meets `op`, `fua`, `range`, `region`, `size` and `while_gate` *matches*; `nth`, `every` and `between`
/// count matches, from 1. Of the matches that they pick, those that `probability` favours *fire*, until there were `times` of
/// them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// Only these operations.
    #[serde(default, skip_serializing_if = "Ops::is_any")]
    pub op: Ops,
    /// Only requests with FUA, or only those without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fua: Option<bool>,
    /// Only requests that touch this range. A flush touches none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<ByteRange>,
    /// Only requests that touch the ranges of this name ([`super::FaultTable::set_region`]). A flush touches none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Only requests of such lengths. A flush has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Sizes>,
    /// Only while this gate, a row before this one, is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub while_gate: Option<String>,
    /// Only the nth match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nth: Option<u64>,
    /// Only every so many-th match: with 3 the third, the sixth and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// Only matches from the first number to the second, both included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between: Option<(u64, u64)>,
    /// How likely each is to fire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<Ratio>,
    /// How often it fires at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
}

/// Lengths of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// At least so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Bytes>,
    /// At most so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Bytes>,
}

impl Sizes {
    pub(super) fn contains(self, len: Bytes) -> bool {
        self.min.is_none_or(|min| min <= len) && self.max.is_none_or(|max| len <= max)
    }
}

/// What a row does with a request it fires for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Then {
    /// Parks it until the gate of the row's name lets it go.
    Hold {
        /// For so long at most: then the gate opens by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<Nanos>,
    },
    /// It takes longer.
    Delay(Delay),
    /// Requests take their turn at a rate.
    Limit(Limit),
    /// It waits for a head to move and a platter to turn, behind those before it.
    Seek(Seek),
    /// It is not done, and answered with an error.
    Error(ErrorName),
    /// It is not done, and answered as if it were: a lost write, or a flush that lies.
    Drop,
    /// It is done, and what a flush or FUA would have made durable stays volatile: a cache that lies.
    Volatile,
    /// Only a prefix of what it writes is written, and it is answered as if it were all.
    Torn {
        /// So many sectors of 512 bytes; drawn for each request if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sectors: Option<u64>,
    },
    /// It is done in another place.
    Misdirect {
        /// So many bytes further on, and past the end from the start again.
        by: Bytes,
    },
    /// Bits of what it reads or writes are flipped.
    Flip(Flip),
    /// It is done and answered; then the connection ends.
    Disconnect,
    /// The connection ends at once, with nothing more done or answered on it.
    Close,
}

impl Then {
    /// A gate that only its user opens.
    pub const HOLD: Self = Self::Hold { limit: None };

    /// The word for it in scenarios.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hold { .. } => "hold",
            Self::Delay(_) => "delay",
            Self::Limit(_) => "limit",
            Self::Seek(_) => "seek",
            Self::Error(_) => "error",
            Self::Drop => "drop",
            Self::Volatile => "volatile",
            Self::Torn { .. } => "torn",
            Self::Misdirect { .. } => "misdirect",
            Self::Flip(_) => "flip",
            Self::Disconnect => "disconnect",
            Self::Close => "close",
        }
    }

    /// The operations that it can do something to.
    #[must_use]
    pub const fn acts_on(&self) -> &'static [Op] {
        match self {
            Self::Drop | Self::Volatile => &[Op::Write, Op::Flush, Op::Trim, Op::Zeroes],
            Self::Torn { .. } => &[Op::Write, Op::Zeroes],
            Self::Misdirect { .. } | Self::Seek(_) => &[Op::Read, Op::Write, Op::Trim, Op::Zeroes],
            Self::Flip(_) => &[Op::Read, Op::Write],
            _ => &Op::ALL,
        }
    }
}

/// Which bits are flipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flip {
    /// How many of them, at places drawn for each request.
    pub bits: u32,
    /// Of a read: on the disk, where they stay so; else in this reply alone. What a write puts on the disk stays so always.
    #[serde(default)]
    pub at_rest: bool,
}

impl Flip {
    /// The most that is flipped at once: it is done while nothing else is.
    pub const BITS_MAX: u32 = 1 << 16;
}

/// The errors that NBD has (proto.md, "Error values").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ErrorName {
    /// Operation not permitted.
    Eperm,
    /// Input/output error.
    Eio,
    /// Cannot allocate memory.
    Enomem,
    /// Invalid argument.
    Einval,
    /// No space left on device.
    Enospc,
    /// Value too large.
    Eoverflow,
    /// Operation not supported.
    Enotsup,
    /// Server is in the process of being shut down.
    Eshutdown,
}

impl ErrorName {
    /// Every error.
    pub const ALL: [Self; 8] = [
        Self::Eperm,
        Self::Eio,
        Self::Enomem,
        Self::Einval,
        Self::Enospc,
        Self::Eoverflow,
        Self::Enotsup,
        Self::Eshutdown,
    ];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eperm => "EPERM",
            Self::Eio => "EIO",
            Self::Enomem => "ENOMEM",
            Self::Einval => "EINVAL",
            Self::Enospc => "ENOSPC",
            Self::Eoverflow => "EOVERFLOW",
            Self::Enotsup => "ENOTSUP",
            Self::Eshutdown => "ESHUTDOWN",
        }
    }
}

/// Why a row cannot join a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// Gates are opened by name, and hits are reported by name.
    #[error("a fault named {name:?} is there already")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// Requests are counted from 1.
    #[error("fault {name:?} waits for request 0, but requests are counted from 1")]
    NthZero {
        /// Name of the row.
        name: String,
    },
    /// It would never fire.
    #[error("fault {name:?} can never fire: {why}")]
    Never {
        /// Name of the row.
        name: String,
        /// What stands against it.
        why: &'static str,
    },
    /// What it does makes no sense for an operation that it is about.
    #[error("fault {name:?} is about {}, but {then} can act on {} only", names(about), names(acts_on))]
    CannotAct {
        /// Name of the row.
        name: String,
        /// What it does.
        then: &'static str,
        /// The operations that it is about.
        about: Vec<Op>,
        /// Those that it could be about.
        acts_on: &'static [Op],
    },
    /// Nobody has said what the region is.
    #[error("fault {name:?} is about region {region:?}, which nobody has defined")]
    UnknownRegion {
        /// Name of the row.
        name: String,
        /// The region.
        region: String,
    },
    /// No row before it is a gate of that name.
    #[error("fault {name:?} acts while {gate:?} is closed, but no gate before it has that name")]
    UnknownGate {
        /// Name of the row.
        name: String,
        /// The gate.
        gate: String,
    },
    /// A number of its own makes no sense.
    #[error("fault {name:?} cannot {then}: {why}")]
    Impossible {
        /// Name of the row.
        name: String,
        /// What it does.
        then: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}

fn names(ops: &[Op]) -> String {
    let names: Vec<&str> = ops.iter().map(|op| op.name()).collect();
    names.join(", ")
}

impl Row {
    /// What is wrong with it whatever table it joins.
    pub(super) fn check(&self) -> Result<(), RowError> {
        let When { nth, every, between, probability, times, .. } = &self.when;
        let never = |why| Err(RowError::Never { name: self.name.clone(), why });
        if *nth == Some(0) || *every == Some(0) || between.is_some_and(|(first, _)| first == 0) {
            return Err(RowError::NthZero { name: self.name.clone() });
        }
        if between.is_some_and(|(first, last)| last < first) {
            return never("the last match of `between` is before the first");
        }
        if *times == Some(0) || probability.is_some_and(|ratio| ratio == Ratio::ZERO) {
            return never("it fires zero times");
        }
        if probability.is_some_and(|ratio| ratio > Ratio::ONE) {
            let why = "a probability is at most 1";
            return Err(RowError::Impossible { name: self.name.clone(), then: "fire", why });
        }
        if self.when.range.is_some_and(|range| range.length == Bytes::ZERO) {
            return never("its range is empty");
        }
        if self.when.size.is_some_and(|Sizes { min, max }| max.is_some_and(|max| Some(max) < min)) {
            return never("the smallest size is above the largest");
        }
        let only_flushes = !self.when.op.is_any() && self.when.op.named().iter().all(|op| *op == Op::Flush);
        if only_flushes
            && (self.when.range.is_some() || self.when.region.is_some() || self.when.size.is_some())
        {
            return never("a flush has no place and no size");
        }
        let acts_on = self.then.acts_on();
        // A row without operations is about those that it can act on.
        let about = self.when.op.named();
        if about.iter().any(|op| !acts_on.contains(op)) {
            let (name, then, about) = (self.name.clone(), self.then.name(), about.to_vec());
            return Err(RowError::CannotAct { name, then, about, acts_on });
        }
        self.check_then().map_err(|why| RowError::Impossible {
            name: self.name.clone(),
            then: self.then.name(),
            why,
        })
    }

    fn check_then(&self) -> Result<(), &'static str> {
        match &self.then {
            Then::Delay(delay) => delay.check(),
            Then::Limit(limit) => limit.check(),
            Then::Seek(seek) => seek.check(),
            Then::Flip(Flip { bits: 0, .. }) => Err("it flips no bit"),
            Then::Flip(Flip { bits, .. }) if *bits > Flip::BITS_MAX => Err("it flips more than 65536 bits"),
            Then::Misdirect { by } if *by == Bytes::ZERO => Err("it is done where it was to be done"),
            Then::Misdirect { by } if !by.is_multiple_of(crate::SECTOR) => {
                Err("it is not done in whole sectors")
            }
            _ => Ok(()),
        }
    }
}
