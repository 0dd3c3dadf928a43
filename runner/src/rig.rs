//! Rigs: what sets up a disk, a kernel and a mount, and always takes them down.

pub(crate) mod fit;
pub(crate) mod guest;
pub(crate) mod local;
pub(crate) mod qemu;
mod sampler;
pub(crate) mod workbench;

use std::io;
use std::os::fd::AsFd;
use std::str::FromStr;
use std::time::Duration;

use brim_agent::Failure;
use brim_device::Store;
use brim_trial::Event;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::interrupt::Interrupt;
use crate::kernel::{Kernel, KernelError, Kind};
use crate::rig::guest::{Guest, InitramfsError};
use crate::rig::local::Link;
use crate::rig::qemu::MachineError;
use crate::rig::workbench::{Image, Preparation, State, Trial, Workbench};
use crate::write_log::RunLog;

/// What plans run on.
pub(crate) trait Rig {
    /// What it is called.
    fn name(&self) -> RigName;

    /// The kernel's release, as uname(2) has it.
    fn kernel(&self) -> &str;

    /// Brings disks to the state that trials begin in, or as near as it gets.
    fn prepare(&mut self, preparation: &Preparation) -> Result<State, RigError>;

    /// Runs one trial on a fork of the disk prepared last, and tells what was seen.
    fn trial(&mut self, trial: &Trial, emit: &mut dyn FnMut(Event)) -> Result<(), RigError>;

    /// Whether its disk is on this side of the kernel, so that [`Rig::keep_log`] does something.
    fn can_keep_log(&self) -> bool {
        false
    }

    /// Has the disk of each trial logged from here on.
    fn keep_log(&mut self, _log: RunLog) {}

    /// Takes the log, as far as it is by now.
    fn take_log(&mut self) -> Option<RunLog> {
        None
    }

    /// The content of the disks prepared last: what every trial begins with.
    fn image(&mut self) -> Result<Image, RigError>;

    /// Takes `image` for the disks that trials begin in, as if they had been prepared here.
    fn adopt(&mut self, preparation: &Preparation, image: &Image) -> Result<State, RigError>;

    /// The content that the last trial left on its disks, where that can be had. It is given once.
    fn take_left(&mut self) -> Option<Vec<Store>> {
        None
    }

    /// How many trials it can run at once.
    fn at_once(&self) -> usize {
        1
    }

    /// Runs each of these as [`Rig::trial`] does, side by side where it can, and tells what was seen of each.
    fn side_by_side(&mut self, trials: &[Trial]) -> Result<Vec<Vec<Event>>, RigError> {
        let mut all = Vec::new();
        for trial in trials {
            let mut events = Vec::new();
            self.trial(trial, &mut |event| events.push(event))?;
            all.push(events);
        }
        Ok(all)
    }
}

/// Why a rig failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RigError {
    /// The agent's process could not be started.
    #[error("cannot start the agent")]
    AgentStart { source: io::Error },
    /// The agent ended by itself, or was killed by somebody else.
    #[error("the agent ended before its work was done")]
    AgentDied,
    /// The channel to the agent failed.
    #[error("the channel to the agent failed")]
    Channel { source: io::Error },
    /// The agent could not do what it was told.
    #[error("{0}")]
    Agent(Failure),
    /// The NBD server could not do what it was told.
    #[error("the NBD server failed: {0}")]
    Server(String),
    /// The FUSE session failed.
    #[error("the FUSE session failed")]
    Fuse { source: io::Error },
    /// Something else has the loop device open.
    #[error("the disk is in use by another process, and does not go away")]
    Busy,
    /// A system call did not end even without its disk.
    #[error("a system call did not end, not even without its disk")]
    Stuck,
    /// The kernel that was asked for is not there, or lacks something.
    #[error(transparent)]
    Kernel(Box<KernelError>),
    /// There is nothing for a guest to boot into.
    #[error("cannot put the guest's initramfs together")]
    Initramfs(#[from] InitramfsError),
    /// A guest could not be started.
    #[error("cannot start the kernel {kernel}")]
    GuestStart {
        /// Its name.
        kernel: String,
        source: io::Error,
    },
    /// QEMU did not do what it should.
    #[error("the machine for the guest failed")]
    Machine(#[from] MachineError),
    /// A guest ended where it should have worked.
    #[error("the guest is gone: {how}{}", quoted(last_words))]
    GuestDied {
        /// How.
        how: String,
        /// What its kernel printed last.
        last_words: Vec<String>,
    },
    /// Something failed in a guest.
    #[error("in the guest: {0}")]
    Guest(String),
    /// The content of a disk did not come through to a guest, or out of it.
    #[error("the content of the disk did not come through the line to the guest")]
    Image,
    /// A step of the preparation took too long.
    #[error("{what} in the preparation did not end within its limit")]
    Preparation {
        /// Which.
        what: String,
    },
    /// A trial was asked for before its disk was prepared.
    #[error("no disk is prepared")]
    Unprepared,
    /// The write log of the run could not be written.
    #[error("the write log could not be written")]
    WriteLog { source: io::Error },
    /// SIGINT or SIGTERM came.
    #[error("interrupted")]
    Interrupted,
}

impl RigError {
    pub(crate) fn server(error: &dyn std::fmt::Display) -> Self {
        Self::Server(error.to_string())
    }
}

impl From<KernelError> for RigError {
    fn from(error: KernelError) -> Self {
        Self::Kernel(Box::new(error))
    }
}

fn quoted(lines: &[String]) -> String {
    lines.iter().flat_map(|line| ["\n| ", line]).collect()
}

/// The rigs, as `--rig` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RigName {
    /// What suits the kernel.
    Auto,
    /// FUSE and loop on the running kernel.
    HostFuse,
    /// nbd.ko of the running kernel.
    HostNbd,
    /// User Mode Linux.
    Uml,
    /// A machine under QEMU, with nbd.ko and the server inside.
    QemuNbd,
}

impl RigName {
    const ALL: [(&str, Self); 5] = [
        ("auto", Self::Auto),
        ("host/fuse", Self::HostFuse),
        ("host/nbd", Self::HostNbd),
        ("uml", Self::Uml),
        ("qemu/nbd", Self::QemuNbd),
    ];

    /// The name as `--rig` takes it.
    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, rig)| *rig == self).map_or("auto", |(name, _)| name)
    }

    /// The rig for a kernel, or for the running one.
    pub(crate) fn stand(self, kernel: Option<&Kernel>, interrupt: &Interrupt) -> Result<Box<dyn Rig>, Unfit> {
        let interrupt = interrupt.clone();
        Ok(match (self, kernel) {
            (Self::Auto | Self::HostFuse, None) => Box::new(Workbench::new(interrupt, Link::Fuse)),
            (Self::HostNbd, None) => Box::new(Workbench::new(interrupt, Link::Nbd)),
            (Self::Auto, Some(kernel)) => Box::new(Guest::new(kernel.clone(), interrupt)),
            (Self::Uml, Some(kernel)) if kernel.kind == Kind::Uml => {
                Box::new(Guest::new(kernel.clone(), interrupt))
            }
            (Self::QemuNbd, Some(kernel)) if kernel.kind == Kind::Pc => {
                Box::new(Guest::new(kernel.clone(), interrupt))
            }
            (Self::Uml | Self::QemuNbd, None) => return Err(Unfit::NoKernel { rig: self.name() }),
            (_, Some(kernel)) => return Err(Unfit::Kernel { rig: self.name(), kernel: kernel.name.clone() }),
        })
    }
}

impl RigName {
    /// How the disk reaches the running kernel, for a program that runs on it.
    pub(crate) fn link(self) -> Result<Link, Unfit> {
        match self {
            Self::Auto | Self::HostFuse => Ok(Link::Fuse),
            Self::HostNbd => Ok(Link::Nbd),
            Self::Uml | Self::QemuNbd => Err(Unfit::Program { rig: self.name() }),
        }
    }
}

/// Why a rig is not for a kernel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// It needs one.
    #[error("the rig {rig} boots a kernel, and none is named")]
    NoKernel {
        /// The rig.
        rig: &'static str,
    },
    /// It has no place for a program of this machine.
    #[error("the rig {rig} runs scenarios, and no program")]
    Program {
        /// The rig.
        rig: &'static str,
    },
    /// It is for others.
    #[error("the rig {rig} does not boot the kernel {kernel}")]
    Kernel {
        /// The rig.
        rig: &'static str,
        /// The kernel.
        kernel: String,
    },
}

impl FromStr for RigName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, rig)| *rig);
        found.ok_or_else(|| match text {
            "qemu/virtio" => format!("the rig {text} is planned but not in this release; use qemu/nbd"),
            _ => "the rigs are auto, host/fuse, host/nbd, uml, qemu/nbd, and later qemu/virtio".to_owned(),
        })
    }
}

/// Waits until `fd` has something to read; says whether it has within `limit`.
fn readable(fd: impl AsFd, limit: Duration) -> io::Result<bool> {
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    match rustix::event::poll(&mut fds, Some(&limit)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
