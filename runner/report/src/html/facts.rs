//! What was seen of one trial, as rows of tables.

use std::collections::BTreeMap;

use brim_trial::event::{KernelLogLine, RequestCount, When};
use brim_trial::judge::blocks;
use brim_trial::{Counters, Event, Plan};

use super::lateness::Late;
use super::numbers::{bytes, change, grouped};
use super::text;

/// A counter before and after.
#[derive(Debug)]
pub(super) struct CounterRow {
    pub(super) name: String,
    pub(super) before: String,
    pub(super) after: String,
    pub(super) change: String,
    pub(super) changed: bool,
}

/// Requests of one operation.
#[derive(Debug)]
pub(super) struct RequestRow {
    /// The disk, where there are several.
    pub(super) device: String,
    pub(super) op: String,
    pub(super) requests: String,
    pub(super) bytes: String,
}

/// Reservations that were refused.
#[derive(Debug)]
pub(super) struct TicketRow {
    pub(super) space: String,
    pub(super) bytes: String,
    pub(super) errno: String,
    pub(super) count: String,
}

/// A row of the fault table.
#[derive(Debug)]
pub(super) struct FaultRow {
    pub(super) name: String,
    pub(super) words: String,
    pub(super) matches: String,
    pub(super) firings: String,
    pub(super) idle: bool,
    pub(super) overdue: bool,
    pub(super) late: Option<Late>,
}

/// A line of the kernel log.
#[derive(Debug)]
pub(super) struct LogLine {
    pub(super) level: &'static str,
    pub(super) class: &'static str,
    pub(super) text: String,
}

fn reading(events: &[Event], trial: u32, wanted: When) -> Option<&Counters> {
    events.iter().find_map(|event| match event {
        Event::Counters { trial: of, when, counters, .. } if *of == trial && *when == wanted => {
            Some(counters)
        }
        _ => None,
    })
}

/// `66 blocks → 0 blocks`.
pub(super) fn free(events: &[Event], trial: u32) -> Option<String> {
    let before = reading(events, trial, When::Before)?;
    let after = reading(events, trial, When::After).map(|after| format!(" → {}", blocks(after.data_free)));
    Some(format!("{}{}", blocks(before.data_free), after.unwrap_or_default()))
}

pub(super) fn counters(events: &[Event], trial: u32) -> Vec<CounterRow> {
    let Some(before) = reading(events, trial, When::Before) else { return Vec::new() };
    let nothing = Counters::default();
    let after = reading(events, trial, When::After);
    let row = |name: &String| {
        let (was, is) = (value(before, name), value(after.unwrap_or(&nothing), name));
        CounterRow {
            name: text(name),
            before: bytes(was),
            after: if after.is_some() { bytes(is) } else { "not seen".to_owned() },
            change: if after.is_some() { change(was, is) } else { String::new() },
            changed: after.is_some() && was != is,
        }
    };
    before.values.keys().map(row).collect()
}

fn value(counters: &Counters, name: &str) -> brim_trial::Bytes {
    counters.values.get(name).copied().unwrap_or_default()
}

pub(super) fn requests(events: &[Event], trial: u32) -> Vec<RequestRow> {
    let of = |event: &Event| match event {
        Event::Requests { trial: of, phase: None, device, requests } if *of == trial => {
            Some((device.clone().unwrap_or_default(), requests.clone()))
        }
        _ => None,
    };
    let told: Vec<(String, BTreeMap<String, RequestCount>)> = events.iter().filter_map(of).collect();
    let row = |device: &str, op: &str, count: RequestCount| RequestRow {
        device: text(device),
        op: text(op),
        requests: grouped(count.requests),
        bytes: if count.bytes.0 == 0 { String::new() } else { bytes(count.bytes) },
    };
    told.iter()
        .flat_map(|(device, counts)| counts.iter().map(move |(op, count)| row(device, op, *count)))
        .collect()
}

pub(super) fn tickets(events: &[Event], trial: u32) -> Vec<TicketRow> {
    let row = |event: &Event| match event {
        Event::Ticket(ticket) if ticket.trial == trial => Some(TicketRow {
            space: ticket.space.to_string(),
            bytes: bytes(ticket.bytes),
            errno: ticket.errno.to_string(),
            count: grouped(ticket.count),
        }),
        _ => None,
    };
    events.iter().filter_map(row).collect()
}

pub(super) fn faults(plan: Option<&Plan>, events: &[Event], trial: u32) -> Vec<FaultRow> {
    let words = |name: &str| {
        let faults = plan.map_or(&[][..], |plan| plan.faults.as_slice());
        let fault = faults.iter().find(|fault| fault.row.name == name);
        let several = plan.is_some_and(|plan| plan.devices.len() > 1);
        fault.map_or_else(String::new, |fault| {
            let disk = if several { format!(" \"{}\"", fault.device) } else { String::new() };
            format!("the disk{disk} {}", fault.row)
        })
    };
    let row = |event: &Event| match event {
        Event::Fault { trial: of, device: _, row, matches, firings, overdue, lateness } if *of == trial => {
            Some(FaultRow {
                name: text(row),
                words: text(&words(row)),
                matches: grouped(*matches),
                firings: grouped(*firings),
                idle: *firings == 0,
                overdue: *overdue,
                late: lateness.as_ref().map(|lateness| Late::of(row, lateness)),
            })
        }
        _ => None,
    };
    events.iter().filter_map(row).collect()
}

pub(super) fn log(events: &[Event], trial: u32) -> Vec<LogLine> {
    let line = |event: &Event| match event {
        Event::KernelLog(KernelLogLine { trial: of, level, text: words }) if *of == trial => {
            let (level, class) = match level {
                0..=3 => ("error", "error"),
                4 => ("warning", "warning"),
                5 => ("notice", "plain"),
                _ => ("info", "plain"),
            };
            Some(LogLine { level, class, text: text(words) })
        }
        _ => None,
    };
    events.iter().filter_map(line).collect()
}
