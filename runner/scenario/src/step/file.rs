//! Verbs that work on files.

use brim_trial::operation::{
    Expect, ExtentCount, FallocateMode, How, OpenFlag, Rename, Shared, Short, Target,
};
use brim_trial::{BLOCK, Content, Expression, FileOperation, Limits, Template};
use toml::Spanned;

use super::{Setting, rounds, size};
use crate::check;
use crate::condition;
use crate::error::{Checked, Objection};
use crate::quantity::Dimension;
use crate::read::{Found, Reader, Scope};
use crate::schema::fault::{Worded, Words};
use crate::schema::file as keys;
use crate::schema::{self, Formula, Text, Verb};
use crate::written::Place;

/// The operation of `verb`, where it is one on a file.
pub(super) fn operation(
    verb: &Verb,
    setting: Setting<'_>,
    reader: &mut Reader<'_>,
) -> Checked<Option<FileOperation>> {
    let mut file = |field: &Text| path(field, setting, reader);
    Ok(Some(match verb {
        Verb::Fsync(given) => FileOperation::Fsync { file: file(&given.file)? },
        Verb::Fdatasync(given) => FileOperation::Fdatasync { file: file(&given.file)? },
        Verb::Close(given) => FileOperation::Close { file: file(&given.file)? },
        Verb::Tmpfile(given) => FileOperation::Tmpfile { file: file(&given.file)? },
        Verb::Creat(given) => FileOperation::Creat { file: file(&given.file)? },
        Verb::Nocow(given) => FileOperation::Nocow { file: file(&given.file)? },
        Verb::Mkswap(given) => FileOperation::Mkswap { file: file(&given.file)? },
        Verb::Swapon(given) => FileOperation::Swapon { file: file(&given.file)? },
        Verb::Swapoff(given) => FileOperation::Swapoff { file: file(&given.file)? },
        Verb::Mkdir(given) => FileOperation::Mkdir { path: file(&given.path)? },
        Verb::Rmdir(given) => FileOperation::Rmdir { path: file(&given.path)? },
        Verb::Unlink(given) => FileOperation::Unlink { file: file(&given.file)?, keep_open: given.keep_open },
        Verb::Link(given) => FileOperation::Link { from: file(&given.from)?, to: file(&given.to)? },
        Verb::Rename(given) => FileOperation::Rename {
            from: file(&given.from)?,
            to: file(&given.to)?,
            how: choice(given.how.as_ref(), "how", &RENAMES, reader)?,
        },
        Verb::Open(given) => {
            FileOperation::Open { file: file(&given.file)?, flags: flags(&given.flags, reader)? }
        }
        Verb::Chmod(given) => {
            FileOperation::Chmod { file: file(&given.file)?, mode: permissions(&given.mode, reader)? }
        }
        Verb::Removexattr(given) => FileOperation::Removexattr {
            file: file(&given.file)?,
            name: attribute(&given.name, setting, reader)?,
        },
        Verb::Extents(given) => {
            FileOperation::Extents { file: file(&given.file)?, expect: extents(given, reader)? }
        }
        Verb::Symlink(given) => symlink(given, setting, reader)?,
        sized => return on_a_range(sized, setting, reader),
    }))
}

/// As [`operation`], of the verbs that have a size.
fn on_a_range(verb: &Verb, setting: Setting<'_>, reader: &mut Reader<'_>) -> Checked<Option<FileOperation>> {
    let range = |file: &Text, offset, length, reader: &mut Reader<'_>| -> Checked<_> {
        Ok((
            path(file, setting, reader)?,
            quantity(offset, "offset", setting, reader)?,
            quantity(length, "length", setting, reader)?,
        ))
    };
    Ok(Some(match verb {
        Verb::Fallocate(given) => {
            let (file, offset, length) = range(&given.file, &given.offset, &given.length, reader)?;
            let (mode, keep_size) = mode(given, reader)?;
            FileOperation::Fallocate { file, offset, length, mode, keep_size }
        }
        Verb::Pwrite(given) => {
            let (file, offset, length) = range(&given.file, &given.offset, &given.length, reader)?;
            let data = content(given.data.as_ref(), reader)?;
            let how = how(&given.how, &WRITES, reader)?;
            if how.direct {
                aligned(&given.offset, "offset", setting, reader)?;
                aligned(&given.length, "length", setting, reader)?;
            }
            let short = choice(given.short.as_ref(), "short", &SHORTS, reader)?;
            FileOperation::Pwrite { file, offset, length, data, how, short }
        }
        Verb::Pread(given) => {
            let (file, offset, length) = range(&given.file, &given.offset, &given.length, reader)?;
            let expect = expect(given.expect.as_ref(), reader)?;
            let how = how(&given.how, &READS, reader)?;
            if how.direct {
                aligned(&given.offset, "offset", setting, reader)?;
                aligned(&given.length, "length", setting, reader)?;
            }
            FileOperation::Pread { file, offset, length, expect, how }
        }
        Verb::MmapWrite(given) => {
            let (file, offset, length) = range(&given.file, &given.offset, &given.length, reader)?;
            let data = content(given.data.as_ref(), reader)?;
            FileOperation::MmapWrite { file, offset, length, data }
        }
        Verb::MmapRead(given) => {
            let (file, offset, length) = range(&given.file, &given.offset, &given.length, reader)?;
            FileOperation::MmapRead { file, offset, length, expect: expect(given.expect.as_ref(), reader)? }
        }
        Verb::Msync(given) => {
            let (file, offset, length) = range(&given.file, &given.offset, &given.length, reader)?;
            FileOperation::Msync { file, offset, length }
        }
        Verb::SyncFileRange(given) => {
            let (file, offset, length) = range(&given.file, &given.offset, &given.length, reader)?;
            FileOperation::SyncFileRange { file, offset, length }
        }
        Verb::Truncate(given) => FileOperation::Truncate {
            file: path(&given.file, setting, reader)?,
            size: quantity(&given.size, "size", setting, reader)?,
        },
        Verb::Setxattr(given) => FileOperation::Setxattr {
            file: path(&given.file, setting, reader)?,
            name: attribute(&given.name, setting, reader)?,
            length: quantity(&given.length, "length", setting, reader)?,
        },
        Verb::Reflink(given) => {
            let (from, to) = (path(&given.from, setting, reader)?, path(&given.to, setting, reader)?);
            FileOperation::Reflink { from, to, range: part(given, setting, reader)? }
        }
        Verb::Dedupe(given) => {
            let (from, to) = (path(&given.from, setting, reader)?, path(&given.to, setting, reader)?);
            let to_offset = given.to_offset.as_ref();
            let range = shared((&given.offset, &given.length, to_offset), setting, reader)?;
            FileOperation::Dedupe { from, to, range }
        }
        _ => return Ok(None),
    }))
}

const RENAMES: [(&str, Rename); 3] =
    [("replace", Rename::Replace), ("noreplace", Rename::Noreplace), ("exchange", Rename::Exchange)];
const SHORTS: [(&str, Short); 2] = [("go on", Short::GoOn), ("stop", Short::Stop)];
const BUFFERED: How = How { direct: false, dsync: false, nowait: false };
const DIRECT: How = How { direct: true, ..BUFFERED };
const NOWAIT: How = How { nowait: true, ..BUFFERED };
const READS: [(&str, How); 3] = [("buffered", BUFFERED), ("direct", DIRECT), ("nowait", NOWAIT)];
const WRITES: [(&str, How); 4] = [
    ("buffered", BUFFERED),
    ("direct", DIRECT),
    ("dsync", How { dsync: true, ..BUFFERED }),
    ("nowait", NOWAIT),
];

fn quantity(
    field: &Spanned<Formula>,
    key: &str,
    setting: Setting<'_>,
    reader: &mut Reader<'_>,
) -> Checked<Expression> {
    size(field, key, setting, reader).map(|found| found.value)
}

/// A size that is a multiple of a block in all rounds, as far as anybody can tell.
fn aligned(
    field: &Spanned<Formula>,
    key: &str,
    setting: Setting<'_>,
    reader: &mut Reader<'_>,
) -> Checked<()> {
    let found = size(field, key, setting, reader)?;
    for round in rounds(setting) {
        let value = found.value.value(round).unwrap_or(0);
        if !value.is_multiple_of(BLOCK.0) {
            let (down, up) = super::near(value, BLOCK.0);
            let message = format!("`{key}` of direct I/O is {value} B: not a multiple of a block of 4 KiB");
            return Err(Objection::new(found.place, message, "ends inside a block").help(format!(
                "the nearest are {down} and {up}: btrfs puts what is not whole blocks through the page cache"
            )));
        }
    }
    Ok(())
}

/// A path below the mount.
pub(super) fn path(field: &Text, setting: Setting<'_>, reader: &mut Reader<'_>) -> Checked<Template> {
    let Found { value, place } = reader.template(field, setting.scope)?;
    let text = value.as_str();
    let wrong = if text.is_empty() {
        "is empty"
    } else if text.starts_with('/') {
        "is absolute"
    } else if text.split('/').any(|part| part == "..") {
        "leaves the mount by `..`"
    } else if text.split('/').any(|part| part.is_empty() || part == ".") || text.contains('\0') {
        "is not a plain path"
    } else {
        return Ok(value);
    };
    Err(Objection::new(
        place,
        format!("the file `{}` {wrong}", text.escape_debug()),
        "not a file below the mount",
    )
    .help("write a path relative to the mount: `blob`, `dir/blob`"))
}

/// The name of an extended attribute.
fn attribute(field: &Text, setting: Setting<'_>, reader: &mut Reader<'_>) -> Checked<Template> {
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
fn mode(given: &keys::Fallocate, reader: &mut Reader<'_>) -> Checked<(FallocateMode, bool)> {
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

fn content(field: Option<&Spanned<Worded<keys::Pattern>>>, reader: &mut Reader<'_>) -> Checked<Content> {
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

fn expect(field: Option<&Text>, reader: &mut Reader<'_>) -> Checked<Expect> {
    let options = [
        ("same as written", Expect::Written),
        ("same as fsynced", Expect::Synced),
        ("zeroes", Expect::Zeroes),
    ];
    field.map_or(Ok(Expect::Written), |field| super::option(field, "expect", &options, reader))
}

/// One of `options`, or the default.
fn choice<T: Copy + Default>(
    field: Option<&Text>,
    key: &str,
    options: &[(&str, T)],
    reader: &mut Reader<'_>,
) -> Checked<T> {
    field.map_or(Ok(T::default()), |field| super::option(field, key, options, reader))
}

/// The ways of `words` together.
fn how(words: &Words, options: &[(&str, How)], reader: &mut Reader<'_>) -> Checked<How> {
    let mut how = How::default();
    let mut buffered = None;
    for word in &words.0 {
        let found = super::option(word, "how", options, reader)?;
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

fn flags(words: &Words, reader: &mut Reader<'_>) -> Checked<Vec<OpenFlag>> {
    let mut flags = Vec::new();
    for word in &words.0 {
        let flag = super::option(word, "flags", &OpenFlag::ALL, reader)?;
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

fn permissions(field: &Text, reader: &mut Reader<'_>) -> Checked<u32> {
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

fn symlink(
    given: &schema::Table<keys::Symlink>,
    setting: Setting<'_>,
    reader: &mut Reader<'_>,
) -> Checked<FileOperation> {
    let at = path(&given.path, setting, reader)?;
    let target = match (&given.target, &given.length) {
        (Some(target), None) => {
            let found = reader.template(target, setting.scope)?;
            if found.value.as_str().is_empty() || found.value.as_str().contains('\0') {
                return Err(Objection::new(
                    found.place,
                    "`target` is not a path",
                    "empty, or with a nul byte",
                )
                .help("write what the link says: `target = \"blob\"`"));
            }
            Target::Path(found.value)
        }
        (None, Some(length)) => Target::Length(quantity(length, "length", setting, reader)?),
        (target, length) => {
            let place = match (target, length) {
                (Some(target), Some(_)) => Place::scenario(target.span()),
                _ => Place::scenario(given.path.span()),
            };
            return Err(Objection::new(
                place,
                "a symbolic link says one thing",
                "one of `target` and `length`",
            )
            .help(
                "write `target = \"blob\"`, or `length = \"3000 B\"` for that many bytes that name nothing",
            ));
        }
    };
    Ok(FileOperation::Symlink { path: at, target })
}

/// The part of a reflink; `None` is all of the file.
fn part(given: &keys::Reflink, setting: Setting<'_>, reader: &mut Reader<'_>) -> Checked<Option<Shared>> {
    match (&given.offset, &given.length, &given.to_offset) {
        (Some(offset), Some(length), to_offset) => {
            shared((offset, length, to_offset.as_ref()), setting, reader).map(Some)
        }
        (None, None, None) => Ok(None),
        (offset, length, to_offset) => {
            let there = offset.iter().chain(length).chain(to_offset).next();
            let place = Place::scenario(there.map_or(given.from.span(), Spanned::span));
            Err(Objection::new(
                place,
                "a part of a file has an `offset` and a `length`",
                "one of them is missing",
            )
            .help("write both, and `to_offset` where it goes elsewhere; or none of them for the whole file"))
        }
    }
}

fn shared(
    (offset, length, to_offset): (&Spanned<Formula>, &Spanned<Formula>, Option<&Spanned<Formula>>),
    setting: Setting<'_>,
    reader: &mut Reader<'_>,
) -> Checked<Shared> {
    let offset = quantity(offset, "offset", setting, reader)?;
    let length = quantity(length, "length", setting, reader)?;
    let to_offset = to_offset.map(|given| quantity(given, "to_offset", setting, reader)).transpose()?;
    Ok(Shared { to_offset: to_offset.unwrap_or_else(|| offset.clone()), offset, length })
}

/// What the extents of a file have to be.
fn extents(given: &keys::Extents, reader: &mut Reader<'_>) -> Checked<Vec<(ExtentCount, Limits)>> {
    let mut bounds = Vec::new();
    for (name, number) in given.expect.iter().flatten() {
        let place = Place::scenario(name.span());
        let what = check::choose(name.get_ref(), place, "expect", &ExtentCount::ALL)?;
        bounds.push((what, condition::limits(number, Dimension::Count, name.get_ref(), reader)?));
    }
    Ok(bounds)
}

/// Where a scope is needed and a step has one.
pub(super) fn scope(copies: u64) -> Scope {
    if copies > 1 { Scope::Copies } else { Scope::Rounds }
}
