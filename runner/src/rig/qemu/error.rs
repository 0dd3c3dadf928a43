//! Why a machine is not there, or not where it was to go.

use std::io;
use std::path::PathBuf;

use super::qmp::QmpError;

/// Why something could not be done with a machine. That a guest ended is no error but an [`Ending`](super::Ending).
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    /// The program could not be started.
    #[error("cannot start {program}")]
    Start { program: &'static str, source: io::Error },
    /// QEMU ended before it did what it was told.
    #[error("QEMU ended by itself: {words}")]
    Refused { words: String },
    /// The kernel's file could not be read.
    #[error("cannot read the kernel {}", path.display())]
    Kernel { path: PathBuf, source: io::Error },
    /// The kernel's file is something else.
    #[error("{} is neither a bzImage nor an ELF vmlinux", path.display())]
    NotAKernel { path: PathBuf },
    /// The guest's memory, a socket or a thread could not be had.
    #[error("cannot set up {what}")]
    SetUp { what: &'static str, source: io::Error },
    /// QEMU did not do what it was told.
    #[error("QEMU does not do what it is told")]
    Qmp(#[from] QmpError),
    /// The state was not written, or not taken.
    #[error("the state of the machine could not be {what}: {why}")]
    State { what: &'static str, why: String },
}

impl MachineError {
    /// What the user can do about it.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "apt-get install qemu-system-x86, or what your distribution calls it"
            }
            Self::Kernel { .. } | Self::NotAKernel { .. } => {
                "a kernel for QEMU is a bzImage, as in /boot/vmlinuz-*, or an ELF vmlinux with CONFIG_PVH=y, of x86-64"
            }
            Self::State { .. } => "a state fits only the version of QEMU that wrote it",
            _ => {
                "QEMU 7.2 and newer are known to work; `qemu-system-x86_64 --version` says which one is here"
            }
        }
    }
}
