//! What a program under test does with files.

use brim_trial::operation::{
    Content, Expect, ExtentCount, FallocateMode, How, OpenFlag, Rename, Shared, Short, Target,
};
use brim_trial::{Expression, FileOperation, Limits, Template};

use super::value::{Table, expression, limits_of_count, list, string, table, template};

/// What stands behind the verb.
pub(super) fn value(operation: &FileOperation) -> String {
    match operation {
        FileOperation::Fallocate { file, offset, length, mode, keep_size } => {
            let mut table = range(file, offset, length);
            table.some("mode", (*mode != FallocateMode::default()).then(|| string(mode.name())));
            table.some("keep_size", keep_size.then(|| "true".to_owned()));
            table.text()
        }
        FileOperation::Pwrite { file, offset, length, data, how, short } => {
            let mut table = range(file, offset, length);
            table.some("data", self::data(data));
            table.some("how", self::how(*how));
            table.some(
                "short",
                match short {
                    Short::GoOn => None,
                    Short::Stop => Some(string("stop")),
                },
            );
            table.text()
        }
        FileOperation::Pread { file, offset, length, expect, how } => {
            let mut table = range(file, offset, length);
            table.some("expect", self::expect(*expect));
            table.some("how", self::how(*how));
            table.text()
        }
        FileOperation::MmapWrite { file, offset, length, data } => {
            let mut table = range(file, offset, length);
            table.some("data", self::data(data));
            table.text()
        }
        FileOperation::MmapRead { file, offset, length, expect } => {
            let mut table = range(file, offset, length);
            table.some("expect", self::expect(*expect));
            table.text()
        }
        FileOperation::Msync { file, offset, length }
        | FileOperation::SyncFileRange { file, offset, length } => range(file, offset, length).text(),
        FileOperation::Reflink { from, to, range } => shared(from, to, range.as_ref()),
        FileOperation::Dedupe { from, to, range } => shared(from, to, Some(range)),
        named => of_names(named),
    }
}

/// As [`value`], of the operations that have no range.
fn of_names(operation: &FileOperation) -> String {
    match operation {
        FileOperation::Fsync { file }
        | FileOperation::Fdatasync { file }
        | FileOperation::Close { file }
        | FileOperation::Tmpfile { file }
        | FileOperation::Creat { file }
        | FileOperation::Nocow { file }
        | FileOperation::Mkswap { file }
        | FileOperation::Swapon { file }
        | FileOperation::Swapoff { file } => table([("file", template(file))]),
        FileOperation::Mkdir { path } | FileOperation::Rmdir { path } => table([("path", template(path))]),
        FileOperation::Truncate { file, size } => {
            table([("file", template(file)), ("size", expression(size))])
        }
        FileOperation::Open { file, flags } => {
            let mut table = Table::new();
            table.key("file", template(file));
            let names = flags.iter().map(|flag: &OpenFlag| string(flag.name()));
            table.some("flags", (!flags.is_empty()).then(|| list(names)));
            table.text()
        }
        FileOperation::Unlink { file, keep_open } => {
            let mut table = Table::new();
            table.key("file", template(file));
            table.some("keep_open", keep_open.then(|| "true".to_owned()));
            table.text()
        }
        FileOperation::Rename { from, to, how } => {
            let mut table = Table::new();
            table.key("from", template(from));
            table.key("to", template(to));
            table.some(
                "how",
                match how {
                    Rename::Replace => None,
                    Rename::Noreplace => Some(string("noreplace")),
                    Rename::Exchange => Some(string("exchange")),
                },
            );
            table.text()
        }
        FileOperation::Link { from, to } => table([("from", template(from)), ("to", template(to))]),
        FileOperation::Symlink { path, target } => {
            let (key, says) = match target {
                Target::Path(target) => ("target", template(target)),
                Target::Length(length) => ("length", expression(length)),
            };
            table([("path", template(path)), (key, says)])
        }
        FileOperation::Setxattr { file, name, length } => {
            table([("file", template(file)), ("name", template(name)), ("length", expression(length))])
        }
        FileOperation::Removexattr { file, name } => {
            table([("file", template(file)), ("name", template(name))])
        }
        FileOperation::Chmod { file, mode } => {
            table([("file", template(file)), ("mode", string(&format!("{mode:04o}")))])
        }
        FileOperation::Extents { file, expect } => {
            let mut table = Table::new();
            table.key("file", template(file));
            table.some("expect", (!expect.is_empty()).then(|| extents(expect)));
            table.text()
        }
        FileOperation::Fallocate { .. }
        | FileOperation::Pwrite { .. }
        | FileOperation::Pread { .. }
        | FileOperation::MmapWrite { .. }
        | FileOperation::MmapRead { .. }
        | FileOperation::Msync { .. }
        | FileOperation::SyncFileRange { .. }
        | FileOperation::Reflink { .. }
        | FileOperation::Dedupe { .. } => value(operation),
    }
}

fn range(file: &Template, offset: &Expression, length: &Expression) -> Table {
    let mut table = Table::new();
    table.key("file", template(file));
    table.key("offset", expression(offset));
    table.key("length", expression(length));
    table
}

fn shared(from: &Template, to: &Template, range: Option<&Shared>) -> String {
    let mut table = Table::new();
    table.key("from", template(from));
    table.key("to", template(to));
    if let Some(Shared { offset, length, to_offset }) = range {
        table.key("offset", expression(offset));
        table.key("length", expression(length));
        table.some("to_offset", (to_offset != offset).then(|| expression(to_offset)));
    }
    table.text()
}

fn data(data: &Content) -> Option<String> {
    match data {
        Content::Random => None,
        Content::Zeroes => Some(string("zeroes")),
        Content::Compressible => Some(string("compressible")),
        Content::Text(text) => Some(table([("text", string(text))])),
    }
}

fn expect(expect: Expect) -> Option<String> {
    match expect {
        Expect::Written => None,
        Expect::Synced => Some(string("same as fsynced")),
        Expect::Zeroes => Some(string("zeroes")),
    }
}

fn how(how: How) -> Option<String> {
    let How { direct, dsync, nowait } = how;
    let words = [("direct", direct), ("dsync", dsync), ("nowait", nowait)];
    let words: Vec<String> =
        words.into_iter().filter(|(_, given)| *given).map(|(word, _)| string(word)).collect();
    match words.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        several => Some(list(several.iter().cloned())),
    }
}

fn extents(expect: &[(ExtentCount, Limits)]) -> String {
    let mut table = Table::new();
    for (what, limits) in expect {
        table.key(what.name(), limits_of_count(*limits));
    }
    table.text()
}
