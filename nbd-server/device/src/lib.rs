//! The disk as a value: what it holds ([`Store`]), what of that a power cut leaves ([`Images`]), what goes wrong with
//! it ([`fault::FaultTable`]), and what was done to it ([`log::WriteLog`]). What a disk that serves can be told is [`control`].
//!
//! Pure: no sockets, files, threads or clocks; the pages of the store are cut from memory that it maps itself, with the one
//! piece of `unsafe` code outside the agent (`store/page.rs`). A shell that has them asks here what to do, and waits itself.

pub mod control;
pub mod fault;
mod images;
pub mod log;
mod random;
mod store;
mod units;

pub use images::{Cut, Images, Survival};
pub use store::{AccessError, Page, Piece, SizeError, Store};
pub use units::{BLOCK, ByteRange, Bytes, Nanos, Ratio, SECTOR};
