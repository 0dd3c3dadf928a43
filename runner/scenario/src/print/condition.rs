//! What has to hold for a bug to be there.

use brim_trial::condition::{
    About, Condition, Content, ExtentLimits, Measure, Outcome, Reading, StepCondition,
};
use brim_trial::limits::{Change, Limits};
use brim_trial::{Errno, Phase};

use super::value::{Table, limits_of_bytes, limits_of_count, list, string};

/// The keys of an entry and their values. `phases` have the names that it may speak of.
pub(super) fn pairs(condition: &Condition, phases: &[Phase]) -> Vec<(&'static str, String)> {
    let Condition { about, not } = condition;
    let mut pairs = self::about(about, phases);
    if *not {
        pairs.push(("not", "true".to_owned()));
    }
    pairs
}

fn about(about: &About, phases: &[Phase]) -> Vec<(&'static str, String)> {
    match about {
        About::Step(step) => ends(step),
        About::Counter { name, at, is } => counter(name, at, is),
        About::MayUse { space, change } => {
            vec![("sum", string(&format!("{space}.may_use"))), self::change(*change)]
        }
        About::Tickets { space, errno, times } => {
            let mut pairs = vec![("ticket", string(&space.to_string()))];
            pairs.extend(error(*errno));
            pairs.extend(self::times(*times));
            pairs
        }
        About::KernelLog { pattern, times } => {
            let mut pairs = vec![("kernel_log", string(&pattern.to_string()))];
            pairs.extend(self::times(*times));
            pairs
        }
        About::Mount { read_only } => {
            vec![("mount", string(if *read_only { "read-only" } else { "read-write" }))]
        }
        About::Requests { op, phase, times, bytes } => {
            let mut pairs = vec![("requests", string(op))];
            let phase = phase.and_then(|phase| phases.get(phase));
            pairs.extend(phase.map(|phase| ("phase", string(&phase.name))));
            pairs.extend(times.map(|times| ("times", limits_of_count(times))));
            pairs.extend(bytes.map(|bytes| ("bytes", limits_of_bytes(bytes))));
            pairs
        }
        About::Fault { row, times } => {
            let mut pairs = vec![("fault", string(row))];
            pairs.extend(self::times(*times));
            pairs
        }
        About::Crash { pattern } => vec![("crash", string(&pattern.to_string()))],
        About::Any(alternatives) => {
            let alternatives = alternatives.iter().map(|alternative| {
                let mut table = Table::new();
                for (key, value) in pairs(alternative, phases) {
                    table.key(key, value);
                }
                table.text()
            });
            vec![("any", list(alternatives))]
        }
    }
}

fn ends(condition: &StepCondition) -> Vec<(&'static str, String)> {
    let StepCondition { step, outcome, errno, signal, space, content, short, extents, times } = condition;
    let mut pairs = vec![("step", string(step))];
    // What it is where nothing is said depends on whether there are extents to look at.
    match (outcome, extents) {
        (Outcome::Ok, None) => pairs.push(("outcome", string("ok"))),
        (Outcome::Fails, Some(_)) => pairs.push(("outcome", string("fails"))),
        (Outcome::Ok, Some(_)) | (Outcome::Fails, None) => {}
    }
    pairs.extend(error(*errno));
    pairs.extend(signal.map(|signal| ("signal", string(&signal.to_string()))));
    pairs.extend(space.map(|space| ("space", string(&space.to_string()))));
    pairs.extend(content.map(|Content::Lost| ("content", string("lost"))));
    pairs.extend(short.map(|short| ("short", limits_of_bytes(short))));
    pairs.extend(extents.map(|extents| ("extents", self::extents(extents))));
    pairs.extend(self::times(*times));
    pairs
}

fn extents(ExtentLimits { count, shared, unwritten }: ExtentLimits) -> String {
    let mut table = Table::new();
    for (key, limits) in [("count", count), ("shared", shared), ("unwritten", unwritten)] {
        table.some(key, limits.map(limits_of_count));
    }
    table.text()
}

fn counter(name: &str, at: &Reading, is: &Measure) -> Vec<(&'static str, String)> {
    let mut pairs = vec![("counter", string(name))];
    match is {
        Measure::Is(limits) => pairs.push(("is", limits_of_bytes(*limits))),
        Measure::Changed { since, by } => {
            pairs.push(change(*by));
            if *since != Reading::Before {
                pairs.push(("since", reading(since)));
            }
        }
    }
    if *at != Reading::After {
        pairs.push(("at", reading(at)));
    }
    pairs
}

fn reading(reading: &Reading) -> String {
    match reading {
        Reading::Before => string("before"),
        Reading::After => string("after"),
        Reading::Step(name) => string(name),
    }
}

fn change(change: Change) -> (&'static str, String) {
    match change {
        Change::Grew(limits) => ("grew", limits_of_bytes(limits)),
        Change::Shrank(limits) => ("shrank", limits_of_bytes(limits)),
        Change::Unchanged => ("unchanged", "true".to_owned()),
    }
}

fn error(errno: Option<Errno>) -> Option<(&'static str, String)> {
    errno.map(|errno| ("errno", string(&errno.to_string())))
}

fn times(times: Limits) -> Option<(&'static str, String)> {
    (times != Limits::SOME).then(|| ("times", limits_of_count(times)))
}
