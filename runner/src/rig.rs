//! Rigs: what sets up a disk, a kernel and a mount, and always takes them down.

pub(crate) mod host;
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        unused_imports,
        reason = "for the rigs qemu/nbd and qemu/virtio, which are not there yet"
    )
)]
pub(crate) mod qemu;

use std::io;
use std::os::fd::AsFd;
use std::str::FromStr;
use std::time::Duration;

use brim_agent::Failure;
use rustix::event::{PollFd, PollFlags, Timespec};

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
    /// SIGINT or SIGTERM came.
    #[error("interrupted")]
    Interrupted,
}

impl RigError {
    fn server(error: &dyn std::fmt::Display) -> Self {
        Self::Server(error.to_string())
    }
}

/// The rigs of this release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RigName {
    /// FUSE and loop on the running kernel.
    HostFuse,
}

impl RigName {
    /// The name as `--rig` takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::HostFuse => "host/fuse",
        }
    }
}

impl FromStr for RigName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" | "host/fuse" => Ok(Self::HostFuse),
            "host/nbd" | "uml" | "qemu/nbd" | "qemu/virtio" => Err(format!(
                "the rig {text} is planned but not in this release; use host/fuse (auto takes it)"
            )),
            _ => {
                Err("the rigs are auto, host/fuse, and later host/nbd, uml, qemu/nbd, qemu/virtio".to_owned())
            }
        }
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
