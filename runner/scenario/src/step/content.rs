//! What a disk is told of its content and its space: marks, snapshots, the pool behind it.

use std::collections::BTreeMap;

use brim_device::control::WhenFull;
use brim_device::log::Mark;
use brim_trial::operation::{DiskWord, Pool, Space};
use brim_trial::plan::Device;
use brim_trial::{Bytes, Operation};
use toml::Spanned;

use crate::check;
use crate::device;
use crate::error::{Checked, Objection};
use crate::quantity::Dimension;
use crate::read::{Found, Reader};
use crate::schema::device::Devices;
use crate::schema::{self, Table, Text, Verb, disk as keys};
use crate::suggest;
use crate::written::Place;

/// What the steps of a whole scenario have the disk do, as far as other steps depend on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// The names of the snapshots that are kept.
    snapshots: Vec<String>,
    /// There is a pool at some time that has requests wait.
    holds_for_space: bool,
    /// There is a pool at some time.
    pub(super) has_pool: bool,
}

impl Told {
    /// Of the file.
    pub(crate) fn of(file: &schema::File) -> Self {
        let mut told = Self::default();
        let mut pool = |pool: &Table<keys::Pool>| {
            told.has_pool = true;
            told.holds_for_space |= pool.when_full.as_ref().is_some_and(|word| word.get_ref() == "hold");
        };
        for (_, given) in pools_of(file) {
            pool(given.get_ref());
        }
        let steps = file.phases.iter().flat_map(|phase| phase.step.get_ref());
        let verbs = || steps.clone().filter_map(|step| step.get_ref().verb.as_ref());
        for verb in verbs() {
            if let Verb::SetPool(given) = verb.get_ref() {
                pool(given.get_ref());
            }
        }
        let kept = |verb: &Spanned<Verb>| match verb.get_ref() {
            Verb::KeepSnapshot(named) => Some(named.name.get_ref().clone()),
            _ => None,
        };
        told.snapshots = verbs().filter_map(kept).collect();
        told
    }

    /// A gate of the pool's name would hide the pool's.
    pub(crate) fn names_no_fault_like_its_pool(&self, file: &schema::File) -> Checked<()> {
        match file.faults.iter().find(|fault| fault.name.get_ref() == Pool::GATE).filter(|_| self.has_pool) {
            None => Ok(()),
            Some(fault) => {
                let place = Place::scenario(fault.name.span());
                Err(Objection::new(place, "a fault is called `pool`, and the disk has a pool", "taken")
                    .help("`pool` is the gate at which requests wait for space: give the fault another name"))
            }
        }
    }

    /// Whether the gate of the pool can hold anything.
    pub(super) const fn holds_for_space(&self) -> bool {
        self.holds_for_space
    }
}

/// `mark`.
pub(super) fn mark(given: &keys::Mark, reader: &mut Reader<'_>) -> Checked<Operation> {
    let Found { value: text, place } = reader.text(&given.text)?;
    match Mark::new(&text) {
        Ok(_) => Ok(Operation::Disk(DiskWord::Mark { text })),
        Err(why) => Err(Objection::new(place, format!("`text` cannot be a mark: {why}"), "not a mark")
            .help(format!("a mark is of {} bytes at most, and has no nul byte", Mark::LEN_MAX.0))),
    }
}

/// `keep_snapshot`.
pub(super) fn keep(given: &keys::Named) -> Checked<Operation> {
    Ok(Operation::Disk(DiskWord::KeepSnapshot { name: check::fixed(&given.name, "name")? }))
}

/// `restore_snapshot`.
pub(super) fn restore(given: &keys::Named, told: &Told) -> Checked<Operation> {
    let name = check::fixed(&given.name, "name")?;
    if told.snapshots.contains(&name) {
        return Ok(Operation::Disk(DiskWord::RestoreSnapshot { name }));
    }
    let names: Vec<&str> = told.snapshots.iter().map(String::as_str).collect();
    let help = if names.is_empty() {
        "this scenario keeps none: `do.keep_snapshot = { name = \"before\" }` does".to_owned()
    } else {
        suggest::help(&name, &names, "snapshots of this scenario")
    };
    let place = Place::scenario(given.name.span());
    Err(Objection::new(place, format!("no step keeps a snapshot called `{name}`"), "names no snapshot")
        .help(help))
}

/// `set_pool`.
pub(super) fn set_pool(
    given: &Spanned<Table<keys::Pool>>,
    devices: &[Device],
    reader: &mut Reader<'_>,
) -> Checked<Operation> {
    let device = on_device(given.get_ref().device.as_ref(), devices)?;
    Ok(Operation::Disk(DiskWord::SetPool { device, pool: pool(given, reader)? }))
}

/// `remove_pool`.
pub(super) fn remove_pool(given: &keys::OnDevice, devices: &[Device]) -> Checked<Operation> {
    Ok(Operation::Disk(DiskWord::RemovePool { device: on_device(given.device.as_ref(), devices)? }))
}

fn on_device(named: Option<&Text>, devices: &[Device]) -> Checked<Option<String>> {
    named.map(|named| device::named(named, "device", devices)).transpose()
}

/// The pool of each disk that has one from the first step on.
pub(crate) fn pools(
    file: &schema::File,
    devices: &[Device],
    reader: &mut Reader<'_>,
) -> Checked<BTreeMap<String, Pool>> {
    let mut pools = BTreeMap::new();
    for (index, given) in pools_of(file) {
        if let Some(named) = &given.get_ref().device {
            let place = Place::scenario(named.span());
            return Err(Objection::new(place, "a pool names its disk", "not possible here")
                .help("take `device` out: the pool is behind the disk in whose table it stands"));
        }
        let name = devices.get(index).map_or(Device::ONLY, |device| &device.name);
        pools.insert(name.to_owned(), pool(given, reader)?);
    }
    Ok(pools)
}

/// The `pool` of each `[device]`, and which disk that is.
fn pools_of(file: &schema::File) -> Vec<(usize, &Spanned<Table<keys::Pool>>)> {
    match &file.device {
        Devices::One(keys) => keys.pool.iter().map(|pool| (0, &**pool)).collect(),
        Devices::Several(list) => {
            let tables = list.iter().map(Spanned::get_ref).enumerate();
            tables.filter_map(|(index, keys)| Some((index, keys.pool.as_deref()?))).collect()
        }
    }
}

/// A pool.
fn pool(given: &Spanned<Table<keys::Pool>>, reader: &mut Reader<'_>) -> Checked<Pool> {
    let keys = given.get_ref();
    let mut size = |field: &Spanned<schema::Formula>, key: &str| {
        reader.constant(field, Dimension::Size, key).map(|found| Bytes(found.value))
    };
    let space = match (&keys.limit, &keys.free) {
        (Some(limit), None) => Space::Limit(size(limit, "limit")?),
        (None, Some(free)) => Space::Free(size(free, "free")?),
        (limit, _) => {
            let message = if limit.is_some() { "a pool has two sizes" } else { "a pool without a size" };
            return Err(Objection::new(Place::scenario(given.span()), message, "one of `limit` and `free` belongs here")
                .help("`free = \"1 MiB\"` is so much more than the disk's blocks take then, `limit = \"64 MiB\"` so much in all"));
        }
    };
    let options = [("error", WhenFull::Error), ("hold", WhenFull::Hold)];
    let when_full = keys
        .when_full
        .as_ref()
        .map(|word| check::choose(word.get_ref(), Place::scenario(word.span()), "when_full", &options));
    Ok(Pool { space, when_full: when_full.transpose()?.unwrap_or(WhenFull::Error) })
}
