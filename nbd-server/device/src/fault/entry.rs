//! A row in its table: what it has seen, and what it does.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::Rng;

use super::decision::{Moment, Outcome, RowId};
use super::lateness::Lateness;
use super::limit::Pace;
use super::row::{Op, Request, Row, Then};
use super::seek::Head;
use crate::random::{scale, stream};
use crate::{ByteRange, Bytes, Nanos, Ratio};

/// A row with what it has seen.
#[derive(Debug)]
pub struct Entry {
    id: RowId,
    /// The row.
    pub row: Row,
    /// Requests that it is about, also those that an earlier row settled.
    pub matches: u64,
    /// Requests that it did something to. Zero at the end of a run means that nothing was tested.
    pub firings: u64,
    /// Its gate was opened: it goes on counting and holds no more.
    pub open: bool,
    /// Its gate was opened because it held a request for longer than its limit.
    pub overdue: bool,
    /// Of the requests that it delayed; none yet if absent.
    pub lateness: Option<Lateness>,
    dice: Xoshiro256PlusPlus,
    /// Of its region.
    pub(super) ranges: Option<Vec<ByteRange>>,
    pace: Pace,
    head: Head,
}

impl Entry {
    pub(super) fn new(id: RowId, row: Row, ranges: Option<Vec<ByteRange>>, seed: u64) -> Self {
        let dice = stream(seed, &row.name);
        Self {
            id,
            row,
            matches: 0,
            firings: 0,
            open: false,
            overdue: false,
            lateness: None,
            dice,
            ranges,
            pace: Pace::default(),
            head: Head::default(),
        }
    }

    /// Its dice are thrown from the beginning of this seed.
    pub(super) fn reseed(&mut self, seed: u64) {
        self.dice = stream(seed, &self.row.name);
    }

    /// Which row this is.
    #[must_use]
    pub const fn id(&self) -> RowId {
        self.id
    }

    /// Whether the row is about such a request, but for the operation and the gate.
    pub(super) fn matches(&self, request: &Request) -> bool {
        let when = &self.row.when;
        if when.fua.is_some_and(|fua| fua != request.fua) {
            return false;
        }
        if when.range.is_none() && self.ranges.is_none() && when.size.is_none() {
            return true;
        }
        let Some(range) = request.range() else {
            return false;
        };
        when.size.is_none_or(|sizes| sizes.contains(request.len)) && self.touches(range)
    }

    /// Bytes of which every request that it is about touches some; absent when it is not about a place.
    pub(super) fn reach(&self) -> Option<Vec<ByteRange>> {
        self.row.when.range.map(|own| vec![own]).or_else(|| self.ranges.clone())
    }

    /// The bytes that it is about; absent when it is not about a place.
    pub(super) fn places(&self) -> Option<Vec<ByteRange>> {
        match (&self.ranges, self.row.when.range) {
            (None, None) => None,
            (None, Some(own)) => Some(vec![own]),
            (Some(ranges), None) => Some(ranges.clone()),
            (Some(ranges), Some(own)) => Some(ranges.iter().filter_map(|range| range.overlap(own)).collect()),
        }
    }

    fn touches(&self, range: ByteRange) -> bool {
        self.row.when.range.is_none_or(|own| own.touches(range))
            && self.ranges.as_ref().is_none_or(|ranges| touches(ranges, range))
    }

    /// Counts a match, and tells whether the row fires for it unless something settled the request before.
    pub(super) fn counts(&mut self) -> bool {
        self.matches += 1;
        let (when, at) = (&self.row.when, self.matches);
        let picked = when.nth.is_none_or(|nth| nth == at)
            && when.every.is_none_or(|every| at.is_multiple_of(every))
            && when.between.is_none_or(|(first, last)| first <= at && at <= last);
        // The dice are thrown whatever other rows say, so that no row moves another one's.
        let favoured = match when.probability {
            Some(probability) if picked => {
                scale(self.dice.next_u64(), u128::from(Ratio::ONE.0)) < probability.0
            }
            _ => picked,
        };
        favoured && !self.open && when.times.is_none_or(|times| self.firings < times)
    }

    pub(super) fn is_gate(&self) -> bool {
        matches!(self.row.then, Then::Hold { .. })
    }

    /// Whether it could still fire for a request with a range.
    pub(super) fn may_fire(&self) -> bool {
        let when = &self.row.when;
        let has_range = |op: &Op| *op != Op::Flush;
        !self.open
            && (when.op.is_any() || when.op.named().iter().any(has_range))
            && when.nth.is_none_or(|nth| nth > self.matches)
            && when.between.is_none_or(|(_, last)| last > self.matches)
            && when.times.is_none_or(|times| self.firings < times)
    }

    /// What the row does with a request that it fires for. Its dice are thrown here, whether or not another row has settled the
    /// request, so that no row moves another one's.
    pub(super) fn effect(&mut self, moment: Moment, request: &Request) -> Option<Effect> {
        let Moment { now, size } = moment;
        let dice = &mut self.dice;
        Some(Effect::Outcome(match &self.row.then {
            Then::Delay(delay) => return Some(Effect::Wait { turn: now, longer: delay.draw(dice) }),
            Then::Limit(limit) => {
                let turn = self.pace.admit(limit, now, request);
                return Some(Effect::Wait { turn, longer: Nanos(0) });
            }
            Then::Seek(seek) => {
                let turn = self.head.serve(seek, now, size, request, dice);
                return Some(Effect::Wait { turn, longer: Nanos(0) });
            }
            Then::Hold { limit } => Outcome::Hold { limit: *limit },
            Then::Error(error) => Outcome::Error(*error),
            Then::Drop => Outcome::Drop,
            // Of any other request nothing has to be durable.
            Then::Volatile if request.fua || request.op == Op::Flush => Outcome::Volatile,
            Then::Volatile => return None,
            Then::Torn { sectors } => {
                let all = request.len.0.div_ceil(crate::SECTOR.0);
                let sectors = sectors.unwrap_or_else(|| scale(dice.next_u64(), u128::from(all)));
                Outcome::Torn { keep: Bytes(sectors.saturating_mul(crate::SECTOR.0)).min(request.len) }
            }
            Then::Misdirect { by } => Outcome::Misdirect { to: misdirected(request, *by, size)? },
            Then::Flip(flip) => Outcome::Flip { flip: *flip, seed: dice.next_u64() },
            Then::Disconnect => Outcome::Disconnect,
            Then::Close => Outcome::Close,
        }))
    }
}

/// What one row adds to a decision.
pub(super) enum Effect {
    /// The request has its turn at a moment, and takes so much longer.
    Wait {
        turn: Nanos,
        longer: Nanos,
    },
    Outcome(Outcome),
}

/// The first byte of where a request goes that is `by` off: past the end from the start again, and what would cross the end goes
/// to the start. `None` where that is its own place.
fn misdirected(request: &Request, by: Bytes, size: Bytes) -> Option<Bytes> {
    let to = (u128::from(request.offset.0) + u128::from(by.0)) % u128::from(size.0.max(1));
    let to = Bytes(u64::try_from(to).unwrap_or(0));
    let crosses = to.checked_add(request.len).is_none_or(|end| end > size);
    Some(if crosses { Bytes::ZERO } else { to }).filter(|to| *to != request.offset)
}

/// Whether a range touches one of some that are in order and apart.
fn touches(ranges: &[ByteRange], range: ByteRange) -> bool {
    let next = ranges.partition_point(|own| own.end() <= range.offset);
    ranges.get(next).is_some_and(|own| own.touches(range))
}
