//! A cell: one combination of everything that a campaign varies.

use std::collections::BTreeMap;
use std::fmt;

use brim_trial::{FilesystemKind, Known};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The kernel that runs brim, where kernels are named.
pub const RUNNING: &str = "running";

/// What tells a cell from all others, whatever campaign, shard or machine it is in: 16 hexadecimal digits, drawn from what it
/// varies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CellId(String);

impl fmt::Display for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for CellId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// What a cell varies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The scenario, as the campaign file names it: a name of the catalogue or a path.
    pub scenario: String,
    /// The parameters that the campaign sets, each as `--set` takes it.
    pub params: BTreeMap<String, String>,
    /// The filesystem, where it is not the scenario's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<FilesystemKind>,
    /// Arguments of mkfs, where they are not the scenario's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mkfs: Option<Vec<String>>,
    /// Mount options, where they are not the scenario's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<Vec<String>>,
    /// The kernel, as `--kernel` takes it; `running` is the one that runs brim.
    pub kernel: String,
    /// The kind of disk, where it is not a plain one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Faults of the scenario that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_fault: Vec<String>,
    /// What tells cells apart that are alike in all else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Setting {
    /// What tells it from all others.
    #[must_use]
    pub fn id(&self) -> CellId {
        // Keys in the order of the fields, maps in the order of their keys: the same text each time.
        let text = serde_json::to_string(self).unwrap_or_default();
        CellId(format!("{:016x}", first(&Sha256::digest(text.as_bytes()))))
    }

    /// The line that runs it again, but for its seed.
    #[must_use]
    pub fn command(&self) -> String {
        let mut words = vec!["brim".to_owned(), "run".to_owned(), self.scenario.clone()];
        let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
        if self.kernel != RUNNING {
            option("--kernel", self.kernel.clone());
        }
        if let Some(filesystem) = self.filesystem {
            option("--filesystem", filesystem.to_string());
        }
        for (name, value) in &self.params {
            option("--set", format!("{name}={value}"));
        }
        // `=`, since the first word of mkfs' begins with a dash.
        for (name, list) in [("--mkfs", &self.mkfs), ("--mount", &self.mount)] {
            if let Some(list) = list {
                words
                    .push(format!("{name}={}", if name == "--mkfs" { quoted(list) } else { list.join(",") }));
            }
        }
        let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
        if let Some(profile) = &self.profile {
            option("--config", profile.clone());
        }
        for fault in &self.without_fault {
            option("--without-fault", fault.clone());
        }
        quoted(&words)
    }
}

/// A cell in a campaign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// What tells it from all others.
    pub id: CellId,
    /// Which `[[sweep]]` of the campaign it is of, from 0.
    pub sweep: usize,
    /// Which row it is in, from 0: the cells of a row are tried one after the other, each as the others came out. Without a
    /// search each cell has its own.
    pub row: usize,
    /// What it varies.
    #[serde(flatten)]
    pub setting: Setting,
    /// The line that runs it again, but for `--seed` and a trial's seed.
    pub command: String,
    /// What is expected of it; the first entry whose kernel matches counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<Known>,
}

/// The seed of one trial. It depends on the campaign's seed, the cell and the number alone, so that no other trial moves it.
#[must_use]
pub fn seed(campaign: u64, cell: &CellId, number: u32) -> u64 {
    let mut hash = Sha256::new();
    hash.update(campaign.to_le_bytes());
    hash.update(cell.0.as_bytes());
    hash.update(number.to_le_bytes());
    first(&hash.finalize())
}

fn quoted(words: &[String]) -> String {
    // Only a nul byte cannot be quoted, and no word of a campaign file has one.
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}

/// The first 64 bits of a digest.
fn first(digest: &[u8]) -> u64 {
    digest.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}
