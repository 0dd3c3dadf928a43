//! The evidence of one trial, or of a program, line by line.

use brim_trial::event::{
    Crash, Found, KERNEL_LOG, KernelLogLine, Lateness, Lost, Prepared, Problem, Program, RequestCount, Said,
    StepEvent, Stuck, Ticket, TooFew, When,
};
use brim_trial::judge::blocks;
use brim_trial::{Bytes, Counters, Event, Nanos};

use crate::style::Style;

/// How wide the name of a finding is.
pub(crate) const LABEL: usize = 11;
/// Lines of the kernel log that are shown; the journal has all of them.
const LOG_LINES_MAX: usize = 12;
/// syslog(2)'s level of a warning: what is below speaks of an error.
const WARNING: u8 = 4;

/// The evidence that `events` hold of `trial`, one finding a line, without indentation.
#[must_use]
pub fn lines(events: &[Event], trial: u32, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(steps(events, trial));
    lines.extend(events.iter().filter_map(|event| match event {
        Event::Stuck(found) if found.trial == trial || found.trial == 0 => Some(stuck(found)),
        Event::Program(program) => Some(ran(program)),
        _ => None,
    }));
    lines.extend(events.iter().flat_map(|event| match event {
        Event::Crash(found) if found.trial == trial => crash(found, style),
        _ => Vec::new(),
    }));
    lines.extend(space(events, trial));
    lines.extend(tickets(events, trial));
    lines.extend(requests(events, trial));
    lines.extend(faults(events, trial));
    lines.extend(kernel_log(events, trial, style));
    lines.extend(mount(events, trial));
    lines.extend(missing(events));
    lines
}

/// How the kernel ended, and what it printed last.
fn crash(crash: &Crash, style: Style) -> Vec<String> {
    let lines = &crash.last_words;
    // A panic says first what it is about; without one, the end says most.
    let panic = lines.iter().position(|line| line.contains(&crash.how));
    let first = panic.unwrap_or(lines.len().saturating_sub(LOG_LINES_MAX));
    let words = lines.iter().skip(first).take(LOG_LINES_MAX).map(|line| label("", style.faint(line)));
    std::iter::once(label("crash", style.strong(&crash.how))).chain(words).collect()
}

fn label(name: &str, text: impl std::fmt::Display) -> String {
    format!("{name:<LABEL$} {text}")
}

/// `fallocate ok ×3, pwrite ok ×2, fsync ok ×2, then pwrite64 of … = ENOSPC`.
fn steps(events: &[Event], trial: u32) -> Vec<String> {
    let mut lines = Vec::new();
    for event in events {
        let Event::Phase { trial: of, phase, completed } = event else { continue };
        if *of != trial {
            continue;
        }
        let of_phase = |event: &&StepEvent| event.trial == trial && event.phase == *phase;
        let seen: Vec<&StepEvent> = events.iter().filter_map(step).filter(of_phase).collect();
        let mut parts: Vec<String> = Vec::new();
        for (index, count) in completed.iter().enumerate() {
            let name = seen.iter().find(|step| step.index == index).map(|step| step.step.as_str());
            if let (Some(name), 1..) = (name, *count) {
                parts.push(format!("{name} ok ×{count}"));
            }
        }
        for failed in seen.iter().filter(|step| step.failed()) {
            let then = if parts.is_empty() { "" } else { "then " };
            parts.push(format!("{then}{}", failure(failed)));
        }
        lines.push(label("steps", if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }));
        lines.extend(seen.iter().flat_map(|step| said(step)));
        lines.extend(seen.iter().filter_map(|step| reported(step)));
    }
    lines
}

fn step(event: &Event) -> Option<&StepEvent> {
    match event {
        Event::Step(step) => Some(step),
        _ => None,
    }
}

/// `pwrite64(blob, 132096 B at 264192 B) = ENOSPC after 131072 B, data reservation refused`.
#[must_use]
pub fn failure(step: &StepEvent) -> String {
    // An ioctl on the whole filesystem is told apart by what it is for.
    let whole = if step.syscall == "ioctl" { step.step.as_str() } else { "" };
    let file = step.file.as_deref().unwrap_or(whole);
    let range =
        step.range.map(|range| format!(", {} B at {}", range.length.0, range.offset.0)).unwrap_or_default();
    let result = match (step.errno, step.returned) {
        _ if step.problem.is_some() => problem(step),
        (Some(errno), _) => errno.to_string(),
        (None, Some(returned)) => returned.to_string(),
        (None, None) => "?".to_owned(),
    };
    let short = step.short.map(|short| format!(" after {} B", short.0)).unwrap_or_default();
    let space = match step.space {
        Some(space) if step.space_counted => format!(", {space} space too small by the counters"),
        Some(space) => format!(", {space} reservation refused"),
        None => String::new(),
    };
    let by = step.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    format!("{}({file}{range}) = {result}{short}{space}{by}, i = {}", step.syscall, step.iteration)
}

/// `65536 B lost from 0 on: zeroes stand there`.
fn problem(step: &StepEvent) -> String {
    match &step.problem {
        None => String::new(),
        Some(Problem::Lost(Lost { first, bytes, found })) => {
            let found = match found {
                Found::Zeroes => "zeroes stand there",
                Found::End => "the file ends before",
                Found::Other => "other bytes stand there",
            };
            format!("{} B lost, the first at {}: {found}", bytes.0, first.0)
        }
        Some(Problem::Unclean(Said { exit, .. })) => format!("exit {exit}"),
        Some(Problem::TooFew(TooFew { wanted, held })) => format!("{held} requests held, {wanted} wanted"),
    }
}

/// `balance     enospc_errors 2, considered 3`.
fn reported(step: &StepEvent) -> Option<String> {
    let numbers: Vec<String> =
        step.reported.iter().map(|(name, number)| format!("{name} {number}")).collect();
    (!numbers.is_empty()).then(|| label(&step.step, numbers.join(", ")))
}

/// What the program of a step said that failed.
fn said(step: &StepEvent) -> Vec<String> {
    let Some(Problem::Unclean(Said { lines, .. })) = &step.problem else { return Vec::new() };
    let mut shown: Vec<String> =
        lines.iter().take(LOG_LINES_MAX).map(|line| label(&step.step, line)).collect();
    if lines.len() > LOG_LINES_MAX {
        let more = format!("… and {} lines more in the journal", lines.len() - LOG_LINES_MAX);
        shown.push(label(&step.step, more));
    }
    shown
}

fn stuck(stuck: &Stuck) -> String {
    let seconds = std::time::Duration::from_nanos(stuck.limit.0).as_secs_f64();
    let waiting = stuck.waiting_in.iter().map(|functions| format!(", waiting in {functions}"));
    let held = if stuck.held.is_empty() { "no request".to_owned() } else { stuck.held.join("; ") };
    let waiting: String = waiting.collect();
    label("stuck", format!("{} did not end within {seconds} s{waiting}; the disk held {held}", stuck.what))
}

fn ran(program: &Program) -> String {
    let end = match program.exit {
        code @ 129..=192 => format!("exit {code} (128 + signal {})", code - 128),
        code => format!("exit {code}"),
    };
    let failed = match &program.no_space {
        None => String::new(),
        Some(counts) if counts.is_empty() => "; no system call failed with ENOSPC".to_owned(),
        Some(counts) => {
            let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} ×{count}")).collect();
            format!("; ENOSPC from {}", counts.join(", "))
        }
    };
    label("program", format!("{end}{failed}"))
}

fn reading(events: &[Event], trial: u32, wanted: When) -> Option<&Counters> {
    events.iter().find_map(|event| match event {
        Event::Counters { trial: of, when, counters } if *of == trial && *when == wanted => Some(counters),
        _ => None,
    })
}

fn space(events: &[Event], trial: u32) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(before) = reading(events, trial, When::Before) else { return lines };
    let free = |counters: &Counters| blocks(counters.data_free);
    let Some(after) = reading(events, trial, When::After) else {
        lines.push(label("data free", free(before)));
        return lines;
    };
    lines.push(label("data free", format!("{} → {}", free(before), free(after))));
    if let (true, Some(before), Some(after)) =
        (metadata_wanted(events), before.metadata_free(), after.metadata_free())
    {
        lines.push(label("meta free", format!("{} → {}", blocks(before), blocks(after))));
    }
    let changes: Vec<String> =
        before.changes(after).iter().map(|c| format!("{} {}", c.name, signed(c.before, c.after))).collect();
    if !changes.is_empty() {
        lines.push(label("counters", changes.join(", ")));
    }
    lines
}

/// `+270336 B`.
fn signed(before: Bytes, after: Bytes) -> String {
    match after.0.checked_sub(before.0) {
        Some(more) => format!("+{more} B"),
        None => format!("−{} B", before.0 - after.0),
    }
}

fn tickets(events: &[Event], trial: u32) -> Vec<String> {
    let tickets = events.iter().filter_map(|event| match event {
        Event::Ticket(ticket) if ticket.trial == trial => Some(ticket),
        _ => None,
    });
    let text: Vec<String> = tickets
        .map(|Ticket { space, bytes, errno, count, .. }| format!("{space} {} B = {errno} ×{count}", bytes.0))
        .collect();
    if text.is_empty() { Vec::new() } else { vec![label("tickets", text.join(", "))] }
}

/// Whether the scenario asks for a level of metadata.
fn metadata_wanted(events: &[Event]) -> bool {
    events
        .iter()
        .any(|event| matches!(event, Event::Prepared(Prepared { metadata_free_wanted: Some(_), .. })))
}

fn requests(events: &[Event], trial: u32) -> Vec<String> {
    let told = events.iter().filter_map(|event| match event {
        Event::Requests { trial: of, device, requests } if *of == trial => {
            let part = |(op, count): (&String, &RequestCount)| match count.bytes.0 {
                0 => format!("{op} ×{}", count.requests),
                bytes => format!("{op} ×{} ({bytes} B)", count.requests),
            };
            let parts: Vec<String> = requests.iter().map(part).collect();
            let parts = if parts.is_empty() { "no request".to_owned() } else { parts.join(", ") };
            let disk = device.as_ref().map(|device| format!("`{device}` "));
            Some(label("disk", format!("{}{parts}", disk.unwrap_or_default())))
        }
        _ => None,
    });
    told.collect()
}

fn faults(events: &[Event], trial: u32) -> Vec<String> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Fault { trial: of, device, row, matches, firings, overdue, lateness } if *of == trial => {
                let idle =
                    if *firings == 0 { ": it never fired, so this trial says nothing of it" } else { "" };
                let overdue =
                    if *overdue { "; its gate opened by itself when its limit was over" } else { "" };
                let late = lateness.map(|Lateness { p50, p99, max, .. }| {
                    let [p50, p99, max] = [p50, p99, max].map(microseconds);
                    format!("; late by {p50} at the median, {p99} at the 99th percentile, {max} at most")
                });
                let late = late.unwrap_or_default();
                let on = device.as_ref().map(|device| format!(" on `{device}`")).unwrap_or_default();
                Some(label(
                    "fault",
                    format!("\"{row}\"{on} matched {matches}, fired {firings}{idle}{overdue}{late}"),
                ))
            }
            _ => None,
        })
        .collect()
}

/// `13 µs`.
fn microseconds(nanos: Nanos) -> String {
    format!("{} µs", nanos.0.div_ceil(1_000))
}

fn kernel_log(events: &[Event], trial: u32, style: Style) -> Vec<String> {
    let found: Vec<&KernelLogLine> = events
        .iter()
        .filter_map(|event| match event {
            Event::KernelLog(line) if line.trial == trial => Some(line),
            _ => None,
        })
        .collect();
    let mut lines: Vec<String> = found
        .iter()
        .take(LOG_LINES_MAX)
        .map(|line| {
            let text = if line.level < WARNING { style.strong(&line.text) } else { line.text.clone() };
            label("kernel log", text)
        })
        .collect();
    // The mount is looked at last: whoever saw it saw the log before it.
    let looked = mount(events, trial).is_some() && !unseen(events, KERNEL_LOG);
    if found.is_empty() && looked {
        lines.push(label("kernel log", "nothing new"));
    }
    if found.len() > LOG_LINES_MAX {
        lines.push(label(
            "kernel log",
            format!("… and {} lines more in the journal", found.len() - LOG_LINES_MAX),
        ));
    }
    lines
}

fn mount(events: &[Event], trial: u32) -> Option<String> {
    events.iter().find_map(|event| match event {
        Event::Mount { trial: of, read_only } if *of == trial => {
            Some(label("mount", if *read_only { "read-only" } else { "read-write" }))
        }
        _ => None,
    })
}

fn unseen(events: &[Event], wanted: &str) -> bool {
    events.iter().any(|event| matches!(event, Event::Missing { evidence, .. } if evidence == wanted))
}

fn missing(events: &[Event]) -> Vec<String> {
    let mut lines = Vec::new();
    for event in events {
        let Event::Missing { evidence, why } = event else { continue };
        let line = label("not seen", format!("{evidence}: {why}"));
        // Each trial says so by itself.
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}
