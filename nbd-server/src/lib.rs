//! brim's disks on sockets: an NBD server, and the client that speaks to it.
//!
//! A [`Disk`] is a shared handle to a store with its faults and statistics; a [`Server`] exports disks by name over
//! UNIX sockets, TCP and socket pairs; a [`client::Client`] keeps many requests in flight. Each connection has one
//! thread that reads all that has arrived, runs it, and answers in one go. A held request is an entry in a list, not a
//! thread, and is answered out of order when its gate opens. [`Tls`] may lie between a socket and its connection.
//! [`control`] changes the disks of a running server.

pub mod client;
mod connection;
pub mod control;
mod disk;
mod export;
mod listener;
mod log_file;
mod outbox;
mod output;
mod payload;
mod server;
mod socket;
mod tls;
mod transport;

pub use brim_device::control::{Count, Fault, Held, LatenessSummary, Pool, Release, Stats, WhenFull, Which};
pub use disk::{Disk, DiskOptions};
pub use export::{ExportError, ExportOptions};
pub use listener::{ListenError, Listener};
pub use log_file::LogFile;
pub use nbd_wire::{BlockSizes, BlockSizesError, ExportInfo, TransmissionFlags};
pub use server::Server;
pub use socket::Socket;
pub use tls::{Tls, TlsError, TlsOptions};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after another thread panicked with the lock: every value under a lock here is whole between two
/// statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
