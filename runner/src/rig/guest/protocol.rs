//! The words between brim on the host and process 1 of a guest: JSON lines over a serial line, one order at a time.

use brim_agent::Failure;
use brim_trial::{Counters, Event};
use serde::{Deserialize, Serialize};

use crate::rig::RigError;
use crate::rig::workbench::{Preparation, Trial};

/// What a guest is told to do. Each is answered by one [`Word::Reply`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Take this for a start of the kernel's random numbers. It comes first; the reply is [`Reply::Kernel`].
    Begin {
        /// From the host's.
        entropy: [u8; 32],
    },
    /// Make a filesystem as this preparation wants it, and keep it.
    Make(Preparation),
    /// Prepare a disk; the reply is [`Reply::Counters`].
    Prepare(Preparation),
    /// Mount a fork of it for the next trial.
    Stage,
    /// Run a trial on what is mounted.
    Trial(Box<Trial>),
}

/// What a guest says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// It lives. Said once it is up, and every second while it has an order, so that a guest that hangs is told from one that is
    /// at work. Between two orders it says nothing: it may be saved then.
    Alive,
    /// Something was seen.
    Event(Box<Event>),
    /// An order ended.
    Reply(Result<Reply, Refusal>),
}

/// How an order ended well.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// Nothing more to say.
    Done,
    /// The kernel's release.
    Kernel {
        /// As uname(2) has it.
        release: String,
    },
    /// What the filesystem of the prepared disk counts.
    Counters(Counters),
}

/// A [`RigError`] on its way out of a guest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Refusal {
    /// The agent's.
    Agent(Failure),
    /// Any other, in words.
    Other(String),
}

impl From<RigError> for Refusal {
    fn from(error: RigError) -> Self {
        match error {
            RigError::Agent(failure) => Self::Agent(failure),
            other => {
                let causes = std::iter::successors(std::error::Error::source(&other), |cause| cause.source());
                let words: Vec<String> =
                    std::iter::once(other.to_string()).chain(causes.map(ToString::to_string)).collect();
                Self::Other(words.join(": "))
            }
        }
    }
}

impl From<Refusal> for RigError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Agent(failure) => Self::Agent(failure),
            Refusal::Other(why) => Self::Guest(why),
        }
    }
}
