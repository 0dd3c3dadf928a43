//! The agent as a process of its own on this host, and the channel to it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use brim_agent::protocol::{self, Lines, Message};
use rustix::process::{Pid, PidfdFlags};

use crate::rig::{RigError, readable};

/// A running agent.
#[derive(Debug)]
pub(super) struct Agent {
    child: Child,
    lines: Lines,
    fds: UnixStream,
}

impl Agent {
    /// Starts an agent. To be called on a thread that lives as long as the agent is wanted: the kernel kills the agent
    /// when that thread ends.
    pub(super) fn start() -> io::Result<Self> {
        let (channel, theirs) = UnixStream::pair()?;
        let (fds, their_fds) = UnixStream::pair()?;
        let child = Command::new("/proc/self/exe")
            .arg0("brim")
            .args(["__agent", &std::process::id().to_string()])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(OwnedFd::from(their_fds)))
            .spawn()?;
        Ok(Self { child, lines: Lines::new(channel), fds })
    }

    /// Sends one message.
    pub(super) fn send(&self, command: &protocol::Command) -> Result<(), RigError> {
        protocol::send(self.lines.stream(), command).map_err(|source| RigError::Channel { source })
    }

    /// The next message, where one comes within `limit`.
    pub(super) fn receive(&mut self, limit: Duration) -> Result<Option<Message>, RigError> {
        let channel = |source| RigError::Channel { source };
        if !self.lines.wait(limit).map_err(channel)? {
            return Ok(None);
        }
        match self.lines.receive().map_err(channel)? {
            Some(message) => Ok(Some(message)),
            None => Err(RigError::AgentDied),
        }
    }

    /// Hands file descriptors over.
    pub(super) fn send_fds(&self, fds: &[std::os::fd::BorrowedFd<'_>]) -> Result<(), RigError> {
        protocol::send_fds(&self.fds, fds).map_err(|source| RigError::Channel { source })
    }

    /// Takes the file descriptor that the agent has just announced.
    pub(super) fn receive_fd(&self) -> Result<OwnedFd, RigError> {
        let fds = protocol::receive_fds(&self.fds).map_err(|source| RigError::Channel { source })?;
        fds.into_iter().next().ok_or(RigError::AgentDied)
    }

    /// Kills the agent, with its namespace and all that is in it.
    pub(super) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
    }

    /// Waits until the agent has ended; says whether it has.
    pub(super) fn wait(&mut self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pidfd = pid.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
        loop {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            match &pidfd {
                Some(pidfd) => drop(readable(pidfd, left)),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}
