//! Faults as rows of one table. The table decides about each request; it never waits and reads no clock.
//!
//! A row says which requests it is about ([`When`]) and what it does with them ([`Then`]). Delays add up,
//! behind the latest turn that a limit or a seek gives; of all else the first row that fires settles the request.

mod decision;
mod entry;
mod latency;
mod lateness;
mod limit;
mod row;
mod seek;
mod table;
mod words;

pub use decision::{Decision, Moment, Outcome, RowId};
pub use entry::Entry;
pub use latency::{Bucket, Delay, Latency};
pub use lateness::Lateness;
pub use limit::{Limit, Unit};
pub use row::{ErrorName, Flip, Op, Ops, Request, Row, RowError, Sizes, Then, When};
pub use seek::Seek;
pub use table::FaultTable;
