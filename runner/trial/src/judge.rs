//! From events to verdicts. A function of the journal alone: judged again, it says the same.

use std::cmp::Ordering;
use std::fmt;

use brim_device::{BLOCK, Bytes};
use serde::{Deserialize, Serialize};

use crate::counters::Counters;
use crate::event::{Event, Prepared, Problem, StepEvent, TICKETS, TooFew, TrialVerdictEvent, When};
use crate::plan::{Condition, Content, Fill, Plan};

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
    let failed = failed_steps(trial, events);
    let reason = unreached(plan, events).or_else(|| inconclusive(plan, trial, events, &failed));
    let all_hold = plan.reproduced.iter().all(|condition| failed.iter().any(|step| holds(condition, step)));
    let verdict = match reason {
        Some(_) => Verdict::Inconclusive,
        None if all_hold => Verdict::Reproduced,
        None => Verdict::NotReproduced,
    };
    // The step that a condition speaks of says most; without one, the step that ended the trial.
    let told = |step: &&&StepEvent| plan.reproduced.iter().any(|condition| holds(condition, step));
    let shown = failed.iter().find(told).or(failed.last());
    TrialVerdict {
        trial,
        verdict,
        failed_step: shown.map(|step| step.step.clone()),
        errno: shown.and_then(|step| step.errno),
        space: shown.and_then(|step| step.space),
        reason,
    }
}

/// Why no trial can say anything: the disk was not brought to the state that was asked for.
#[must_use]
pub fn unreached(plan: &Plan, events: &[Event]) -> Option<String> {
    events.iter().find_map(|event| match event {
        Event::Prepared(Prepared { failed: Some(failed), .. }) => {
            Some(format!("in the preparation, {} {}", failed.step, how(failed)))
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

fn failed_steps<'a>(trial: u32, events: &'a [Event]) -> Vec<&'a StepEvent> {
    let failed = |event: &'a Event| match event {
        Event::Step(step) if step.trial == trial && step.failed() => Some(step),
        _ => None,
    };
    events.iter().filter_map(failed).collect()
}

fn inconclusive(plan: &Plan, trial: u32, events: &[Event], failed: &[&StepEvent]) -> Option<String> {
    let mut ended = false;
    for event in events {
        match event {
            Event::Counters { trial: of, when: When::Before, counters } if *of == trial => {
                if let Err(reason) = state(plan.prepare.fill, counters) {
                    return Some(format!("on the fork, {reason}"));
                }
            }
            Event::Stuck(stuck) if stuck.trial == trial || stuck.trial == 0 => {
                return Some(format!("{} did not end within its limit", stuck.what));
            }
            Event::Crash(crash) if crash.trial == trial => {
                return Some(format!("the kernel did not live to the end: {}", crash.how));
            }
            Event::Phase { trial: of, .. } if *of == trial => ended = true,
            _ => {}
        }
    }
    if let Some(step) = failed.iter().find(|step| !foreseen(plan, step)) {
        return Some(format!("{} {}, which no phase foresees", step.step, how(step)));
    }
    if !ended {
        return Some("no phase ended".to_owned());
    }
    unseen(plan, events, failed)
}

/// A condition that would hold but for the space, where the tickets that tell it could not all be seen.
fn unseen(plan: &Plan, events: &[Event], failed: &[&StepEvent]) -> Option<String> {
    let why = events.iter().find_map(|event| match event {
        Event::Missing { evidence, why } if evidence == TICKETS => Some(why),
        _ => None,
    })?;
    let open = |condition: &Condition| {
        let but_for_space = Condition { space: None, ..condition.clone() };
        let meets = |condition: &Condition| failed.iter().any(|step| holds(condition, step));
        meets(&but_for_space) && !meets(condition)
    };
    let condition = plan.reproduced.iter().find(|condition| open(condition))?;
    let space = condition.space?;
    Some(format!("whether {space} was refused under {} could not be seen ({why})", condition.step))
}

/// How a step failed.
fn how(step: &StepEvent) -> String {
    match (&step.problem, step.errno) {
        (Some(Problem::Lost(_)), _) => "did not find what it ought to".to_owned(),
        (Some(Problem::Unclean(_)), _) => "found mistakes".to_owned(),
        (Some(Problem::TooFew(TooFew { wanted, held })), _) => {
            format!("wanted {wanted} requests of its gate, which held {held}")
        }
        (None, errno) => errno.map_or_else(String::new, |errno| format!("failed with {errno}")),
    }
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

/// A step may fail with the error its phase waits for, or with one that a condition names for it.
fn foreseen(plan: &Plan, failed: &StepEvent) -> bool {
    let until = plan.phases.get(failed.phase).and_then(|phase| phase.until);
    let named = |condition: &Condition| holds(&Condition { space: None, ..condition.clone() }, failed);
    (failed.errno.is_some() && until == failed.errno) || plan.reproduced.iter().any(named)
}

fn holds(condition: &Condition, step: &StepEvent) -> bool {
    let lost = matches!(step.problem, Some(Problem::Lost(_)));
    step.step == condition.step
        && condition.errno.is_none_or(|errno| step.errno == Some(errno))
        && condition.space.is_none_or(|space| step.space == Some(space))
        && condition.content.is_none_or(|Content::Lost| lost)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::errno::Errno;
    use crate::event::{Found, Lost, Said, SpaceKind, Stuck};
    use crate::filesystem::FilesystemKind;
    use crate::operation::Operation;
    use crate::plan::{Device, Filesystem, Phase, Prepare, Step};
    use brim_device::Nanos;

    fn plan() -> Plan {
        let step = |name: &str| Step { name: name.to_owned(), operation: Operation::Syncfs {}, by: None };
        let until = Some(Errno::ENOSPC);
        let steps = vec![step("fallocate"), step("pwrite")];
        Plan {
            scenario: "test".to_owned(),
            claim: String::new(),
            source: String::new(),
            params: BTreeMap::new(),
            devices: vec![Device {
                name: Device::ONLY.to_owned(),
                size: Bytes(1 << 27),
                write_cache: false,
                in_filesystem: true,
            }],
            faults: Vec::new(),
            filesystem: Filesystem { kind: FilesystemKind::Btrfs, mkfs: Vec::new(), mount: Vec::new() },
            prepare: Prepare {
                steps: Vec::new(),
                fill: Fill { data_free: Some(Bytes(66 * 4096)), metadata_free: None },
            },
            phases: vec![Phase { name: "test".to_owned(), until, times: 100, steps }],
            reproduced: vec![Condition {
                step: "pwrite".to_owned(),
                errno: Some(Errno::ENOSPC),
                space: Some(SpaceKind::Data),
                content: None,
            }],
            known: Vec::new(),
            step_limit: Nanos(1),
        }
    }

    fn prepared(blocks: u64) -> Event {
        let counters = Counters { data_free: Bytes(blocks * 4096), values: BTreeMap::new() };
        Event::Prepared(Prepared {
            data_free_wanted: Some(Bytes(66 * 4096)),
            metadata_free_wanted: None,
            counters,
            failed: None,
            seconds: 0.0,
        })
    }

    fn failed(step: &str, errno: Errno, space: Option<SpaceKind>) -> Event {
        Event::Step(StepEvent {
            trial: 1,
            phase: 0,
            index: 1,
            step: step.to_owned(),
            iteration: 1,
            syscall: String::new(),
            file: None,
            range: None,
            returned: None,
            errno: Some(errno),
            short: None,
            space,
            space_counted: false,
            nanos: Nanos(1),
            by: None,
            held: None,
            problem: None,
            region: None,
            reported: BTreeMap::new(),
        })
    }

    fn ended() -> Event {
        Event::Phase { trial: 1, phase: 0, completed: vec![2, 1] }
    }

    fn verdict(events: &[Event]) -> (Verdict, Option<String>) {
        let judged = trial(&plan(), 1, events);
        (judged.verdict, judged.reason)
    }

    #[test]
    fn all_conditions_have_to_hold() {
        let data = Some(SpaceKind::Data);
        let reproduced =
            |step, space| verdict(&[prepared(66), failed(step, Errno::ENOSPC, space), ended()]).0;
        assert_eq!(reproduced("pwrite", data), Verdict::Reproduced);
        assert_eq!(reproduced("fallocate", data), Verdict::NotReproduced);
        assert_eq!(reproduced("pwrite", Some(SpaceKind::Metadata)), Verdict::NotReproduced);
        assert_eq!(reproduced("pwrite", None), Verdict::NotReproduced);
    }

    /// The first phase goes round until ENOSPC, as foreseen; what the second does is what counts.
    #[test]
    fn a_condition_may_speak_of_a_later_phase() {
        let mut plan = plan();
        plan.reproduced[0].step = "fsync".to_owned();
        let first = failed("fallocate", Errno::ENOSPC, None);
        let second = failed("fsync", Errno::ENOSPC, Some(SpaceKind::Data));
        let judged = trial(&plan, 1, &[prepared(66), first, ended(), second, ended()]);
        assert_eq!(judged.verdict, Verdict::Reproduced);
        assert_eq!(judged.failed_step.as_deref(), Some("fsync"));
    }

    #[test]
    fn content_is_lost_only_where_a_read_says_so() {
        let mut plan = plan();
        plan.reproduced = vec![Condition {
            step: "pread".to_owned(),
            errno: None,
            space: None,
            content: Some(Content::Lost),
        }];
        let judged = |errno: Option<Errno>, problem: Option<Problem>| {
            let Event::Step(step) = failed("pread", Errno::EIO, None) else { unreachable!() };
            let event = Event::Step(StepEvent { errno, problem, ..step });
            trial(&plan, 1, &[prepared(66), event, ended()])
        };
        let lost = Lost { first: Bytes(0), bytes: Bytes(1), found: Found::Zeroes };
        assert_eq!(judged(None, Some(Problem::Lost(lost))).verdict, Verdict::Reproduced);
        assert_eq!(judged(None, None).verdict, Verdict::NotReproduced);
        let reason = judged(Some(Errno::EIO), None).reason.unwrap();
        assert_eq!(reason, "pread failed with EIO, which no phase foresees");
        let said = Said { exit: 1, lines: Vec::new() };
        let reason = judged(None, Some(Problem::Unclean(said))).reason.unwrap();
        assert_eq!(reason, "pread found mistakes, which no phase foresees");
    }

    #[test]
    fn no_verdict_without_the_state_that_was_asked_for() {
        let events = [prepared(65), failed("pwrite", Errno::ENOSPC, Some(SpaceKind::Data)), ended()];
        let (verdict, reason) = verdict(&events);
        assert_eq!(verdict, Verdict::Inconclusive);
        assert_eq!(reason.unwrap(), "data_free is 65 blocks, 1 block less than asked for");
    }

    #[test]
    fn a_level_of_metadata_is_part_of_the_state() {
        let mut plan = plan();
        plan.prepare.fill = Fill { data_free: None, metadata_free: Some(Bytes(40 * 4096)) };
        let reason = |values: &[(&str, u64)]| {
            let values = values.iter().map(|(name, blocks)| ((*name).to_owned(), Bytes(blocks * 4096)));
            let counters = Counters { data_free: Bytes(0), values: values.collect() };
            let Event::Prepared(prepared) = prepared(66) else { unreachable!() };
            unreached(&plan, &[Event::Prepared(Prepared { counters, ..prepared })])
        };
        let total = ("metadata.total", 100);
        let taken = |blocks: u64| {
            [total, ("metadata.used", blocks - 8), ("metadata.may_use", 5), ("metadata.readonly", 3)]
        };
        assert_eq!(reason(&taken(60)), None);
        let said = "metadata_free is 44 blocks, 4 blocks more than asked for";
        assert_eq!(reason(&taken(56)).as_deref(), Some(said));
        assert_eq!(reason(&[]).as_deref(), Some("the filesystem does not tell its metadata_free"));
    }

    #[test]
    fn no_verdict_from_a_preparation_that_failed() {
        let Event::Step(step) = failed("balance", Errno::ENOSPC, None) else { unreachable!() };
        let Event::Prepared(prepared) = prepared(66) else { unreachable!() };
        let events = [Event::Prepared(Prepared { failed: Some(Box::new(step)), ..prepared }), ended()];
        let reason = "in the preparation, balance failed with ENOSPC".to_owned();
        assert_eq!(verdict(&events), (Verdict::Inconclusive, Some(reason)));
    }

    #[test]
    fn no_verdict_from_an_error_that_nothing_foresees() {
        let (verdict, reason) = verdict(&[prepared(66), failed("fallocate", Errno::EIO, None), ended()]);
        assert_eq!(verdict, Verdict::Inconclusive);
        assert_eq!(reason.unwrap(), "fallocate failed with EIO, which no phase foresees");
    }

    #[test]
    fn no_verdict_where_the_tickets_could_not_be_seen() {
        let missing = || Event::Missing { evidence: TICKETS.to_owned(), why: "no tracefs".to_owned() };
        let open = [prepared(66), missing(), failed("pwrite", Errno::ENOSPC, None), ended()];
        let reason = "whether data was refused under pwrite could not be seen (no tracefs)";
        assert_eq!(verdict(&open), (Verdict::Inconclusive, Some(reason.to_owned())));
        let settled = [prepared(66), missing(), failed("fallocate", Errno::ENOSPC, None), ended()];
        assert_eq!(verdict(&settled), (Verdict::NotReproduced, None));
    }

    #[test]
    fn no_verdict_from_a_step_that_did_not_end() {
        let (what, limit) = ("pwrite".to_owned(), Nanos(1));
        let stuck = Event::Stuck(Stuck { trial: 1, what, limit, held: Vec::new(), waiting_in: None });
        let failed = failed("pwrite", Errno::ENOSPC, Some(SpaceKind::Data));
        assert_eq!(verdict(&[prepared(66), stuck, failed, ended()]).0, Verdict::Inconclusive);
    }

    #[test]
    fn no_verdict_from_a_trial_that_did_nothing() {
        assert_eq!(verdict(&[prepared(66)]).1.unwrap(), "no phase ended");
    }

    #[test]
    fn one_reproduction_is_enough_and_one_doubt_too() {
        let trial = |verdict| TrialVerdict {
            trial: 1,
            verdict,
            failed_step: None,
            errno: None,
            space: None,
            reason: None,
        };
        let (yes, no, open) = (Verdict::Reproduced, Verdict::NotReproduced, Verdict::Inconclusive);
        assert_eq!(together(&[trial(no), trial(yes), trial(open)]), yes);
        assert_eq!(together(&[trial(no), trial(open)]), open);
        assert_eq!(together(&[trial(no), trial(no)]), no);
        assert_eq!(together(&[]), open);
    }
}
