//! The words everybody shares: what a trial is told to do ([`Plan`]), what was seen ([`Event`]), and what follows from
//! it ([`judge`]). Pure data and pure functions: nothing here waits, reads a clock or calls the kernel.

pub mod condition;
pub mod control;
pub mod counters;
pub mod errno;
pub mod event;
pub mod expression;
pub mod filesystem;
pub mod judge;
pub mod kernel;
pub mod limits;
pub mod operation;
pub mod pattern;
pub mod plan;
pub mod rate;
pub mod series;
pub mod template;

pub use brim_device::{BLOCK, ByteRange, Bytes, Nanos, Survival};
pub use condition::Condition;
pub use control::{Control, Flip};
pub use counters::Counters;
pub use errno::Errno;
pub use event::{Event, JournalLine};
pub use expression::{Expression, Round};
pub use filesystem::FilesystemKind;
pub use judge::{TrialVerdict, Verdict};
pub use limits::Limits;
pub use operation::{Content, FileOperation, Operation};
pub use pattern::Pattern;
pub use plan::{Known, Phase, Plan, Step};
pub use rate::{Interval, Rate};
pub use template::Template;

/// The schema number that each journal line and each `--json` line carries.
pub const SCHEMA: u32 = 1;
