//! The scenario language: the text of a TOML file, checked, to the [`Plan`](brim_trial::Plan)s of its trials.
//!
//! Pure: it opens no file, reads no clock and no environment. A mistake in a scenario is one [`ScenarioError`] that
//! underlines the place and says what would be right there.

mod check;
mod condition;
mod control;
mod device;
mod error;
mod fault;
mod formula;
mod known;
mod language;
mod params;
mod plan;
mod prepare;
mod print;
mod profile;
mod quantity;
mod read;
mod scenario;
mod schema;
mod shrink;
mod size;
mod step;
mod suggest;
mod sweep;
mod syntax;
mod token;
mod written;

pub use error::ScenarioError;
pub use language::Document;
pub use print::{Unprintable, print};
pub use profile::{Files, Profile, faults};
pub use scenario::{Scenario, Settings};
pub use schema::{Scalar, Shape, Table, Values};
pub use shrink::{Shrunk, shrink};
pub use size::{duration, size};

/// The scenario language that this crate reads: the value of the key `schema`.
pub const SCHEMA: i64 = 1;
