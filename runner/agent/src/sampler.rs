//! Counters of btrfs over the time of a trial, beside its steps. Each file of sysfs stays open and is read anew: ten of them take
//! some microseconds of another processor, and no lock of the steps.
//!
//! ext4 and xfs tell theirs by the mount, which a step may want to take away: of them there is what is read before and after.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use brim_trial::Nanos;
use brim_trial::event::Series;
use brim_trial::series::Recorder;

use crate::sys;

/// How often it looks.
const TICK: Duration = Duration::from_millis(1);

/// What is free for data, and the counters that it comes from; of metadata those that a step may change.
const NAMES: [&str; 10] = [
    "data_free",
    "data.used",
    "data.may_use",
    "data.reserved",
    "data.pinned",
    "data.readonly",
    "metadata.used",
    "metadata.may_use",
    "metadata.pinned",
    "metadata.reserved",
];

/// The files of sysfs.
struct Files {
    total: File,
    /// Of data: all that is taken of it, in the order of `NAMES`, and what zones cannot use, where there is such.
    data: Vec<File>,
    zones: Option<File>,
    metadata: Vec<File>,
}

impl Files {
    fn open(sysfs: &Path) -> Option<Self> {
        let allocation = sysfs.join("allocation");
        let data = if allocation.join("data").is_dir() { "data" } else { "mixed" };
        let open = |space: &str, names: &[&str]| -> Option<Vec<File>> {
            names.iter().map(|name| File::open(allocation.join(space).join(name)).ok()).collect()
        };
        let metadata = if data == "data" { "metadata" } else { "mixed" };
        Some(Self {
            total: File::open(allocation.join(data).join("total_bytes")).ok()?,
            data: open(
                data,
                &["bytes_used", "bytes_may_use", "bytes_reserved", "bytes_pinned", "bytes_readonly"],
            )?,
            zones: File::open(allocation.join(data).join("bytes_zone_unusable")).ok(),
            metadata: open(metadata, &["bytes_used", "bytes_may_use", "bytes_pinned", "bytes_reserved"])?,
        })
    }

    fn read(&self) -> Option<Vec<u64>> {
        let all = |files: &[File]| files.iter().map(number).collect::<Option<Vec<u64>>>();
        let (total, data, metadata) = (number(&self.total)?, all(&self.data)?, all(&self.metadata)?);
        let zones = self.zones.as_ref().and_then(number).unwrap_or(0);
        let free = total.saturating_sub(data.iter().sum::<u64>() + zones);
        Some([vec![free], data, metadata].concat())
    }
}

fn number(file: &File) -> Option<u64> {
    let mut text = [0; 32];
    let length = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(text.get(..length)?).ok()?.trim().parse().ok()
}

/// Looks until `ended` hears something, or nobody can say anything there any more. `began` is when the first step began.
pub(crate) fn watch(sysfs: &Path, trial: u32, began: u64, ended: &Receiver<()>) -> Option<Series> {
    let mut recorder = Recorder::new(NAMES.iter().map(|name| (*name).to_owned()).collect());
    let mut files = Files::open(sysfs);
    let mut is_over = false;
    loop {
        // While the filesystem is not mounted there are no counters; its next mount may have them elsewhere.
        match files.as_ref().and_then(Files::read) {
            Some(values) => recorder.record(Nanos(sys::monotonic().saturating_sub(began)), &values),
            None => files = Files::open(sysfs),
        }
        if is_over {
            return recorder.series(trial, "counters");
        }
        is_over = !matches!(ended.recv_timeout(TICK), Err(RecvTimeoutError::Timeout));
    }
}
