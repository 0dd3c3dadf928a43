//! All rows of a campaign, what they came to so far, and where its limits cut it.
//!
//! Trials count in canonical order: that of the rows, and in a row that in which its cells were wanted. A limit is a place in that
//! order, whatever the order in time was. So each shard runs what lies before its own cut, the cut of all lies before those, and
//! a merge finds it again.

use std::collections::BTreeMap;

use brim_trial::Verdict;

use crate::cell::{Cell, CellId};
use crate::head::Head;
use crate::record::TrialRecord;
use crate::result::{
    CampaignResult, CellEnded, CellResult, Ended, First, Found, Group, Rate, ThresholdResult,
    Tried as TriedValue,
};
use crate::row::Row;
use crate::search;
use crate::statistics::{Side, Tally, rounded, wilson};

/// A campaign under way, or done.
#[derive(Clone, Debug)]
pub struct Ledger<'a> {
    head: &'a Head,
    rows: Vec<Row>,
    index: BTreeMap<CellId, usize>,
    /// Which of the rows are run here.
    here: Vec<bool>,
    /// The first row with a hit, so far.
    hit: Option<usize>,
    /// How many rows from the first on are done, and how many trials count in them.
    prefix: (usize, u64),
}

/// A trial to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Next {
    /// The row.
    pub row: usize,
    /// The cell, as an index of the campaign's.
    pub cell: usize,
    /// Which of its trials, from 1.
    pub number: u32,
}

/// Where a campaign ends, if that is known: the last row that counts, and how many of its trials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    row: usize,
    trials: u64,
    ended: Ended,
}

impl<'a> Ledger<'a> {
    /// With no trial run.
    #[must_use]
    pub fn new(head: &'a Head) -> Self {
        let mut rows = Vec::new();
        let mut at = 0;
        while let Some(cell) = head.cells.get(at) {
            let count = head.cells[at..].iter().take_while(|other| other.row == cell.row).count();
            if let Some(sweep) = head.sweeps.get(cell.sweep) {
                rows.push(Row::new(at, count, sweep.stop, sweep.search.clone()));
            }
            at += count;
        }
        let index = head.cells.iter().enumerate().map(|(index, cell)| (cell.id.clone(), index)).collect();
        let is_here = |row: usize| {
            head.shard.is_none_or(|shard| row % shard.count.max(1) == shard.index.saturating_sub(1))
        };
        let here = (0..rows.len()).map(is_here).collect();
        let mut ledger = Self { head, rows, index, here, hit: None, prefix: (0, 0) };
        ledger.move_on();
        ledger
    }

    /// What it is about.
    #[must_use]
    pub fn head(&self) -> &'a Head {
        self.head
    }

    /// Takes a trial that ended; false where it is of no cell that is run here.
    pub fn record(&mut self, record: &TrialRecord) -> bool {
        let Some((index, row)) = self.place(&record.cell) else { return false };
        let Some(cells) = self.rows.get_mut(row) else { return false };
        cells.record(index, record.clone());
        if cells.has_hit() && self.hit.is_none_or(|hit| row < hit) {
            self.hit = Some(row);
        }
        self.move_on();
        true
    }

    /// What is done and cannot end the campaign is not looked at again.
    fn move_on(&mut self) {
        let (mut index, mut counted) = self.prefix;
        while let Some(row) = self.rows.get(index) {
            let here = if self.is_here(index) { row.counted() } else { 0 };
            let is_last =
                self.head.limits.trials.is_some_and(|trials| counted.saturating_add(here) >= trials)
                    || (self.head.limits.first_hit && row.has_hit());
            if is_last || (self.is_here(index) && !row.is_done()) || index + 1 == self.rows.len() {
                break;
            }
            (index, counted) = (index + 1, counted.saturating_add(here));
        }
        self.prefix = (index, counted);
    }

    /// The rows from the first on that is not done, those that are run here; and how many trials count before them.
    fn open_rows(&self) -> (u64, impl Iterator<Item = (usize, &Row)>) {
        let (first, counted) = self.prefix;
        (counted, self.rows.iter().enumerate().skip(first).filter(|(index, _)| self.is_here(*index)))
    }

    /// The index of a cell of those that are run here, and its row.
    #[must_use]
    pub fn place(&self, cell: &CellId) -> Option<(usize, usize)> {
        let index = *self.index.get(cell)?;
        let row = self.head.cells.get(index)?.row;
        self.here.get(row).is_some_and(|here| *here).then_some((index, row))
    }

    /// The rows, those of other shards too.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whether a row is run here.
    #[must_use]
    pub fn is_here(&self, row: usize) -> bool {
        self.here.get(row).is_some_and(|here| *here)
    }

    /// The next trial of a row to run, unless the row has had enough; up to `ahead` beside the next that counts may be in vain.
    #[must_use]
    pub fn next_of(&self, row: usize, ahead: u32) -> Option<Next> {
        let over = self.head.limits.first_hit && self.hit.is_some_and(|hit| row >= hit);
        if over || !self.is_here(row) {
            return None;
        }
        self.rows.get(row)?.next(ahead).map(|(cell, number)| Next { row, cell, number })
    }

    /// Whether a row needs no more trials, and will not.
    #[must_use]
    pub fn is_over(&self, row: usize) -> bool {
        let over = self.head.limits.first_hit && self.hit.is_some_and(|hit| row >= hit);
        over || !self.is_here(row) || self.rows.get(row).is_none_or(Row::is_done)
    }

    /// The first row that no limit lets count any more, as far as is known.
    #[must_use]
    pub fn horizon(&self) -> usize {
        if self.head.limits.trials.is_none() && !self.head.limits.first_hit {
            return self.rows.len();
        }
        let (mut counted, rows) = self.open_rows();
        for (index, row) in rows {
            counted = counted.saturating_add(row.counted());
            if self.head.limits.trials.is_some_and(|trials| counted >= trials)
                || (self.head.limits.first_hit && row.has_hit())
            {
                return index + 1;
            }
        }
        self.rows.len()
    }

    /// A trial was given out, or will not be run after all.
    pub fn issue(&mut self, next: Next, out: bool) {
        if let Some(row) = self.rows.get_mut(next.row) {
            row.issue(next.cell, next.number, out);
        }
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.cut().is_some()
    }

    /// How many cells will have no more trials, of how many; and how many trials that may yet be, as far as is known.
    #[must_use]
    pub fn left(&self) -> (usize, usize, u64) {
        let (mut done, mut all, mut trials) = (0, 0, 0);
        for (_, row) in
            self.rows.iter().enumerate().take(self.horizon()).filter(|(index, _)| self.is_here(*index))
        {
            let known: usize = if row.search().is_some() { row.cells().count() } else { row.span().1 };
            all += known;
            done += row.cells().filter(|(_, cell)| cell.ended().is_some()).count();
            trials += row.left();
        }
        let limit = self.head.limits.trials.map_or(u64::MAX, |limit| limit.saturating_sub(self.counted()));
        (done, all, trials.min(limit))
    }

    /// How many trials count so far, and how many of them reproduced and were inconclusive.
    #[must_use]
    pub fn counts(&self) -> (u64, u64, u64) {
        let cells = self.rows.iter().flat_map(Row::cells).map(|(_, cell)| cell);
        cells.fold((0, 0, 0), |(trials, hits, doubts), cell| {
            let tally = cell.tally();
            let counted = tally.trials() + u64::from(cell.inconclusive());
            (trials + counted, hits + u64::from(tally.hits), doubts + u64::from(cell.inconclusive()))
        })
    }

    fn counted(&self) -> u64 {
        self.rows.iter().map(Row::counted).sum()
    }

    /// Where the campaign ends, once all before that is done. A search counts as a whole: half of one says nothing.
    fn cut(&self) -> Option<Cut> {
        let limits = self.head.limits;
        let (mut counted, rows) = self.open_rows();
        let mut last = Cut { row: self.rows.len(), trials: 0, ended: Ended::Done };
        for (index, row) in rows {
            let here = row.counted();
            let is_settled = row.is_done() || row.search().is_none();
            let budget = limits.trials.filter(|_| is_settled).map(|trials| trials.saturating_sub(counted));
            let hit = row.first_hit().filter(|_| limits.first_hit);
            match (hit, budget) {
                (Some(hit), budget) if budget.is_none_or(|budget| hit <= budget) => {
                    return Some(Cut { row: index, trials: hit, ended: Ended::FirstHit });
                }
                (_, Some(budget)) if budget <= here => {
                    let trials = if row.search().is_some() { here } else { budget };
                    return Some(Cut { row: index, trials, ended: Ended::Trials });
                }
                _ if !row.is_done() => return None,
                _ => {}
            }
            counted = counted.saturating_add(here);
            last = Cut { row: index, trials: here, ended: Ended::Done };
        }
        Some(last)
    }

    /// What it came to. `kernels` are the releases by name; `time_is_up` says that the limit in seconds has ended it.
    #[must_use]
    pub fn result(&self, kernels: BTreeMap<String, String>, time_is_up: bool) -> CampaignResult {
        let cut = self.cut();
        let ended = match cut {
            Some(cut) => cut.ended,
            None if time_is_up => Ended::Time,
            None => Ended::Unfinished,
        };
        let mut sum = Sum::default();
        let mut thresholds = Vec::new();
        for (index, row) in self.rows.iter().enumerate().filter(|(index, _)| self.is_here(*index)) {
            if cut.is_some_and(|cut| index > cut.row) {
                break;
            }
            let mut left = cut.filter(|cut| cut.row == index).map_or(u64::MAX, |cut| cut.trials);
            let before = sum.cells.len();
            for (at, cell) in row.cells() {
                let counted = u64::try_from(cell.counted().len()).unwrap_or(u64::MAX);
                let taken = counted.min(left);
                left -= taken;
                let ended = if taken < counted { None } else { cell.ended() };
                let taken = usize::try_from(taken).unwrap_or(usize::MAX);
                if let (Some(records), Some(known)) = (cell.counted().get(..taken), self.head.cells.get(at)) {
                    let release = kernels.get(&known.setting.kernel).map_or("", String::as_str);
                    sum.add(self.head, known, records, ended.unwrap_or(CellEnded::Open), release);
                }
            }
            sum.cells[before..].sort_by_key(|cell| self.index.get(&cell.cell.id).copied());
            let is_whole =
                row.is_done() && cut.is_none_or(|cut| index < cut.row || cut.trials >= row.counted());
            thresholds.extend(self.threshold(index, row, is_whole));
        }
        sum.into_result(self.head, ended, kernels, thresholds)
    }

    fn threshold(&self, index: usize, row: &Row, is_whole: bool) -> Option<ThresholdResult> {
        let (search, cells) = row.search()?;
        let (first, _) = row.span();
        let settings = self.head.cells.get(first..)?.iter().take(cells.len());
        let values: Vec<String> = settings
            .clone()
            .map(|cell| cell.setting.params.get(&search.param).cloned().unwrap_or_default())
            .collect();
        let tried = settings.zip(cells).zip(&values).filter(|((_, cell), _)| !cell.counted().is_empty());
        let tried = tried.map(|((setting, cell), value)| TriedValue {
            value: value.clone(),
            cell: setting.id.clone(),
            above: cell.side().map(|side| side == Side::Above),
        });
        let tried = tried.collect();
        let found = if is_whole { search::found(search, cells, &values, true) } else { Found::Open };
        Some(ThresholdResult { row: index, param: search.param.clone(), rate: search.rate, found, tried })
    }
}

#[derive(Default)]
struct Sum {
    cells: Vec<CellResult>,
    groups: BTreeMap<(bool, String), Group>,
}

impl Sum {
    fn add(&mut self, head: &Head, cell: &Cell, records: &[TrialRecord], ended: CellEnded, release: &str) {
        if records.is_empty() {
            return;
        }
        let count = |wanted| {
            u32::try_from(records.iter().filter(|record| record.verdict == wanted).count())
                .unwrap_or(u32::MAX)
        };
        let (hits, misses) = (count(Some(Verdict::Reproduced)), count(Some(Verdict::NotReproduced)));
        let mut signatures: BTreeMap<String, u32> = BTreeMap::new();
        for record in records {
            let Some(signature) = &record.signature else { continue };
            let is_first = !signatures.contains_key(signature);
            *signatures.entry(signature.clone()).or_default() += 1;
            let reproduced = match record.verdict {
                Some(Verdict::Reproduced) => true,
                Some(Verdict::Inconclusive) => false,
                Some(Verdict::NotReproduced) | None => continue,
            };
            let group = self.groups.entry((!reproduced, signature.clone())).or_insert_with(|| Group {
                signature: signature.clone(),
                reproduced,
                trials: 0,
                cells: 0,
                first: First {
                    cell: cell.id.clone(),
                    number: record.number,
                    command: format!("{} --seed {:#x}", cell.command, record.seed),
                },
            });
            group.trials += 1;
            group.cells += u64::from(is_first);
        }
        let confidence = head.sweeps.get(cell.sweep).map_or(0.95, |sweep| sweep.stop.confidence);
        let tally = Tally { hits, misses };
        let (low, high) = wilson(tally, confidence);
        let rate = tally.rate().map(|rate| Rate {
            rate: rounded(rate),
            low: rounded(low),
            high: rounded(high),
            confidence,
        });
        let runs = ended != CellEnded::Failed;
        let known = cell
            .known
            .iter()
            .filter(|_| runs)
            .find(|known| brim_trial::kernel::meets(release, &known.kernel));
        let as_known = known.map(|known| records.iter().all(|record| record.verdict == Some(known.verdict)));
        self.cells.push(CellResult {
            cell: cell.clone(),
            trials: u32::try_from(records.len()).unwrap_or(u32::MAX),
            reproduced: hits,
            inconclusive: count(Some(Verdict::Inconclusive)),
            rate,
            ended,
            as_known,
            signatures,
            reason: records.iter().find_map(|record| record.reason.clone()),
        });
    }

    fn into_result(
        self,
        head: &Head,
        ended: Ended,
        kernels: BTreeMap<String, String>,
        thresholds: Vec<ThresholdResult>,
    ) -> CampaignResult {
        let sum = |of: fn(&CellResult) -> u32| self.cells.iter().map(|cell| u64::from(of(cell))).sum();
        let failed = self.cells.iter().filter(|cell| cell.ended == CellEnded::Failed).count();
        let mut groups: Vec<Group> = self.groups.into_values().collect();
        groups.sort_by_key(|group| (!group.reproduced, std::cmp::Reverse(group.trials)));
        CampaignResult {
            schema: crate::SCHEMA,
            name: head.name.clone(),
            seed: head.seed,
            hash: head.hash.clone(),
            ended,
            limits: head.limits,
            kernels,
            trials: sum(|cell| cell.trials),
            reproduced: sum(|cell| cell.reproduced),
            inconclusive: sum(|cell| cell.inconclusive),
            failed_cells: u64::try_from(failed).unwrap_or(u64::MAX),
            cells: self.cells,
            thresholds,
            groups,
        }
    }
}
