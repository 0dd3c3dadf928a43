//! The rows of the disk's fault table.

use std::collections::BTreeMap;

use brim_device::fault::{Op, Row, Then, When};

use crate::check;
use crate::error::{Checked, Objection};
use crate::read::Reader;
use crate::schema;
use crate::step;
use crate::written::Place;

/// All rows of a scenario, in order.
pub(crate) fn rows(faults: &[schema::Table<schema::Fault>], reader: &mut Reader<'_>) -> Checked<Vec<Row>> {
    let mut seen: BTreeMap<String, Place> = BTreeMap::new();
    let mut rows = Vec::new();
    for fault in faults {
        let row = row(fault, reader)?;
        let place = Place::scenario(fault.name.span());
        if let Some(first) = seen.insert(row.name.clone(), place.clone()) {
            return Err(Objection::new(
                place,
                format!("two faults are called `{}`", row.name),
                "the second one",
            )
            .also(first, "the first one")
            .help("give each its own name: gates are opened and hits are reported by name"));
        }
        rows.push(row);
    }
    Ok(rows)
}

fn row(fault: &schema::Fault, reader: &mut Reader<'_>) -> Checked<Row> {
    let name = check::fixed(&fault.name, "name")?;
    let operations = Op::ALL.map(|op| (op.name(), op));
    let op = fault
        .when
        .op
        .as_ref()
        .map(|op| check::choose(op.get_ref(), Place::scenario(op.span()), "op", &operations));
    let nth = fault.when.nth.as_ref().map(|nth| step::at_least_one(nth, "nth", reader));
    let when = When { op: op.transpose()?.into(), nth: nth.transpose()?, ..When::default() };
    check::choose(fault.then.get_ref(), Place::scenario(fault.then.span()), "then", &[("hold", ())])?;
    Ok(Row { name, when, then: Then::HOLD })
}
