//! Gives trials out to workers. A worker stays with what its rig has prepared as long as there is something to do with it; the
//! results come out the same whoever does what when.

use std::collections::{BTreeMap, VecDeque};

use brim_campaign::ledger::Next;
use brim_campaign::{Campaign, Ledger, TrialRecord};
use brim_scenario::ScenarioError;

use crate::executor;

/// What rows have in common that a rig has to be brought to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kernel: String,
    /// As JSON; none of a search, whose values differ.
    preparation: Option<String>,
}

#[derive(Debug)]
struct Queue {
    rows: VecDeque<usize>,
    /// How many workers are at it.
    workers: usize,
}

/// What a worker is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// This, which is in that queue.
    Trial(Next, usize),
    /// Nothing now: what the others are at may give something.
    Wait,
    /// Nothing any more.
    Over,
}

/// The trials of a campaign, and who is at which.
pub(super) struct Desk<'a> {
    pub(super) ledger: Ledger<'a>,
    queues: Vec<Queue>,
    /// The queues before this one have nothing left.
    first: usize,
    under_way: usize,
    ahead: u32,
    /// How many trials ended here.
    pub(super) ended: u64,
    /// No more trials are given out.
    pub(super) is_closed: bool,
}

impl<'a> Desk<'a> {
    /// For `workers`, with the trials that the ledger has.
    pub(super) fn new(
        campaign: &'a Campaign,
        ledger: Ledger<'a>,
        workers: usize,
    ) -> Result<Self, ScenarioError> {
        let mut keys: BTreeMap<Key, usize> = BTreeMap::new();
        let mut queues: Vec<Queue> = Vec::new();
        for (index, row) in ledger.rows().iter().enumerate().filter(|(index, _)| !ledger.is_over(*index)) {
            let (first, _) = row.span();
            let Some(cell) = campaign.head.cells.get(first) else { continue };
            let is_search = campaign.head.sweeps.get(cell.sweep).is_some_and(|sweep| sweep.search.is_some());
            let plan = campaign.plan(cell)?;
            let preparation = executor::preparation(&plan, campaign.head.seed);
            let preparation = serde_json::to_string(&preparation).ok().filter(|_| !is_search);
            let key = Key { kernel: cell.setting.kernel.clone(), preparation };
            let at = *keys.entry(key).or_insert_with(|| {
                queues.push(Queue { rows: VecDeque::new(), workers: 0 });
                queues.len() - 1
            });
            if let Some(queue) = queues.get_mut(at) {
                queue.rows.push_back(index);
            }
        }
        let ahead = u32::try_from(workers.saturating_sub(1)).unwrap_or(u32::MAX);
        Ok(Self { ledger, queues, first: 0, under_way: 0, ahead, ended: 0, is_closed: false })
    }

    /// The next trial for a worker that is at the queue `current`.
    pub(super) fn take(&mut self, current: Option<usize>) -> Order {
        if self.is_closed || self.ledger.is_done() {
            return Order::Over;
        }
        while self.queues.get(self.first).is_some_and(|queue| queue.rows.is_empty()) {
            self.first += 1;
        }
        let Some((next, at)) = self.find(current) else {
            return if self.under_way == 0 { Order::Over } else { Order::Wait };
        };
        self.ledger.issue(next, true);
        self.under_way += 1;
        if current != Some(at) {
            self.leave(current);
            if let Some(queue) = self.queues.get_mut(at) {
                queue.workers += 1;
            }
        }
        Order::Trial(next, at)
    }

    /// What the worker has prepared goes first, then what nobody is at, what somebody is at, and what may be in vain.
    fn find(&mut self, current: Option<usize>) -> Option<(Next, usize)> {
        let horizon = self.ledger.horizon();
        let mut look = |at: usize, ahead: u32| self.first_of(at, ahead, horizon).map(|next| (next, at));
        if let Some(found) = current.and_then(|at| look(at, 0)) {
            return Some(found);
        }
        let (first, count, ahead) = (self.first, self.queues.len(), self.ahead);
        for at in first..count {
            if self.queues.get(at).is_some_and(|queue| queue.workers == 0)
                && let Some(next) = self.first_of(at, 0, horizon)
            {
                return Some((next, at));
            }
        }
        let mut look = |at: usize, ahead: u32| self.first_of(at, ahead, horizon).map(|next| (next, at));
        let any = (first..count).find_map(|at| look(at, 0));
        any.or_else(|| current.and_then(|at| look(at, ahead)))
            .or_else(|| (first..count).find_map(|at| look(at, ahead)))
    }

    fn first_of(&mut self, at: usize, ahead: u32, horizon: usize) -> Option<Next> {
        let queue = self.queues.get_mut(at)?;
        while queue.rows.front().is_some_and(|row| self.ledger.is_over(*row)) {
            queue.rows.pop_front();
        }
        queue.rows.iter().filter(|row| **row < horizon).find_map(|row| self.ledger.next_of(*row, ahead))
    }

    /// A worker is at its queue no longer.
    pub(super) fn leave(&mut self, current: Option<usize>) {
        if let Some(queue) = current.and_then(|at| self.queues.get_mut(at)) {
            queue.workers = queue.workers.saturating_sub(1);
        }
    }

    /// A trial that was given out ended, or will not be run after all.
    pub(super) fn give_back(&mut self, next: Next, record: Option<&TrialRecord>) {
        self.under_way = self.under_way.saturating_sub(1);
        match record {
            Some(record) => {
                self.ended += 1;
                self.ledger.record(record);
            }
            None => self.ledger.issue(next, false),
        }
    }
}
