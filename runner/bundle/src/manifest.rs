//! What a bundle says of itself.

use brim_trial::event::VerdictEvent;
use serde::{Deserialize, Serialize};

/// The schema of the bundles that this brim writes and reads.
pub const SCHEMA: u32 = 1;

/// What ran, with what, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The schema of the bundle.
    pub schema: u32,
    /// The brim that wrote it: `0.1.0 (0123abc)`.
    pub brim: String,
    /// What the programs that it used say of themselves.
    pub tools: Vec<Tool>,
    /// What the kernel is called that it ran on: `running`, `uml/6.12`.
    pub kernel: String,
    /// The trial that stands for the verdict; the first where none ran.
    pub trial: u32,
    /// What came of the run.
    pub verdict: VerdictEvent,
    /// What could not be put into the bundle, and why.
    pub left_out: Vec<String>,
}

/// A program that brim used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// What it is called.
    pub name: String,
    /// The first line of what it says when asked for its version.
    pub version: String,
}
