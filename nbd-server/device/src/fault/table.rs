//! The rows of one disk with what they have seen, and what they decide.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::limit::Pace;
use super::row::{ErrorName, Flip, Op, Request, Row, RowError, Then};
use super::seek::Head;
use crate::random::{scale, stream};
use crate::{ByteRange, Bytes, Nanos, Ratio};

/// When and where a request is decided about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Since any start, the same for all requests of a table.
    pub now: Nanos,
    /// The size of the disk.
    pub size: Bytes,
}

/// A row for as long as it is in its table; another row never has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(u64);

/// What becomes of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// When it is to be done and answered; at once if absent.
    pub due: Option<Nanos>,
    /// The rows that made it wait, for [`FaultTable::was_late`].
    pub delayed_by: Vec<RowId>,
    /// What is done instead of what it asks for, and the row that says so. A hold is for at once, all else for when it is due.
    pub outcome: Option<(RowId, Outcome)>,
}

impl Decision {
    /// Whether it is simply done.
    #[must_use]
    pub const fn is_pass(&self) -> bool {
        self.due.is_none() && self.outcome.is_none()
    }
}

/// What is done instead of what a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is parked until its gate lets it go.
    Hold {
        /// For so long at most.
        limit: Option<Nanos>,
    },
    /// Nothing, and it is answered with this error.
    Error(ErrorName),
    /// Nothing, and it is answered as if it were done.
    Drop,
    /// Only its first bytes are written.
    Torn {
        /// How many.
        keep: Bytes,
    },
    /// It is done in another place.
    Misdirect {
        /// Its first byte there.
        to: Bytes,
    },
    /// Bits of its data are flipped: those that [`Outcome::flipped`] tells.
    Flip {
        /// How many, and for how long.
        flip: Flip,
        /// What they are drawn from.
        seed: u64,
    },
    /// It is done and answered; then the connection ends.
    Disconnect,
    /// The connection ends at once.
    Close,
}

impl Outcome {
    /// The bits that a [`Outcome::Flip`] flips in `len` bytes of data, by their number from the first bit of the first byte. Some
    /// may be there twice, and stay as they are then.
    pub fn flipped(flip: Flip, seed: u64, len: Bytes) -> impl Iterator<Item = u64> {
        let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
        let bits = u128::from(len.0) * 8;
        let count = if len == Bytes::ZERO { 0 } else { flip.bits };
        (0..count).map(move |_| scale(dice.next_u64(), bits))
    }
}

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
    fn new() -> Option<Self> {
        let histogram = Histogram::new_with_bounds(1, Self::LONGEST, 2).ok()?;
        Some(Self { histogram, sum: 0, within: [0; Self::BOUNDS.len()] })
    }

    fn record(&mut self, lateness: Nanos) {
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
    ranges: Option<Vec<ByteRange>>,
    pace: Pace,
    head: Head,
}

impl Entry {
    /// Which row this is.
    #[must_use]
    pub const fn id(&self) -> RowId {
        self.id
    }

    /// Whether the row is about such a request, but for the operation and the gate.
    fn matches(&self, request: &Request) -> bool {
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

    /// The bytes that it is about; absent when it is not about a place.
    fn places(&self) -> Option<Vec<ByteRange>> {
        match (&self.ranges, self.row.when.range) {
            (None, None) => None,
            (None, Some(own)) => Some(vec![own]),
            (Some(ranges), None) => Some(ranges.clone()),
            (Some(ranges), Some(own)) => Some(ranges.iter().filter_map(|range| range.overlap(own)).collect()),
        }
    }

    fn touches(&self, range: ByteRange) -> bool {
        self.row.when.range.is_none_or(|own| own.touches(range))
            && self.ranges.as_ref().is_none_or(|ranges| ranges.iter().any(|own| own.touches(range)))
    }

    /// Counts a match, and tells whether the row fires for it unless something settled the request before.
    fn counts(&mut self) -> bool {
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

    /// What the row does with a request that it fires for. Its dice are thrown here, whether or not another row has settled the
    /// request, so that no row moves another one's.
    fn effect(&mut self, moment: Moment, request: &Request) -> Effect {
        let Moment { now, size } = moment;
        let dice = &mut self.dice;
        Effect::Outcome(match &self.row.then {
            Then::Delay(delay) => return Effect::Wait { turn: now, longer: delay.draw(dice) },
            Then::Limit(limit) => {
                return Effect::Wait { turn: self.pace.admit(limit, now, request), longer: Nanos(0) };
            }
            Then::Seek(seek) => {
                let turn = self.head.serve(seek, now, size, request, dice);
                return Effect::Wait { turn, longer: Nanos(0) };
            }
            Then::Hold { limit } => Outcome::Hold { limit: *limit },
            Then::Error(error) => Outcome::Error(*error),
            Then::Drop => Outcome::Drop,
            Then::Torn { sectors } => {
                let all = request.len.0.div_ceil(crate::SECTOR.0);
                let sectors = sectors.unwrap_or_else(|| scale(dice.next_u64(), u128::from(all)));
                Outcome::Torn { keep: Bytes(sectors.saturating_mul(crate::SECTOR.0)).min(request.len) }
            }
            Then::Misdirect { by } => Outcome::Misdirect { to: misdirected(request, *by, size) },
            Then::Flip(flip) => Outcome::Flip { flip: *flip, seed: dice.next_u64() },
            Then::Disconnect => Outcome::Disconnect,
            Then::Close => Outcome::Close,
        })
    }
}

/// What one row adds to a decision.
enum Effect {
    /// The request has its turn at a moment, and takes so much longer.
    Wait {
        turn: Nanos,
        longer: Nanos,
    },
    Outcome(Outcome),
}

/// The first byte of where a request goes that is `by` off. Past the end it comes around, and it never crosses the end.
fn misdirected(request: &Request, by: Bytes, size: Bytes) -> Bytes {
    let last = size.0.saturating_sub(request.len.0);
    let to = u128::from(request.offset.0) + u128::from(by.0);
    let to = u64::try_from(to % u128::from(size.0.max(1))).unwrap_or(0);
    Bytes(to.min(last))
}

/// An entry that is about an operation.
#[derive(Clone, Copy, Debug)]
struct About {
    row: usize,
    /// The gate that it depends on, if that is still there.
    gate: Option<usize>,
}

/// The entries that are about one operation.
#[derive(Debug, Default)]
struct ByOp {
    all: Vec<About>,
    /// Those that are not about a place.
    anywhere: Vec<About>,
    /// The places of the others, in order and apart.
    places: Vec<ByteRange>,
}

impl ByOp {
    /// The entries that may be about a request to a range, in order.
    fn rows(&self, range: ByteRange) -> &[About] {
        // Most requests are to none of the places, and those need not be looked at one by one.
        let next = self.places.partition_point(|place| place.end() <= range.offset);
        let touches = self.places.get(next).is_some_and(|place| place.touches(range));
        if touches { &self.all } else { &self.anywhere }
    }
}

/// The faults of one disk, in order.
#[derive(Debug, Default)]
pub struct FaultTable {
    seed: u64,
    next: u64,
    entries: Vec<Entry>,
    /// Which entries are about each operation, in order.
    by_op: [ByOp; Op::ALL.len()],
    regions: BTreeMap<String, Vec<ByteRange>>,
    takes_time: bool,
}

impl FaultTable {
    /// A table without faults.
    #[must_use]
    pub const fn new() -> Self {
        Self::seeded(0)
    }

    /// A table without faults whose rows draw from this seed. Each has a stream of its own, by the seed and its name: the same
    /// requests meet the same faults, whichever other rows there are.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self {
            seed,
            next: 0,
            entries: Vec::new(),
            by_op: [const { ByOp { all: Vec::new(), anywhere: Vec::new(), places: Vec::new() } };
                Op::ALL.len()],
            regions: BTreeMap::new(),
            takes_time: false,
        }
    }

    /// What its rows draw from.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Rows draw from this seed; those that are there begin anew.
    pub fn reseed(&mut self, seed: u64) {
        self.seed = seed;
        for entry in &mut self.entries {
            entry.dice = stream(seed, &entry.row.name);
        }
    }

    /// Adds a row behind those that are there.
    ///
    /// # Errors
    ///
    /// When its name is taken, when it can never fire, or when its region or gate is not known.
    pub fn add(&mut self, row: Row) -> Result<(), RowError> {
        row.check()?;
        let name = || row.name.clone();
        if self.entries.iter().any(|entry| entry.row.name == row.name) {
            return Err(RowError::DuplicateName { name: name() });
        }
        let gate = row.when.while_gate.as_deref();
        if let Some(gate) = gate.filter(|gate| self.gate(gate).is_none()) {
            return Err(RowError::UnknownGate { name: name(), gate: gate.to_owned() });
        }
        let ranges = match &row.when.region {
            None => None,
            Some(region) => {
                let unknown = || RowError::UnknownRegion { name: name(), region: region.clone() };
                Some(self.regions.get(region).cloned().ok_or_else(unknown)?)
            }
        };
        let dice = stream(self.seed, &row.name);
        let id = RowId(self.next);
        self.next += 1;
        self.entries.push(Entry {
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
        });
        self.index();
        Ok(())
    }

    /// Takes a row away, and gives it back with its counts. Rows that depend on it as a gate go on as if it were open.
    pub fn remove(&mut self, name: &str) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.row.name == name)?;
        let entry = self.entries.remove(at);
        self.index();
        Some(entry)
    }

    /// Says which bytes a region is. Rows that are about it follow.
    pub fn set_region(&mut self, name: &str, ranges: Vec<ByteRange>) {
        for entry in &mut self.entries {
            if entry.row.when.region.as_deref() == Some(name) {
                entry.ranges = Some(ranges.clone());
            }
        }
        self.regions.insert(name.to_owned(), ranges);
        self.index();
    }

    /// The regions that were defined.
    #[must_use]
    pub const fn regions(&self) -> &BTreeMap<String, Vec<ByteRange>> {
        &self.regions
    }

    /// The rows with their counts, in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether there is no row at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a row takes time, so that [`Moment::now`] matters.
    #[must_use]
    pub const fn takes_time(&self) -> bool {
        self.takes_time
    }

    /// Counts a request in every row that it matches and says what becomes of it. Rows about other operations cost nothing.
    pub fn decide(&mut self, moment: Moment, request: &Request) -> Decision {
        let mut decision = Decision::default();
        let (mut turn, mut longer) = (moment.now, 0u64);
        for &About { row, gate } in self.by_op[request.op.index()].rows(request.place()) {
            if self.entries[row].row.when.while_gate.is_some()
                && gate.is_none_or(|gate| self.entries[gate].open)
            {
                continue;
            }
            let entry = &mut self.entries[row];
            if !entry.matches(request) || !entry.counts() {
                continue;
            }
            match entry.effect(moment, request) {
                Effect::Wait { turn: own, longer: more } => {
                    entry.firings += 1;
                    turn = turn.max(own);
                    longer = longer.saturating_add(more.0);
                    decision.delayed_by.push(entry.id);
                }
                Effect::Outcome(outcome) if decision.outcome.is_none() => {
                    entry.firings += 1;
                    decision.outcome = Some((entry.id, outcome));
                }
                Effect::Outcome(_) => {}
            }
        }
        let due = Nanos(turn.0.saturating_add(longer));
        decision.due = (due > moment.now).then_some(due);
        decision
    }

    /// Tells a row how much later than asked a request was answered that it had delayed.
    pub fn was_late(&mut self, row: RowId, lateness: Nanos) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == row) {
            if entry.lateness.is_none() {
                entry.lateness = Lateness::new();
            }
            entry.lateness.iter_mut().for_each(|histogram| histogram.record(lateness));
        }
    }

    /// The bytes that each row is about that could still act on a request to a range: `None` for all.
    pub fn active(&self) -> impl Iterator<Item = Option<Vec<ByteRange>>> {
        self.entries.iter().filter(|entry| entry.may_fire()).map(Entry::places)
    }

    /// The row of that name, if it is a gate.
    #[must_use]
    pub fn gate(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.row.name == name && entry.is_gate())
    }

    /// Opens the gate of that name until it is closed again; false when there is none.
    pub fn open(&mut self, name: &str) -> bool {
        self.set_open(name, true)
    }

    /// Closes a gate that was opened; false when there is none.
    pub fn close(&mut self, name: &str) -> bool {
        self.set_open(name, false)
    }

    /// Opens a gate that held a request for longer than its limit.
    pub fn open_overdue(&mut self, name: &str) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.row.name == name) {
            entry.open = true;
            entry.overdue = true;
        }
    }

    /// Opens every gate.
    pub fn open_all(&mut self) {
        for entry in self.entries.iter_mut().filter(|entry| entry.is_gate()) {
            entry.open = true;
        }
    }

    fn set_open(&mut self, name: &str, open: bool) -> bool {
        let gate = self.entries.iter_mut().find(|entry| entry.row.name == name && entry.is_gate());
        gate.map(|entry| entry.open = open).is_some()
    }

    fn index(&mut self) {
        let entries = &self.entries;
        self.takes_time = entries
            .iter()
            .any(|entry| matches!(entry.row.then, Then::Delay(_) | Then::Limit(_) | Then::Seek(_)));
        for (op, rows) in Op::ALL.into_iter().zip(&mut self.by_op) {
            let about =
                |entry: &Entry| entry.row.when.op.contains(op) && entry.row.then.acts_on().contains(&op);
            *rows = ByOp::default();
            let mut places = Vec::new();
            for (row, entry) in entries.iter().enumerate().filter(|(_, entry)| about(entry)) {
                let gate = entry.row.when.while_gate.as_ref();
                let gate = gate.and_then(|gate| entries.iter().position(|other| &other.row.name == gate));
                rows.all.push(About { row, gate });
                match entry.places() {
                    None => rows.anywhere.push(About { row, gate }),
                    Some(own) => places.extend(own),
                }
            }
            rows.places = ByteRange::union(places);
        }
    }
}

impl Entry {
    fn is_gate(&self) -> bool {
        matches!(self.row.then, Then::Hold { .. })
    }

    /// Whether it could still fire for a request with a range.
    fn may_fire(&self) -> bool {
        let when = &self.row.when;
        let has_range = |op: &Op| *op != Op::Flush;
        !self.open
            && (when.op.is_any() || when.op.named().iter().any(has_range))
            && when.nth.is_none_or(|nth| nth > self.matches)
            && when.between.is_none_or(|(_, last)| last > self.matches)
            && when.times.is_none_or(|times| self.firings < times)
    }
}
