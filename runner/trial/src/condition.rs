//! What has to hold for a bug to be there, as a scenario says it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::errno::Errno;
use crate::event::{Signal, SpaceKind};
use crate::limits::{Change, Limits};
use crate::pattern::Pattern;

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What it says.
    pub about: About,
    /// It holds where what it says does not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not: bool,
}

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// A step ends in some way.
    Step(StepCondition),
    /// A counter of the filesystem is so much, or changes by so much.
    Counter {
        /// Its name: `data.may_use`.
        name: String,
        /// The reading that counts.
        at: Reading,
        /// What it is there.
        is: Measure,
    },
    /// What the kernel added to `bytes_may_use` of a space during the steps, less what it took from it. It differs from the
    /// counter's own way where that stopped at zero: an underflow.
    MayUse {
        /// Which space.
        space: SpaceKind,
        /// The sum.
        change: Change,
    },
    /// Reservations are refused, whether a step fails or not.
    Tickets {
        /// For which space.
        space: SpaceKind,
        /// With which error; any if `None`.
        errno: Option<Errno>,
        /// How many.
        times: Limits,
    },
    /// The kernel log has new lines like this.
    KernelLog {
        /// Like what.
        pattern: Pattern,
        /// How many.
        times: Limits,
    },
    /// The mount ends like this.
    Mount {
        /// The kernel made it read-only.
        read_only: bool,
    },
    /// Requests of one kind reach the disk.
    Requests {
        /// `read`, `write`, `flush`, `trim` or `zeroes`.
        op: String,
        /// During this phase, from 0; during all steps if `None`.
        phase: Option<usize>,
        /// How many; any if `None`.
        times: Option<Limits>,
        /// Of how many bytes together; any if `None`.
        bytes: Option<Limits>,
    },
    /// A fault acts.
    Fault {
        /// Its name.
        row: String,
        /// How often.
        times: Limits,
    },
    /// The kernel of a guest does not live to the end.
    Crash {
        /// Its last words have a line like this.
        pattern: Pattern,
    },
    /// One of these holds.
    Any(Vec<Condition>),
}

/// How a step ends. Without any of the options, in whatever way it ends so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepCondition {
    /// The step.
    pub step: String,
    /// Whether it fails.
    pub outcome: Outcome,
    /// With this error.
    pub errno: Option<Errno>,
    /// By this signal: `SIGBUS`.
    pub signal: Option<Signal>,
    /// With a reservation of this space refused under it.
    pub space: Option<SpaceKind>,
    /// With this having become of the content it read.
    pub content: Option<Content>,
    /// After it had written so many bytes.
    pub short: Option<Limits>,
    /// With so many extents in what it looked at.
    pub extents: Option<ExtentLimits>,
    /// How often.
    pub times: Limits,
}

/// Whether a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It does: with an error, a signal, or a result that is wrong.
    Fails,
    /// It does not.
    Ok,
}

/// What became of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// It is not what it ought to be.
    Lost,
}

/// How many extents of each kind a file has. What is `None` may be any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtentLimits {
    /// All of them.
    pub count: Option<Limits>,
    /// Those that another file has too.
    pub shared: Option<Limits>,
    /// Those that nothing was written to.
    pub unwritten: Option<Limits>,
}

/// A moment at which the filesystem's counters are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// Before the first step.
    Before,
    /// After the last.
    After,
    /// By the step of this name, the last time that it did.
    Step(String),
}

/// What a counter is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// So many bytes.
    Is(Limits),
    /// What it was, changed.
    Changed {
        /// When it was that.
        since: Reading,
        /// How.
        by: Change,
    },
}

/// What has to be looked at for the conditions of a plan, as it is not looked at anyway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Every change of `bytes_may_use`.
    pub may_use: bool,
    /// The disk's requests, phase by phase.
    pub phases: bool,
}

impl Condition {
    /// This and all that it is made of.
    pub fn all<'a>(&'a self, each: &mut dyn FnMut(&'a Self)) {
        each(self);
        if let About::Any(alternatives) = &self.about {
            for alternative in alternatives {
                alternative.all(each);
            }
        }
    }

    /// The conditions on steps in it.
    #[must_use]
    pub fn steps(&self) -> Vec<&StepCondition> {
        let mut steps = Vec::new();
        self.all(&mut |condition| {
            if let About::Step(step) = &condition.about {
                steps.push(step);
            }
        });
        steps
    }

    /// Takes those out of a choice that are about steps of other names, if any is left then; one alone is no choice.
    pub(crate) fn forget_other_steps(&mut self, names: &BTreeSet<&str>) {
        let About::Any(alternatives) = &mut self.about else { return };
        for alternative in alternatives.iter_mut() {
            alternative.forget_other_steps(names);
        }
        let there = |alternative: &Self| match &alternative.about {
            About::Step(step) => alternative.not || names.contains(step.step.as_str()),
            _ => true,
        };
        if alternatives.iter().any(there) {
            alternatives.retain(there);
        }
        if let [alone] = alternatives.as_slice() {
            *self = Self { about: alone.about.clone(), not: self.not != alone.not };
        }
    }

    /// Forgets which reservation is to fail, for filesystems that do not tell.
    pub fn forget_space(&mut self) {
        match &mut self.about {
            About::Step(step) => step.space = None,
            About::Any(alternatives) => alternatives.iter_mut().for_each(Self::forget_space),
            _ => {}
        }
    }
}

/// What has to be looked at for `conditions`.
#[must_use]
pub fn wanted(conditions: &[Condition]) -> Wanted {
    let mut wanted = Wanted::default();
    for condition in conditions {
        condition.all(&mut |one| match one.about {
            About::MayUse { .. } => wanted.may_use = true,
            About::Requests { phase: Some(_), .. } => wanted.phases = true,
            _ => {}
        });
    }
    wanted
}

impl StepCondition {
    /// Any failure of `step`.
    #[must_use]
    pub fn fails(step: &str) -> Self {
        Self {
            step: step.to_owned(),
            outcome: Outcome::Fails,
            errno: None,
            signal: None,
            space: None,
            content: None,
            short: None,
            extents: None,
            times: Limits::SOME,
        }
    }
}

impl From<StepCondition> for Condition {
    fn from(step: StepCondition) -> Self {
        Self { about: About::Step(step), not: false }
    }
}

impl fmt::Display for Reading {
    /// `before`, `after`, or a step's name in quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before => f.write_str("before"),
            Self::After => f.write_str("after"),
            Self::Step(name) => write!(f, "\"{name}\""),
        }
    }
}

impl fmt::Display for Condition {
    /// As a clause: `pwrite fails with ENOSPC`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.about, self.not) {
            (About::Step(step), not) => step.write(f, not),
            (About::KernelLog { pattern, times: Limits::SOME }, true) => {
                write!(f, "the kernel log has no new line like `{pattern}`")
            }
            (About::Tickets { space, errno, times: Limits::SOME }, true) => {
                write!(f, "no reservation of {space} space is refused{}", with(*errno))
            }
            (about, true) => write!(f, "it is not so that {about}"),
            (about, false) => about.fmt(f),
        }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(step) => step.write(f, false),
            Self::Counter { name, at, is: Measure::Is(limits) } => {
                write!(f, "{name} is {} ({at})", limits.of_bytes())
            }
            Self::Counter { name, at, is: Measure::Changed { since, by } } => {
                write!(f, "{name} {by} ({since} to {at})")
            }
            Self::MayUse { space, change } => {
                write!(f, "by the sum of what the kernel added and took, {space}.may_use {change}")
            }
            Self::Tickets { space, errno, times } => {
                write!(f, "a reservation of {space} space is refused{} {}", with(*errno), times.of_times())
            }
            Self::KernelLog { pattern, times } => {
                write!(f, "the kernel log has a new line like `{pattern}` {}", times.of_times())
            }
            Self::Mount { read_only: true } => f.write_str("the mount ends read-only"),
            Self::Mount { read_only: false } => f.write_str("the mount ends read-write"),
            Self::Requests { op, phase, times, bytes } => {
                let times = times.map(|times| format!(" {}", times.of_times()));
                let bytes = bytes.map(|bytes| format!(", {} together", bytes.of_bytes()));
                let when = phase.map(|phase| format!("in phase {}, ", phase + 1)).unwrap_or_default();
                let (times, bytes) = (times.unwrap_or_default(), bytes.unwrap_or_default());
                write!(f, "{when}the disk gets a {op}{times}{bytes}")
            }
            Self::Fault { row, times } => write!(f, "the fault \"{row}\" fires {}", times.of_times()),
            Self::Crash { pattern } => write!(f, "the kernel crashes with a line like `{pattern}`"),
            Self::Any(alternatives) => {
                let words: Vec<String> = alternatives.iter().map(ToString::to_string).collect();
                write!(f, "one of these: {}", words.join("; "))
            }
        }
    }
}

impl StepCondition {
    fn write(&self, f: &mut fmt::Formatter<'_>, not: bool) -> fmt::Result {
        let Self { step, outcome, errno, signal, space, content, short, extents, times } = self;
        let verb = |yes: &'static str, no: &'static str| if not { no } else { yes };
        write!(f, "{step} ")?;
        match (content, signal, outcome) {
            (Some(Content::Lost), ..) => f.write_str(verb("finds its content lost", "finds its content"))?,
            (None, Some(signal), _) => write!(f, "{} {signal}", verb("is ended by", "is not ended by"))?,
            (None, None, Outcome::Fails) => write!(f, "{}{}", verb("fails", "does not fail"), with(*errno))?,
            (None, None, Outcome::Ok) => {
                f.write_str(verb("ends without an error", "does not end without an error"))?;
            }
        }
        if let Some(space) = space {
            write!(f, ", and a reservation of {space} space was refused under it")?;
        }
        if let Some(short) = short {
            write!(f, ", after it wrote {}", short.of_bytes())?;
        }
        if let Some(extents) = extents {
            write!(f, ", and there are {extents}")?;
        }
        if *times == Limits::SOME { Ok(()) } else { write!(f, ", {}", times.of_times()) }
    }
}

impl fmt::Display for ExtentLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |limits: Option<Limits>, kind: &str| limits.map(|limits| format!("{limits} {kind}"));
        let parts =
            [part(self.count, "extents"), part(self.shared, "shared"), part(self.unwritten, "unwritten")];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

fn with(errno: Option<Errno>) -> String {
    errno.map_or_else(String::new, |errno| format!(" with {errno}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_between_steps_that_are_done() {
        let step = |name: &str| Condition::from(StepCondition::fails(name));
        let any = |names: &[&str]| Condition {
            about: About::Any(names.iter().map(|name| step(name)).collect()),
            not: false,
        };
        let forget = |mut condition: Condition| {
            condition.forget_other_steps(&BTreeSet::from(["pwrite", "fsync"]));
            condition
        };
        assert_eq!(forget(any(&["pwrite", "other", "fsync"])), any(&["pwrite", "fsync"]));
        assert_eq!(forget(any(&["other", "fsync"])), step("fsync"));
        assert_eq!(forget(any(&["one", "other"])), any(&["one", "other"]), "it never holds");
        let not = Condition { not: true, ..step("other") };
        let always = Condition { about: About::Any(vec![not.clone(), step("other")]), not: false };
        assert_eq!(forget(always), not, "what never happens does not happen");
    }
}
