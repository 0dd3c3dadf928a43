//! What runs beside the kernel under test: operations at a mount, the filesystem's own counters, the reservation
//! tickets that failed, the kernel log.
//!
//! The agent is a process of its own. It is told what to do over a channel ([`protocol`]) and holds everything that
//! has to go away with it: its mount namespace, the mounts in it, the block device. It never decides what to do next,
//! and it never judges what it saw.

#![expect(clippy::disallowed_methods, reason = "steps and limits are measured on the real clock")]

mod aside;
mod asks;
mod device;
mod devices;
mod failure;
mod filesystem;
mod fill;
pub mod guest;
mod kernel_log;
mod loop_device;
mod may_use;
pub mod modules;
mod namespace;
mod nbd_device;
mod phase;
mod program;
pub mod protocol;
mod region;
mod rescue;
mod sampler;
mod serve;
mod site;
mod steps;
mod sys;
mod tickets;
mod tracepoint;
mod watch;
mod worker;
mod written;

pub use failure::Failure;
pub use nbd_device::{NbdDevice, NbdSettings};
pub use program::{init, supervise};
pub use rescue::thaw_when_gone;
pub use serve::serve;
pub use sys::{die_with_parent, kernel_release, monotonic, told_with_parent};
pub use tickets::try_tickets;
pub use written::Written;
