//! What a guest's kernel runs on: a process of its own, or a machine under QEMU.

use std::os::unix::net::UnixStream;

use brim_agent::guest::CHANNEL_KEY;

use super::Needs;
use super::initramfs::Initramfs;
use super::uml::Uml;
use crate::kernel::{Kernel, Kind};
use crate::rig::RigError;
use crate::rig::qemu::{self, Boot, Snapshot};

/// What process 1 finds its tools by: a word that the kernel does not know is of its environment.
pub(super) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The port of virtio-serial that the machine has for us.
const PORT: &str = "brim.agent";
/// The modules without which a guest of QEMU's does not hear us.
pub(super) const CHANNEL_MODULES: [&str; 2] = ["virtio_pci", "virtio_console"];

/// A guest's kernel that runs, or has ended. It goes away with this value, and with this process.
#[derive(Debug)]
pub(super) enum Machine {
    Uml(Uml),
    Qemu(Box<qemu::Machine>),
}

impl Machine {
    /// Boots `kernel`, and gives the host's end of the line to its process 1.
    pub(super) fn boot(
        kernel: &Kernel,
        initramfs: &Initramfs,
        needs: Needs,
    ) -> Result<(Self, UnixStream), RigError> {
        if kernel.kind == Kind::Uml {
            let (uml, line) = Uml::start(kernel, initramfs, needs)?;
            return Ok((Self::Uml(uml), line));
        }
        let boot = Boot {
            kernel: kernel.vmlinux()?.unwrap_or_else(|| kernel.image.clone()),
            initramfs: initramfs.path(),
            command_line: format!("{CHANNEL_KEY}={PORT} {PATH}"),
            memory: needs.memory,
        };
        Self::of(qemu::Machine::start(&boot, None)?)
    }

    /// Another machine in the saved state.
    pub(super) fn resume(snapshot: &Snapshot) -> Result<(Self, UnixStream), RigError> {
        Self::of(qemu::Machine::resume(snapshot, None)?)
    }

    fn of(machine: qemu::Machine) -> Result<(Self, UnixStream), RigError> {
        let line = machine.channel().try_clone().map_err(|source| RigError::Channel { source })?;
        Ok((Self::Qemu(Box::new(machine)), line))
    }

    /// The machine's whole state, to start others from; it is over then. User Mode Linux has none.
    pub(super) fn save(self) -> Option<Result<Snapshot, RigError>> {
        match self {
            Self::Uml(_) => None,
            Self::Qemu(machine) => Some(machine.save().map_err(RigError::from)),
        }
    }

    /// What the kernel printed last.
    pub(super) fn console(&self) -> String {
        match self {
            Self::Uml(uml) => uml.console(),
            Self::Qemu(machine) => machine.console(),
        }
    }

    /// Whether the kernel is gone.
    pub(super) fn has_ended(&mut self) -> bool {
        match self {
            Self::Uml(uml) => uml.has_ended(),
            Self::Qemu(machine) => machine.ended().is_some(),
        }
    }
}
