//! Kernel tracepoints through perf events, one ring per CPU.
//!
//! A ring of ours shows nobody else's records and disturbs nobody's tracing, as an instance of tracefs would, and it
//! goes away with the process even when that is killed, as an instance would not.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::Path;

use perf_event::data::Record;
use perf_event::events::Tracepoint as TracepointEvent;
use perf_event::{Builder, Clock, SampleFlag, Sampler};

use crate::Failure;
use crate::failure::Trying;
use crate::sys;

/// Room for records on each CPU between two readings.
const RING_BYTES: usize = 1 << 20;

/// A tracepoint that is being recorded.
pub(crate) struct Tracepoint {
    rings: Vec<Sampler>,
    /// Records that were read.
    read: u64,
    fields: BTreeMap<String, Field>,
}

impl std::fmt::Debug for Tracepoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracepoint").field("fields", &self.fields).finish_non_exhaustive()
    }
}

/// Whose records are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose {
    /// Everybody's.
    All,
    /// This thread's and those of the processes it starts from now on.
    ThisThreadsChildren,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    offset: usize,
    size: usize,
}

/// One record.
#[derive(Debug)]
pub(crate) struct Sample {
    /// The thread that hit the tracepoint.
    pub(crate) thread: u32,
    /// When, on `CLOCK_MONOTONIC`, in nanoseconds.
    pub(crate) time: u64,
    raw: Vec<u8>,
}

impl Tracepoint {
    /// Starts to record `name` (`btrfs/btrfs_reserve_ticket`), described under `tracing`.
    pub(crate) fn record(
        tracing: &Path,
        name: &str,
        filter: Option<&str>,
        whose: Whose,
    ) -> Result<Self, Failure> {
        let directory = tracing.join("events").join(name);
        let read = |file: &str| {
            let path = directory.join(file);
            std::fs::read_to_string(&path).trying(|| format!("read {}", path.display()))
        };
        let what = || format!("record the tracepoint {name}");
        let id = read("id")?.trim().parse().map_err(|_| Failure::new(what(), "its id is no number"))?;
        let fields = fields(&read("format")?);
        let filter = filter.map(CString::new).transpose().map_err(|_| Failure::new(what(), "a nul byte"))?;
        let mut rings = Vec::new();
        for cpu in online_cpus()? {
            let mut builder = Builder::new(TracepointEvent::with_id(id));
            builder.sample_period(1).sample(SampleFlag::TID | SampleFlag::TIME | SampleFlag::RAW);
            builder.clockid(Clock::MONOTONIC).include_kernel().enabled(false).one_cpu(cpu);
            match whose {
                Whose::All => builder.any_pid(),
                Whose::ThisThreadsChildren => builder.observe_self().inherit(true),
            };
            let counter = builder.build().trying(what)?;
            if let Some(filter) = &filter {
                sys::perf_set_filter(&counter, filter).trying(what)?;
            }
            // Only now: what happens before the filter and the ring are there would be counted, and not be there.
            let mut ring = counter.sampled(RING_BYTES).trying(what)?;
            ring.as_counter_mut().enable().trying(what)?;
            rings.push(ring);
        }
        Ok(Self { rings, read: 0, fields })
    }

    /// What was recorded since the last call, in the order of time.
    pub(crate) fn read(&mut self) -> Vec<Sample> {
        let mut all = Vec::new();
        for ring in &mut self.rings {
            while let Some(record) = ring.next_record() {
                if let Ok(Record::Sample(sample)) = record.parse_record() {
                    self.read += 1;
                    all.push(Sample {
                        thread: sample.tid().unwrap_or(0),
                        time: sample.time().unwrap_or(0),
                        raw: sample.raw().unwrap_or_default().to_vec(),
                    });
                }
            }
        }
        all.sort_by_key(|sample| sample.time);
        all
    }

    /// How many records did not fit in the rings: the kernel counts all of them, whether there is room or not.
    pub(crate) fn lost(&mut self) -> std::io::Result<u64> {
        let mut counted = 0;
        for ring in &mut self.rings {
            counted += ring.as_counter_mut().read()?;
        }
        Ok(counted.saturating_sub(self.read))
    }

    /// A field of a record: the bytes of its type, in the machine's order.
    pub(crate) fn field<'a>(&self, sample: &'a Sample, name: &str) -> Option<&'a [u8]> {
        let field = self.fields.get(name)?;
        sample.raw.get(field.offset..field.offset + field.size)
    }

    /// A field that is an integer of 4 or 8 bytes.
    pub(crate) fn integer(&self, sample: &Sample, name: &str) -> Option<i64> {
        let bytes = self.field(sample, name)?;
        match bytes.len() {
            4 => bytes.try_into().ok().map(i32::from_ne_bytes).map(i64::from),
            8 => bytes.try_into().ok().map(i64::from_ne_bytes),
            _ => None,
        }
    }
}

/// The fields of a tracepoint's `format` file: lines like `field:u64 flags; offset:24; size:8; signed:0;`.
fn fields(format: &str) -> BTreeMap<String, Field> {
    let mut fields = BTreeMap::new();
    for line in format.lines() {
        let mut parts = line.trim().split(';').map(str::trim);
        let Some(declaration) = parts.next().and_then(|part| part.strip_prefix("field:")) else { continue };
        let name = declaration.rsplit(' ').next().unwrap_or(declaration);
        let name = name.split('[').next().unwrap_or(name).trim_start_matches('*');
        let number = |part: Option<&str>, key: &str| {
            part.and_then(|p| p.strip_prefix(key)).and_then(|n| n.parse().ok())
        };
        if let (Some(offset), Some(size)) = (number(parts.next(), "offset:"), number(parts.next(), "size:")) {
            fields.insert(name.to_owned(), Field { offset, size });
        }
    }
    fields
}

/// The CPUs that are online, from a list like `0-1,4`.
fn online_cpus() -> Result<Vec<usize>, Failure> {
    let path = "/sys/devices/system/cpu/online";
    let what = || format!("read {path}");
    let ranges = std::fs::read_to_string(path).trying(what)?;
    let mut cpus = Vec::new();
    for part in ranges.trim().split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        match (from.parse::<usize>(), to.parse::<usize>()) {
            (Ok(from), Ok(to)) => cpus.extend(from..=to),
            _ => return Err(Failure::new(what(), format!("`{part}` is no range of CPUs"))),
        }
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let format = "name: btrfs_reserve_ticket\nID: 1942\nformat:\n\
            \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
            \tfield:u8 fsid[16];\toffset:8;\tsize:16;\tsigned:0;\n\
            \tfield:u64 flags;\toffset:24;\tsize:8;\tsigned:0;\n\nprint fmt: \"%pU\", REC->fsid\n";
        let fields = fields(format);
        assert_eq!(fields["fsid"].offset, 8);
        assert_eq!(fields["fsid"].size, 16);
        assert_eq!(fields["flags"].offset, 24);
        assert_eq!(fields.len(), 3);
    }
}
