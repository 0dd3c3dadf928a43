//! What a campaign's directory says of the campaign: everything that follows from its file and the scenarios alone.

use serde::{Deserialize, Serialize};

use crate::cell::Cell;
use crate::record::hexadecimal;

/// `campaign.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// The schema of the files in the directory: 1.
    pub schema: u32,
    /// The campaign's name.
    pub name: String,
    /// What it is for, in one sentence.
    pub about: String,
    /// What every trial's seed is drawn from, with its cell and its number.
    #[serde(with = "hexadecimal")]
    pub seed: u64,
    /// SHA-256 of the campaign file and of the plan of every cell.
    pub hash: String,
    /// The part of the campaign that is run in this directory; all of it if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// What ends the campaign before all cells are done.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// How many whole journals are kept for each signature.
    pub keep: u32,
    /// The `[[sweep]]`s.
    pub sweeps: Vec<Sweep>,
    /// Every cell, those of other shards too, in canonical order.
    pub cells: Vec<Cell>,
}

/// One part of several: rows are dealt out in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Which part, from 1.
    pub index: usize,
    /// Of how many.
    pub count: usize,
}

/// What ends a campaign before all of its cells are done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// So many trials, counted in canonical order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trials: Option<u64>,
    /// So many seconds. What is done by then depends on the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// The first trial that reproduces, in canonical order.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first_hit: bool,
}

impl Limits {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A `[[sweep]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// Its name.
    pub name: String,
    /// What it varies, the last fastest. What has one value alone is not here.
    pub axes: Vec<Axis>,
    /// What ends a cell.
    pub stop: Stop,
    /// The search for a threshold, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Search>,
}

/// Something that a sweep varies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axis {
    /// `param.NAME`, `scenario`, `filesystem`, `mkfs`, `mount`, `kernel`, `profile`, `without_fault` or `seed`.
    pub name: String,
    /// Its values in order, as a report shows them.
    pub values: Vec<String>,
}

/// What ends a cell: so many trials, or one of the others before that.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    /// At most so many trials.
    pub trials: u32,
    /// As soon as one reproduces.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first_hit: bool,
    /// As soon as the Wilson interval of the rate is narrower than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<f64>,
    /// As soon as it is certain at the level of `confidence` on which side of this the rate is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side_of: Option<f64>,
    /// Of all intervals.
    pub confidence: f64,
}

/// The search for the value of a parameter at which the rate crosses `rate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// The parameter.
    pub param: String,
    /// The rate.
    pub rate: f64,
    /// Of the whole search: that it ends where the rate crosses, if the rate does so once.
    pub confidence: f64,
    /// How many values beside those of the search are tried, to see whether the rate crosses once.
    pub verify: usize,
}
