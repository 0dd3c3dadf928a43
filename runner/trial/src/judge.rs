//! From events to verdicts. A function of the journal alone: judged again, it says the same.

mod find;
mod seen;

use std::cmp::Ordering;
use std::fmt;

use brim_device::{BLOCK, Bytes};
use serde::{Deserialize, Serialize};

use crate::condition::{About, Condition, StepCondition};
use crate::counters::Counters;
use crate::event::{Event, Finding, Prepared, StepEvent, TrialVerdictEvent, When};
use crate::plan::{Fill, Known, Plan};
use crate::rate::Interval;
use seen::Seen;

/// What a trial, or a run of trials, came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All conditions of the scenario held: the bug is there.
    Reproduced,
    /// The state was reached, the steps ran, and a condition did not hold.
    NotReproduced,
    /// The state was not reached, or a step did not end: nothing follows.
    Inconclusive,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Reproduced => "reproduced",
            Self::NotReproduced => "not-reproduced",
            Self::Inconclusive => "inconclusive",
        })
    }
}

/// A verdict and what it rests on.
pub type TrialVerdict = TrialVerdictEvent;

/// Judges trial number `trial` from the events of its run: the preparation's and its own.
#[must_use]
pub fn trial(plan: &Plan, trial: u32, events: &[Event]) -> TrialVerdict {
    let seen = Seen::of(plan, trial, events);
    let findings: Vec<Finding> =
        plan.reproduced.iter().map(|condition| find::find(condition, &seen, plan.filesystem.kind)).collect();
    let reason = unreached(plan, events).or_else(|| inconclusive(plan, trial, events, &seen));
    // One that does not hold settles it, whatever could not be seen of the others.
    let open = findings.iter().find(|finding| finding.holds.is_none());
    let open = open.filter(|_| findings.iter().all(|finding| finding.holds != Some(false)));
    let reason = reason.or_else(|| open.map(|finding| finding.found.clone()));
    let verdict = match reason {
        Some(_) => Verdict::Inconclusive,
        None if findings.iter().all(|finding| finding.holds == Some(true)) => Verdict::Reproduced,
        None => Verdict::NotReproduced,
    };
    // The step that a condition speaks of says most; without one, the step that ended the trial.
    let conditions: Vec<&StepCondition> = plan.reproduced.iter().flat_map(Condition::steps).collect();
    let told = |step: &&&StepEvent| conditions.iter().any(|condition| seen::matches(condition, step));
    let last = || seen.failed.last().filter(|_| !conditions.is_empty() || reason.is_some());
    let shown = seen.failed.iter().find(told).or_else(last);
    TrialVerdict {
        trial,
        verdict,
        failed_step: shown.map(|step| step.step.clone()),
        errno: shown.and_then(|step| step.errno),
        space: shown.and_then(|step| step.space),
        reason,
        findings,
    }
}

/// Why no trial can say anything: the disk was not brought to the state that was asked for.
#[must_use]
pub fn unreached(plan: &Plan, events: &[Event]) -> Option<String> {
    events.iter().find_map(|event| match event {
        Event::Prepared(Prepared { failed: Some(failed), .. }) => {
            Some(format!("in the preparation, {} {}", failed.step, seen::ending(failed)))
        }
        Event::Prepared(prepared) => state(plan.prepare.fill, &prepared.counters).err(),
        _ => None,
    })
}

/// What a run of trials came to together: reproduced if any was, inconclusive if any was and none reproduced.
#[must_use]
pub fn together(trials: &[TrialVerdict]) -> Verdict {
    let any = |verdict| trials.iter().any(|trial| trial.verdict == verdict);
    if any(Verdict::Reproduced) {
        Verdict::Reproduced
    } else if any(Verdict::Inconclusive) || trials.is_empty() {
        Verdict::Inconclusive
    } else {
        Verdict::NotReproduced
    }
}

/// Whether trials came to what was known of them: every one to its verdict, or as many as its rate allows. Where nothing was
/// known, whether they say anything.
#[must_use]
pub fn as_expected(known: Option<&Known>, trials: &[TrialVerdict]) -> bool {
    let unanimous =
        |verdict| together(trials) == verdict && trials.iter().all(|trial| trial.verdict == verdict);
    match known {
        None => together(trials) != Verdict::Inconclusive,
        Some(Known { rate: None, verdict, .. }) => unanimous(*verdict),
        Some(Known { rate: Some(rate), .. }) => {
            count(trials, Verdict::Inconclusive) == 0 && !trials.is_empty() && rate.overlaps(measured(trials))
        }
    }
}

/// How many trials came to this.
#[must_use]
pub fn count(trials: &[TrialVerdict], verdict: Verdict) -> u32 {
    let such = trials.iter().filter(|trial| trial.verdict == verdict).count();
    u32::try_from(such).unwrap_or(u32::MAX)
}

/// The rate at which trials reproduce.
#[must_use]
pub fn measured(trials: &[TrialVerdict]) -> Interval {
    let all = u32::try_from(trials.len()).unwrap_or(u32::MAX);
    Interval::of(count(trials, Verdict::Reproduced), all)
}

fn inconclusive(plan: &Plan, trial: u32, events: &[Event], seen: &Seen<'_>) -> Option<String> {
    if let Some(crash) = seen.crash {
        // A crash that a condition speaks of is what was looked for, and nothing after it was to come.
        let meant = crash_is_meant(plan, seen);
        return (!meant).then(|| format!("the kernel did not live to the end: {}", crash.how));
    }
    for event in events {
        match event {
            Event::Counters { trial: of, when: When::Before, counters, .. } if *of == trial => {
                if let Err(reason) = state(plan.prepare.fill, counters) {
                    return Some(format!("on the fork, {reason}"));
                }
            }
            Event::Stuck(stuck) if stuck.trial == trial || stuck.trial == 0 => {
                return Some(format!("{} did not end within its limit", stuck.what));
            }
            _ => {}
        }
    }
    if let Some(step) = seen.failed.iter().find(|step| !foreseen(plan, step)) {
        return Some(format!("{} {}, which no phase foresees", step.step, seen::ending(step)));
    }
    if seen.ended { None } else { Some("no phase ended".to_owned()) }
}

/// Whether a condition speaks of just this crash.
fn crash_is_meant(plan: &Plan, seen: &Seen<'_>) -> bool {
    let mut meant = false;
    for condition in &plan.reproduced {
        condition.all(&mut |one| {
            let about_it = matches!(one.about, About::Crash { .. }) && !one.not;
            meant |= about_it && find::find(one, seen, plan.filesystem.kind).holds == Some(true);
        });
    }
    meant
}

/// Whether the counters show the state that was asked for, and which is off by how much.
fn state(wanted: Fill, counters: &Counters) -> Result<(), String> {
    number("data_free", wanted.data_free, Some(counters.data_free))?;
    number("metadata_free", wanted.metadata_free, counters.metadata_free())
}

fn number(name: &str, wanted: Option<Bytes>, got: Option<Bytes>) -> Result<(), String> {
    let Some(wanted) = wanted else { return Ok(()) };
    let Some(got) = got else { return Err(format!("the filesystem does not tell its {name}")) };
    let off = match got.cmp(&wanted) {
        Ordering::Equal => return Ok(()),
        Ordering::Greater => format!("{} more", blocks(Bytes(got.0 - wanted.0))),
        Ordering::Less => format!("{} less", blocks(Bytes(wanted.0 - got.0))),
    };
    Err(format!("{name} is {}, {off} than asked for", blocks(got)))
}

/// A size in blocks, as a scenario asks for it.
#[must_use]
pub fn blocks(size: Bytes) -> String {
    match (size.0 / BLOCK.0, size.0 % BLOCK.0) {
        (1, 0) => "1 block".to_owned(),
        (blocks, 0) => format!("{blocks} blocks"),
        _ => format!("{} B", size.0),
    }
}

/// A step may fail with the error its phase waits for, or in a way that a condition names for it.
fn foreseen(plan: &Plan, failed: &StepEvent) -> bool {
    let until = plan.phases.get(failed.phase).and_then(|phase| phase.until_of(failed.by.as_deref()));
    let named = |condition: &StepCondition| {
        let in_any_way = StepCondition { space: None, short: None, extents: None, ..condition.clone() };
        seen::matches(&in_any_way, failed)
    };
    let mut conditions = plan.reproduced.iter().flat_map(Condition::steps);
    failed.allowed || (failed.errno.is_some() && until == failed.errno) || conditions.any(named)
}

#[cfg(test)]
mod tests;
