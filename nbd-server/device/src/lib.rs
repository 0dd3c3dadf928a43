//! The disk as a value: what it holds ([`Store`]) and what goes wrong with it ([`fault::FaultTable`]).
//!
//! Pure: no sockets, files, threads or clocks. A shell that has them asks here what to do, and waits itself.

pub mod fault;
mod store;
mod units;

pub use store::{AccessError, Page, Piece, SizeError, Store};
pub use units::{BLOCK, Bytes, Nanos, SECTOR};
