//! A plan from a scenario file and the value of every parameter.

use brim_device::fault::Row;
use brim_trial::plan::{Device, Filesystem, Phase, Prepare};
use brim_trial::{BLOCK, Bytes, Condition, FilesystemKind, Nanos, Plan};
use toml::Spanned;

use crate::check;
use crate::condition::{self, Scene};
use crate::control::Variant;
use crate::error::{Checked, Objection};
use crate::fault;
use crate::params::Values;
use crate::quantity::Dimension;
use crate::read::Reader;
use crate::schema::{File, Text};
use crate::step::{self, Ground};
use crate::written::Place;

/// How long a step may take where the scenario does not say.
const STEP_LIMIT: Nanos = Nanos(30_000_000_000);

/// The plan of `file` on `kind`, without its known verdicts and what its control goes without.
pub(crate) fn plan(
    file: &File,
    variant: Variant,
    kind: FilesystemKind,
    values: &Values,
    reader: &mut Reader<'_>,
) -> Checked<Plan> {
    let device = Device {
        size: device_size(file, reader)?,
        write_cache: file.device.write_cache,
        faults: faults(file, variant, reader)?,
    };
    let limit = step_limit(file, reader)?;
    let filesystem = check::filesystem(&file.filesystem.kind)?;
    let ground = Ground { device: &device, filesystem, limit };
    let phases: Vec<Phase> = file
        .phases
        .iter()
        .map(|phase| step::phase(phase, variant, ground, reader))
        .collect::<Checked<_>>()?;
    let scene = Scene { filesystem, device: &device, phases: &phases };
    let conditions = file.reproduced.get_ref().iter().map(|entry| condition::condition(entry, scene, reader));
    let mut reproduced = conditions.collect::<Checked<Vec<_>>>()?;
    if reproduced.is_empty() {
        let place = Place::scenario(file.reproduced.span());
        return Err(Objection::new(place, "nothing says when the bug is reproduced", "empty")
            .help("add a `[[reproduced]]`: a `step` and how it fails, a `counter`, or what else docs/scenarios.md has"));
    }
    if kind != FilesystemKind::Btrfs {
        // Only btrfs tells which reservation it refused; elsewhere the rest of the condition has to do.
        reproduced.iter_mut().for_each(Condition::forget_space);
    }
    Ok(Plan {
        scenario: check::fixed(&file.name, "name")?,
        claim: check::fixed(&file.claim, "claim")?,
        source: check::fixed(&file.source, "source")?,
        why: file.why.as_ref().map(|why| check::fixed(why, "why")).transpose()?,
        control: None,
        changed: None,
        params: values.iter().map(|(name, value)| (name.clone(), value.text.clone())).collect(),
        device,
        filesystem: made(file, variant, kind, reader)?,
        prepare: Prepare { data_free: data_free(file, reader)? },
        phases,
        reproduced,
        known: Vec::new(),
        step_limit: limit,
    })
}

fn faults(file: &File, variant: Variant, reader: &mut Reader<'_>) -> Checked<Vec<Row>> {
    let more = file.control.as_ref().filter(|_| variant == Variant::Control);
    let more = more.into_iter().flat_map(|control| &control.get_ref().faults);
    let files = |_: &str| Err("a scenario stands alone; a device profile can name files".to_owned());
    fault::rows(file.faults.iter().chain(more), fault::Regions::Filesystem, &files, reader)
}

fn device_size(file: &File, reader: &mut Reader<'_>) -> Checked<Bytes> {
    let found = reader.constant(&file.device.size, Dimension::Size, "size")?;
    step::check_disk_size(found.value, found.place, "size")?;
    Ok(Bytes(found.value))
}

/// Options of mkfs and mount are those of the filesystem that the scenario names: on another one there are none.
fn made(file: &File, variant: Variant, kind: FilesystemKind, reader: &mut Reader<'_>) -> Checked<Filesystem> {
    let own = check::filesystem(&file.filesystem.kind)? == kind;
    let mut words = |list: &[Text]| -> Checked<Vec<String>> {
        let words = list
            .iter()
            .map(|word| reader.text(word).map(|found| found.value))
            .collect::<Checked<Vec<_>>>()?;
        Ok(if own { words } else { Vec::new() })
    };
    let control = file.control.as_ref().filter(|_| variant == Variant::Control).map(Spanned::get_ref);
    let mkfs = control.and_then(|control| control.mkfs.as_ref()).unwrap_or(&file.filesystem.mkfs);
    let mount = control.and_then(|control| control.mount.as_ref()).unwrap_or(&file.filesystem.mount);
    Ok(Filesystem { kind, mkfs: words(mkfs)?, mount: words(mount)? })
}

fn data_free(file: &File, reader: &mut Reader<'_>) -> Checked<Option<Bytes>> {
    let Some(wanted) = &file.prepare.fill else { return Ok(None) };
    let found = reader.constant(&wanted.data_free, Dimension::Size, "data_free")?;
    let size = Bytes(found.value);
    if !size.is_multiple_of(BLOCK) {
        let (down, up) = step::near(found.value, BLOCK.0);
        return Err(Objection::new(
            found.place,
            format!("`data_free` is {size}: not a multiple of a block of 4 KiB"),
            "ends inside a block",
        )
        .help(format!("the nearest are {down} and {up}; blocks are counted as in `66 blocks`")));
    }
    Ok(Some(size))
}

fn step_limit(file: &File, reader: &mut Reader<'_>) -> Checked<Nanos> {
    let Some(limit) = &file.step_limit else { return Ok(STEP_LIMIT) };
    let found = reader.constant(limit, Dimension::Duration, "step_limit")?;
    if found.value == 0 {
        return Err(Objection::new(found.place, "`step_limit` is 0", "no step ends within that")
            .help(Dimension::Duration.example()));
    }
    Ok(Nanos(found.value))
}
