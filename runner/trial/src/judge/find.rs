//! Whether a condition holds in a trial, and what that rests on.

use brim_device::Bytes;

use super::seen::{Seen, ending};
use crate::condition::{About, Condition, Measure, Reading, StepCondition};
use crate::event::{Finding, KERNEL_LOG, MAY_USE, SpaceKind, TICKETS};
use crate::filesystem::FilesystemKind;
use crate::limits::{Change, Limits};

/// Whether something holds: `None` where that could not be seen.
type Holds = Option<bool>;

/// What `condition` comes to on a filesystem of this `kind`.
pub(super) fn find(condition: &Condition, seen: &Seen<'_>, kind: FilesystemKind) -> Finding {
    let (holds, found) = look(condition, seen, kind);
    Finding { condition: condition.to_string(), holds, found }
}

fn look(condition: &Condition, seen: &Seen<'_>, kind: FilesystemKind) -> (Holds, String) {
    let (holds, found) = match &condition.about {
        About::Step(step) => ends(step, seen),
        About::Counter { name, at, is } => counter(name, at, is, seen),
        About::MayUse { .. } | About::Tickets { .. } if kind != FilesystemKind::Btrfs => {
            (None, format!("{kind} does not tell of its reservations"))
        }
        About::MayUse { space, change } => may_use(*space, *change, seen),
        About::Tickets { space, errno, times } => {
            let counted = seen.tickets.iter().filter(|ticket| ticket.space == *space);
            let counted = counted.filter(|ticket| errno.is_none_or(|errno| ticket.errno == errno));
            let count = counted.map(|ticket| ticket.count).sum();
            let what = match count {
                1 => format!("1 reservation of {space} space was refused"),
                _ => format!("{count} reservations of {space} space were refused"),
            };
            counted_in_part(*times, count, what, seen.missing(TICKETS))
        }
        About::KernelLog { pattern, times } => {
            let like: Vec<&str> =
                seen.log.iter().map(|line| line.text.as_str()).filter(|text| pattern.matches(text)).collect();
            let count = u64::try_from(like.len()).unwrap_or(u64::MAX);
            let what = match like.first() {
                Some(first) if count > 1 => {
                    format!("the kernel log has {count} such lines, the first: {first}")
                }
                Some(first) => format!("the kernel log has: {first}"),
                None => format!("the kernel log has no new line like `{pattern}`"),
            };
            counted_in_part(*times, count, what, seen.missing(KERNEL_LOG))
        }
        About::Mount { read_only } => match seen.read_only {
            Some(now) => (Some(now == *read_only), format!("the mount is {}", mounted(now))),
            None => (None, "the mount was not there to be looked at".to_owned()),
        },
        About::Requests { op, phase, times, bytes } => match seen.requests(*phase, op) {
            Some(count) => {
                let fits = times.is_none_or(|limits| limits.contain(count.requests))
                    && bytes.is_none_or(|limits| limits.contain(count.bytes.0));
                let when = phase.map(|phase| format!("in phase {}, ", phase + 1)).unwrap_or_default();
                let bytes =
                    if count.bytes.0 > 0 { format!(", {} B together", count.bytes.0) } else { String::new() };
                (Some(fits), format!("{when}the disk got {op} ×{}{bytes}", count.requests))
            }
            None => (None, "the requests of the disk were not counted".to_owned()),
        },
        About::Fault { row, times } => {
            let count = seen.firings(row);
            (Some(times.contain(count)), format!("\"{row}\" fired {count} times"))
        }
        About::Crash { pattern } => match seen.crash {
            Some(crash) => {
                let mut lines = crash.last_words.iter().chain([&crash.how]);
                let line = lines.find(|line| pattern.matches(line));
                (Some(line.is_some()), format!("the kernel crashed: {}", line.unwrap_or(&crash.how)))
            }
            None => (Some(false), "the kernel lived".to_owned()),
        },
        About::Any(alternatives) => any(alternatives, seen, kind),
    };
    (if condition.not { holds.map(|holds| !holds) } else { holds }, found)
}

/// The first that holds; else, if any is open, that.
fn any(alternatives: &[Condition], seen: &Seen<'_>, kind: FilesystemKind) -> (Holds, String) {
    let found: Vec<(Holds, String)> =
        alternatives.iter().map(|alternative| look(alternative, seen, kind)).collect();
    let first = |wanted: Holds| found.iter().find(|(holds, _)| *holds == wanted).cloned();
    first(Some(true)).or_else(|| first(None)).unwrap_or_else(|| {
        let all: Vec<String> = found.into_iter().map(|(_, found)| found).collect();
        (Some(false), all.join("; "))
    })
}

fn ends(condition: &StepCondition, seen: &Seen<'_>) -> (Holds, String) {
    let (events, count) = seen.matching(condition);
    let step = &condition.step;
    if condition.times.contain(count) {
        let found = match events.first() {
            Some(first) if count > 1 => {
                format!("{step} {} ×{count}, the first at i = {}", ending(first), first.iteration)
            }
            Some(first) => format!("{step} {}, i = {}", ending(first), first.iteration),
            None => seen.endings(step),
        };
        return (Some(true), found);
    }
    // A condition that would hold but for the space, where the tickets that tell it could not all be seen, is open.
    if let (Some(space), Some(why)) = (condition.space, seen.missing(TICKETS)) {
        let but_for_space = StepCondition { space: None, ..condition.clone() };
        if but_for_space.times.contain(seen.matching(&but_for_space).1) {
            return (None, format!("whether {space} was refused under {step} could not be seen ({why})"));
        }
    }
    let times = if count > 0 { format!(" ×{count}") } else { String::new() };
    (Some(false), format!("{}{times}", seen.endings(step)))
}

fn counter(name: &str, at: &Reading, is: &Measure, seen: &Seen<'_>) -> (Holds, String) {
    let value = |reading: &Reading| {
        let counters =
            seen.reading(reading).ok_or_else(|| format!("there is no reading {reading} of the counters"))?;
        counters.value(name).ok_or_else(|| format!("there is no counter {name} here"))
    };
    let judged = match is {
        Measure::Is(limits) => {
            value(at).map(|now| (limits.contain(now.0), format!("{name} is {} B ({at})", now.0)))
        }
        Measure::Changed { since, by } => value(since).and_then(|before| {
            let after = value(at)?;
            let fits = by.fits(before.0.into(), after.0.into());
            Ok((fits, format!("{name} goes from {} B ({since}) to {} B ({at})", before.0, after.0)))
        }),
    };
    match judged {
        Ok((fits, found)) => (Some(fits), found),
        Err(why) => (None, why),
    }
}

fn may_use(space: SpaceKind, change: Change, seen: &Seen<'_>) -> (Holds, String) {
    if let Some(why) = seen.missing(MAY_USE) {
        return (None, format!("what the kernel added to {space}.may_use could not all be seen ({why})"));
    }
    let Some(found) = seen.may_use.iter().find(|may_use| may_use.space == space) else {
        return (None, format!("what the kernel added to {space}.may_use was not recorded"));
    };
    let (Bytes(added), Bytes(taken)) = (found.added, found.taken);
    let sum = i128::from(added) - i128::from(taken);
    let sign = if sum < 0 { "−" } else { "+" };
    let what = format!(
        "{space}.may_use: added {added} B, taken {taken} B, sum {sign}{} B in {} updates",
        sum.unsigned_abs(),
        found.updates
    );
    (Some(change.fits(0, sum)), what)
}

/// Where not all could be seen (`missing` says why), what was seen may settle it all the same.
fn counted_in_part(limits: Limits, count: u64, what: String, missing: Option<&str>) -> (Holds, String) {
    match missing {
        None => (Some(limits.contain(count)), what),
        Some(why) => match limits.contain_at_least(count) {
            Some(settled) => (Some(settled), what),
            None => (None, format!("{what}, as far as could be seen ({why})")),
        },
    }
}

fn mounted(read_only: bool) -> &'static str {
    if read_only { "read-only" } else { "read-write" }
}
