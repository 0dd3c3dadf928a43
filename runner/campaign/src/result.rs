//! What a campaign came to: a function of its head and of its trials. It has no times, so that the same trials give the same
//! file, byte for byte, however many machines they ran on and however often they were interrupted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cell::{Cell, CellId};
use crate::head::Limits;
use crate::record::hexadecimal;

/// `result.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CampaignResult {
    /// The schema of the file: 1.
    pub schema: u32,
    /// The campaign's name.
    pub name: String,
    /// What every trial's seed is drawn from.
    #[serde(with = "hexadecimal")]
    pub seed: u64,
    /// As in the head.
    pub hash: String,
    /// Why there are no more trials.
    pub ended: Ended,
    /// What ended it, or might have.
    pub limits: Limits,
    /// The release of each kernel, by the name that the campaign has for it.
    pub kernels: BTreeMap<String, String>,
    /// Trials that count.
    pub trials: u64,
    /// Of these, trials that reproduced.
    pub reproduced: u64,
    /// Of these, trials that were inconclusive.
    pub inconclusive: u64,
    /// Cells that the rig could not run.
    pub failed_cells: u64,
    /// What each cell came to that was tried, in canonical order.
    pub cells: Vec<CellResult>,
    /// What each search came to, in canonical order.
    pub thresholds: Vec<ThresholdResult>,
    /// Trials that failed alike, the most frequent first.
    pub groups: Vec<Group>,
}

/// Why a campaign has no more trials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// All cells are done.
    Done,
    /// A trial reproduced, and that was what was looked for.
    FirstHit,
    /// As many trials as were allowed.
    Trials,
    /// As much time as was allowed: what was done in it depends on the machine, and another run may come to something else.
    Time,
    /// It was interrupted, or is still running: `brim campaign run` again goes on.
    Unfinished,
}

/// What a cell came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellResult {
    /// The cell.
    #[serde(flatten)]
    pub cell: Cell,
    /// Trials that count.
    pub trials: u32,
    /// Of these, trials that reproduced.
    pub reproduced: u32,
    /// Of these, trials that were inconclusive. They say nothing of the rate.
    pub inconclusive: u32,
    /// The rate at which it reproduces.
    pub rate: Option<Rate>,
    /// Why there are no more.
    pub ended: CellEnded,
    /// Whether every trial came to what was known of it on this kernel; none where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_known: Option<bool>,
    /// How it failed, by signature: how many trials.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub signatures: BTreeMap<String, u32>,
    /// Why the first inconclusive trial is, or why the rig could not run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A rate with its interval, each from 0 to 1, to six digits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Reproduced of those that were not inconclusive.
    pub rate: f64,
    /// The Wilson interval's lower end.
    pub low: f64,
    /// The Wilson interval's upper end.
    pub high: f64,
    /// At this confidence.
    pub confidence: f64,
}

/// Why a cell has no more trials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CellEnded {
    /// As many as were asked for.
    Trials,
    /// One reproduced.
    FirstHit,
    /// The interval is narrow enough.
    Width,
    /// The rate is above the one that was asked about.
    Above,
    /// The rate is below the one that was asked about.
    Below,
    /// Its one trial agrees with its neighbours in a search.
    Agrees,
    /// The state was not reached.
    Unreached,
    /// The rig could not run it.
    Failed,
    /// The campaign ended before.
    Open,
}

/// What a search came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThresholdResult {
    /// Which row.
    pub row: usize,
    /// The parameter that was searched.
    pub param: String,
    /// The rate that is crossed.
    pub rate: f64,
    /// What was found.
    #[serde(flatten)]
    pub found: Found,
    /// The values in order and what each came to; those that were not tried are not here.
    pub tried: Vec<Tried>,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "kebab-case")]
pub enum Found {
    /// The rate crosses between two neighbours.
    Threshold {
        /// The last value of one side.
        before: String,
        /// The first of the other.
        after: String,
        /// The rate is above from there on, or else below.
        above_after: bool,
        /// That it is there, if the rate crosses once.
        confidence: f64,
        /// How many values between the two could not be decided: the rate is near the one that is asked about there.
        undecided: usize,
        /// How many values beside those of the search agree.
        verified: usize,
    },
    /// Both ends are on the same side, and so is all that was tried.
    NoThreshold {
        /// The rate is above everywhere, or else below.
        above: bool,
        /// How many values beside the ends agree.
        verified: usize,
    },
    /// The rate crosses more than once: no threshold says what this is.
    NotMonotone {
        /// The runs of neighbours, among those tried, that are on one side, in order.
        runs: Vec<Run>,
    },
    /// A value that the search needs could not be decided.
    Undecided {
        /// Which.
        at: String,
        /// Why.
        why: String,
    },
    /// The campaign ended before.
    Open,
}

/// Values beside each other that are on one side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The first.
    pub first: String,
    /// The last.
    pub last: String,
    /// The rate is above there, or else below.
    pub above: bool,
}

/// A value of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// The value.
    pub value: String,
    /// Its cell.
    pub cell: CellId,
    /// The rate is above there, or else below; none where that was not decided.
    pub above: Option<bool>,
}

/// Trials that failed alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// What they have in common.
    pub signature: String,
    /// Whether they reproduced; the others were inconclusive.
    pub reproduced: bool,
    /// How many trials.
    pub trials: u64,
    /// In how many cells.
    pub cells: u64,
    /// The first of them in canonical order.
    pub first: First,
}

/// A trial that stands for its group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct First {
    /// The cell.
    pub cell: CellId,
    /// Which trial of the cell.
    pub number: u32,
    /// The line that runs it again.
    pub command: String,
}
