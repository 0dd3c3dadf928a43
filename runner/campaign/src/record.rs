//! What is kept of every trial: one small line, and how lines that were cut short are told.

use brim_trial::event::SpaceKind;
use brim_trial::{Bytes, Errno, Nanos, Verdict};
use serde::{Deserialize, Serialize};

use crate::cell::CellId;

/// A line of `trials.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialRecord {
    /// The cell.
    pub cell: CellId,
    /// Which trial of the cell, from 1.
    pub number: u32,
    /// What everything in it was drawn from, `0x` and hexadecimal digits: as `brim run --seed` takes it.
    #[serde(with = "hexadecimal")]
    pub seed: u64,
    /// What it came to; `None` where the rig could not run it, and `reason` says why.
    pub verdict: Option<Verdict>,
    /// The step that failed, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// How it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<Errno>,
    /// The reservation under it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<SpaceKind>,
    /// What failures alike have in common; none where nothing failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// Why it is inconclusive, or could not be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The disk was not brought to the state asked for: no other trial of this cell would be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unreached: bool,
    /// What was free for data before the first step and after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_free: Option<[Bytes; 2]>,
    /// Lines that the kernel logged.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub kernel_log: u64,
    /// How long it took, from the disk's attachment to its end.
    pub nanos: Nanos,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Why the lines of a campaign cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of trials.jsonl is no trial: {why}")]
pub struct Damaged {
    /// Which, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

/// The trials in the text of a `trials.jsonl`, and how many bytes of it are whole lines: what follows is of a trial under way
/// when the writer was killed.
///
/// # Errors
/// A line that is not the last is no trial: that is no trace of a kill.
pub fn parse(text: &[u8]) -> Result<(Vec<TrialRecord>, usize), Damaged> {
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let lines: Vec<&[u8]> =
        text.get(..whole).unwrap_or_default().split_inclusive(|byte| *byte == b'\n').collect();
    let mut records = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        match serde_json::from_slice(line) {
            Ok(record) => records.push(record),
            Err(error) => return Err(Damaged { line: index + 1, why: error.to_string() }),
        }
    }
    Ok((records, whole))
}

/// Numbers of 64 bits as text: readers of JSON that count in floating point would round them.
pub(crate) mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
    pub(crate) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{number:#x}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.strip_prefix("0x").ok_or_else(|| D::Error::custom("a seed begins with 0x"))?;
        u64::from_str_radix(digits, 16).map_err(D::Error::custom)
    }
}
