//! Words with the disk: its gates, its faults, its size and its content.

use brim_device::fault::{ErrorName, Then};
use brim_trial::Operation;
use brim_trial::operation::{Release, Which};
use brim_trial::plan::Fault;
use toml::Spanned;

use super::{Setting, at_least_one};
use crate::check;
use crate::error::{Checked, Objection};
use crate::read::Reader;
use crate::schema::fault::Worded;
use crate::schema::{self, Scalar, Text};
use crate::suggest;
use crate::written::Place;

/// `release`: the gate alone, which is open from there on, or what it lets go while it holds others.
pub(super) fn release(
    given: &Spanned<Worded<schema::Release>>,
    setting: Setting<'_>,
    reader: &mut Reader<'_>,
) -> Checked<Operation> {
    let table = match given.get_ref() {
        Worded::Word(name) => {
            let name = Spanned::new(given.span(), name.clone());
            return Ok(Operation::Release { gate: gate(&name, "release", setting)?, some: None });
        }
        Worded::Table(table) => table,
    };
    let gate = gate(&table.gate, "gate", setting)?;
    let mut which = Vec::new();
    if let Some(first) = &table.first {
        which.push(Which::First(at_least_one(first, "first", reader)?));
    }
    if let Some(order) = &table.order {
        let options = [("arrival", 0), ("reversed", 1)];
        let found = check::choose(order.get_ref(), Place::scenario(order.span()), "order", &options)?;
        which.push(if found == 0 { Which::All } else { Which::Reversed });
    }
    if let Some(places) = &table.only {
        which.push(only(places, reader)?);
    }
    if which.len() > 1 {
        let place = Place::scenario(given.span());
        return Err(Objection::new(place, "`release` says twice which requests go", "one thing belongs here")
            .help("write one of `first`, `order` and `only`: `only = [2, 1]` is the first two, the second one first"));
    }
    let error = table.error.as_ref().map(|error| {
        let options = ErrorName::ALL.map(|error| (error.name(), error));
        check::choose(error.get_ref(), Place::scenario(error.span()), "error", &options)
    });
    let which = which.pop().unwrap_or(Which::All);
    Ok(Operation::Release { gate, some: Some(Release { which, error: error.transpose()? }) })
}

fn only(given: &Spanned<Vec<Spanned<Scalar>>>, reader: &mut Reader<'_>) -> Checked<Which> {
    let mut places: Vec<u64> = Vec::new();
    for place in given.get_ref() {
        let found = at_least_one(place, "only", reader)?;
        if places.contains(&found) {
            let message = format!("`only` names request {found} twice");
            return Err(Objection::new(Place::scenario(place.span()), message, "the second time")
                .help("a request that is let go is not held any more"));
        }
        places.push(found);
    }
    if places.is_empty() {
        let place = Place::scenario(given.span());
        return Err(Objection::new(place, "`only` names no request", "empty")
            .help("requests are counted from 1 in the order in which they came: `only = [3, 1, 2]`"));
    }
    Ok(Which::Only(places))
}

/// The gate that `given` names.
pub(super) fn gate(given: &Text, key: &str, setting: Setting<'_>) -> Checked<String> {
    a_gate(check::fixed(given, key)?, given.span(), setting.disks.faults)
}

/// The fault that `given` names.
pub(super) fn fault(given: &Text, setting: Setting<'_>) -> Checked<String> {
    a_fault(check::fixed(given, "arm")?, given.span(), setting.disks.faults)
}

/// `await`.
pub(super) fn wait_for(
    wait: &schema::Await,
    setting: Setting<'_>,
    reader: &mut Reader<'_>,
) -> Checked<Operation> {
    let (gate, place, count) = match wait.held.get_ref() {
        schema::Held::Gate(gate) => (gate.clone(), wait.held.span(), None),
        schema::Held::Table(table) => {
            (check::fixed(&table.gate, "gate")?, table.gate.span(), table.count.as_ref())
        }
    };
    let gate = a_gate(gate, place, setting.disks.faults)?;
    let count = count.map_or(Ok(1), |count| at_least_one(count, "count", reader))?;
    Ok(Operation::Await { gate, count })
}

/// `name`, which is that of a fault that holds.
fn a_gate(name: String, place: std::ops::Range<usize>, faults: &[Fault]) -> Checked<String> {
    let gates: Vec<&str> = faults
        .iter()
        .filter(|fault| matches!(fault.row.then, Then::Hold { .. }))
        .map(|fault| fault.row.name.as_str())
        .collect();
    if gates.contains(&name.as_str()) {
        return Ok(name);
    }
    let help = if gates.is_empty() {
        "this scenario has none: a gate is a `[[fault]]` with that `name` and `then = \"hold\"`".to_owned()
    } else {
        suggest::help(&name, &gates, "gates of this scenario")
    };
    let message = format!("no fault that holds requests is called `{name}`");
    Err(Objection::new(Place::scenario(place), message, "names no gate").help(help))
}

/// `name`, which is that of a fault.
fn a_fault(name: String, place: std::ops::Range<usize>, faults: &[Fault]) -> Checked<String> {
    let names: Vec<&str> = faults.iter().map(|fault| fault.row.name.as_str()).collect();
    if names.contains(&name.as_str()) {
        return Ok(name);
    }
    let help = if names.is_empty() {
        "this scenario has none: write a `[[fault]]` with that `name`".to_owned()
    } else {
        suggest::help(&name, &names, "faults of this scenario")
    };
    Err(Objection::new(Place::scenario(place), format!("no fault is called `{name}`"), "names no fault")
        .help(help))
}
