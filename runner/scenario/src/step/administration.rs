//! The steps of an administrator.

use brim_trial::operation::{Administration, Compression, Filter, Profile};
use brim_trial::{Expression, Operation};
use toml::Spanned;

use super::{Setting, at_least_one, file, option, size};
use crate::check;
use crate::device;
use crate::error::{Checked, Objection};
use crate::quantity::Dimension;
use crate::read::Reader;
use crate::schema::administration as keys;
use crate::schema::{Table, Text, Verb};
use crate::written::Place;

/// What `verb` is as an act of administration.
pub(super) fn act(verb: &Verb, setting: Setting<'_>, reader: &mut Reader<'_>) -> Checked<Administration> {
    let disk = |text: &Text, key: &str| device::named(text, key, setting.disks.devices);
    let disk_or_missing = |text: &Text, key: &str| device::named_or_missing(text, key, setting.disks.devices);
    Ok(match verb {
        Verb::DeviceAdd(given) => Administration::DeviceAdd { device: disk(&given.device, "device")? },
        Verb::DeviceRemove(given) => {
            Administration::DeviceRemove { device: disk_or_missing(&given.device, "device")? }
        }
        Verb::DeviceReplace(given) => replace(given, setting)?,
        Verb::LoseDevice(given) => Administration::LoseDevice {
            device: disk(&given.device, "device")?,
            options: options(given.options.as_deref(), reader)?,
        },
        Verb::Balance(given) => balance(given, setting, reader)?,
        Verb::ResizeFilesystem(given) => Administration::ResizeFilesystem {
            size: filesystem_size(given, setting, reader)?,
            device: given.device.as_ref().map(|text| disk(text, "device")).transpose()?,
        },
        Verb::Defragment(given) => Administration::Defragment {
            file: file(&given.file, reader)?,
            compress: given.compress.as_ref().map(|way| compression(way, "compress", reader)).transpose()?,
        },
        Verb::Compress(given) => Administration::Compress {
            file: file(&given.file, reader)?,
            with: compression(&given.with, "with", reader)?,
        },
        Verb::QuotaEnable(_) => Administration::QuotaEnable {},
        Verb::QuotaRescan(_) => Administration::QuotaRescan {},
        Verb::QgroupLimit(given) => qgroup_limit(given, setting, reader)?,
        Verb::SubvolumeDelete(given) => Administration::SubvolumeDelete { path: file(&given.path, reader)? },
        Verb::WaitCleaner(_) => Administration::WaitCleaner {},
        Verb::Fstrim(_) => Administration::Fstrim {},
        _ => {
            // A verb that the language has and nobody reads is a mistake of ours.
            let place = Place::scenario(0..0);
            return Err(Objection::new(place, "a verb of this scenario has no reader", "brim is at fault")
                .help("please report this"));
        }
    })
}

/// `remount`: away and back, or live.
pub(super) fn remount(given: &keys::Remount, reader: &mut Reader<'_>) -> Checked<Operation> {
    let options = options(given.options.as_deref(), reader)?;
    let live = given.live.as_ref().is_some_and(|live| *live.get_ref());
    if let (true, None, Some(live)) = (live, &options, &given.live) {
        let place = Place::scenario(live.span());
        return Err(Objection::new(place, "a live remount without options changes nothing", "no effect")
            .help("say what is to change: `options = [\"ro\"]`"));
    }
    Ok(Operation::Remount { options, live })
}

/// Mount options, each a word.
fn options(given: Option<&[Text]>, reader: &mut Reader<'_>) -> Checked<Option<Vec<String>>> {
    let Some(given) = given else { return Ok(None) };
    given.iter().map(|word| reader.text(word).map(|found| found.value)).collect::<Checked<_>>().map(Some)
}

fn replace(given: &keys::DeviceReplace, setting: Setting<'_>) -> Checked<Administration> {
    let from = device::named(&given.from, "from", setting.disks.devices)?;
    let to = device::named(&given.to, "to", setting.disks.devices)?;
    if from == to {
        let place = Place::scenario(given.to.span());
        return Err(Objection::new(place, format!("`{to}` takes its own place"), "the same disk")
            .help("name another disk, one with `in_filesystem = false`"));
    }
    Ok(Administration::DeviceReplace { from, to })
}

fn balance(given: &keys::Balance, setting: Setting<'_>, reader: &mut Reader<'_>) -> Checked<Administration> {
    let mut one = |given: &Option<Spanned<Table<keys::Filter>>>| {
        given.as_ref().map(|given| filter(given.get_ref(), setting, reader)).transpose()
    };
    let (data, metadata, system) = (one(&given.data)?, one(&given.metadata)?, one(&given.system)?);
    if let (Some(system), false) = (&given.system, given.force) {
        let place = Place::scenario(system.span());
        return Err(Objection::new(place, "a balance of `system` alone is refused", "needs `force`")
            .help("add `force = true`; or leave `system` out: what is said of `metadata` holds for it too"));
    }
    Ok(Administration::Balance { data, metadata, system, force: given.force })
}

fn filter(given: &keys::Filter, setting: Setting<'_>, reader: &mut Reader<'_>) -> Checked<Filter> {
    let usage = given.usage.as_ref().map(|usage| {
        let found = reader.constant(usage, Dimension::Count, "usage")?;
        if found.value > 100 {
            return Err(Objection::new(found.place, format!("`usage` is {}", found.value), "more than all")
                .help("it is a percentage, from 0 to 100: chunks that are less full are rewritten"));
        }
        Ok(found.value)
    });
    let convert = given.convert.as_ref().map(|name| option(name, "convert", &Profile::ALL, reader));
    let convert = convert.transpose()?;
    let soft = given.soft.as_ref().is_some_and(|soft| *soft.get_ref());
    if let (true, None, Some(soft)) = (soft, convert, &given.soft) {
        let place = Place::scenario(soft.span());
        return Err(Objection::new(place, "`soft` without `convert`", "no effect")
            .help("it leaves chunks alone that are what `convert` would make them"));
    }
    let profiles = given.profiles.0.iter().map(|name| option(name, "profiles", &Profile::ALL, reader));
    Ok(Filter {
        profiles: profiles.collect::<Checked<_>>()?,
        usage: usage.transpose()?,
        device: given
            .device
            .as_ref()
            .map(|text| device::named_or_missing(text, "device", setting.disks.devices))
            .transpose()?,
        limit: given.limit.as_ref().map(|limit| at_least_one(limit, "limit", reader)).transpose()?,
        convert,
        soft,
    })
}

/// `max` is all of the disk.
fn filesystem_size(
    given: &keys::ResizeFilesystem,
    setting: Setting<'_>,
    reader: &mut Reader<'_>,
) -> Checked<Option<Expression>> {
    if given.size.get_ref().as_ref() == "max" {
        return Ok(None);
    }
    size(&given.size, "size", setting, reader).map(|found| Some(found.value))
}

fn qgroup_limit(
    given: &keys::QgroupLimit,
    setting: Setting<'_>,
    reader: &mut Reader<'_>,
) -> Checked<Administration> {
    let mut one = |given: &Option<Spanned<crate::schema::Formula>>, key: &str| {
        given.as_ref().map(|given| size(given, key, setting, reader).map(|found| found.value)).transpose()
    };
    let (referenced, exclusive) =
        (one(&given.referenced, "referenced")?, one(&given.exclusive, "exclusive")?);
    if referenced.is_none() && exclusive.is_none() {
        let place = Place::scenario(given.path.span());
        return Err(Objection::new(place, "a limit that limits nothing", "no limit")
            .help("add `referenced = \"16 MiB\"`, `exclusive = \"16 MiB\"`, or both"));
    }
    let root = given.path.get_ref() == ".";
    let path = if root { check::fixed(&given.path, "path")? } else { file(&given.path, reader)? };
    Ok(Administration::QgroupLimit { path, referenced, exclusive })
}

fn compression(text: &Text, key: &str, reader: &mut Reader<'_>) -> Checked<Compression> {
    option(text, key, &Compression::ALL, reader)
}
