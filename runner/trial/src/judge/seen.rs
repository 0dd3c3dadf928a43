//! What the events of one trial say, sorted by what conditions ask for.

use std::collections::{BTreeMap, BTreeSet};

use brim_device::Bytes;

use crate::condition::{Outcome, Reading, StepCondition};
use crate::counters::Counters;
use crate::event::{
    Crash, Event, Extents, KernelLogLine, MayUse, OtherExtents, Problem, RequestCount, StepEvent, Ticket,
    TooFew, When,
};
use crate::limits::Limits;
use crate::plan::Plan;

/// One trial.
pub(super) struct Seen<'a> {
    /// Every step that was told of: failures, and the first time that one ended well in its phase.
    pub(super) steps: Vec<&'a StepEvent>,
    /// The failures among them.
    pub(super) failed: Vec<&'a StepEvent>,
    /// How often each step ended well, by its name.
    pub(super) completed: BTreeMap<&'a str, u64>,
    /// How often each step failed as it may, by how, of the steps by phase and place there.
    allowed: BTreeMap<(usize, usize), &'a BTreeMap<String, u64>>,
    /// Whether any phase ended.
    pub(super) ended: bool,
    pub(super) tickets: Vec<&'a Ticket>,
    pub(super) may_use: Vec<&'a MayUse>,
    pub(super) log: Vec<&'a KernelLogLine>,
    pub(super) read_only: Option<bool>,
    pub(super) crash: Option<&'a Crash>,
    readings: Vec<(Reading, &'a Counters)>,
    requests: Vec<(Option<usize>, &'a BTreeMap<String, RequestCount>)>,
    firings: BTreeMap<&'a str, u64>,
    missing: Vec<(&'a str, &'a str)>,
}

impl<'a> Seen<'a> {
    /// Of trial number `trial`.
    pub(super) fn of(plan: &'a Plan, trial: u32, events: &'a [Event]) -> Self {
        let mut seen = Self {
            steps: Vec::new(),
            failed: Vec::new(),
            completed: BTreeMap::new(),
            allowed: BTreeMap::new(),
            ended: false,
            tickets: Vec::new(),
            may_use: Vec::new(),
            log: Vec::new(),
            read_only: None,
            crash: None,
            readings: Vec::new(),
            requests: Vec::new(),
            firings: BTreeMap::new(),
            missing: Vec::new(),
        };
        for event in events {
            seen.take(plan, trial, event);
        }
        seen
    }

    fn take(&mut self, plan: &'a Plan, wanted: u32, event: &'a Event) {
        match event {
            Event::Step(step) if step.trial == wanted => {
                self.steps.push(step);
                if step.failed() {
                    self.failed.push(step);
                }
            }
            Event::Phase { trial, phase, completed, allowed, .. } if *trial == wanted => {
                self.ended = true;
                let steps = plan.phases.get(*phase).map_or(&[][..], |phase| &phase.steps);
                for (step, count) in steps.iter().zip(completed) {
                    *self.completed.entry(&step.name).or_default() += count;
                }
                self.allowed
                    .extend(allowed.iter().enumerate().map(|(index, counts)| ((*phase, index), counts)));
            }
            Event::Counters { trial, when, step, counters } if *trial == wanted => {
                let reading = match (when, step) {
                    (When::Before, _) => Reading::Before,
                    (When::After, _) => Reading::After,
                    (When::Step, step) => Reading::Step(step.clone().unwrap_or_default()),
                };
                self.readings.push((reading, counters));
            }
            Event::Ticket(ticket) if ticket.trial == wanted => self.tickets.push(ticket),
            Event::MayUse(may_use) if may_use.trial == wanted => self.may_use.push(may_use),
            Event::KernelLog(line) if line.trial == wanted => self.log.push(line),
            Event::Mount { trial, read_only } if *trial == wanted => self.read_only = Some(*read_only),
            Event::Crash(crash) if crash.trial == wanted => self.crash = Some(crash),
            Event::Requests { trial, phase, requests, .. } if *trial == wanted => {
                self.requests.push((*phase, requests));
            }
            Event::Fault { trial, row, firings, .. } if *trial == wanted => {
                *self.firings.entry(row).or_default() += firings;
            }
            Event::Missing { evidence, why } => self.missing.push((evidence, why)),
            _ => {}
        }
    }

    /// Why evidence of this kind could not be had, or not all of it.
    pub(super) fn missing(&self, evidence: &str) -> Option<&'a str> {
        self.missing.iter().find(|(kind, _)| *kind == evidence).map(|(_, why)| *why)
    }

    /// The last reading of that kind.
    pub(super) fn reading(&self, wanted: &Reading) -> Option<&'a Counters> {
        self.readings.iter().rev().find(|(reading, _)| reading == wanted).map(|(_, counters)| *counters)
    }

    /// What was asked of the disk by requests of one kind; `None` where nobody counted.
    pub(super) fn requests(&self, phase: Option<usize>, op: &str) -> Option<RequestCount> {
        // Of several disks there is one count each.
        let mut counts = self.requests.iter().filter(|(of, _)| *of == phase).peekable();
        counts.peek()?;
        let none = RequestCount { requests: 0, bytes: Bytes(0) };
        Some(counts.filter_map(|(_, requests)| requests.get(op)).fold(none, |sum, count| RequestCount {
            requests: sum.requests + count.requests,
            bytes: Bytes(sum.bytes.0 + count.bytes.0),
        }))
    }

    /// How often a fault acted.
    pub(super) fn firings(&self, row: &str) -> u64 {
        self.firings.get(row).copied().unwrap_or(0)
    }

    /// The events of a step that end as `condition` says, and how often it did so in all.
    pub(super) fn matching(&self, condition: &StepCondition) -> (Vec<&'a StepEvent>, u64) {
        let events: Vec<&StepEvent> =
            self.steps.iter().copied().filter(|step| matches(condition, step)).collect();
        let told = self.count(&events);
        let any_ok =
            condition.outcome == Outcome::Ok && condition.short.is_none() && condition.extents.is_none();
        // Of those that end well, the journal has the first; the phases have how many.
        let completed = self.completed.get(condition.step.as_str()).copied().unwrap_or(0);
        (events, if any_ok { told.max(completed) } else { told })
    }

    /// How often steps ended as `events` tell. Of the failures that a step may have, the journal has the first of each kind, and the
    /// phase has how many.
    fn count(&self, events: &[&StepEvent]) -> u64 {
        let mut counted = BTreeSet::new();
        let each = events.iter().map(|event| {
            let place = (event.phase, event.index);
            let errno = event.errno.map(|errno| errno.to_string());
            let how = event.signal.map(|signal| signal.to_string()).or(errno).unwrap_or_default();
            match self.allowed.get(&place).and_then(|counts| counts.get(&how)).filter(|_| event.allowed) {
                None => 1,
                Some(count) if counted.insert((place, how)) => *count,
                Some(_) => 0,
            }
        });
        each.sum()
    }

    /// How a step ended, in short.
    pub(super) fn endings(&self, step: &str) -> String {
        let mut endings: Vec<String> = Vec::new();
        for event in self.steps.iter().filter(|event| event.step == step) {
            let ending = ending(event);
            if !endings.contains(&ending) {
                endings.push(ending);
            }
        }
        match endings.as_slice() {
            [] => format!("{step} did not end"),
            endings => format!("{step} {}", endings.join(" and ")),
        }
    }
}

/// Whether a step ended as `condition` says.
pub(super) fn matches(condition: &StepCondition, step: &StepEvent) -> bool {
    let lost = matches!(step.problem, Some(Problem::Lost(_)));
    step.step == condition.step
        && step.failed() == (condition.outcome == Outcome::Fails)
        && condition.errno.is_none_or(|errno| step.errno == Some(errno))
        && condition.signal.is_none_or(|signal| step.signal == Some(signal))
        && condition.space.is_none_or(|space| step.space == Some(space))
        && condition.content.is_none_or(|_lost| lost)
        && condition.short.is_none_or(|limits| limits.contain(step.short.map_or(0, |short| short.0)))
        && condition.extents.is_none_or(|wanted| {
            let within = |limits: Option<Limits>, count| limits.is_none_or(|limits| limits.contain(count));
            step.extents.is_some_and(|Extents { count, shared, unwritten, .. }| {
                within(wanted.count, count)
                    && within(wanted.shared, shared)
                    && within(wanted.unwritten, unwritten)
            })
        })
}

/// `failed with ENOSPC`.
pub(super) fn ending(step: &StepEvent) -> String {
    match (&step.problem, &step.signal, step.errno) {
        (Some(Problem::Lost(_)), ..) => "did not find what it ought to".to_owned(),
        (Some(Problem::Unclean(_)), ..) => "found mistakes".to_owned(),
        (Some(Problem::TooFew(TooFew { wanted, held })), ..) => {
            format!("wanted {wanted} requests of its gate, which held {held}")
        }
        (Some(Problem::Differs), ..) => "found that the ranges differ".to_owned(),
        (Some(Problem::Exited(said)), ..) => format!("ended with exit code {}", said.exit),
        (Some(Problem::Extents(OtherExtents { what, wanted, found })), ..) => {
            format!("wanted `{}` of its extents to be {wanted}, and found {found}", what.name())
        }
        (None, Some(signal), _) => format!("was ended by {signal}"),
        (None, None, Some(errno)) => {
            let after = step.short.map(|short| format!(" after it wrote {short}")).unwrap_or_default();
            let space = match step.space {
                Some(space) if step.space_counted => format!(", {space} space too small by the counters"),
                Some(space) => format!(", {space} reservation refused"),
                None => String::new(),
            };
            format!("failed with {errno}{after}{space}")
        }
        (None, None, None) => match step.extents {
            Some(Extents { count, shared, unwritten, .. }) => {
                format!("found {count} extents, {shared} shared, {unwritten} unwritten")
            }
            None => match step.short {
                Some(short) => format!("ended after it wrote {short}"),
                None => "ended without an error".to_owned(),
            },
        },
    }
}
