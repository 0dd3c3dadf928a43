//! Phases and steps.

mod administration;
pub(crate) mod content;
mod disk;
mod file;
mod rounds;
mod wait;

use brim_device::{Ratio, Survival};
use brim_trial::event::Signal;
use brim_trial::operation::Administration;
use brim_trial::plan::{Allow, Device, Fault, Phase, Step};
use brim_trial::{Errno, Expression, FilesystemKind, Nanos, Operation};
use toml::Spanned;

use crate::check;
use crate::control::Variant;
use crate::device;
use crate::error::{Checked, Objection};
use crate::fault;
use crate::quantity::Dimension;
use crate::read::{self, Found, Reader, Scope};
use crate::schema;
use crate::suggest;
use crate::written::Place;
use content::Told;
pub(crate) use rounds::TIMES_UNTIL;
use rounds::{Rounds, rounds};

/// The disk's own unit.
const SECTOR: u64 = 512;

/// What steps may name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disks<'a> {
    /// The disks.
    pub(crate) devices: &'a [Device],
    /// Their faults.
    pub(crate) faults: &'a [Fault],
    /// What all steps have them do.
    pub(crate) told: &'a Told,
}

/// What all steps are read with.
#[derive(Clone, Copy)]
pub(crate) struct Ground<'a> {
    /// The disks.
    pub(crate) disks: Disks<'a>,
    /// The filesystem that the file names.
    pub(crate) filesystem: FilesystemKind,
    /// How long a step may take.
    pub(crate) limit: Nanos,
}

/// What a step is read with.
#[derive(Clone, Copy)]
struct Setting<'a> {
    /// The last round that is sure to be reached, from 0, as far as anybody can tell without running it.
    last_round: u64,
    /// The last copy of its worker, from 0.
    last_copy: u64,
    /// What its names and quantities may count.
    scope: Scope,
    /// What all steps are read with.
    ground: Ground<'a>,
    /// Other workers are at work at the same time.
    beside: bool,
}

/// A step of the preparation.
pub(crate) fn in_preparation(entry: &Entry, ground: Ground<'_>, reader: &mut Reader<'_>) -> Checked<Step> {
    let read = step(entry, ground.alone(), reader)?;
    let step = entry.get_ref();
    let refused = |span, message: String| {
        Err(Objection::new(Place::scenario(span), message, "not in the preparation")
            .help("the preparation is done once, by one worker, on a disk without faults: this belongs into a `[[phase]]`"))
    };
    if let Some(by) = &step.by {
        return refused(by.span(), "the preparation has one worker".to_owned());
    }
    if let Some(only) = &step.only {
        return refused(only.span(), "the preparation is that of the scenario and of its control".to_owned());
    }
    match &read.operation {
        Operation::Await { .. }
        | Operation::AwaitLog { .. }
        | Operation::Arm { .. }
        | Operation::Release { .. }
        | Operation::Close { .. }
        | Operation::Panic { .. }
        | Operation::PowerCut { .. }
        | Operation::Disk(_)
        | Operation::Administer(Administration::LoseDevice { .. }) => {
            refused(entry.span(), format!("`{}` in the preparation", read.operation.verb()))
        }
        _ => Ok(read),
    }
}

impl<'a> Ground<'a> {
    /// What the steps are read with of one worker that goes round once.
    fn alone(self) -> Setting<'a> {
        Setting { last_round: 0, last_copy: 0, scope: Scope::Rounds, ground: self, beside: false }
    }
}

/// One phase of a scenario with these disks.
pub(crate) fn phase(
    phase: &schema::Phase,
    variant: Variant,
    ground: Ground<'_>,
    reader: &mut Reader<'_>,
) -> Checked<Phase> {
    let name = reader.text(&phase.name)?.value;
    let entries = steps_of(phase, variant)?;
    let going = Rounds::of(phase, &entries, reader)?;
    if phase.step.get_ref().is_empty() {
        let place = Place::scenario(phase.step.span());
        return Err(Objection::new(place, "a phase without steps", "empty")
            .help("a step is a table such as `{ do.fsync = { file = \"blob\" } }`"));
    }
    let step = |entry: &Entry| {
        let by = entry.get_ref().by.as_ref().map(|by| by.get_ref().as_str());
        step(entry, going.setting(by, ground), reader)
    };
    let steps: Vec<Step> = entries.into_iter().map(step).collect::<Checked<_>>()?;
    let Rounds { until, times, loops, .. } = going;
    if steps.is_empty() {
        // All of them are the control's: there is nothing to go round for.
        return Ok(Phase { name, until: None, times: 1, steps, loops: Vec::new() });
    }
    Ok(Phase { name, until, times, steps, loops })
}

/// A step as it is written, and where.
type Entry = Spanned<schema::Table<schema::Step>>;

/// The steps of a phase that a plan has.
fn steps_of(phase: &schema::Phase, variant: Variant) -> Checked<Vec<&Entry>> {
    let mut steps = Vec::new();
    for entry in phase.step.get_ref() {
        if let Some(only) = &entry.get_ref().only {
            let options = [("control", Variant::Control)];
            check::choose(only.get_ref(), Place::scenario(only.span()), "only", &options)?;
        }
        if variant == Variant::Control || entry.get_ref().only.is_none() {
            steps.push(entry);
        }
    }
    Ok(steps)
}

/// The fault that `key` names.
pub(crate) fn a_fault(given: &schema::Text, key: &str, faults: &[Fault]) -> Checked<String> {
    disk::a_fault(check::fixed(given, key)?, given.span(), faults)
}

/// A count of `key` that is not zero.
pub(crate) fn at_least_one<T: AsRef<str>>(
    field: &Spanned<T>,
    key: &str,
    reader: &mut Reader<'_>,
) -> Checked<u64> {
    let found = reader.constant(field, Dimension::Count, key)?;
    if found.value == 0 {
        return Err(
            Objection::new(found.place, format!("`{key}` is 0"), "counted from 1").help("write 1 or more")
        );
    }
    Ok(found.value)
}

/// What is wrong with a disk of `size` bytes.
pub(crate) fn check_disk_size(size: u64, place: Place, key: &str) -> Checked<()> {
    let shown = brim_trial::Bytes(size);
    if size == 0 {
        return Err(Objection::new(place, format!("`{key}` is {shown}"), "no disk is that small")
            .help("write a size, such as `128 MiB`"));
    }
    if !size.is_multiple_of(SECTOR) {
        let (down, up) = near(size, SECTOR);
        return Err(Objection::new(
            place,
            format!("`{key}` is {shown}: not a multiple of 512 B"),
            "ends inside a sector",
        )
        .help(format!("the nearest are {down} and {up}")));
    }
    Ok(())
}

/// The multiples of `unit` around `size`, as a user may write them.
pub(crate) fn near(size: u64, unit: u64) -> (String, String) {
    let down = size / unit * unit;
    (format!("`{down} B`"), format!("`{} B`", down.saturating_add(unit)))
}

fn step(
    entry: &Spanned<schema::Table<schema::Step>>,
    setting: Setting<'_>,
    reader: &mut Reader<'_>,
) -> Checked<Step> {
    let step = entry.get_ref();
    let mut done = Vec::new();
    if let Some(verb) = &step.verb {
        done.push((verb.span(), operation(verb.get_ref(), setting, reader)?));
    }
    if let Some(wait) = &step.wait {
        done.push((wait.span(), wait::wait_for(wait, setting, reader)?));
    }
    if let Some(release) = &step.release {
        done.push((release.span(), disk::release(release, setting, reader)?));
    }
    if let Some(gate) = &step.close {
        done.push((gate.span(), Operation::Close { gate: disk::gate(gate, "close", setting)? }));
    }
    if let Some(fault) = &step.arm {
        done.push((fault.span(), Operation::Arm { fault: disk::fault(fault, setting)? }));
    }
    if let Some(time) = &step.sleep {
        done.push((time.span(), wait::sleep(time, setting, reader)?));
    }
    let mut done = done.into_iter();
    let (first, second) = (done.next(), done.next());
    let Some((place, operation)) = first else {
        return Err(Objection::new(Place::scenario(entry.span()), "this step does nothing", "no verb")
            .help("say what the step does: `do.fsync = { file = \"blob\" }`, `await.held = \"GATE\"` or `release = \"GATE\"`"));
    };
    if let Some((second, _)) = second {
        return Err(Objection::new(Place::scenario(second), "a step does one thing", "the second one")
            .help("write one of `do`, `await`, `release`, `close`, `arm` and `sleep` a step"));
    }
    possible(&operation, Place::scenario(place), setting)?;
    let name = step.name.as_ref().map(|name| check::fixed(name, "name")).transpose()?;
    if let (Some(field), Some("before" | "after")) = (&step.name, name.as_deref())
        && matches!(operation, Operation::Counters {})
    {
        let message = format!("`{}` is a reading that every trial takes", field.get_ref());
        return Err(Objection::new(Place::scenario(field.span()), message, "taken").help(
            "`before` is the one before the first step, `after` the one after the last: use another name",
        ));
    }
    let by = step.by.as_ref().map(|by| check::fixed(by, "by")).transpose()?;
    let allow = step.allow.0.iter().map(|word| allow(word, reader)).collect::<Checked<_>>()?;
    Ok(Step { name: name.unwrap_or_else(|| operation.verb().to_owned()), operation, by, allow })
}

/// A way to fail after which the worker goes on.
fn allow(word: &schema::Text, reader: &mut Reader<'_>) -> Checked<Allow> {
    match word.get_ref().as_str() {
        "any" => Ok(Allow::Any),
        "SIGBUS" => Ok(Allow::Signal(Signal::Bus)),
        _ => errno(word, "allow", reader).map(Allow::Errno),
    }
}

/// Whether a step may do this where it stands.
fn possible(operation: &Operation, place: Place, setting: Setting<'_>) -> Checked<()> {
    let verb = operation.verb();
    if setting.beside && operation.takes_the_mount() {
        let message = format!("`{verb}` takes the mount away while other workers are at work there");
        return Err(Objection::new(place, message, "not beside others")
            .help("give it a phase of its own: a phase begins when all workers of the one before are done"));
    }
    let has_cache = setting.ground.disks.devices.iter().any(|device| device.write_cache);
    if matches!(operation, Operation::PowerCut { .. }) && !has_cache {
        return Err(Objection::new(place, "a power cut of this disk loses nothing", "no effect")
            .help("give the disk a write cache: `[device]` with `write_cache = true`"));
    }
    Ok(())
}

fn operation(verb: &schema::Verb, setting: Setting<'_>, reader: &mut Reader<'_>) -> Checked<Operation> {
    use schema::Verb;
    if let Some(operation) = file::operation(verb, setting, reader)? {
        return Ok(Operation::File(operation));
    }
    Ok(match verb {
        Verb::Subvolume(given) => Operation::Subvolume { path: file::path(&given.path, setting, reader)? },
        Verb::Snapshot(given) => Operation::Snapshot {
            of: file::path(&given.of, setting, reader)?,
            to: file::path(&given.to, setting, reader)?,
            read_only: given.read_only,
        },
        Verb::Scrub(_) => Operation::Scrub {},
        Verb::DropCaches(_) => Operation::DropCaches {},
        Verb::Counters(_) => Operation::Counters {},
        Verb::Panic(given) => {
            let trial = given.trial.as_ref().map(|trial| at_least_one(trial, "trial", reader));
            Operation::Panic { trial: trial.transpose()? }
        }
        Verb::Remount(given) => administration::remount(given, reader)?,
        Verb::Check(_) => Operation::Check {},
        Verb::PowerCut(given) => {
            let arm = given.arm.0.iter().map(|name| disk::fault(name, setting)).collect::<Checked<_>>()?;
            Operation::PowerCut { survival: survival(given, reader)?, arm }
        }
        Verb::Mark(given) => content::mark(given, reader)?,
        Verb::KeepSnapshot(given) => content::keep(given)?,
        Verb::RestoreSnapshot(given) => content::restore(given, setting.ground.disks.told)?,
        Verb::SetPool(given) => content::set_pool(given, setting.ground.disks.devices, reader)?,
        Verb::RemovePool(given) => content::remove_pool(given, setting.ground.disks.devices)?,
        Verb::Freeze(_) => Operation::Freeze {},
        Verb::Thaw(_) => Operation::Thaw {},
        Verb::Exec(given) => wait::exec(given, setting, reader)?,
        Verb::Syncfs(_) => Operation::Syncfs {},
        Verb::ResizeDisk(given) => Operation::ResizeDisk {
            size: disk_size(&given.size, setting, reader)?,
            device: given
                .device
                .as_ref()
                .map(|text| device::named(text, "device", setting.ground.disks.devices))
                .transpose()?,
        },
        act => Operation::Administer(administration::act(act, setting, reader)?),
    })
}

/// A size that is in range in all rounds that are sure to be reached.
fn size(
    field: &Spanned<schema::Formula>,
    key: &str,
    setting: Setting<'_>,
    reader: &mut Reader<'_>,
) -> Checked<Found<Expression>> {
    let found = reader.expression(field, Dimension::Size, key, setting.scope)?;
    for round in rounds(setting) {
        if found.value.value(round).is_err() {
            return Err(read::out_of_range(found.place, key, Some(round)));
        }
    }
    Ok(found)
}

fn disk_size(
    field: &Spanned<schema::Formula>,
    setting: Setting<'_>,
    reader: &mut Reader<'_>,
) -> Checked<Expression> {
    let found = size(field, "size", setting, reader)?;
    for round in rounds(setting) {
        let value = found
            .value
            .value(round)
            .map_err(|_| read::out_of_range(found.place.clone(), "size", Some(round)))?;
        check_disk_size(value, found.place.clone(), "size")?;
    }
    Ok(found.value)
}

/// What of the disk's cache is left.
fn survival(given: &schema::PowerCut, reader: &mut Reader<'_>) -> Checked<Survival> {
    let mut odds = |field: &Option<Spanned<schema::fault::Number>>, key: &str| {
        field.as_ref().map_or(Ok(Ratio::ZERO), |field| fault::ratio(field, key, reader))
    };
    let survival = Survival { kept: odds(&given.kept, "kept")?, torn: odds(&given.torn, "torn")? };
    match given.torn.as_ref().or(given.kept.as_ref()) {
        Some(field) if survival.is_more_than_all() => {
            let place = Place::scenario(field.span());
            Err(Objection::new(place, "`kept` and `torn` are more than all", "more than 100 % with this")
                .help("what is neither kept nor torn is lost: the two are 100 % at most"))
        }
        _ => Ok(survival),
    }
}

/// The one of `options` that `key` names.
pub(crate) fn option<T: Copy>(
    field: &schema::Text,
    key: &str,
    options: &[(&str, T)],
    reader: &mut Reader<'_>,
) -> Checked<T> {
    let found = reader.text(field)?;
    check::choose(&found.value, found.place, key, options)
}

/// The error number that `key` names.
pub(crate) fn errno(field: &schema::Text, key: &str, reader: &mut Reader<'_>) -> Checked<Errno> {
    let Found { value, place } = reader.text(field)?;
    value.parse().map_err(|_| {
        let names: Vec<&str> = Errno::names().collect();
        let meant = suggest::nearest(&value, &names).map(|name| format!("did you mean `{name}`? "));
        Objection::new(place, format!("`{value}` is not an error number"), format!("unknown `{key}`")).help(
            format!(
                "{}write its name as in errno(3), such as `ENOSPC`, `EIO` or `EDQUOT`",
                meant.unwrap_or_default()
            ),
        )
    })
}
