//! The steps of an administrator in words.

use brim_trial::operation::{Administration, Filter};
use brim_trial::plan::Device;

/// One of them as a sentence.
pub(super) fn sentence(act: &Administration) -> String {
    match act {
        Administration::DeviceAdd { device } => format!("add the disk `{device}` to the filesystem"),
        Administration::DeviceRemove { device } if device == Device::MISSING => {
            "take the disk that is missing out of the filesystem".to_owned()
        }
        Administration::DeviceRemove { device } => {
            format!("take the disk `{device}` out of the filesystem, which moves what is on it")
        }
        Administration::DeviceReplace { from, to } => {
            format!("put the disk `{to}` in the place of `{from}`, until all is copied")
        }
        Administration::LoseDevice { device, options } => {
            format!(
                "unmount, take the disk `{device}` away, and mount what is left{}",
                with(options.as_ref())
            )
        }
        Administration::Balance { data, metadata, system, force } => {
            let kinds = [("data", data), ("metadata", metadata), ("system", system)];
            let chunks = kinds.iter().filter_map(|(kind, filter)| Some(chunks(kind, filter.as_ref()?)));
            let chunks: Vec<String> = chunks.collect();
            let chunks = if chunks.is_empty() { "all chunks".to_owned() } else { chunks.join(", and ") };
            let force = if *force { ", by force" } else { "" };
            format!("balance {chunks}{force}")
        }
        Administration::ResizeFilesystem { size, device } => {
            let size = size.as_ref().map_or_else(|| "all of the disk".to_owned(), ToString::to_string);
            let on = device.as_ref().map(|device| format!(" on `{device}`")).unwrap_or_default();
            format!("resize the filesystem{on} to {size}")
        }
        Administration::Defragment { file, compress } => {
            let compressed = compress.map(|way| format!(", compressed with {}", way.name()));
            format!("write `{file}` anew in long extents (defragment){}", compressed.unwrap_or_default())
        }
        Administration::Compress { file, with } => {
            format!("have new extents of `{file}` be compressed with {}", with.name())
        }
        Administration::QuotaEnable {} => "turn quotas on, and wait until all is counted".to_owned(),
        Administration::QuotaRescan {} => "count again for the quotas, and wait for the end".to_owned(),
        Administration::QgroupLimit { path, referenced, exclusive } => {
            let all = referenced.as_ref().map(|limit| format!("{limit} in all"));
            let own = exclusive.as_ref().map(|limit| format!("{limit} of its own"));
            let limits: Vec<String> = all.into_iter().chain(own).collect();
            format!("limit the subvolume `{path}` to {}", limits.join(" and "))
        }
        Administration::SubvolumeDelete { path } => format!("delete the subvolume `{path}`"),
        Administration::WaitCleaner {} => "wait until nothing is left of deleted subvolumes".to_owned(),
        Administration::Fstrim {} => "discard what is free (FITRIM)".to_owned(),
    }
}

/// Mount options, where there are any to tell.
pub(super) fn with(options: Option<&Vec<String>>) -> String {
    match options {
        None => String::new(),
        Some(options) if options.is_empty() => " without options".to_owned(),
        Some(options) => format!(" with `{}`", options.join(",")),
    }
}

fn chunks(kind: &str, filter: &Filter) -> String {
    let mut which = Vec::new();
    if let Some(percent) = filter.usage {
        which.push(format!("less than {percent} % full"));
    }
    if !filter.profiles.is_empty() {
        let names: Vec<&str> = filter.profiles.iter().map(|profile| profile.name()).collect();
        which.push(format!("of the profile {}", names.join(" or ")));
    }
    if let Some(device) = &filter.device {
        which.push(format!("on the disk `{device}`"));
    }
    if let Some(limit) = filter.limit {
        which.push(format!("{limit} at most"));
    }
    let which = if which.is_empty() { String::new() } else { format!(" ({})", which.join(", ")) };
    let convert = filter.convert.map(|profile| {
        let soft = if filter.soft { ", but for those that are that already" } else { "" };
        format!(", which become {}{soft}", profile.name())
    });
    format!("chunks of {kind}{which}{}", convert.unwrap_or_default())
}
