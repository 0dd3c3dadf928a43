//! What an administrator does.

use brim_trial::operation::{Administration, Filter};

use super::value::{Table, count, expression, list, string, table, template};

/// What stands behind that key.
pub(super) fn value(act: &Administration) -> String {
    match act {
        Administration::DeviceAdd { device } | Administration::DeviceRemove { device } => {
            table([("device", string(device))])
        }
        Administration::DeviceReplace { from, to } => table([("from", string(from)), ("to", string(to))]),
        Administration::LoseDevice { device, options } => {
            let mut table = Table::new();
            table.key("device", string(device));
            table.some("options", options.as_deref().map(words));
            table.text()
        }
        Administration::Balance { data, metadata, system, force } => {
            let mut table = Table::new();
            for (key, of) in [("data", data), ("metadata", metadata), ("system", system)] {
                table.some(key, of.as_ref().map(filter));
            }
            table.some("force", force.then(|| "true".to_owned()));
            table.text()
        }
        Administration::ResizeFilesystem { size, device } => {
            let mut table = Table::new();
            table.key("size", size.as_ref().map_or_else(|| string("max"), expression));
            table.some("device", device.as_deref().map(string));
            table.text()
        }
        Administration::Defragment { file, compress } => {
            let mut table = Table::new();
            table.key("file", template(file));
            table.some("compress", compress.map(|way| string(way.name())));
            table.text()
        }
        Administration::Compress { file, with } => {
            table([("file", template(file)), ("with", string(with.name()))])
        }
        Administration::QgroupLimit { path, referenced, exclusive } => {
            let mut table = Table::new();
            table.key("path", template(path));
            table.some("referenced", referenced.as_ref().map(expression));
            table.some("exclusive", exclusive.as_ref().map(expression));
            table.text()
        }
        Administration::SubvolumeDelete { path } => table([("path", template(path))]),
        Administration::QuotaEnable {}
        | Administration::QuotaRescan {}
        | Administration::WaitCleaner {}
        | Administration::Fstrim {} => Table::new().text(),
    }
}

/// Mount options.
pub(super) fn words(words: &[String]) -> String {
    list(words.iter().map(|word| string(word)))
}

fn filter(Filter { usage, profiles, device, limit, convert, soft }: &Filter) -> String {
    let mut table = Table::new();
    table.some("usage", usage.map(count));
    match profiles.as_slice() {
        [] => {}
        [one] => table.key("profiles", string(one.name())),
        several => table.key("profiles", list(several.iter().map(|profile| string(profile.name())))),
    }
    table.some("device", device.as_deref().map(string));
    table.some("limit", limit.map(count));
    table.some("convert", convert.map(|profile| string(profile.name())));
    table.some("soft", soft.then(|| "true".to_owned()));
    table.text()
}
