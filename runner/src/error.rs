//! Errors as the user sees them: what went wrong, and one line of help.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use brim_agent::Failure;
use brim_device::control::Refusal;
use brim_scenario::ScenarioError;
use miette::Diagnostic;

use crate::kernel::KernelError;
use crate::rig::{RigError, Unfit};

/// The exit codes of brim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// As known or expected.
    Expected,
    /// Not as expected.
    Unexpected,
    /// Bad usage or a bad scenario.
    Usage,
    /// The rig failed.
    Rig,
    /// The state was not reached, or a step did not end.
    Inconclusive,
    /// SIGINT or SIGTERM.
    Interrupted,
    /// `git bisect run` is to try another commit.
    Skip,
    /// `git bisect run` is to stop: no commit would do better.
    Stop,
    /// What a program that brim ran exited with.
    Program(u8),
}

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Expected => 0,
            Self::Unexpected => 1,
            Self::Usage => 2,
            Self::Rig => 3,
            Self::Inconclusive => 4,
            Self::Interrupted => 130,
            Self::Skip => 125,
            Self::Stop => 128,
            Self::Program(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why brim ends without a result.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum Error {
    /// A scenario is wrong.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Scenario(Box<ScenarioError>),
    /// A kernel is not there, or is none.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Kernel(Box<KernelError>),
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    #[diagnostic(help("`brim list` shows the scenarios there are"))]
    Read {
        /// The file.
        path: PathBuf,
        source: io::Error,
    },
    /// A journal could not be read.
    #[error("cannot read {}", path.display())]
    #[diagnostic(help("a journal is what `brim run … --json` prints"))]
    Journal {
        /// The file.
        path: PathBuf,
        source: io::Error,
    },
    /// A bundle could not be read or written.
    #[error("cannot {what} {}", path.display())]
    #[diagnostic(help(
        "a bundle is a NAME.brim.tar.gz; bundles of several sets of parameters go into a directory"
    ))]
    Bundle {
        /// What could not be done with it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        source: io::Error,
    },
    /// A word on the command line is wrong.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: String,
        #[help]
        help: String,
    },
    /// SIGINT or SIGTERM came.
    #[error("interrupted: everything of this run is taken away")]
    Interrupted,
    /// SIGINT or SIGTERM came while a campaign was at work.
    #[error("interrupted: what was done is kept, and the same command goes on with it")]
    CampaignInterrupted,
    /// The rig failed.
    #[error("the rig failed")]
    Rig {
        source: RigError,
        #[help]
        help: String,
    },
    /// The state that `exec` was asked for could not be reached.
    #[error("{reason}")]
    #[diagnostic(help("ask for a larger disk, or for a state that this filesystem can reach"))]
    State {
        /// Which number was off.
        reason: String,
    },
    /// A server that serves did not carry an order out.
    #[error("refused: {what}")]
    Refused {
        /// Why.
        what: String,
        #[help]
        help: Option<String>,
    },
    /// There is nobody at a control socket, or nobody any more.
    #[error("{what}")]
    Control {
        /// What failed.
        what: String,
        #[help]
        help: String,
    },
    /// A server could not be set up.
    #[error("cannot serve: {what}")]
    Serve {
        /// What failed.
        what: String,
        #[help]
        help: String,
    },
    /// Our own process could not be set up.
    #[error("cannot {what}")]
    Process {
        /// What failed.
        what: &'static str,
        source: io::Error,
    },
    /// A hidden part of brim failed.
    #[error("{failure}")]
    Part {
        /// What failed.
        failure: Failure,
        /// What the process that started the part is told.
        exit: u8,
    },
}

impl Error {
    /// The exit code for this error.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Scenario(_)
            | Self::Read { .. }
            | Self::Journal { .. }
            | Self::Bundle { .. }
            | Self::Usage { .. } => Exit::Usage,
            Self::Kernel(error) if error.is_usage() => Exit::Usage,
            Self::Interrupted | Self::CampaignInterrupted => Exit::Interrupted,
            Self::State { .. } => Exit::Inconclusive,
            Self::Part { exit, .. } => Exit::Program(*exit),
            Self::Refused { .. } => Exit::Unexpected,
            Self::Kernel(_)
            | Self::Rig { .. }
            | Self::Serve { .. }
            | Self::Control { .. }
            | Self::Process { .. } => Exit::Rig,
        }
    }
}

impl From<RigError> for Error {
    fn from(source: RigError) -> Self {
        let source = match source {
            RigError::Interrupted => return Self::Interrupted,
            RigError::Kernel(error) => return Self::Kernel(error),
            other => other,
        };
        let help = match &source {
            RigError::Agent(failure) if failure.refused => {
                let help = failure.help.clone().unwrap_or_default();
                return Self::Usage { what: failure.to_string(), help };
            }
            RigError::Agent(Failure { help: Some(help), .. }) => help.clone(),
            RigError::Machine(error) => error.help().to_owned(),
            _ => "`brim doctor` says what this machine can do and what mends the rest".to_owned(),
        };
        Self::Rig { source, help }
    }
}

impl From<Unfit> for Error {
    fn from(unfit: Unfit) -> Self {
        let help = match unfit {
            Unfit::Program { .. } => "the rigs host/fuse and host/nbd run programs, on the running kernel",
            _ => "name a kernel of `brim kernel list`, and leave --rig out: brim takes the one that suits it",
        };
        Self::Usage { what: unfit.to_string(), help: help.to_owned() }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { what: refusal.error, help: refusal.hint }
    }
}

impl From<KernelError> for Error {
    fn from(error: KernelError) -> Self {
        Self::Kernel(Box::new(error))
    }
}

impl From<ScenarioError> for Error {
    fn from(error: ScenarioError) -> Self {
        Self::Scenario(Box::new(error))
    }
}
