//! Fewer faults, and conditions of them.

use brim_device::fault::When;
use brim_trial::Plan;

use super::Search;

/// What takes a condition away; false where there is none.
type Loosen = fn(&mut When) -> bool;

/// The conditions that a fault may do without. What it is about, its operations and its region, is what it is.
const CONDITIONS: [(&str, Loosen); 9] = [
    ("fua", |when| when.fua.take().is_some()),
    ("range", |when| when.range.take().is_some()),
    ("size", |when| when.size.take().is_some()),
    ("while_gate", |when| when.while_gate.take().is_some()),
    ("nth", |when| when.nth.take().is_some()),
    ("every", |when| when.every.take().is_some()),
    ("between", |when| when.between.take().is_some()),
    ("probability", |when| when.probability.take().is_some()),
    ("times", |when| when.times.take().is_some()),
];

impl<E> Search<'_, E> {
    /// Whole faults with the steps about them, then their conditions.
    pub(super) fn faults(&mut self) -> Result<(), E> {
        let names: Vec<String> = self.plan.faults.iter().map(|fault| fault.row.name.clone()).collect();
        for name in names.iter().rev() {
            let what = format!("without the fault {name:?}");
            self.with(&what, |plan| {
                plan.remove_fault(name);
            })?;
        }
        for index in 0..self.plan.faults.len() {
            for (word, loosen) in CONDITIONS {
                let mut when = self.plan.faults.get(index).map(|fault| fault.row.when.clone());
                if when.as_mut().is_some_and(loosen) {
                    let what = format!("a fault without `{word}`");
                    self.with(&what, |plan: &mut Plan| {
                        if let (Some(fault), Some(when)) = (plan.faults.get_mut(index), when) {
                            fault.row.when = when;
                        }
                    })?;
                }
            }
        }
        Ok(())
    }
}
