//! What a filesystem says of its own space.

use std::collections::BTreeMap;

use brim_device::Bytes;
use serde::{Deserialize, Serialize};

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

impl Counters {
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
