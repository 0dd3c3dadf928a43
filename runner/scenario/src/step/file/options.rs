//! What verbs on files may be told beside where they work.

use brim_trial::operation::{Expect, ExtentCount, FallocateMode, How, OpenFlag, Rename, Short};
use brim_trial::{BLOCK, Content, Limits, Template};
use toml::Spanned;

use crate::check;
use crate::condition;
use crate::error::{Checked, Objection};
use crate::quantity::Dimension;
use crate::read::{Found, Reader};
use crate::schema::fault::{Worded, Words};
use crate::schema::file as keys;
use crate::schema::{Formula, Text};
use crate::step::{self, Setting, rounds, size};
use crate::written::Place;

pub(super) const RENAMES: [(&str, Rename); 3] =
    [("replace", Rename::Replace), ("noreplace", Rename::Noreplace), ("exchange", Rename::Exchange)];
pub(super) const SHORTS: [(&str, Short); 2] = [("go on", Short::GoOn), ("stop", Short::Stop)];
const BUFFERED: How = How { direct: false, dsync: false, nowait: false };
const DIRECT: How = How { direct: true, ..BUFFERED };
const NOWAIT: How = How { nowait: true, ..BUFFERED };
pub(super) const READS: [(&str, How); 3] = [("buffered", BUFFERED), ("direct", DIRECT), ("nowait", NOWAIT)];
pub(super) const WRITES: [(&str, How); 4] = [
    ("buffered", BUFFERED),
    ("direct", DIRECT),
    ("dsync", How { dsync: true, ..BUFFERED }),
    ("nowait", NOWAIT),
];

/// A size that is a multiple of a block in all rounds, as far as anybody can tell.
pub(super) fn aligned(
    field: &Spanned<Formula>,
    key: &str,
    setting: Setting<'_>,
    reader: &mut Reader<'_>,
) -> Checked<()> {
    let found = size(field, key, setting, reader)?;
    for round in rounds(setting) {
        let value = found.value.value(round).unwrap_or(0);
        if !value.is_multiple_of(BLOCK.0) {
            let (down, up) = step::near(value, BLOCK.0);
            let message = format!("`{key}` of direct I/O is {value} B: not a multiple of a block of 4 KiB");
            return Err(Objection::new(found.place, message, "ends inside a block").help(format!(
                "the nearest are {down} and {up}: btrfs puts what is not whole blocks through the page cache"
            )));
        }
    }
    Ok(())
}

/// The name of an extended attribute.
pub(super) fn attribute(field: &Text, setting: Setting<'_>, reader: &mut Reader<'_>) -> Checked<Template> {
    let Found { value, place } = reader.template(field, setting.scope)?;
    let spaces = ["user.", "trusted.", "security.", "system."];
    let is_named = |space: &&str| value.as_str().len() > space.len() && value.as_str().starts_with(*space);
    if spaces.iter().any(is_named) && !value.as_str().contains('\0') {
        return Ok(value);
    }
    let message = format!("`{}` is not the name of an attribute", value.as_str().escape_debug());
    Err(Objection::new(place, message, "no namespace")
        .help("a name stands behind its namespace, as in xattr(7): `user.x`, `trusted.x`"))
}

/// The mode of a fallocate, and whether it keeps the size.
pub(super) fn mode(given: &keys::Fallocate, reader: &mut Reader<'_>) -> Checked<(FallocateMode, bool)> {
    let modes = FallocateMode::ALL.map(|mode| (mode.name(), mode));
    let mode = choice(given.mode.as_ref(), "mode", &modes, reader)?;
    match &given.keep_size {
        Some(keep) if !mode.may_keep_size() => {
            let place = Place::scenario(keep.span());
            let message = format!("`keep_size` does not go with `{}`", mode.name());
            let help = match mode {
                FallocateMode::PunchHole => "leave `keep_size` out: a hole never changes the size",
                FallocateMode::CollapseRange | FallocateMode::InsertRange => {
                    "leave `keep_size` out: the size always changes by the length of the range"
                }
                _ => "leave `keep_size` out: the kernel refuses the two together",
            };
            Err(Objection::new(place, message, "not possible here").help(help))
        }
        keep => Ok((mode, keep.as_ref().is_some_and(|keep| *keep.get_ref()))),
    }
}

pub(super) fn content(
    field: Option<&Spanned<Worded<keys::Pattern>>>,
    reader: &mut Reader<'_>,
) -> Checked<Content> {
    let Some(field) = field else { return Ok(Content::Random) };
    match field.get_ref() {
        Worded::Word(_) => {
            let options = [("random", 0), ("zeroes", 1), ("compressible", 2)];
            let found = reader.string(field)?;
            Ok(match check::choose(&found.value, found.place, "data", &options)? {
                0 => Content::Random,
                1 => Content::Zeroes,
                _ => Content::Compressible,
            })
        }
        Worded::Table(pattern) => {
            let Found { value, place } = reader.text(&pattern.text)?;
            if value.is_empty() {
                return Err(Objection::new(place, "`text` is empty", "nothing to write")
                    .help("it is written again and again until the range is full: `{ text = \"brim \" }`"));
            }
            Ok(Content::Text(value))
        }
    }
}

pub(super) fn expect(field: Option<&Text>, reader: &mut Reader<'_>) -> Checked<Expect> {
    let options = [
        ("same as written", Expect::Written),
        ("same as fsynced", Expect::Synced),
        ("zeroes", Expect::Zeroes),
    ];
    field.map_or(Ok(Expect::Written), |field| step::option(field, "expect", &options, reader))
}

/// One of `options`, or the default.
pub(super) fn choice<T: Copy + Default>(
    field: Option<&Text>,
    key: &str,
    options: &[(&str, T)],
    reader: &mut Reader<'_>,
) -> Checked<T> {
    field.map_or(Ok(T::default()), |field| step::option(field, key, options, reader))
}

/// The ways of `words` together.
pub(super) fn how(words: &Words, options: &[(&str, How)], reader: &mut Reader<'_>) -> Checked<How> {
    let mut how = How::default();
    let mut buffered = None;
    for word in &words.0 {
        let found = step::option(word, "how", options, reader)?;
        if found.is_plain() {
            buffered = Some(word.span());
        }
        how.direct |= found.direct;
        how.dsync |= found.dsync;
        how.nowait |= found.nowait;
    }
    match buffered {
        Some(span) if how.direct => {
            let message = "`how` is direct and buffered at once";
            Err(Objection::new(Place::scenario(span), message, "not with `direct`")
                .help("write one of them; `dsync` and `nowait` go with either"))
        }
        _ => Ok(how),
    }
}

pub(super) fn flags(words: &Words, reader: &mut Reader<'_>) -> Checked<Vec<OpenFlag>> {
    let mut flags = Vec::new();
    for word in &words.0 {
        let flag = step::option(word, "flags", &OpenFlag::ALL, reader)?;
        let clash = match flag {
            OpenFlag::ReadOnly => flags.contains(&OpenFlag::WriteOnly),
            OpenFlag::WriteOnly => flags.contains(&OpenFlag::ReadOnly),
            _ => false,
        };
        if clash {
            let place = Place::scenario(word.span());
            return Err(Objection::new(place, "a file is opened read-only and write-only", "the second one")
                .help("leave both out to read and to write"));
        }
        if !flags.contains(&flag) {
            flags.push(flag);
        }
    }
    Ok(flags)
}

pub(super) fn permissions(field: &Text, reader: &mut Reader<'_>) -> Checked<u32> {
    let Found { value, place } = reader.text(field)?;
    let digits = !value.is_empty() && value.chars().all(|digit| digit.is_digit(8));
    match u32::from_str_radix(&value, 8) {
        Ok(mode) if digits && mode <= 0o7777 => Ok(mode),
        _ => {
            let message = format!("`{}` is not a mode of a file", value.escape_debug());
            Err(Objection::new(place, message, "not up to `7777` in octal")
                .help("write it in octal, as for chmod(1): `mode = \"0600\"`"))
        }
    }
}

/// What the extents of a file have to be.
pub(super) fn extents(given: &keys::Extents, reader: &mut Reader<'_>) -> Checked<Vec<(ExtentCount, Limits)>> {
    let mut bounds = Vec::new();
    for (name, number) in given.expect.iter().flatten() {
        let place = Place::scenario(name.span());
        let what = check::choose(name.get_ref(), place, "expect", &ExtentCount::ALL)?;
        bounds.push((what, condition::limits(number, Dimension::Count, name.get_ref(), reader)?));
    }
    Ok(bounds)
}
