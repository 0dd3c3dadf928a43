//! The rows of the disk's fault table.

mod then;

use std::collections::{BTreeMap, BTreeSet};

use brim_device::fault::{FaultTable, Op, Row, Sizes, When};
use brim_device::{ByteRange, Bytes, Ratio};
use brim_trial::plan::{Device, Fault};
use toml::Spanned;

use crate::check;
use crate::device;
use crate::error::{Checked, Objection};
use crate::quantity::Dimension;
use crate::read::{Found, Reader};
use crate::schema::{self, fault as keys};
use crate::step;
use crate::suggest;
use crate::written::Place;

/// What may be named as a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Regions {
    /// Those of a mounted filesystem.
    Filesystem,
    /// Any name: whoever runs the disk defines them.
    Any,
}

/// Regions of a filesystem that have a name of their own.
const REGIONS: [&str; 5] = ["superblock", "data", "metadata", "system", "log-tree"];

/// Regions of a filesystem that are about a file: the word before the path.
const FILE_REGIONS: [&str; 2] = ["file:", "block-group-of:"];

/// The rows of a disk that is none of a scenario's, in order.
pub(crate) fn rows(
    faults: &[schema::Table<schema::Fault>],
    files: &dyn Fn(&str) -> Result<String, String>,
    reader: &mut Reader<'_>,
) -> Checked<Vec<Row>> {
    if let Some(device) = faults.iter().find_map(|fault| fault.device.as_ref()) {
        return Err(Objection::new(
            Place::scenario(device.span()),
            "a fault names its disk",
            "not possible here",
        )
        .help(
            "take `device` out: there is one disk, and all of this is about it; a scenario may have several",
        ));
    }
    let faults = of_disks(faults, &[], Regions::Any, files, reader)?;
    Ok(faults.into_iter().map(|fault| fault.row).collect())
}

/// The rows of a scenario with these disks, in order.
pub(crate) fn of_scenario(
    faults: &[schema::Table<schema::Fault>],
    devices: &[Device],
    reader: &mut Reader<'_>,
) -> Checked<Vec<Fault>> {
    let files = |_: &str| Err("a scenario stands alone; a device profile can name files".to_owned());
    of_disks(faults, devices, Regions::Filesystem, &files, reader)
}

fn of_disks(
    faults: &[schema::Table<schema::Fault>],
    devices: &[Device],
    regions: Regions,
    files: &dyn Fn(&str) -> Result<String, String>,
    reader: &mut Reader<'_>,
) -> Checked<Vec<Fault>> {
    let mut seen: BTreeMap<String, Place> = BTreeMap::new();
    // Tables of their own know whether the rows of each disk can work together.
    let mut tables: BTreeMap<String, FaultTable> = BTreeMap::new();
    let mut rows = Vec::new();
    for fault in faults {
        let row = row(fault, regions, files, reader)?;
        let device = match &fault.device {
            Some(named) => device::named(named, "device", devices)?,
            None => devices.first().map_or_else(String::new, |first| first.name.clone()),
        };
        let gate = row.when.while_gate.as_ref();
        let elsewhere = gate.and_then(|gate| rows.iter().find(|fault: &&Fault| fault.row.name == *gate));
        if let Some(Fault { device: other, row: gate }) = elsewhere.filter(|fault| fault.device != device) {
            let message =
                format!("the gate `{}` is of the disk `{other}`, and this fault of `{device}`", gate.name);
            let named = fault.when.while_gate.as_ref().unwrap_or(&fault.name);
            let place = Place::scenario(named.span());
            return Err(Objection::new(place, message, "a gate of another disk")
                .help("each disk has a table of its own: what a fault looks at is in the same"));
        }
        let table = tables.entry(device.clone()).or_default();
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
        if let Some(region) = &row.when.region {
            table.set_region(region, Vec::new());
        }
        table.add(row.clone()).map_err(|error| {
            Objection::new(place, error.to_string(), "this fault").help(
                "docs/faults.md says which operations each `then` can act on, and what each key of `when` is",
            )
        })?;
        rows.push(Fault { device, row });
    }
    Ok(rows)
}

fn row(
    fault: &schema::Fault,
    regions: Regions,
    files: &dyn Fn(&str) -> Result<String, String>,
    reader: &mut Reader<'_>,
) -> Checked<Row> {
    let name = check::fixed(&fault.name, "name")?;
    let when = when(&fault.when, regions, reader)?;
    let then = then::then(&fault.then, files, reader)?;
    Ok(Row { name, when, then })
}

fn when(given: &keys::When, regions: Regions, reader: &mut Reader<'_>) -> Checked<When> {
    let operations = Op::ALL.map(|op| (op.name(), op));
    let named =
        |op: &schema::Text| check::choose(op.get_ref(), Place::scenario(op.span()), "op", &operations);
    let mut count = |field: &Option<Spanned<schema::Scalar>>, key: &str| {
        field.as_ref().map(|field| step::at_least_one(field, key, reader)).transpose()
    };
    let (nth, every, times) =
        (count(&given.nth, "nth")?, count(&given.every, "every")?, count(&given.times, "times")?);
    let range = given.range.as_ref().map(|range| {
        let offset = size(&range.get_ref().offset, "offset", reader)?;
        let length = size(&range.get_ref().length, "length", reader)?;
        Ok(ByteRange { offset, length })
    });
    let range = range.transpose()?;
    let sizes = given.size.as_ref().map(|sizes| {
        let mut one = |field: &Option<Spanned<schema::Formula>>, key: &str| {
            field.as_ref().map(|field| size(field, key, reader)).transpose()
        };
        Ok(Sizes { min: one(&sizes.min, "min")?, max: one(&sizes.max, "max")? })
    });
    let size = sizes.transpose()?;
    let probability =
        given.probability.as_ref().map(|number| ratio(number, "probability", reader)).transpose()?;
    Ok(When {
        op: given.op.0.iter().map(named).collect::<Checked<BTreeSet<Op>>>()?.into_iter().collect(),
        fua: given.fua,
        range,
        region: given.region.as_ref().map(|name| region(name, regions, reader)).transpose()?,
        size,
        while_gate: given.while_gate.as_ref().map(|gate| check::fixed(gate, "while_gate")).transpose()?,
        nth,
        every,
        between: given.between.as_ref().map(|between| pair(between, reader)).transpose()?,
        probability,
        times: at_most(times, given.once.as_ref())?,
    })
}

/// How often a row fires at most, of the two ways to say it.
fn at_most(times: Option<u64>, once: Option<&Spanned<bool>>) -> Checked<Option<u64>> {
    match (times, once) {
        (Some(_), Some(once)) => Err(Objection::new(
            Place::scenario(once.span()),
            "`once` and `times` both say how often it fires",
            "one of the two",
        )
        .help("`once = true` is `times = 1`")),
        (None, Some(once)) if *once.get_ref() => Ok(Some(1)),
        (times, _) => Ok(times),
    }
}

fn pair(between: &Spanned<Vec<Spanned<schema::Scalar>>>, reader: &mut Reader<'_>) -> Checked<(u64, u64)> {
    let [first, last] = between.get_ref().as_slice() else {
        return Err(Objection::new(
            Place::scenario(between.span()),
            "`between` is not a pair",
            "two numbers belong here",
        )
        .help("write the first match and the last one: `between = [5, 9]`"));
    };
    Ok((step::at_least_one(first, "between", reader)?, step::at_least_one(last, "between", reader)?))
}

fn region(field: &schema::Text, regions: Regions, reader: &mut Reader<'_>) -> Checked<String> {
    let Found { value, place } = reader.text(field)?;
    let of_file =
        FILE_REGIONS.iter().any(|kind| value.strip_prefix(kind).is_some_and(|path| !path.is_empty()));
    if regions == Regions::Any && !value.is_empty() || REGIONS.contains(&value.as_str()) || of_file {
        return Ok(value);
    }
    let names: Vec<&str> = REGIONS.into_iter().chain(["file:PATH", "block-group-of:PATH"]).collect();
    Err(Objection::new(place, format!("`{value}` is not a region of a filesystem"), "unknown region")
        .help(suggest::help(&value, &names, "possible here")))
}

/// A size of `key`.
fn size(field: &Spanned<schema::Formula>, key: &str, reader: &mut Reader<'_>) -> Checked<Bytes> {
    reader.constant(field, Dimension::Size, key).map(|found| Bytes(found.value))
}

/// A number of `key` that need not be whole.
pub(crate) fn ratio(field: &Spanned<keys::Number>, key: &str, reader: &mut Reader<'_>) -> Checked<Ratio> {
    let Found { value, place } = reader.string(field)?;
    let (number, unit) = match value.strip_suffix('%') {
        Some(number) => (number.trim_end(), 100.0),
        None => (value.as_str(), 1.0),
    };
    let ratio = number.parse().ok().and_then(|number: f64| Ratio::from_f64(number / unit));
    ratio.ok_or_else(|| {
        Objection::new(place, format!("`{key}` is `{value}`"), "not a number from 0 on")
            .help("write a number such as `0.25`, or a string such as \"25 %\"")
    })
}
