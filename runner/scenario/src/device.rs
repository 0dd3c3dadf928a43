//! The disks of a scenario: `[device]`, or `[[device]]` several times.

use brim_device::Bytes;
use brim_trial::plan::Device;

use crate::check;
use crate::error::{Checked, Objection};
use crate::quantity::Dimension;
use crate::read::Reader;
use crate::schema::device::{Device as Keys, Devices};
use crate::schema::{File, Text};
use crate::step;
use crate::suggest;
use crate::token;
use crate::written::Place;

/// nbd.ko has 16 devices, if nobody tells it otherwise.
const DEVICES_MAX: usize = 16;

/// All disks, in order.
pub(crate) fn devices(file: &File, reader: &mut Reader<'_>) -> Checked<Vec<Device>> {
    let devices = match &file.device {
        Devices::One(keys) => vec![device(keys, Some(Device::ONLY), 0..0, reader)?],
        Devices::Several(list) => {
            let only = (list.len() == 1).then_some(Device::ONLY);
            let devices = list.iter().map(|entry| device(entry.get_ref(), only, entry.span(), reader));
            devices.collect::<Checked<Vec<_>>>()?
        }
    };
    let Devices::Several(list) = &file.device else { return in_filesystem(devices, file) };
    if let Some(one_more) = list.get(DEVICES_MAX) {
        let place = Place::scenario(one_more.span());
        return Err(Objection::new(place, format!("more than {DEVICES_MAX} disks"), "one too many")
            .help("the kernel in a guest has so many nbd devices"));
    }
    for (index, one) in devices.iter().enumerate() {
        let first = devices.iter().position(|other| other.name == one.name).unwrap_or(index);
        if first < index {
            let place = |at: usize| {
                let entry = list.get(at);
                Place::scenario(entry.map_or(0..0, |entry| name_span(entry.get_ref(), entry.span())))
            };
            let message = format!("two disks are called `{}`", one.name);
            return Err(Objection::new(place(index), message, "the second one")
                .also(place(first), "the first one")
                .help("give each its own name: steps and faults name the disk that they are about"));
        }
    }
    in_filesystem(devices, file)
}

fn name_span(keys: &Keys, whole: std::ops::Range<usize>) -> std::ops::Range<usize> {
    keys.name.as_ref().map_or(whole, toml::Spanned::span)
}

/// The disks, if there is one among them for mkfs.
fn in_filesystem(devices: Vec<Device>, file: &File) -> Checked<Vec<Device>> {
    if devices.iter().any(|device| device.in_filesystem) {
        return Ok(devices);
    }
    let flag = match &file.device {
        Devices::One(keys) => keys.in_filesystem.as_ref(),
        Devices::Several(list) => list.first().and_then(|entry| entry.get_ref().in_filesystem.as_ref()),
    };
    let place = Place::scenario(flag.map_or(0..0, toml::Spanned::span));
    Err(Objection::new(place, "no disk is in the filesystem", "no disk is left for mkfs")
        .help("take `in_filesystem = false` out where the disk is not a spare: mkfs needs one at least"))
}

fn device(
    keys: &Keys,
    only: Option<&str>,
    whole: std::ops::Range<usize>,
    reader: &mut Reader<'_>,
) -> Checked<Device> {
    let name = match (&keys.name, only) {
        (Some(name), _) => name_of(name)?,
        (None, Some(only)) => only.to_owned(),
        (None, None) => {
            // Of several lines the first is enough to see which it is.
            let place = Place::scenario(whole.start..keys.size.span().end.min(whole.end).max(whole.start));
            return Err(Objection::new(place, "one of several disks has no name", "a name is missing")
                .help("add `name = \"a\"`: steps and faults name the disk that they are about"));
        }
    };
    let found = reader.constant(&keys.size, Dimension::Size, "size")?;
    step::check_disk_size(found.value, found.place, "size")?;
    Ok(Device {
        name,
        size: Bytes(found.value),
        write_cache: keys.write_cache,
        in_filesystem: keys.in_filesystem.as_ref().is_none_or(|flag| *flag.get_ref()),
    })
}

fn name_of(text: &Text) -> Checked<String> {
    let name = check::fixed(text, "name")?;
    let place = || Place::scenario(text.span());
    if name == Device::MISSING {
        return Err(Objection::new(place(), "no disk can be called `missing`", "taken")
            .help("`device_remove = { device = \"missing\" }` is about a disk that is not there"));
    }
    if !name.chars().all(token::is_name) {
        return Err(Objection::new(place(), format!("`{name}` cannot be a disk's name"), "not a name")
            .help("a name is made of letters, digits, `_` and `-`"));
    }
    Ok(name)
}

/// The disk that `text` names.
pub(crate) fn named(text: &Text, key: &str, devices: &[Device]) -> Checked<String> {
    one_of(text, key, &devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>())
}

/// As [`named`], or [`Device::MISSING`].
pub(crate) fn named_or_missing(text: &Text, key: &str, devices: &[Device]) -> Checked<String> {
    let names = devices.iter().map(|device| device.name.as_str());
    one_of(text, key, &names.chain([Device::MISSING]).collect::<Vec<_>>())
}

fn one_of(text: &Text, key: &str, names: &[&str]) -> Checked<String> {
    let name = check::fixed(text, key)?;
    if names.contains(&name.as_str()) {
        return Ok(name);
    }
    let place = Place::scenario(text.span());
    Err(Objection::new(place, format!("no disk is called `{name}`"), "names no disk").help(suggest::help(
        &name,
        names,
        "disks of this scenario",
    )))
}
