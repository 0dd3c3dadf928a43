//! Cells that are tried one after the other, each as the others came out; without a search, one cell alone.

use brim_trial::Verdict;

use crate::head::{Search, Stop};
use crate::record::TrialRecord;
use crate::search;
use crate::tried::{Rule, Tried};

/// A row of cells.
#[derive(Clone, Debug)]
pub struct Row {
    /// Where its cells begin among those of the campaign.
    first: usize,
    cells: Vec<Tried>,
    kind: Kind,
    /// The cells that were wanted so far, in that order: the order in which the row's trials count.
    order: Vec<usize>,
    done: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    One(Stop),
    Search(Search, Stop),
}

impl Row {
    /// `count` cells from `first` on.
    pub(crate) fn new(first: usize, count: usize, stop: Stop, search: Option<Search>) -> Self {
        let kind = match search {
            Some(search) => Kind::Search(search, stop),
            None => Kind::One(stop),
        };
        let mut row =
            Self { first, cells: vec![Tried::default(); count], kind, order: Vec::new(), done: false };
        row.advance();
        row
    }

    /// Takes a trial of the cell `index` of the campaign that ended.
    pub(crate) fn record(&mut self, index: usize, record: TrialRecord) {
        if let Some(cell) = index.checked_sub(self.first).and_then(|at| self.cells.get_mut(at)) {
            cell.record(record);
            self.advance();
        }
    }

    /// Counts what can be counted, and wants what is wanted then.
    fn advance(&mut self) {
        loop {
            for at in &self.order {
                if let Some(cell) = self.cells.get_mut(*at) {
                    cell.count();
                }
            }
            let wanted: Vec<(usize, Rule)> = match &self.kind {
                Kind::One(stop) => vec![(0, Rule::Stop(*stop))],
                Kind::Search(search, stop) => search::wanted(search, stop.trials, &self.cells),
            };
            let new: Vec<_> = wanted.iter().filter(|(at, _)| !self.order.contains(at)).copied().collect();
            if new.is_empty() {
                let open = |at: &usize| self.cells.get(*at).is_some_and(|cell| cell.ended().is_none());
                self.done = !self.order.iter().any(open);
                return;
            }
            for (at, rule) in new {
                self.order.push(at);
                if let Some(cell) = self.cells.get_mut(at) {
                    cell.begin(rule);
                }
            }
        }
    }

    /// The next trial to run: the cell of the campaign and the number.
    pub(crate) fn next(&self, ahead: u32) -> Option<(usize, u32)> {
        let next = |at: &usize| {
            self.cells.get(*at).and_then(|cell| cell.next(ahead)).map(|number| (self.first + at, number))
        };
        // What counts next goes before what may be in vain.
        let urgent = |at: &usize| {
            self.cells.get(*at).and_then(|cell| cell.next(0)).map(|number| (self.first + at, number))
        };
        if self.done {
            None
        } else {
            self.order.iter().find_map(urgent).or_else(|| self.order.iter().find_map(next))
        }
    }

    /// A trial was given out, or will not be run after all.
    pub(crate) fn issue(&mut self, index: usize, number: u32, out: bool) {
        if let Some(cell) = index.checked_sub(self.first).and_then(|at| self.cells.get_mut(at)) {
            cell.issue(number, out);
        }
    }

    /// Whether it needs no more trials.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The cells that were wanted, in the order in which their trials count: their index in the campaign, and what they came to.
    pub fn cells(&self) -> impl Iterator<Item = (usize, &Tried)> {
        self.order.iter().filter_map(|at| self.cells.get(*at).map(|cell| (self.first + at, cell)))
    }

    /// The cell `index` of the campaign, where it is here.
    #[must_use]
    pub fn cell(&self, index: usize) -> Option<&Tried> {
        index.checked_sub(self.first).and_then(|at| self.cells.get(at))
    }

    /// Where its cells begin among those of the campaign, and how many they are.
    #[must_use]
    pub fn span(&self) -> (usize, usize) {
        (self.first, self.cells.len())
    }

    /// How many trials count so far.
    pub(crate) fn counted(&self) -> u64 {
        self.cells().map(|(_, cell)| u64::try_from(cell.counted().len()).unwrap_or(u64::MAX)).sum()
    }

    /// Whether one reproduced.
    pub(crate) fn has_hit(&self) -> bool {
        self.cells().any(|(_, cell)| cell.tally().hits > 0)
    }

    /// How many of its trials count up to its first hit and with it. No limit looks at it where the row is a search.
    pub(crate) fn first_hit(&self) -> Option<u64> {
        let mut trials = self.cells().flat_map(|(_, cell)| cell.counted());
        let at = trials.position(|trial| trial.verdict == Some(Verdict::Reproduced))?;
        u64::try_from(at).ok()?.checked_add(1)
    }

    /// How many trials more it will take at most, as far as that is known now.
    pub(crate) fn left(&self) -> u64 {
        let trials = match &self.kind {
            Kind::One(stop) | Kind::Search(_, stop) => u64::from(stop.trials),
        };
        let open = |cell: &Tried| match cell.ended() {
            Some(_) => 0,
            None => trials.saturating_sub(u64::try_from(cell.counted().len()).unwrap_or(u64::MAX)),
        };
        self.cells().map(|(_, cell)| open(cell)).sum()
    }

    /// The search that it is, and what its cells are, in order.
    pub(crate) fn search(&self) -> Option<(&Search, &[Tried])> {
        match &self.kind {
            Kind::One(_) => None,
            Kind::Search(search, _) => Some((search, &self.cells)),
        }
    }
}
