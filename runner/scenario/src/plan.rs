//! A plan from a scenario file and the value of every parameter.

use std::ops::Range;

use brim_trial::plan::{Device, Fault, Filesystem, Phase};
use brim_trial::{Condition, FilesystemKind, Nanos, Plan};
use toml::Spanned;

use crate::check;
use crate::condition::{self, Scene};
use crate::control::Variant;
use crate::device;
use crate::error::{Checked, Objection};
use crate::fault;
use crate::params::Values;
use crate::prepare;
use crate::quantity::Dimension;
use crate::read::Reader;
use crate::schema::device::Devices;
use crate::schema::{self, File, Text};
use crate::step::content::{self, Told};
use crate::step::{self, Disks, Ground};
use crate::written::Place;

/// How long a step may take where the scenario does not say.
pub(crate) const STEP_LIMIT: Nanos = Nanos(30_000_000_000);

/// The plan of `file` on `kind`, without its known verdicts and what its control goes without.
pub(crate) fn plan(
    file: &File,
    variant: Variant,
    kind: FilesystemKind,
    values: &Values,
    reader: &mut Reader<'_>,
) -> Checked<Plan> {
    let told = Told::of(file);
    told.names_no_fault_like_its_pool(file)?;
    let devices = device::devices(file, reader)?;
    let faults = faults(file, variant, &devices, reader)?;
    let pools = content::pools(file, &devices, reader)?;
    let made = made(file, variant, kind, &devices, reader)?;
    let limit = step_limit(file, reader)?;
    let filesystem = check::filesystem(&file.filesystem.kind)?;
    let ground =
        Ground { disks: Disks { devices: &devices, faults: &faults, told: &told }, filesystem, limit };
    let prepare = prepare::prepare(file, &made.mkfs, ground, reader)?;
    let phases: Vec<Phase> = file
        .phases
        .iter()
        .map(|phase| step::phase(phase, variant, ground, reader))
        .collect::<Checked<_>>()?;
    let of_control = steps_of_control(file)?;
    let scene = Scene { filesystem, faults: &faults, phases: &phases, of_control: &of_control };
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
        devices,
        faults,
        pools,
        filesystem: made,
        prepare,
        phases,
        reproduced,
        known: Vec::new(),
        step_limit: limit,
    })
}

/// What the steps are called that only the control has.
fn steps_of_control(file: &File) -> Checked<Vec<String>> {
    let steps = file.phases.iter().flat_map(|phase| phase.step.get_ref()).map(toml::Spanned::get_ref);
    let name = |step: &schema::Step| match (&step.name, &step.verb) {
        (Some(name), _) => Some(check::fixed(name, "name")),
        (None, verb) => verb.as_ref().map(|verb| Ok(verb.get_ref().name().to_owned())),
    };
    steps.filter(|step| step.only.is_some()).filter_map(|step| name(step)).collect()
}

fn faults(file: &File, variant: Variant, devices: &[Device], reader: &mut Reader<'_>) -> Checked<Vec<Fault>> {
    let more = file.control.as_ref().filter(|_| variant == Variant::Control);
    let more = more.into_iter().flat_map(|control| &control.get_ref().faults);
    fault::of_scenario(file.faults.iter().chain(more), devices, reader)
}

/// Why a plan on another filesystem than btrfs makes no sense, where it makes none.
pub(crate) fn only_btrfs(file: &File) -> Option<Objection> {
    let objection = |place: Range<usize>, what: &str| {
        Objection::new(Place::scenario(place), format!("{what}, which only btrfs has"), "btrfs alone")
            .help("write `kind = \"btrfs\"`, and leave `--filesystem` out")
    };
    if let Devices::Several(list) = &file.device {
        let in_filesystem = list.iter().filter(|entry| {
            entry.get_ref().in_filesystem.as_ref().is_none_or(|in_filesystem| *in_filesystem.get_ref())
        });
        if let Some(second) = in_filesystem.clone().nth(1) {
            return Some(objection(second.span(), "a filesystem on several disks"));
        }
    }
    let wanted = file.prepare.fill.as_ref().and_then(|wanted| wanted.get_ref().metadata_free.as_ref());
    if let Some(wanted) = wanted {
        let objection = objection(wanted.span(), "`metadata_free` is of space set apart for metadata");
        return Some(
            objection.more_help("elsewhere metadata takes from where data does: say `data_free` alone"),
        );
    }
    let steps = file.phases.iter().flat_map(|phase| phase.step.get_ref()).chain(&file.prepare.step);
    let mut verbs = steps.filter_map(|step| step.get_ref().verb.as_ref());
    let own = verbs.find_map(|verb| Some((verb.span(), verb.get_ref().of_btrfs_alone()?)));
    own.map(|(place, name)| objection(place, &format!("`{name}`")))
}

/// Options of mkfs and mount are those of the filesystem that the scenario names: on another one there are none.
fn made(
    file: &File,
    variant: Variant,
    kind: FilesystemKind,
    devices: &[Device],
    reader: &mut Reader<'_>,
) -> Checked<Filesystem> {
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
    let written = mkfs;
    let (mkfs, mount) = (words(mkfs)?, words(mount)?);
    let fixed = |word: &String| {
        ["-U", "--uuid", "--device-uuid"].iter().any(|option| word.starts_with(option)) && devices.len() > 1
    };
    if let Some(word) = mkfs.iter().position(fixed).and_then(|at| written.get(at)) {
        return Err(Objection::new(
            Place::scenario(word.span()),
            "a filesystem on several disks with an fsid that is always the same",
            "not possible here",
        )
        .help("two runs at once would be one filesystem to the kernel: let mkfs draw the fsid"));
    }
    Ok(Filesystem { kind, mkfs, mount })
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
