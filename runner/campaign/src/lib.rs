//! Which trial next, and when to stop: what a campaign file asks for, its cells, their seeds, the rules that end a cell, the
//! search for a threshold, and what all trials came to.
//!
//! Pure: it opens no file, reads no clock, and starts nothing. What a cell's next trial is depends on the campaign and on what
//! that cell's earlier trials came to, and on nothing else; so a campaign that was killed, or split over machines, has the
//! result of one that was not.

pub mod cell;
pub mod file;
pub mod head;
pub mod ledger;
pub mod pairwise;
pub mod record;
pub mod result;
pub mod row;
mod sample;
mod search;
pub mod signature;
pub mod statistics;
pub mod tried;

pub use cell::{Cell, CellId};
pub use file::{Campaign, Missing, World};
pub use head::Head;
pub use ledger::Ledger;
pub use record::TrialRecord;
pub use result::CampaignResult;

/// The schema of the files in a campaign's directory.
pub const SCHEMA: u32 = 1;
