//! What an administrator does.

use brim_trial::operation::{Administration, Filter};

use super::value::{Table, count, expression, list, string, table};

/// The key of the step's table.
pub(super) fn key(act: &Administration) -> &'static str {
    match act {
        Administration::DeviceAdd { .. } => "do.device_add",
        Administration::DeviceRemove { .. } => "do.device_remove",
        Administration::DeviceReplace { .. } => "do.device_replace",
        Administration::LoseDevice { .. } => "do.lose_device",
        Administration::Balance { .. } => "do.balance",
        Administration::ResizeFilesystem { .. } => "do.resize_filesystem",
        Administration::Defragment { .. } => "do.defragment",
        Administration::Compress { .. } => "do.compress",
        Administration::QuotaEnable {} => "do.quota_enable",
        Administration::QuotaRescan {} => "do.quota_rescan",
        Administration::QgroupLimit { .. } => "do.qgroup_limit",
        Administration::SubvolumeDelete { .. } => "do.subvolume_delete",
        Administration::WaitCleaner {} => "do.wait_cleaner",
        Administration::Fstrim {} => "do.fstrim",
    }
}

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
            table.key("file", string(file));
            table.some("compress", compress.map(|way| string(way.name())));
            table.text()
        }
        Administration::Compress { file, with } => {
            table([("file", string(file)), ("with", string(with.name()))])
        }
        Administration::QgroupLimit { path, referenced, exclusive } => {
            let mut table = Table::new();
            table.key("path", string(path));
            table.some("referenced", referenced.as_ref().map(expression));
            table.some("exclusive", exclusive.as_ref().map(expression));
            table.text()
        }
        Administration::SubvolumeDelete { path } => table([("path", string(path))]),
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
