//! How the agent says that it could not do what it was told.

use std::fmt;

use brim_trial::Errno;
use serde::{Deserialize, Serialize};

/// Something of ours that failed: never what the kernel under test did, which is an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Failure {
    /// What was tried: `mount btrfs on /dev/loop0`.
    pub what: String,
    /// Why it failed.
    pub why: String,
    /// The error number, where the kernel gave one.
    pub errno: Option<Errno>,
    /// What the user can do about it, where we know.
    pub help: Option<String>,
    /// Whether it is what the user asked for that was refused, and not something of ours that failed.
    pub refused: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl Failure {
    /// A failure with its reason in words.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into(), errno: None, help: None, refused: false }
    }

    /// The same failure, as one of what the user asked for.
    #[must_use]
    pub fn refused(mut self) -> Self {
        self.refused = true;
        self
    }

    /// The same failure with advice.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Says what was tried where a system call failed.
pub(crate) trait Trying<T> {
    fn trying(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> Trying<T> for Result<T, rustix::io::Errno> {
    fn trying(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|errno| Failure {
            what: what(),
            why: std::io::Error::from(errno).to_string(),
            errno: Some(Errno(errno.raw_os_error())),
            help: None,
            refused: false,
        })
    }
}

impl<T> Trying<T> for std::io::Result<T> {
    fn trying(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            what: what(),
            why: error.to_string(),
            errno: error.raw_os_error().map(Errno),
            help: None,
            refused: false,
        })
    }
}
