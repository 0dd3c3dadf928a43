//! What was seen: one journal line each. Verdict and report are functions of these.

use std::collections::BTreeMap;

use brim_device::{ByteRange, Bytes, Nanos};
use serde::{Deserialize, Serialize};

use crate::SCHEMA;
use crate::counters::Counters;
use crate::errno::Errno;
use crate::filesystem::FilesystemKind;
use crate::judge::Verdict;
use crate::operation::Range;

/// One line of the journal (`events.jsonl`, and `--json` on stdout).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JournalLine {
    /// The schema of this line.
    pub schema: u32,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

impl From<Event> for JournalLine {
    fn from(event: Event) -> Self {
        Self { schema: SCHEMA, event }
    }
}

/// Something that was seen. Trials are counted from 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A set of parameters begins.
    Run(Run),
    /// The disk was brought to the state asked for, or to the nearest that could be reached.
    Prepared(Prepared),
    /// A trial begins on a fork of the prepared disk.
    Trial {
        /// Which.
        trial: u32,
    },
    /// A reading of the filesystem's counters.
    Counters {
        /// Which trial.
        trial: u32,
        /// Before the first step, or after the last.
        when: When,
        /// The reading.
        counters: Counters,
    },
    /// A step ended: the first time it did so without an error in its phase, and each time it failed.
    Step(StepEvent),
    /// A phase ended.
    Phase {
        /// Which trial.
        trial: u32,
        /// Which phase, from 0.
        phase: usize,
        /// How often each step ended without an error.
        completed: Vec<u64>,
    },
    /// A step did not end within its limit.
    Stuck(Stuck),
    /// The kernel under the trial did not live to its end.
    Crash(Crash),
    /// A reservation ticket failed in the kernel.
    Ticket(Ticket),
    /// A new line in the kernel log.
    KernelLog(KernelLogLine),
    /// The mount after the last step.
    Mount {
        /// Which trial.
        trial: u32,
        /// Whether the kernel made it read-only.
        read_only: bool,
    },
    /// What the kernel asked of the disk between the first step and the last.
    Requests {
        /// Which trial.
        trial: u32,
        /// Of which disk, where there are several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        /// By operation: `read`, `write`, `flush`, `trim`, `zeroes`. What was not asked for is not here.
        requests: BTreeMap<String, RequestCount>,
    },
    /// What a fault row did in a trial.
    Fault {
        /// Which trial.
        trial: u32,
        /// Of which disk, where there are several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        /// The row.
        row: String,
        /// How many requests it matched.
        matches: u64,
        /// How many it acted on.
        firings: u64,
        /// Its gate opened by itself, because it had held a request for longer than its limit.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        overdue: bool,
        /// How much later than asked those were answered that it delayed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lateness: Option<Lateness>,
    },
    /// Evidence that could not be had here, and why. The run goes on without it.
    Missing {
        /// What: `tickets`, `kernel-log`.
        evidence: String,
        /// Why.
        why: String,
    },
    /// A program that `exec` or `shell` ran ended.
    Program(Program),
    /// brim ended without a verdict for what it was at: the last line of such a journal.
    Failed {
        /// Why.
        why: String,
        /// The exit code.
        exit: u8,
    },
    /// What a trial came to.
    TrialVerdict(TrialVerdictEvent),
    /// What a set of parameters came to: its last line.
    Verdict(Box<VerdictEvent>),
}

/// The evidence of [`Event::Missing`] that tells data from metadata.
pub const TICKETS: &str = "tickets";
/// The evidence of [`Event::Missing`] that is the kernel's own words.
pub const KERNEL_LOG: &str = "kernel-log";

/// How much later than asked requests were answered, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lateness {
    /// How many requests.
    pub count: u64,
    /// Half were less late.
    pub p50: Nanos,
    /// 99 of 100 were less late.
    pub p99: Nanos,
    /// The worst.
    pub max: Nanos,
}

/// Requests of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCount {
    /// How many.
    pub requests: u64,
    /// The sum of their lengths.
    pub bytes: Bytes,
}

/// A set of parameters begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The scenario's name.
    pub scenario: String,
    /// Every parameter, as written.
    pub params: BTreeMap<String, String>,
    /// What runs it.
    pub rig: String,
    /// The kernel's release.
    pub kernel: String,
    /// The filesystem.
    pub filesystem: FilesystemKind,
    /// The seed of everything drawn.
    pub seed: u64,
    /// How many trials are asked for.
    pub trials: u32,
}

/// How the preparation ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prepared {
    /// What the scenario asks for, where it asks for any.
    pub data_free_wanted: Option<Bytes>,
    /// The same of metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_free_wanted: Option<Bytes>,
    /// The step of the preparation that failed, where one did; what follows it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Box<StepEvent>>,
    /// The filesystem's own counters afterwards.
    pub counters: Counters,
    /// How long it took, 0 where the disk had been prepared before.
    pub seconds: f64,
}

/// Before the first step, or after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Before the first step.
    Before,
    /// After the last.
    After,
}

/// A step ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepEvent {
    /// Which trial.
    pub trial: u32,
    /// Which phase, from 0.
    pub phase: usize,
    /// Which step of the phase, from 0.
    pub index: usize,
    /// What conditions call it.
    pub step: String,
    /// The iteration of the phase, from 0.
    pub iteration: u64,
    /// The system call: `pwrite64`.
    pub syscall: String,
    /// The file, where there is one.
    pub file: Option<String>,
    /// The byte range, where there is one.
    pub range: Option<Range>,
    /// What the system call returned, where it did not fail.
    pub returned: Option<u64>,
    /// How it failed, where it failed.
    pub errno: Option<Errno>,
    /// Bytes that earlier calls of this step had written before it failed or ended.
    pub short: Option<Bytes>,
    /// The reservation that failed last inside the failed system call.
    pub space: Option<SpaceKind>,
    /// `space` is from the counters right after the call, as tickets cannot be seen here: the one space that was too small.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub space_counted: bool,
    /// How long it took.
    pub nanos: Nanos,
    /// The worker that did it, where it is not the main one.
    pub by: Option<String>,
    /// What the gate held when `await` looked, or what `release` let go, in that order.
    pub held: Option<Vec<HeldRequest>>,
    /// How the step failed, where no system call said so.
    pub problem: Option<Problem>,
    /// The bytes of the disk that a fault was armed for, where it has a region.
    pub region: Option<Vec<ByteRange>>,
    /// What else the operation reports, as numbers by name: `relocated` of a balance, `trimmed` of a trim.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reported: BTreeMap<String, u64>,
}

impl StepEvent {
    /// Whether the step failed, in whatever way.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.errno.is_some() || self.problem.is_some()
    }
}

/// What is wrong although every system call did well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    /// A read found other bytes than it ought to.
    Lost(Lost),
    /// A checker found mistakes.
    Unclean(Said),
    /// A gate did not hold as many requests as were to be let go, and none was.
    TooFew(TooFew),
}

/// Content that is not as it ought to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The first byte in the file that is another.
    pub first: Bytes,
    /// How many are others.
    pub bytes: Bytes,
    /// What stands there.
    pub found: Found,
}

/// Requests that a gate ought to have held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TooFew {
    /// How many at least.
    pub wanted: u64,
    /// How many it held.
    pub held: u64,
}

/// What stands where something else ought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// Nothing but zero bytes.
    Zeroes,
    /// The file ends before.
    End,
    /// Other bytes.
    Other,
}

/// What a program said that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Its exit code; -1 where a signal ended it.
    pub exit: i32,
    /// What it said, line by line.
    pub lines: Vec<String>,
}

/// A request that the disk holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRequest {
    /// `read`, `write`, `flush`, `trim` or `zeroes`.
    pub op: String,
    /// First byte; zero for a flush.
    pub offset: Bytes,
    /// Bytes from there; zero for a flush.
    pub length: Bytes,
}

/// A step that did not end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stuck {
    /// Which trial.
    pub trial: u32,
    /// What was under way: a step's name, or the rig's own work (`umount`).
    pub what: String,
    /// The limit that passed.
    pub limit: Nanos,
    /// Requests the disk was holding: `write 4 KiB at 64 KiB, held by "commit"`.
    pub held: Vec<String>,
    /// Kernel functions the waiting thread slept in, where the kernel tells.
    pub waiting_in: Option<String>,
}

/// A guest's kernel that panicked, hung or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// Which trial.
    pub trial: u32,
    /// How: the line of the panic, where there is one.
    pub how: String,
    /// What it printed last.
    pub last_words: Vec<String>,
}

/// Which space a reservation was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpaceKind {
    /// File contents.
    Data,
    /// Trees.
    Metadata,
    /// The chunk tree.
    System,
}

impl std::fmt::Display for SpaceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Data => "data",
            Self::Metadata => "metadata",
            Self::System => "system",
        })
    }
}

/// A reservation that the kernel refused, from the tracepoint `btrfs:btrfs_reserve_ticket`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Which trial.
    pub trial: u32,
    /// For what.
    pub space: SpaceKind,
    /// How much.
    pub bytes: Bytes,
    /// With which error.
    pub errno: Errno,
    /// How many tickets alike failed in this trial; the first one's place in time is this line's.
    pub count: u64,
}

/// A line of the kernel log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelLogLine {
    /// Which trial.
    pub trial: u32,
    /// syslog(2)'s level: 3 is an error, 4 a warning, 6 information.
    pub level: u8,
    /// The text, without its time.
    pub text: String,
}

/// A program that ran at the mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its words.
    pub command: Vec<String>,
    /// Its exit code; 128 and the signal's number where a signal ended it.
    pub exit: i32,
    /// System calls of it and its children that failed for lack of space, by name: how many. `None` where this could
    /// not be seen.
    pub no_space: Option<BTreeMap<String, u64>>,
}

/// What a trial came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialVerdictEvent {
    /// Which trial.
    pub trial: u32,
    /// What it came to.
    pub verdict: Verdict,
    /// The step that failed, where one did.
    pub failed_step: Option<String>,
    /// How it failed.
    pub errno: Option<Errno>,
    /// The reservation under it.
    pub space: Option<SpaceKind>,
    /// Why it is inconclusive, where it is.
    pub reason: Option<String>,
}

/// What a set of parameters came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictEvent {
    /// The scenario's name.
    pub scenario: String,
    /// Every parameter, as written.
    pub params: BTreeMap<String, String>,
    /// What it came to.
    pub verdict: Verdict,
    /// What was known of it on this kernel.
    pub known: Option<Verdict>,
    /// Whether every trial came to what was known; where nothing was known, whether it is not inconclusive.
    pub expected: bool,
    /// Trials that ran.
    pub trials: u32,
    /// Trials that reproduced.
    pub reproduced: u32,
    /// Trials that were inconclusive.
    pub inconclusive: u32,
    /// The kernel's release.
    pub kernel: String,
    /// The filesystem.
    pub filesystem: FilesystemKind,
    /// What ran it.
    pub rig: String,
    /// The step that failed in the trial that stands for all: the first with this verdict.
    pub failed_step: Option<String>,
    /// How it failed there.
    pub errno: Option<Errno>,
    /// The reservation under it.
    pub space: Option<SpaceKind>,
    /// Why it is inconclusive, where it is.
    pub reason: Option<String>,
    /// The seed of everything drawn.
    pub seed: u64,
    /// How long it took, preparation and all.
    pub seconds: f64,
    /// The one line that runs it again.
    pub command: String,
}
