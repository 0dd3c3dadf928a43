//! One run, whole: the verdict and all that it rests on.

use brim_trial::event::{Crash, Stuck, VerdictEvent};
use brim_trial::plan::{Device, Fill};
use brim_trial::{Event, Verdict};

use super::facts::{self, CounterRow, FaultRow, LogLine, RequestRow, TicketRow};
use super::numbers;
use super::sets::Set;
use super::svg::Svg;
use super::text;
use super::timeline::{Timeline, timeline};
use crate::verdict::{counts, expectation};

/// Trials that are drawn one by one.
const TRIALS_MAX: usize = 400;

/// A run, for its template.
#[derive(Debug)]
pub(super) struct RunPage {
    pub(super) id: String,
    pub(super) scenario: String,
    pub(super) claim: String,
    pub(super) source: String,
    pub(super) class: &'static str,
    pub(super) verdict: String,
    pub(super) counts: String,
    pub(super) expectation: String,
    pub(super) symptom: String,
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) params: Vec<(String, String)>,
    pub(super) is_whole: bool,
    pub(super) trial: u32,
    pub(super) trials: Option<String>,
    pub(super) steps: Vec<String>,
    pub(super) free: Option<String>,
    pub(super) stuck: Vec<String>,
    pub(super) crash: Option<(String, Vec<String>)>,
    pub(super) timeline: Option<Timeline>,
    pub(super) counters: Vec<CounterRow>,
    pub(super) unchanged: usize,
    pub(super) requests: Vec<RequestRow>,
    pub(super) several_disks: bool,
    pub(super) tickets: Vec<TicketRow>,
    pub(super) faults: Vec<FaultRow>,
    pub(super) log: Vec<LogLine>,
    pub(super) mount: Option<&'static str>,
    pub(super) missing: Vec<String>,
    pub(super) command: String,
}

/// How a verdict is drawn.
pub(super) const fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Reproduced => "hit",
        Verdict::NotReproduced => "miss",
        Verdict::Inconclusive => "open",
    }
}

impl RunPage {
    pub(super) fn of(index: usize, set: &Set<'_>) -> Self {
        let VerdictEvent { verdict, kernel, filesystem, rig, seed, seconds, command, .. } = &set.verdict;
        let (events, trial) = (set.events, set.representative());
        let plan = set.run.plan.as_deref();
        let mut facts = vec![
            ("kernel", text(kernel)),
            ("filesystem", filesystem.to_string()),
            ("rig", text(rig)),
            ("seed", format!("{seed:#x}")),
        ];
        if let Some(plan) = plan {
            let disk = |device: &Device| {
                let cache = if device.write_cache { ", with a write cache" } else { "" };
                let spare = if device.in_filesystem { "" } else { ", a spare" };
                let name = if plan.devices.len() > 1 { format!("{}: ", device.name) } else { String::new() };
                text(&format!("{name}{}{cache}{spare}", device.size))
            };
            let disks: Vec<String> = plan.devices.iter().map(disk).collect();
            facts.push((if disks.len() > 1 { "disks" } else { "disk" }, disks.join("; ")));
            let Fill { data_free, metadata_free } = plan.prepare.fill;
            let blocks = brim_trial::judge::blocks;
            facts.extend(data_free.map(|free| ("filled to", format!("{} free for data", blocks(free)))));
            facts.extend(
                metadata_free.map(|free| ("filled to", format!("{} free for metadata", blocks(free)))),
            );
        }
        if *seconds > 0.0 {
            facts.push(("took", format!("{seconds:.1}\u{202f}s")));
        }
        let (counters, requests) = (facts::counters(events, trial), facts::requests(events, trial));
        let evidence = crate::evidence::lines(events, trial, crate::Style::PLAIN);
        Self {
            id: format!("run-{}", index + 1),
            scenario: text(&set.run.scenario),
            claim: plan.map_or_else(String::new, |plan| text(&plan.claim)),
            source: plan.map_or_else(String::new, |plan| text(&plan.source)),
            class: class(*verdict),
            verdict: verdict.to_string(),
            counts: counts(&set.verdict),
            expectation: expectation(&set.verdict),
            symptom: text(&set.signature()),
            facts,
            params: set.run.params.iter().map(|(name, value)| (text(name), text(value))).collect(),
            is_whole: set.is_whole,
            trial,
            trials: trials(set, trial),
            steps: evidence
                .iter()
                .filter_map(|line| line.strip_prefix("steps "))
                .map(|line| text(line.trim()))
                .collect(),
            free: facts::free(events, trial),
            stuck: events.iter().filter_map(|event| stuck(event, trial)).collect(),
            crash: events.iter().find_map(|event| crash(event, trial)),
            timeline: timeline(events, trial),
            unchanged: counters.iter().filter(|row| !row.changed).count(),
            counters,
            several_disks: requests.iter().any(|row| !row.device.is_empty()),
            requests,
            tickets: facts::tickets(events, trial),
            faults: facts::faults(plan, events, trial),
            log: facts::log(events, trial),
            mount: events.iter().find_map(|event| mount(event, trial)),
            missing: missing(events),
            command: text(command),
        }
    }
}

fn stuck(event: &Event, trial: u32) -> Option<String> {
    let Event::Stuck(Stuck { trial: of, what, limit, held, waiting_in }) = event else { return None };
    let held = if held.is_empty() { "no request".to_owned() } else { held.join("; ") };
    let waiting =
        waiting_in.as_ref().map(|functions| format!("; it slept in {functions}")).unwrap_or_default();
    let limit = numbers::duration(*limit);
    let told = format!("{what} did not end within {limit}{waiting}; the disk held {held}");
    (*of == trial || *of == 0).then(|| text(&told))
}

fn crash(event: &Event, trial: u32) -> Option<(String, Vec<String>)> {
    match event {
        Event::Crash(Crash { trial: of, how, last_words }) if *of == trial => {
            Some((text(how), last_words.iter().map(|line| text(line)).collect()))
        }
        _ => None,
    }
}

fn mount(event: &Event, trial: u32) -> Option<&'static str> {
    match event {
        Event::Mount { trial: of, read_only } if *of == trial => {
            Some(if *read_only { "read-only" } else { "read-write" })
        }
        _ => None,
    }
}

fn missing(events: &[Event]) -> Vec<String> {
    let mut lines = Vec::new();
    for event in events {
        if let Event::Missing { evidence, why } = event {
            let line = text(&format!("{evidence}: {why}"));
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    lines
}

/// A mark for each trial, in order.
fn trials(set: &Set<'_>, shown: u32) -> Option<String> {
    const SIDE: f64 = 12.0;
    const IN_ROW: usize = 50;
    let trials: Vec<_> = set.trials().collect();
    if trials.len() < 2 || trials.len() > TRIALS_MAX {
        return None;
    }
    let mut svg = Svg::new();
    let number = |number: usize| f64::from(u32::try_from(number).unwrap_or(0));
    for (index, trial) in trials.iter().enumerate() {
        let place =
            (2.0 + number(index % IN_ROW) * (SIDE + 4.0), 2.0 + number(index / IN_ROW) * (SIDE + 4.0));
        let title = format!("trial {}: {}", trial.trial, trial.verdict);
        svg.mark(class(trial.verdict), place, SIDE, &title);
        if trial.trial == shown {
            svg.rect("shown", (place.0 - 2.0, place.1 - 2.0), (SIDE + 4.0, SIDE + 4.0), "");
        }
    }
    let width = 4.0 + number(trials.len().min(IN_ROW)) * (SIDE + 4.0);
    let height = 4.0 + number(trials.len().div_ceil(IN_ROW)) * (SIDE + 4.0);
    let label = format!("The verdicts of {} trials in order: {}", trials.len(), counts(&set.verdict));
    Some(svg.finish_sized("trials", (width, height), &label))
}
