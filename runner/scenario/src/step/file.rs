//! Verbs that work on files.

mod options;

use brim_trial::operation::{Shared, Target};
use brim_trial::{Expression, FileOperation, Template};
use toml::Spanned;

use super::{Setting, size};
use crate::error::{Checked, Objection};
use crate::read::{Found, Reader, Scope};
use crate::schema::file as keys;
use crate::schema::{self, Formula, Text, Verb};
use crate::written::Place;
use options::{
    READS, RENAMES, SHORTS, WRITES, aligned, attribute, choice, content, expect, extents, flags, how, mode,
    permissions,
};

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

fn quantity(
    field: &Spanned<Formula>,
    key: &str,
    setting: Setting<'_>,
    reader: &mut Reader<'_>,
) -> Checked<Expression> {
    size(field, key, setting, reader).map(|found| found.value)
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

/// Where a scope is needed and a step has one.
pub(super) fn scope(copies: u64) -> Scope {
    if copies > 1 { Scope::Copies } else { Scope::Rounds }
}
