//! Phases and steps.

mod administration;
mod disk;

use brim_device::{Ratio, Survival};
use brim_trial::event::SpaceKind;
use brim_trial::operation::{Administration, Expect};
use brim_trial::plan::{self, Condition, Device, Fault, Phase, Step};
use brim_trial::{Content, Errno, Expression, Operation};
use toml::Spanned;

use crate::check;
use crate::device;
use crate::error::{Checked, Objection};
use crate::fault;
use crate::quantity::Dimension;
use crate::read::{self, Found, Reader};
use crate::schema;
use crate::suggest;
use crate::written::Place;

/// How often a phase goes round at most that waits for an error and does not say.
const TIMES_UNTIL: u64 = 1_000_000;

/// The disk's own unit.
const SECTOR: u64 = 512;

/// What steps may name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disks<'a> {
    /// The disks.
    pub(crate) devices: &'a [Device],
    /// Their faults.
    pub(crate) faults: &'a [Fault],
}

/// What the steps of a phase are read with.
#[derive(Clone, Copy)]
struct Setting<'a> {
    /// The last round that is sure to be reached, from 0, as far as anybody can tell without running it.
    last_round: u64,
    disks: Disks<'a>,
    /// Other workers are at work at the same time.
    beside: bool,
}

/// A step of the preparation.
pub(crate) fn in_preparation(
    entry: &Spanned<schema::Table<schema::Step>>,
    disks: Disks<'_>,
    reader: &mut Reader<'_>,
) -> Checked<Step> {
    let setting = Setting { last_round: 0, disks, beside: false };
    let read = step(entry, setting, reader)?;
    let step = entry.get_ref();
    let refused = |span, message: String| {
        Err(Objection::new(Place::scenario(span), message, "not in the preparation")
            .help("the preparation is done once, by one worker, on a disk without faults: this belongs into a `[[phase]]`"))
    };
    if let Some(by) = &step.by {
        return refused(by.span(), "the preparation has one worker".to_owned());
    }
    match &read.operation {
        Operation::Await { .. }
        | Operation::Arm { .. }
        | Operation::Release { .. }
        | Operation::Close { .. }
        | Operation::Panic { .. }
        | Operation::PowerCut { .. }
        | Operation::Administer(Administration::LoseDevice { .. }) => {
            refused(entry.span(), format!("`{}` in the preparation", read.operation.verb()))
        }
        _ => Ok(read),
    }
}

/// One phase of a scenario with these disks.
pub(crate) fn phase(phase: &schema::Phase, disks: Disks<'_>, reader: &mut Reader<'_>) -> Checked<Phase> {
    let name = reader.text(&phase.name)?.value;
    let until = phase.until.as_ref().map(|name| errno(name, "until", reader)).transpose()?;
    let beside = workers(phase)? > 1;
    let times = match &phase.times {
        None if until.is_some() && !beside => TIMES_UNTIL,
        None => 1,
        Some(times) => at_least_one(times, "times", reader)?,
    };
    if let Some(times) = phase.times.as_ref().filter(|_| beside && times > 1) {
        return Err(Objection::new(
            Place::scenario(times.span()),
            "a phase of several workers goes round once",
            "more than one round",
        )
        .help("take `times` out, or give all steps to one worker: where one goes round, nothing says where the others are"));
    }
    let setting = Setting { disks, beside, last_round: if until.is_some() { 0 } else { times - 1 } };
    if phase.step.get_ref().is_empty() {
        let place = Place::scenario(phase.step.span());
        return Err(Objection::new(place, "a phase without steps", "empty")
            .help("a step is a table such as `{ do.fsync = { file = \"blob\" } }`"));
    }
    let steps =
        phase.step.get_ref().iter().map(|entry| step(entry, setting, reader)).collect::<Checked<_>>()?;
    Ok(Phase { name, until, times, steps })
}

/// How many workers a phase has.
fn workers(phase: &schema::Phase) -> Checked<usize> {
    let mut workers = std::collections::BTreeSet::new();
    for step in phase.step.get_ref() {
        workers.insert(step.get_ref().by.as_ref().map(|by| check::fixed(by, "by")).transpose()?);
    }
    Ok(workers.len())
}

/// One `[[reproduced]]`, which names one of the steps of `phases`.
pub(crate) fn condition(
    entry: &schema::Reproduced,
    phases: &[Phase],
    reader: &mut Reader<'_>,
) -> Checked<Condition> {
    let step = check::fixed(&entry.step, "step")?;
    let mut names: Vec<&str> =
        phases.iter().flat_map(|phase| &phase.steps).map(|step| step.name.as_str()).collect();
    names.dedup();
    if !names.contains(&step.as_str()) {
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(*name));
        let place = Place::scenario(entry.step.span());
        return Err(Objection::new(place, format!("no step is called `{step}`"), "names no step").help(
            suggest::help(&step, &names, "steps of this scenario (by their `name`, else their verb)"),
        ));
    }
    let errno = entry.errno.as_ref().map(|name| errno(name, "errno", reader)).transpose()?;
    let spaces =
        [SpaceKind::Data, SpaceKind::Metadata, SpaceKind::System].map(|space| (space, space.to_string()));
    let spaces: Vec<(&str, SpaceKind)> = spaces.iter().map(|(space, name)| (name.as_str(), *space)).collect();
    let space = entry.space.as_ref().map(|name| option(name, "space", &spaces, reader)).transpose()?;
    let contents = [("lost", plan::Content::Lost)];
    let content =
        entry.content.as_ref().map(|name| option(name, "content", &contents, reader)).transpose()?;
    Ok(Condition { step, errno, space, content })
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
        done.push((wait.span(), disk::wait_for(wait.get_ref(), setting, reader)?));
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
    let mut done = done.into_iter();
    let (first, second) = (done.next(), done.next());
    let Some((place, operation)) = first else {
        return Err(Objection::new(Place::scenario(entry.span()), "this step does nothing", "no verb")
            .help("say what the step does: `do.fsync = { file = \"blob\" }`, `await.held = \"GATE\"` or `release = \"GATE\"`"));
    };
    if let Some((second, _)) = second {
        return Err(Objection::new(Place::scenario(second), "a step does one thing", "the second one")
            .help("write one of `do`, `await`, `release`, `close` and `arm` a step"));
    }
    possible(&operation, Place::scenario(place), setting)?;
    let name = step.name.as_ref().map(|name| check::fixed(name, "name")).transpose()?;
    let by = step.by.as_ref().map(|by| check::fixed(by, "by")).transpose()?;
    Ok(Step { name: name.unwrap_or_else(|| operation.verb().to_owned()), operation, by })
}

/// Whether a step may do this where it stands.
fn possible(operation: &Operation, place: Place, setting: Setting<'_>) -> Checked<()> {
    let verb = operation.verb();
    if setting.beside && operation.takes_the_mount() {
        let message = format!("`{verb}` takes the mount away while other workers are at work there");
        return Err(Objection::new(place, message, "not beside others")
            .help("give it a phase of its own: a phase begins when all workers of the one before are done"));
    }
    let has_cache = setting.disks.devices.iter().any(|device| device.write_cache);
    if matches!(operation, Operation::PowerCut { .. }) && !has_cache {
        return Err(Objection::new(place, "a power cut of this disk loses nothing", "no effect")
            .help("give the disk a write cache: `[device]` with `write_cache = true`"));
    }
    Ok(())
}

fn operation(verb: &schema::Verb, setting: Setting<'_>, reader: &mut Reader<'_>) -> Checked<Operation> {
    use schema::Verb;
    let size = |field: &Spanned<schema::Formula>, key: &str, reader: &mut Reader<'_>| {
        size(field, key, setting, reader).map(|found| found.value)
    };
    Ok(match verb {
        Verb::Fallocate(given) => Operation::Fallocate {
            file: file(&given.file, reader)?,
            offset: size(&given.offset, "offset", reader)?,
            length: size(&given.length, "length", reader)?,
            keep_size: given.keep_size,
        },
        Verb::Pwrite(given) => Operation::Pwrite {
            file: file(&given.file, reader)?,
            offset: size(&given.offset, "offset", reader)?,
            length: size(&given.length, "length", reader)?,
            data: content(given.data.as_ref(), reader)?,
        },
        Verb::Pread(given) => Operation::Pread {
            file: file(&given.file, reader)?,
            offset: size(&given.offset, "offset", reader)?,
            length: size(&given.length, "length", reader)?,
            expect: expect(given.expect.as_ref(), reader)?,
        },
        Verb::SyncFileRange(given) => Operation::SyncFileRange {
            file: file(&given.file, reader)?,
            offset: size(&given.offset, "offset", reader)?,
            length: size(&given.length, "length", reader)?,
        },
        Verb::Reflink(given) => {
            let offset = size(&given.offset, "offset", reader)?;
            let to_offset = given.to_offset.as_ref().map(|given| size(given, "to_offset", reader));
            Operation::Reflink {
                from: file(&given.from, reader)?,
                to: file(&given.to, reader)?,
                length: size(&given.length, "length", reader)?,
                to_offset: to_offset.unwrap_or_else(|| Ok(offset.clone()))?,
                offset,
            }
        }
        Verb::Fsync(given) => Operation::Fsync { file: file(&given.file, reader)? },
        Verb::Fdatasync(given) => Operation::Fdatasync { file: file(&given.file, reader)? },
        Verb::Nocow(given) => Operation::Nocow { file: file(&given.file, reader)? },
        Verb::Subvolume(given) => Operation::Subvolume { path: file(&given.path, reader)? },
        Verb::Snapshot(given) => Operation::Snapshot {
            of: file(&given.of, reader)?,
            to: file(&given.to, reader)?,
            read_only: given.read_only,
        },
        Verb::Scrub(_) => Operation::Scrub {},
        Verb::DropCaches(_) => Operation::DropCaches {},
        Verb::Panic(given) => {
            let trial = given.trial.as_ref().map(|trial| at_least_one(trial, "trial", reader));
            Operation::Panic { trial: trial.transpose()? }
        }
        Verb::Remount(given) => administration::remount(given, reader)?,
        Verb::Check(_) => Operation::Check {},
        Verb::PowerCut(given) => Operation::PowerCut { survival: survival(given, reader)? },
        Verb::Syncfs(_) => Operation::Syncfs {},
        Verb::Truncate(given) => {
            Operation::Truncate { file: file(&given.file, reader)?, size: size(&given.size, "size", reader)? }
        }
        Verb::Unlink(given) => Operation::Unlink { file: file(&given.file, reader)? },
        Verb::ResizeDisk(given) => Operation::ResizeDisk {
            size: disk_size(&given.size, setting, reader)?,
            device: given
                .device
                .as_ref()
                .map(|text| device::named(text, "device", setting.disks.devices))
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
    let found = reader.expression(field, Dimension::Size, key, true)?;
    // Most expressions go one way only, so the ends tell.
    for round in [0, setting.last_round] {
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
    // Three rounds tell a straight line or a parabola that stays on sectors from one that does not.
    for round in 0..=setting.last_round.min(2) {
        let value = found
            .value
            .value(round)
            .map_err(|_| read::out_of_range(found.place.clone(), "size", Some(round)))?;
        check_disk_size(value, found.place.clone(), "size")?;
    }
    Ok(found.value)
}

fn file(field: &schema::Text, reader: &mut Reader<'_>) -> Checked<String> {
    let Found { value, place } = reader.text(field)?;
    let wrong = if value.is_empty() {
        "is empty"
    } else if value.starts_with('/') {
        "is absolute"
    } else if value.split('/').any(|part| part == "..") {
        "leaves the mount by `..`"
    } else if value.split('/').any(|part| part.is_empty() || part == ".") || value.contains('\0') {
        "is not a plain path"
    } else {
        return Ok(value);
    };
    Err(Objection::new(
        place,
        format!("the file `{}` {wrong}", value.escape_debug()),
        "not a file below the mount",
    )
    .help("write a path relative to the mount: `blob`, `dir/blob`"))
}

fn content(field: Option<&schema::Text>, reader: &mut Reader<'_>) -> Checked<Content> {
    let options = [("random", Content::Random), ("zeroes", Content::Zeroes)];
    field.map_or(Ok(Content::Random), |field| option(field, "data", &options, reader))
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

fn expect(field: Option<&schema::Text>, reader: &mut Reader<'_>) -> Checked<Expect> {
    let options = [
        ("same as written", Expect::Written),
        ("same as fsynced", Expect::Synced),
        ("zeroes", Expect::Zeroes),
    ];
    field.map_or(Ok(Expect::Written), |field| option(field, "expect", &options, reader))
}

fn option<T: Copy>(
    field: &schema::Text,
    key: &str,
    options: &[(&str, T)],
    reader: &mut Reader<'_>,
) -> Checked<T> {
    let found = reader.text(field)?;
    check::choose(&found.value, found.place, key, options)
}

fn errno(field: &schema::Text, key: &str, reader: &mut Reader<'_>) -> Checked<Errno> {
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
