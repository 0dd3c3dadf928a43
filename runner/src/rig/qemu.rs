//! Virtual machines under QEMU, for the rigs `qemu/nbd` and `qemu/virtio`: a guest that is a value, boots a kernel as its
//! distribution built it, talks over one channel, and can be saved and resumed many times.
//!
//! No file of a machine has a name: sockets are pairs, memory is a memfd, all of it inherited. Whatever ends brim, the
//! kernel then ends QEMU (`launch.rs`), and nothing stays behind.

mod accelerator;
mod arguments;
mod ending;
mod error;
mod launch;
mod machine;
mod qmp;
mod snapshot;
mod tail;
#[cfg(test)]
mod tests;

pub(crate) use accelerator::Accelerator;
pub(crate) use ending::Ending;
pub(crate) use error::MachineError;
pub(crate) use machine::{Boot, Machine};
pub(crate) use snapshot::Snapshot;
