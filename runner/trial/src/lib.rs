//! The words everybody shares: what a trial is told to do ([`Plan`]), what was seen ([`Event`]), and what follows from
//! it ([`judge`]). Pure data and pure functions: nothing here waits, reads a clock or calls the kernel.

pub mod counters;
pub mod errno;
pub mod event;
pub mod expression;
pub mod filesystem;
pub mod judge;
pub mod kernel;
pub mod operation;
pub mod plan;
pub mod series;

pub use brim_device::{BLOCK, ByteRange, Bytes, Nanos, Survival};
pub use counters::Counters;
pub use errno::Errno;
pub use event::{Event, JournalLine};
pub use expression::Expression;
pub use filesystem::FilesystemKind;
pub use judge::{TrialVerdict, Verdict};
pub use operation::{Content, Operation};
pub use plan::{Condition, Known, Phase, Plan, Step};

/// The schema number that each journal line and each `--json` line carries.
pub const SCHEMA: u32 = 1;
