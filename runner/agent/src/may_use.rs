//! Every change of btrfs' counters of reserved bytes, summed by space.

use std::collections::BTreeMap;
use std::path::Path;

use brim_trial::event::{MAY_USE, MayUse, SpaceKind};
use brim_trial::{Bytes, Event};

use crate::Failure;
use crate::tickets::space_of;
use crate::tracepoint::{Tracepoint, Whose};

/// A recorder of `btrfs:update_bytes_may_use`, which is hit before the counter is changed
/// (fs/btrfs/space-info.h, `DECLARE_SPACE_INFO_UPDATE`, v6.12). It is hit for each page of a write, so that it is recorded only
/// where somebody asks for it.
#[derive(Debug)]
pub(crate) struct MayUseSums {
    tracepoint: Tracepoint,
    sums: BTreeMap<([u8; 16], SpaceKind), Sum>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    added: u64,
    taken: u64,
    updates: u64,
}

impl MayUseSums {
    /// Starts to record.
    pub(crate) fn record(tracing: &Path) -> Result<Self, Failure> {
        let tracepoint = Tracepoint::record(tracing, "btrfs/update_bytes_may_use", None, Whose::All)?;
        Ok(Self { tracepoint, sums: BTreeMap::new() })
    }

    /// Takes what was recorded out of the rings, so that there is room for more.
    pub(crate) fn drain(&mut self) {
        for sample in self.tracepoint.read() {
            let integer = |name| self.tracepoint.integer(&sample, name);
            let fsid = self.tracepoint.field(&sample, "fsid").and_then(|bytes| bytes.try_into().ok());
            let (Some(fsid), Some(flags), Some(difference)) = (fsid, integer("type"), integer("diff")) else {
                continue;
            };
            let sum = self.sums.entry((fsid, space_of(flags))).or_default();
            let bytes = difference.unsigned_abs();
            if difference < 0 {
                sum.taken += bytes;
            } else {
                sum.added += bytes;
            }
            sum.updates += 1;
        }
    }

    /// The sums on the filesystem of these `fsids`, also those of nothing.
    pub(crate) fn events(&mut self, trial: u32, fsids: &[[u8; 16]]) -> Vec<Event> {
        self.drain();
        let sum = |space| {
            let of_space = self.sums.iter().filter(|((fsid, of), _)| *of == space && fsids.contains(fsid));
            let sum = of_space.fold(Sum::default(), |sum, (_, more)| Sum {
                added: sum.added + more.added,
                taken: sum.taken + more.taken,
                updates: sum.updates + more.updates,
            });
            let (added, taken) = (Bytes(sum.added), Bytes(sum.taken));
            Event::MayUse(MayUse { trial, space, added, taken, updates: sum.updates })
        };
        let mut events: Vec<Event> =
            [SpaceKind::Data, SpaceKind::Metadata, SpaceKind::System].map(sum).into_iter().collect();
        let missing = match self.tracepoint.lost() {
            Ok(0) => None,
            Ok(lost) => Some(format!("{lost} changes more than the trace rings could hold")),
            Err(error) => Some(format!("how many the trace rings lost: {error}")),
        };
        events.extend(missing.map(|why| Event::Missing { evidence: MAY_USE.to_owned(), why }));
        events
    }
}
