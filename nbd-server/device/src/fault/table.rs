//! The rows of one disk with what they have seen, and what they decide.

use std::collections::BTreeMap;

use super::decision::{Decision, Moment, RowId};
use super::entry::{Effect, Entry};
use super::lateness::Lateness;
use super::row::{Op, Request, Row, RowError, Then};
use crate::{ByteRange, Nanos};

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
            entry.reseed(seed);
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
        let id = RowId(self.next);
        self.next += 1;
        self.entries.push(Entry::new(id, row, ranges, self.seed));
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
        let ranges = ByteRange::union(ranges);
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
                Some(Effect::Wait { turn: own, longer: more }) => {
                    entry.firings += 1;
                    turn = turn.max(own);
                    longer = longer.saturating_add(more.0);
                    if own > moment.now || more > Nanos(0) {
                        decision.delayed_by.push(entry.id());
                    }
                }
                Some(Effect::Outcome(outcome)) if decision.outcome.is_none() => {
                    entry.firings += 1;
                    decision.outcome = Some((entry.id(), outcome));
                }
                Some(Effect::Outcome(_)) | None => {}
            }
        }
        let due = Nanos(turn.0.saturating_add(longer));
        decision.due = (due > moment.now).then_some(due);
        decision
    }

    /// Tells a row how much later than asked a request was answered that it had delayed.
    pub fn was_late(&mut self, row: RowId, lateness: Nanos) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id() == row) {
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
        let set = |entry: &mut Entry| {
            entry.open = open;
            entry.overdue &= open;
        };
        gate.map(set).is_some()
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
                match entry.reach() {
                    None => rows.anywhere.push(About { row, gate }),
                    Some(own) => places.extend(own),
                }
            }
            rows.places = ByteRange::union(places);
        }
    }
}
