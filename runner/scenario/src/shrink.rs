//! A plan that fails made smaller, for as long as it fails in the same way: fewer phases, workers, faults and steps, fewer rounds,
//! smaller sizes, a smaller and less full disk.
//!
//! Steps are taken out by delta debugging (Zeller and Hildebrandt 2002): large parts first, then smaller ones, down to single
//! steps. What is left at the end is minimal in the sense of that paper, 1-minimal: no single one of the removals that are tried
//! here leaves a plan that fails in the same way. It need not be the smallest there is. Whether a plan fails is asked of whoever
//! runs it; what breaks a rule of the language is not asked about.

mod faults;
mod sizes;
mod steps;

use std::collections::BTreeSet;

use brim_trial::Plan;

use crate::print::print;

/// A plan and how it became that small.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The plan.
    pub plan: Plan,
    /// How many others were tried.
    pub tried: u64,
    /// What was made smaller, in order.
    pub taken: Vec<String>,
    /// Whether every single removal was tried on this very plan, and none left one that fails in the same way.
    pub is_minimal: bool,
}

/// Shrinks `plan`, which fails. `ask` runs a plan and says whether it fails in the same way; it is also told what is smaller about
/// it. Where it cannot say, what there is so far is given with its error.
pub fn shrink<E>(plan: &Plan, ask: &mut dyn FnMut(&Plan, &str) -> Result<bool, E>) -> (Shrunk, Option<E>) {
    // What is known is known of the whole plan.
    let plan = Plan { known: Vec::new(), ..plan.clone() };
    let mut search = Search { plan, ask, refuted: BTreeSet::new(), tried: 0, taken: Vec::new() };
    let ended = search.run();
    let Search { plan, tried, taken, .. } = search;
    (Shrunk { plan, tried, taken, is_minimal: ended.is_ok() }, ended.err())
}

/// The plan so far, and what is known of others.
struct Search<'a, E> {
    plan: Plan,
    ask: &'a mut dyn FnMut(&Plan, &str) -> Result<bool, E>,
    /// The texts of plans that did not fail in the same way.
    refuted: BTreeSet<String>,
    tried: u64,
    taken: Vec<String>,
}

impl<E> Search<'_, E> {
    /// Goes over all that may be smaller until nothing is.
    fn run(&mut self) -> Result<(), E> {
        loop {
            let before = self.taken.len();
            self.phases()?;
            self.workers()?;
            self.faults()?;
            self.steps()?;
            self.steps_with_their_space()?;
            self.options()?;
            self.rounds()?;
            self.sizes()?;
            if self.taken.len() == before {
                return Ok(());
            }
        }
    }

    /// Takes `candidate` if it fails in the same way.
    fn attempt(&mut self, mut candidate: Plan, what: &str) -> Result<bool, E> {
        candidate.phases.retain(|phase| !phase.steps.is_empty());
        for phase in &mut candidate.phases {
            let workers: Vec<Option<String>> =
                phase.workers().into_iter().map(|worker| worker.map(ToOwned::to_owned)).collect();
            phase.loops.retain(|own| workers.contains(&Some(own.by.clone())));
        }
        let Ok(text) = print(&candidate, "") else { return Ok(false) };
        if candidate == self.plan || self.refuted.contains(&text) {
            return Ok(false);
        }
        self.tried += 1;
        if !(self.ask)(&candidate, what)? {
            self.refuted.insert(text);
            return Ok(false);
        }
        self.plan = candidate;
        self.taken.push(what.to_owned());
        Ok(true)
    }

    /// Takes the plan as `change` makes it, if it fails in the same way.
    fn with(&mut self, what: &str, change: impl FnOnce(&mut Plan)) -> Result<bool, E> {
        let mut candidate = self.plan.clone();
        change(&mut candidate);
        self.attempt(candidate, what)
    }
}
