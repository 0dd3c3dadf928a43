//! Which trial next, and when to stop: what a campaign file asks for, its cells, their seeds, the rules that end a cell, the
//! search for a threshold, and what all trials came to.
//!
//! Pure: it opens no file, reads no clock, and starts nothing. What a cell's next trial is depends on the campaign and on what
//! that cell's earlier trials came to, and on nothing else; so a campaign that was killed, or split over machines, has the
//! result of one that was not.

pub mod cell;
pub mod head;
pub mod record;
pub mod result;

pub use cell::{Cell, CellId};
pub use head::Head;
pub use record::TrialRecord;
pub use result::CampaignResult;

/// The schema of the files in a campaign's directory.
pub const SCHEMA: u32 = 1;
