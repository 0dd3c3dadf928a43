//! What was seen: one journal line each. Verdict and report are functions of these.

use std::collections::BTreeMap;

use brim_device::{ByteRange, Bytes, Nanos};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use crate::SCHEMA;
use crate::control::ControlEvent;
use crate::counters::Counters;
use crate::errno::Errno;
use crate::filesystem::FilesystemKind;
use crate::judge::Verdict;
use crate::limits::Limits;
use crate::operation::{ExtentCount, Range};
use crate::plan::Plan;

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
        /// Before the first step, after the last, or by a step.
        when: When,
        /// The step, where it is by one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<String>,
        /// The reading.
        counters: Counters,
    },
    /// A step ended: the first time that a worker did it without an error in its phase, and each time it failed. Of what it
    /// may fail with, and of short writes, the first of each kind stands for all.
    Step(Box<StepEvent>),
    /// A phase ended.
    Phase {
        /// Which trial.
        trial: u32,
        /// Which phase, from 0.
        phase: usize,
        /// How often each step ended without an error.
        completed: Vec<u64>,
        /// How often each step failed as it may, by error or signal.
        #[serde(default, skip_serializing_if = "all_empty")]
        allowed: Vec<BTreeMap<String, u64>>,
        /// How long each step took, failed or not.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        timing: Vec<Timing>,
    },
    /// A step did not end within its limit.
    Stuck(Stuck),
    /// The kernel under the trial did not live to its end.
    Crash(Crash),
    /// A reservation ticket failed in the kernel.
    Ticket(Ticket),
    /// What the kernel did to a counter of reserved bytes, where a condition asks for it.
    MayUse(MayUse),
    /// A new line in the kernel log.
    KernelLog(KernelLogLine),
    /// The mount after the last step.
    Mount {
        /// Which trial.
        trial: u32,
        /// Whether the kernel made it read-only.
        read_only: bool,
    },
    /// What the kernel asked of the disk between the first step and the last; also phase by phase, where a condition asks for it.
    Requests {
        /// Which trial.
        trial: u32,
        /// In this phase alone, from 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        phase: Option<usize>,
        /// Of which disk, where there are several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        /// By operation: `read`, `write`, `flush`, `trim`, `zeroes`. What was not asked for is not here.
        requests: BTreeMap<String, RequestCount>,
    },
    /// Numbers over the time of a trial.
    Series(Series),
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
    /// What became of the pool behind the disk, where there was one in a trial.
    Pool {
        /// Which trial.
        trial: u32,
        /// The disk, where there are several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        /// What its blocks could take at the end; all of its size if `None`.
        limit: Option<Bytes>,
        /// What they took.
        allocated: Bytes,
        /// How many requests needed more than there was, those that waited for it included.
        without_space: u64,
    },
    /// Evidence that could not be had here, and why. The run goes on without it.
    Missing {
        /// What: `tickets`, `may-use`, `kernel-log`.
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
    /// A scenario and its control, behind the verdicts of both.
    Control(ControlEvent),
    /// What a set of parameters came to: its last line.
    Verdict(Box<VerdictEvent>),
}

/// The evidence of [`Event::Missing`] that tells data from metadata.
pub const TICKETS: &str = "tickets";
/// The evidence of [`Event::Missing`] that is the changes of reserved bytes.
pub const MAY_USE: &str = "may-use";
/// The evidence of [`Event::Missing`] that is the kernel's own words.
pub const KERNEL_LOG: &str = "kernel-log";

fn all_empty(allowed: &[BTreeMap<String, u64>]) -> bool {
    allowed.iter().all(BTreeMap::is_empty)
}

/// How long a step of a phase took, all times together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// How often it ended.
    pub count: u64,
    /// How long it took in all.
    pub sum: Nanos,
    /// How long at most.
    pub max: Nanos,
}

impl Timing {
    /// One time more.
    pub fn add(&mut self, nanos: Nanos) {
        *self = self.with(Self { count: 1, sum: nanos, max: nanos });
    }

    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            sum: Nanos(self.sum.0.saturating_add(other.sum.0)),
            max: self.max.max(other.max),
        }
    }
}

/// How much later than asked requests were answered, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lateness {
    /// How many requests.
    pub count: u64,
    /// Half were less late.
    pub p50: Nanos,
    /// 99 of 100 were less late.
    pub p99: Nanos,
    /// The worst.
    pub max: Nanos,
    /// How many by how late: the upper end of each step that has any, to 1 %.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<(Nanos, u64)>,
}

/// Numbers over the time of a trial, as far as they changed. Each holds from its moment to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// Which trial.
    pub trial: u32,
    /// What they are about: `counters` of the filesystem, `requests` of the disk.
    pub of: String,
    /// The disk, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The moments, since the first step began.
    pub at: Vec<Nanos>,
    /// What the numbers are called. Of the disk: `write` (how many so far), `write.bytes`, `held GATE`, `fired FAULT`.
    pub names: Vec<String>,
    /// Of each name its value at each moment.
    pub values: Vec<Vec<u64>>,
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
    /// What is changed, where this is its control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
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
    /// What is done in each: judged by it, the events come to the verdict that is here.
    #[serde(default, deserialize_with = "plan_of_today", skip_serializing_if = "Option::is_none")]
    pub plan: Option<Box<Plan>>,
}

/// Plans grow: one that another brim wrote, and that says less or more, is none. The rest of its line counts.
fn plan_of_today<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<Plan>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Known {
        Plan(Box<Plan>),
        Other(IgnoredAny),
    }
    Ok(match Option::<Known>::deserialize(deserializer)? {
        Some(Known::Plan(plan)) => Some(plan),
        Some(Known::Other(_)) | None => None,
    })
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

/// Before the first step, after the last, or by a step in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Before the first step.
    Before,
    /// After the last.
    After,
    /// When a step asked for it.
    Step,
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
    /// Bytes that earlier calls of this step had written before it failed; of a write that stops when it is short, and of one to
    /// a mapping that a signal ended, what it wrote.
    pub short: Option<Bytes>,
    /// The reservation that failed last inside the failed system call.
    pub space: Option<SpaceKind>,
    /// `space` is from the counters right after the call, as tickets cannot be seen here: the one space that was too small.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub space_counted: bool,
    /// How long it took.
    pub nanos: Nanos,
    /// When it ended, since the first step of the trial began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Nanos>,
    /// The worker that did it, where it is not the main one.
    pub by: Option<String>,
    /// What the gate held when `await` looked, or what `release` let go, in that order.
    pub held: Option<Vec<HeldRequest>>,
    /// How the step failed, where no system call said so.
    pub problem: Option<Problem>,
    /// The bytes of the disk that a fault was armed for, where it has a region.
    pub region: Option<Vec<ByteRange>>,
    /// Which copy of the worker did it, from 0, where it has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<u64>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
    /// It may fail like this, and its worker goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allowed: bool,
    /// The extents of the file, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extents: Option<Extents>,
    /// What else the operation reports, as numbers by name: `relocated` of a balance, `trimmed` of a trim.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reported: BTreeMap<String, u64>,
}

impl StepEvent {
    /// Whether the step failed, in whatever way.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.errno.is_some() || self.problem.is_some() || self.signal.is_some()
    }
}

/// A signal that the kernel answers a store or a load with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Signal {
    /// The page cannot be had.
    #[serde(rename = "SIGBUS")]
    Bus,
}

impl std::fmt::Display for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bus => f.write_str("SIGBUS"),
        }
    }
}

/// The extents of a file, by FIEMAP: all of them, and how many have which flag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extents {
    /// All.
    pub count: u64,
    /// Other files have them as well.
    pub shared: u64,
    /// Allocated, and not written.
    pub unwritten: u64,
    /// They have no place yet.
    pub delalloc: u64,
    /// They are in the metadata.
    pub inline: u64,
    /// Compressed, or otherwise not as they are read.
    pub encoded: u64,
    /// The sum of their lengths, in bytes.
    pub bytes: Bytes,
}

impl Extents {
    /// One of the counts.
    #[must_use]
    pub fn of(&self, what: ExtentCount) -> u64 {
        match what {
            ExtentCount::Count => self.count,
            ExtentCount::Shared => self.shared,
            ExtentCount::Unwritten => self.unwritten,
            ExtentCount::Delalloc => self.delalloc,
            ExtentCount::Inline => self.inline,
            ExtentCount::Encoded => self.encoded,
        }
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
    /// Two ranges that were to share extents do not hold the same.
    Differs,
    /// A program ended with another exit code than it ought to.
    Exited(Said),
    /// A file has not the extents it ought to.
    Extents(OtherExtents),
}

/// A count of extents that is not as it ought to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherExtents {
    /// What was counted.
    pub what: ExtentCount,
    /// What it ought to be.
    pub wanted: Limits,
    /// What it is.
    pub found: u64,
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

/// What the kernel did to `bytes_may_use` of a space from before the first step to after the last, from the tracepoint
/// `btrfs:update_bytes_may_use`. It is hit before the counter stops at zero (fs/btrfs/space-info.h, v6.12), so that the sum
/// goes below zero where more was taken than had been added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MayUse {
    /// Which trial.
    pub trial: u32,
    /// Of which space.
    pub space: SpaceKind,
    /// The sum of all that was added.
    pub added: Bytes,
    /// The sum of all that was taken.
    pub taken: Bytes,
    /// How often it was changed.
    pub updates: u64,
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
    /// What each condition of the scenario rests on, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// What a condition rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The condition, in words.
    pub condition: String,
    /// Whether it holds; `None` where that could not be seen.
    pub holds: Option<bool>,
    /// What was seen, or why nothing was.
    pub found: String,
}

/// A rate that was known, and the one that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredRate {
    /// At least this share of the trials was to reproduce.
    pub at_least: f64,
    /// And at most this.
    pub at_most: f64,
    /// Why it is not all or none.
    pub why: String,
    /// The lower end of what was measured, with a confidence of 95 %.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// What a set of parameters came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictEvent {
    /// The scenario's name.
    pub scenario: String,
    /// What is changed, where this is its control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// Every parameter, as written.
    pub params: BTreeMap<String, String>,
    /// What it came to.
    pub verdict: Verdict,
    /// What was known of it on this kernel.
    pub known: Option<Verdict>,
    /// How often that was known to come, where it does not always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<MeasuredRate>,
    /// Whether every trial came to what was known, or as many as a known rate allows; where nothing was known, whether it is not
    /// inconclusive.
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
    /// What each condition rests on in that trial.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// The seed of everything drawn.
    pub seed: u64,
    /// How long it took, preparation and all.
    pub seconds: f64,
    /// The one line that runs it again.
    pub command: String,
}
