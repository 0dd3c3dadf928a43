//! What a step does.

use brim_device::control::WhenFull;
use brim_device::{Ratio, Survival};
use brim_trial::Operation;
use brim_trial::operation::{DiskWord, Pool, Release, Space, Which};

use super::value::{
    Table, count, duration, expression, limits_of_bytes, list, ratio, size, string, table, template,
};
use super::{administration, file};

/// The key of the step's table: `do.pwrite`, or a word with the disk.
pub(super) fn key(operation: &Operation) -> String {
    match operation {
        Operation::Await { .. } => "await.held".to_owned(),
        Operation::AwaitCounter { .. }
        | Operation::AwaitLog { .. }
        | Operation::Sleep { .. }
        | Operation::Arm { .. }
        | Operation::Release { .. }
        | Operation::Close { .. } => operation.verb().to_owned(),
        done => format!("do.{}", done.verb()),
    }
}

/// What stands behind that key.
pub(super) fn value(operation: &Operation) -> String {
    match operation {
        Operation::File(operation) => file::value(operation),
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
        Operation::Subvolume { path } => table([("path", template(path))]),
        Operation::Snapshot { of, to, read_only } => {
            let mut table = Table::new();
            table.key("of", template(of));
            table.key("to", template(to));
            table.some("read_only", read_only.then(|| "true".to_owned()));
            table.text()
        }
        Operation::Panic { trial } => {
            let mut table = Table::new();
            table.some("trial", trial.map(count));
            table.text()
        }
        Operation::PowerCut { survival: Survival { kept, torn }, arm } => {
            let mut table = Table::new();
            for (key, odds) in [("kept", *kept), ("torn", *torn)] {
                table.some(key, (odds != Ratio::ZERO).then(|| ratio(odds)));
            }
            table.some("arm", (!arm.is_empty()).then(|| list(arm.iter().map(|fault| string(fault)))));
            table.text()
        }
        Operation::Syncfs {}
        | Operation::Scrub {}
        | Operation::DropCaches {}
        | Operation::Counters {}
        | Operation::Freeze {}
        | Operation::Thaw {}
        | Operation::Check {} => Table::new().text(),
        Operation::Exec { command, exit } => {
            let mut table = Table::new();
            table.key("command", list(command.iter().map(template)));
            table.some("exit", (*exit != 0).then(|| count(u64::from(*exit))));
            table.text()
        }
        Operation::Sleep { time } => duration(*time),
        Operation::Disk(word) => self::word(word),
        Operation::AwaitCounter { counter, is } => {
            table([("counter", string(counter)), ("is", limits_of_bytes(*is))])
        }
        Operation::AwaitLog { pattern, count: lines } => {
            let mut table = Table::new();
            table.key("kernel_log", string(&pattern.to_string()));
            table.some("count", (*lines != 1).then(|| count(*lines)));
            table.text()
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

fn word(word: &DiskWord) -> String {
    match word {
        DiskWord::Mark { text } => table([("text", string(text))]),
        DiskWord::KeepSnapshot { name } | DiskWord::RestoreSnapshot { name } => {
            table([("name", string(name))])
        }
        DiskWord::SetPool { device, pool } => self::pool(pool, device.as_deref()),
        DiskWord::RemovePool { device } => {
            let mut table = Table::new();
            table.some("device", device.as_deref().map(string));
            table.text()
        }
    }
}

/// The pool behind a disk.
pub(super) fn pool(pool: &Pool, device: Option<&str>) -> String {
    let Pool { space, when_full } = pool;
    let mut table = Table::new();
    table.some("device", device.map(string));
    match space {
        Space::Limit(limit) => table.key("limit", size(*limit)),
        Space::Free(free) => table.key("free", size(*free)),
    }
    table.some(
        "when_full",
        match when_full {
            WhenFull::Error => None,
            WhenFull::Hold => Some(string("hold")),
        },
    );
    table.text()
}
