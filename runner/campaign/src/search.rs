//! A threshold by bisection. Each value is tried until it is certain on which side of the rate it is, so that a flaky one does
//! not lead the search astray; a value that stays undecided is stepped around. Then other values are tried once each, to see
//! whether the rate crosses only once: two that differ from what the threshold says are decided like the others, and then there
//! is no threshold but a map.

use crate::head::Search;
use crate::result::{Found, Run};
use crate::statistics::Side;
use crate::tried::{Rule, Tried};

/// What the search has of the values.
struct View<'a> {
    cells: &'a [Tried],
}

/// How far it has come.
enum Step {
    /// These have to be decided next.
    Decide(Vec<usize>),
    /// Both ends are on one side.
    Flat(Side),
    /// The last value that is on the first one's side, and the first that is not; what is between is undecided.
    Between(usize, usize, Side),
    /// A value that the search cannot do without is undecided.
    Stuck(usize),
}

impl View<'_> {
    fn side(&self, at: usize) -> Option<Side> {
        self.cells.get(at).and_then(Tried::side)
    }

    fn ended(&self, at: usize) -> bool {
        self.cells.get(at).is_some_and(|cell| cell.ended().is_some())
    }

    fn step(&self) -> Step {
        let last = self.cells.len().saturating_sub(1);
        let ends: Vec<usize> = [0, last].into_iter().filter(|at| !self.ended(*at)).collect();
        if !ends.is_empty() {
            return Step::Decide(ends);
        }
        let (Some(first_side), Some(last_side)) = (self.side(0), self.side(last)) else {
            return Step::Stuck(if self.side(0).is_none() { 0 } else { last });
        };
        if first_side == last_side {
            return Step::Flat(first_side);
        }
        // The last value on the first one's side: an undecided one counts as past it.
        let (mut low, mut high) = (0, last);
        while high - low > 1 {
            let middle = low.midpoint(high);
            if !self.ended(middle) {
                return Step::Decide(vec![middle]);
            }
            if self.side(middle) == Some(first_side) { low = middle } else { high = middle }
        }
        // The first value on the last one's side: an undecided one counts as before it.
        let (mut under, mut over) = (low, last);
        while over - under > 1 {
            let middle = under.midpoint(over);
            if !self.ended(middle) {
                return Step::Decide(vec![middle]);
            }
            if self.side(middle) == Some(last_side) { over = middle } else { under = middle }
        }
        Step::Between(low, over, first_side)
    }
}

/// The chance to be wrong for each value, so that all decisions of the search hold at once at its confidence.
fn alpha(search: &Search, count: usize) -> f64 {
    let count = u32::try_from(count.max(1)).unwrap_or(u32::MAX);
    (1.0 - search.confidence) / f64::from(count)
}

/// The cells that are wanted now, and what ends each.
pub(crate) fn wanted(search: &Search, trials: u32, cells: &[Tried]) -> Vec<(usize, Rule)> {
    let (bar, alpha) = (search.rate, alpha(search, cells.len()));
    let decide = |at: usize| (at, Rule::Decide { bar, alpha, trials });
    let agree = |(at, expected): (usize, Side)| (at, Rule::Agree { expected, bar, alpha, trials });
    let expected = |at: usize, low: usize, over: usize, first: Side| {
        let other = if first == Side::Above { Side::Below } else { Side::Above };
        (at <= low).then_some(first).or((at >= over).then_some(other))
    };
    let view = View { cells };
    match view.step() {
        Step::Decide(values) => values.into_iter().map(decide).collect(),
        Step::Stuck(_) => Vec::new(),
        Step::Flat(side) => spread(search, cells.len()).map(|at| agree((at, side))).collect(),
        Step::Between(low, over, first) => spread(search, cells.len())
            .filter_map(|at| expected(at, low, over, first).map(|side| agree((at, side))))
            .collect(),
    }
}

/// The values that are tried to see whether the rate crosses once: as many as the search has, evenly spread.
fn spread(search: &Search, count: usize) -> impl Iterator<Item = usize> {
    let wanted = search.verify.min(count);
    (0..wanted).map(move |index| if wanted == count { index } else { (2 * index + 1) * count / (2 * wanted) })
}

/// What was found. `values` are those of the parameter.
pub(crate) fn found(search: &Search, cells: &[Tried], values: &[String], done: bool) -> Found {
    let view = View { cells };
    let value = |at: usize| values.get(at).cloned().unwrap_or_default();
    let step = view.step();
    if !done && !matches!(step, Step::Stuck(_)) {
        return Found::Open;
    }
    let agree = |expected: &dyn Fn(usize) -> Option<Side>| {
        // One that was seen once and one that was decided both have a side; what differs was decided.
        let differs = |at: &usize| {
            let cell = cells.get(*at).filter(|cell| cell.is_decided());
            cell.and_then(Tried::side).is_some_and(|side| expected(*at).is_some_and(|wanted| wanted != side))
        };
        (0..cells.len()).find(differs)
    };
    let verified = spread(search, cells.len()).filter(|at| view.side(*at).is_some()).count();
    match step {
        Step::Decide(_) => Found::Open,
        Step::Stuck(at) => {
            Found::Undecided { at: value(at), why: cells.get(at).map_or_else(String::new, undecided) }
        }
        Step::Flat(side) if agree(&|_| Some(side)).is_none() => {
            Found::NoThreshold { above: side == Side::Above, verified }
        }
        Step::Between(low, over, first) => {
            let other = if first == Side::Above { Side::Below } else { Side::Above };
            let expected = |at: usize| (at <= low).then_some(first).or((at >= over).then_some(other));
            match agree(&expected) {
                None => Found::Threshold {
                    before: value(low),
                    after: value(over),
                    above_after: other == Side::Above,
                    confidence: search.confidence,
                    undecided: over - low - 1,
                    verified,
                },
                Some(_) => Found::NotMonotone { runs: runs(&view, &value) },
            }
        }
        Step::Flat(_) => Found::NotMonotone { runs: runs(&view, &value) },
    }
}

fn undecided(cell: &Tried) -> String {
    let tally = cell.tally();
    match cell.counted().last().and_then(|record| record.reason.clone()) {
        Some(reason) if tally.trials() == 0 => reason,
        _ => format!("{} of {} trials reproduce, which does not tell", tally.hits, tally.trials()),
    }
}

fn runs(view: &View<'_>, value: &dyn Fn(usize) -> String) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (at, side) in (0..view.cells.len()).filter_map(|at| view.side(at).map(|side| (at, side))) {
        let above = side == Side::Above;
        match runs.last_mut() {
            Some(run) if run.above == above => run.last = value(at),
            _ => runs.push(Run { first: value(at), last: value(at), above }),
        }
    }
    runs
}
