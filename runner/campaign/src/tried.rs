//! What one cell came to so far, and whether it has had enough. A function of its own trials in the order of their numbers: one
//! that ended before an earlier one waits for it.

use std::collections::{BTreeMap, BTreeSet};

use brim_trial::Verdict;

use crate::head::Stop;
use crate::record::TrialRecord;
use crate::result::CellEnded;
use crate::statistics::{Side, Tally, side, wilson};

/// What ends a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// What its sweep says.
    Stop(Stop),
    /// Which side of `bar` the rate is on, or `trials` are used up.
    Decide {
        /// The rate that is asked about.
        bar: f64,
        /// The chance to be wrong that is allowed.
        alpha: f64,
        /// At most so many.
        trials: u32,
    },
    /// One trial that agrees with `expected`; where the first does not, as [`Rule::Decide`].
    Agree {
        /// The side that the neighbours are on.
        expected: Side,
        /// As above.
        bar: f64,
        /// As above.
        alpha: f64,
        /// As above.
        trials: u32,
    },
}

/// The trials of one cell.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// Those that count, in the order of their numbers, from 1.
    counted: Vec<TrialRecord>,
    /// Those that wait for an earlier one, or for the cell to be wanted.
    waiting: BTreeMap<u32, TrialRecord>,
    /// Those that were given out.
    issued: BTreeSet<u32>,
    rule: Option<Rule>,
    tally: Tally,
    inconclusive: u32,
    ended: Option<CellEnded>,
}

impl Tried {
    /// Takes a trial that ended. A second one of the same number is the same trial, and does not count.
    pub(crate) fn record(&mut self, record: TrialRecord) {
        let known = usize::try_from(record.number).is_ok_and(|number| number <= self.counted.len());
        if !known {
            self.issued.insert(record.number);
            self.waiting.entry(record.number).or_insert(record);
        }
    }

    /// From now on it is wanted, by this rule.
    pub(crate) fn begin(&mut self, rule: Rule) {
        self.rule.get_or_insert(rule);
    }

    /// Counts what can be counted.
    pub(crate) fn count(&mut self) {
        let Some(rule) = self.rule else { return };
        while self.ended.is_none() {
            let Some(record) = self.waiting.remove(&self.next_number()) else { return };
            match record.verdict {
                Some(Verdict::Reproduced) => self.tally.hits += 1,
                Some(Verdict::NotReproduced) => self.tally.misses += 1,
                Some(Verdict::Inconclusive) => self.inconclusive += 1,
                None => {}
            }
            let (unreached, failed) = (record.unreached, record.verdict.is_none());
            self.counted.push(record);
            self.ended = if failed {
                Some(CellEnded::Failed)
            } else if unreached {
                Some(CellEnded::Unreached)
            } else {
                self.enough(rule)
            };
        }
    }

    fn enough(&self, rule: Rule) -> Option<CellEnded> {
        let counted = u32::try_from(self.counted.len()).unwrap_or(u32::MAX);
        let decided = |bar, alpha| match side(self.tally, bar, alpha) {
            Some(Side::Above) => Some(CellEnded::Above),
            Some(Side::Below) => Some(CellEnded::Below),
            None => None,
        };
        let (early, trials) = match rule {
            Rule::Stop(stop) => {
                let narrow = |width| {
                    let (low, high) = wilson(self.tally, stop.confidence);
                    (high - low < width).then_some(CellEnded::Width)
                };
                let hit = (stop.first_hit && self.tally.hits > 0).then_some(CellEnded::FirstHit);
                let sure = |bar| decided(bar, 1.0 - stop.confidence);
                (
                    hit.or_else(|| stop.side_of.and_then(sure)).or_else(|| stop.width.and_then(narrow)),
                    stop.trials,
                )
            }
            Rule::Decide { bar, alpha, trials } => (decided(bar, alpha), trials),
            Rule::Agree { expected, bar, alpha, trials } => {
                let agrees = match expected {
                    Side::Above => self.tally == Tally { hits: 1, misses: 0 },
                    Side::Below => self.tally == Tally { hits: 0, misses: 1 },
                };
                (agrees.then_some(CellEnded::Agrees).or_else(|| decided(bar, alpha)), trials)
            }
        };
        early.or((counted >= trials).then_some(CellEnded::Trials))
    }

    fn next_number(&self) -> u32 {
        u32::try_from(self.counted.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// The next trial to run, if the cell has not had enough; up to `ahead` are given out beside the next that counts.
    pub(crate) fn next(&self, ahead: u32) -> Option<u32> {
        let trials = match self.rule? {
            Rule::Stop(Stop { trials, .. }) | Rule::Decide { trials, .. } | Rule::Agree { trials, .. } => {
                trials
            }
        };
        if self.ended.is_some() {
            return None;
        }
        let next = self.next_number();
        let last = trials.min(next.saturating_add(ahead));
        (next..=last).find(|number| !self.issued.contains(number))
    }

    /// A trial was given out, or will not be run after all.
    pub(crate) fn issue(&mut self, number: u32, out: bool) {
        if out {
            self.issued.insert(number)
        } else {
            self.issued.remove(&number)
        };
    }

    /// Why it has no more trials, where it has not.
    #[must_use]
    pub fn ended(&self) -> Option<CellEnded> {
        self.ended
    }

    /// Those that count, in the order of their numbers.
    #[must_use]
    pub fn counted(&self) -> &[TrialRecord] {
        &self.counted
    }

    /// Hits and misses of those that count.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// How many of those that count were inconclusive.
    #[must_use]
    pub fn inconclusive(&self) -> u32 {
        self.inconclusive
    }

    /// On which side of the rate that is searched for it is, where that can be said.
    pub(crate) fn side(&self) -> Option<Side> {
        match (self.ended?, self.rule?) {
            (CellEnded::Above, _) => Some(Side::Above),
            (CellEnded::Below, _) => Some(Side::Below),
            (CellEnded::Agrees, Rule::Agree { expected, .. }) => Some(expected),
            _ => None,
        }
    }

    /// Whether it was decided, not only seen once.
    pub(crate) fn is_decided(&self) -> bool {
        matches!(self.ended, Some(CellEnded::Above | CellEnded::Below))
    }
}
