//! What a filesystem says of its own space.

use std::collections::BTreeMap;

use brim_device::Bytes;
use serde::{Deserialize, Serialize};

use crate::event::SpaceKind;

/// One reading of a filesystem's space counters.
///
/// For btrfs the values are those of `/sys/fs/btrfs/UUID/allocation/{data,metadata,system,mixed}/`, named
/// `data.total`, `data.used`, `data.may_use`, `data.reserved`, `data.pinned`, `data.readonly` and so on; for ext4 and
/// xfs those of `statfs(2)` and of `/sys/fs/{ext4,xfs}/DEVICE/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Bytes that data can still take: what `data_free` in a scenario asks for.
    pub data_free: Bytes,
    /// Every counter by its name.
    pub values: BTreeMap<String, Bytes>,
}

/// A counter that changed between two readings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The counter's name.
    pub name: String,
    /// Its value in the earlier reading.
    pub before: Bytes,
    /// Its value in the later one.
    pub after: Bytes,
}

/// What of metadata space has to be free for its lack to be out of the question: an operation of the language reserves less
/// (`btrfs_calc_insert_metadata_size` in fs/btrfs/extent-tree.c, v6.12: 256 KiB an item with nodes of 16 KiB).
const METADATA_ENOUGH: Bytes = Bytes(2 << 20);

impl Counters {
    /// Which space of btrfs is too small for data of `wanted` bytes, where only one can be: there is less of it, and enough
    /// of the other. It tells what a refused reservation was for where the kernel does not say so itself.
    #[must_use]
    pub fn lacking(&self, wanted: Bytes) -> Option<SpaceKind> {
        match (self.data_free < wanted, self.metadata_free()? >= METADATA_ENOUGH) {
            (true, true) => Some(SpaceKind::Data),
            (false, false) => Some(SpaceKind::Metadata),
            _ => None,
        }
    }

    /// Bytes that metadata can still take beside the global reserve, which counts as taken: what `metadata_free` in a scenario
    /// asks for. `None` where a filesystem does not tell, and where data and metadata share their space.
    #[must_use]
    pub fn metadata_free(&self) -> Option<Bytes> {
        let value = |name: &str| self.values.get(&format!("metadata.{name}")).copied();
        let taken = ["used", "may_use", "reserved", "pinned", "readonly", "zone_unusable"];
        let taken: u64 = taken.into_iter().filter_map(value).map(|bytes| bytes.0).sum();
        Some(Bytes(value("total")?.0.saturating_sub(taken)))
    }

    /// The counters whose value differs in `later`, by name. One that is missing on a side counts as 0 there.
    #[must_use]
    pub fn changes(&self, later: &Self) -> Vec<Change> {
        let mut names: Vec<&String> = self.values.keys().chain(later.values.keys()).collect();
        names.sort();
        names.dedup();
        let value = |of: &Self, name: &String| of.values.get(name).copied().unwrap_or(Bytes(0));
        names
            .into_iter()
            .map(|name| Change { name: name.clone(), before: value(self, name), after: value(later, name) })
            .filter(|change| change.before != change.after)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_lacks_only_where_the_other_does_not() {
        let counters = |data_free, metadata_free: u64| {
            let values = [("metadata.total", 64 << 20), ("metadata.used", (64 << 20) - metadata_free)];
            let values = values.map(|(name, value)| (name.to_owned(), Bytes(value))).into();
            Counters { data_free: Bytes(data_free), values }
        };
        let wanted = Bytes(132_096);
        assert_eq!(counters(4096, 40 << 20).lacking(wanted), Some(SpaceKind::Data));
        assert_eq!(counters(1 << 20, 4096).lacking(wanted), Some(SpaceKind::Metadata));
        assert_eq!(counters(4096, 4096).lacking(wanted), None);
        assert_eq!(counters(1 << 20, 40 << 20).lacking(wanted), None);
        assert_eq!(Counters { data_free: Bytes(0), ..Counters::default() }.lacking(wanted), None);
    }
}
