//! A plan from a scenario file and the value of every parameter.

use brim_device::fault::Row;
use brim_trial::plan::{Device, Filesystem, Phase, Prepare};
use brim_trial::{BLOCK, Bytes, FilesystemKind, Nanos, Plan};

use crate::check;
use crate::error::{Checked, Objection};
use crate::fault;
use crate::params::Values;
use crate::quantity::Dimension;
use crate::read::Reader;
use crate::schema::{File, Text};
use crate::step;
use crate::written::Place;

/// How long a step may take where the scenario does not say.
pub(crate) const STEP_LIMIT: Nanos = Nanos(30_000_000_000);

/// The plan of `file` on `kind`, without its known verdicts.
pub(crate) fn plan(
    file: &File,
    kind: FilesystemKind,
    values: &Values,
    reader: &mut Reader<'_>,
) -> Checked<Plan> {
    let device = Device {
        size: device_size(file, reader)?,
        write_cache: file.device.write_cache,
        faults: faults(file, reader)?,
    };
    let phases: Vec<Phase> =
        file.phases.iter().map(|phase| step::phase(phase, &device, reader)).collect::<Checked<_>>()?;
    let conditions = file.reproduced.get_ref().iter().map(|entry| step::condition(entry, &phases, reader));
    let mut reproduced = conditions.collect::<Checked<Vec<_>>>()?;
    if reproduced.is_empty() {
        let place = Place::scenario(file.reproduced.span());
        return Err(Objection::new(place, "nothing says when the bug is reproduced", "empty")
            .help("add a `[[reproduced]]` with `step`, and `errno` or `space`"));
    }
    if kind != FilesystemKind::Btrfs {
        // Only btrfs tells which reservation it refused; elsewhere the rest of the condition has to do.
        for condition in &mut reproduced {
            condition.space = None;
        }
    }
    Ok(Plan {
        scenario: check::fixed(&file.name, "name")?,
        claim: check::fixed(&file.claim, "claim")?,
        source: check::fixed(&file.source, "source")?,
        params: values.iter().map(|(name, value)| (name.clone(), value.text.clone())).collect(),
        device,
        filesystem: filesystem(file, kind, reader)?,
        prepare: Prepare { data_free: data_free(file, reader)? },
        phases,
        reproduced,
        known: Vec::new(),
        step_limit: step_limit(file, reader)?,
    })
}

fn faults(file: &File, reader: &mut Reader<'_>) -> Checked<Vec<Row>> {
    let files = |_: &str| Err("a scenario stands alone; a device profile can name files".to_owned());
    fault::rows(&file.faults, fault::Regions::Filesystem, &files, reader)
}

fn device_size(file: &File, reader: &mut Reader<'_>) -> Checked<Bytes> {
    let found = reader.constant(&file.device.size, Dimension::Size, "size")?;
    step::check_disk_size(found.value, found.place, "size")?;
    Ok(Bytes(found.value))
}

/// Options of mkfs and mount are those of the filesystem that the scenario names: on another one there are none.
fn filesystem(file: &File, kind: FilesystemKind, reader: &mut Reader<'_>) -> Checked<Filesystem> {
    let own = check::filesystem(&file.filesystem.kind)? == kind;
    let mut words = |list: &[Text]| -> Checked<Vec<String>> {
        let words = list
            .iter()
            .map(|word| reader.text(word).map(|found| found.value))
            .collect::<Checked<Vec<_>>>()?;
        Ok(if own { words } else { Vec::new() })
    };
    Ok(Filesystem { kind, mkfs: words(&file.filesystem.mkfs)?, mount: words(&file.filesystem.mount)? })
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
