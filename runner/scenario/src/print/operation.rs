//! What a step does.

use brim_device::{Ratio, Survival};
use brim_trial::operation::{Expect, Release, Which};
use brim_trial::{Content, Expression, Operation};

use super::administration;
use super::value::{Table, count, expression, list, ratio, string, table};

/// The key of the step's table: `do.pwrite`, or a word with the disk.
pub(super) fn key(operation: &Operation) -> &'static str {
    match operation {
        Operation::Fallocate { .. } => "do.fallocate",
        Operation::Pwrite { .. } => "do.pwrite",
        Operation::Pread { .. } => "do.pread",
        Operation::Fsync { .. } => "do.fsync",
        Operation::Fdatasync { .. } => "do.fdatasync",
        Operation::SyncFileRange { .. } => "do.sync_file_range",
        Operation::Syncfs {} => "do.syncfs",
        Operation::Truncate { .. } => "do.truncate",
        Operation::Unlink { .. } => "do.unlink",
        Operation::ResizeDisk { .. } => "do.resize_disk",
        Operation::Nocow { .. } => "do.nocow",
        Operation::Subvolume { .. } => "do.subvolume",
        Operation::Snapshot { .. } => "do.snapshot",
        Operation::Reflink { .. } => "do.reflink",
        Operation::Scrub {} => "do.scrub",
        Operation::DropCaches {} => "do.drop_caches",
        Operation::Panic { .. } => "do.panic",
        Operation::Remount { .. } => "do.remount",
        Operation::Administer(act) => administration::key(act),
        Operation::Check {} => "do.check",
        Operation::PowerCut { .. } => "do.power_cut",
        Operation::Await { .. } => "await.held",
        Operation::Arm { .. } => "arm",
        Operation::Release { .. } => "release",
        Operation::Close { .. } => "close",
    }
}

/// What stands behind that key.
pub(super) fn value(operation: &Operation) -> String {
    match operation {
        Operation::Fallocate { file, offset, length, keep_size } => {
            let mut table = range(file, offset, length);
            table.some("keep_size", keep_size.then(|| "true".to_owned()));
            table.text()
        }
        Operation::Pwrite { file, offset, length, data } => {
            let mut table = range(file, offset, length);
            table.some(
                "data",
                match data {
                    Content::Random => None,
                    Content::Zeroes => Some(string("zeroes")),
                },
            );
            table.text()
        }
        Operation::Pread { file, offset, length, expect } => {
            let mut table = range(file, offset, length);
            table.some(
                "expect",
                match expect {
                    Expect::Written => None,
                    Expect::Synced => Some(string("same as fsynced")),
                    Expect::Zeroes => Some(string("zeroes")),
                },
            );
            table.text()
        }
        Operation::SyncFileRange { file, offset, length } => range(file, offset, length).text(),
        Operation::Fsync { file }
        | Operation::Fdatasync { file }
        | Operation::Unlink { file }
        | Operation::Nocow { file } => table([("file", string(file))]),
        Operation::Truncate { file, size } => table([("file", string(file)), ("size", expression(size))]),
        Operation::ResizeDisk { size, device } => {
            let mut table = Table::new();
            table.key("size", expression(size));
            table.some("device", device.as_deref().map(string));
            table.text()
        }
        Operation::Remount { options, live } => {
            let mut table = Table::new();
            table.some("options", options.as_deref().map(administration::words));
            table.some("live", live.then(|| "true".to_owned()));
            table.text()
        }
        Operation::Administer(act) => administration::value(act),
        Operation::Subvolume { path } => table([("path", string(path))]),
        Operation::Snapshot { of, to, read_only } => {
            let mut table = Table::new();
            table.key("of", string(of));
            table.key("to", string(to));
            table.some("read_only", read_only.then(|| "true".to_owned()));
            table.text()
        }
        Operation::Reflink { from, to, offset, length, to_offset } => {
            let mut table = Table::new();
            table.key("from", string(from));
            table.key("to", string(to));
            table.key("offset", expression(offset));
            table.key("length", expression(length));
            table.some("to_offset", (to_offset != offset).then(|| expression(to_offset)));
            table.text()
        }
        Operation::Panic { trial } => {
            let mut table = Table::new();
            table.some("trial", trial.map(count));
            table.text()
        }
        Operation::PowerCut { survival: Survival { kept, torn } } => {
            let mut table = Table::new();
            for (key, odds) in [("kept", *kept), ("torn", *torn)] {
                table.some(key, (odds != Ratio::ZERO).then(|| ratio(odds)));
            }
            table.text()
        }
        Operation::Syncfs {} | Operation::Scrub {} | Operation::DropCaches {} | Operation::Check {} => {
            Table::new().text()
        }
        Operation::Await { gate: name, count: 1 }
        | Operation::Arm { fault: name }
        | Operation::Close { gate: name }
        | Operation::Release { gate: name, some: None } => string(name),
        Operation::Await { gate, count: requests } => {
            table([("gate", string(gate)), ("count", count(*requests))])
        }
        Operation::Release { gate, some: Some(some) } => release(gate, some),
    }
}

fn range(file: &str, offset: &Expression, length: &Expression) -> Table {
    let mut table = Table::new();
    table.key("file", string(file));
    table.key("offset", expression(offset));
    table.key("length", expression(length));
    table
}

fn release(gate: &str, Release { which, error }: &Release) -> String {
    let mut table = Table::new();
    table.key("gate", string(gate));
    match which {
        Which::All => {}
        Which::Reversed => table.key("order", string("reversed")),
        Which::First(requests) => table.key("first", count(*requests)),
        Which::Only(places) => table.key("only", list(places.iter().map(|place| count(*place)))),
    }
    table.some("error", error.map(|error| string(error.name())));
    table.text()
}
