//! Faults as rows of one table. The table decides about each request; it never waits and reads no clock.
//!
//! A row says which requests it is about ([`When`]) and what it does with them ([`Then`]). What only takes time (delays,
//! limits, seeks) adds up; of all else the first row that fires settles the request.

mod latency;
mod limit;
mod row;
mod seek;
mod table;

pub use latency::{Bucket, Delay, Latency};
pub use limit::{Limit, Unit};
pub use row::{ErrorName, Flip, Op, Ops, Request, Row, RowError, Sizes, Then, When};
pub use seek::Seek;
pub use table::{Decision, Entry, FaultTable, Lateness, Moment, Outcome, RowId};
