//! Statistics in the text format of Prometheus, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::fmt::{Display, Write};

use super::{LatenessSummary, Status};
use crate::Nanos;
use crate::fault::Op;

/// A name of a label and its value, not escaped yet.
type Label<'a> = (&'static str, &'a str);

/// A name, what it is, and its value.
type Gauge = (&'static str, &'static str, fn(&Status) -> u64);

/// All disks as one text: counters of requests and of rows, gauges of what is now, and for rows that delay a histogram.
#[must_use]
pub fn prometheus(disks: &[Status]) -> String {
    let mut text = Text(String::new());
    requests(disks, &mut text);
    rows(disks, &mut text);
    space(disks, &mut text);
    gauges(disks, &mut text);
    lateness(disks, &mut text);
    text.0
}

fn requests(disks: &[Status], text: &mut Text) {
    text.family("brim_requests_total", "counter", "Requests, held and failed ones included.");
    for (disk, op) in each(disks, &Op::ALL) {
        let labels = [("export", disk.export.as_str()), ("op", op.name())];
        text.sample("brim_requests_total", &labels, disk.requests.of(*op).requests);
    }
    text.family("brim_request_bytes_total", "counter", "The lengths of those requests.");
    for (disk, op) in each(disks, &Op::ALL) {
        let labels = [("export", disk.export.as_str()), ("op", op.name())];
        text.sample("brim_request_bytes_total", &labels, disk.requests.of(*op).bytes.0);
    }
}

fn each<'a, T>(disks: &'a [Status], others: &'a [T]) -> impl Iterator<Item = (&'a Status, &'a T)> {
    disks.iter().flat_map(move |disk| others.iter().map(move |other| (disk, other)))
}

fn rows(disks: &[Status], text: &mut Text) {
    let all = || disks.iter().flat_map(|disk| disk.faults.iter().map(move |fault| (disk, fault)));
    text.family("brim_fault_matches_total", "counter", "Requests that a row of the fault table is about.");
    for (disk, fault) in all() {
        let labels = [("export", disk.export.as_str()), ("fault", fault.row.name.as_str())];
        text.sample("brim_fault_matches_total", &labels, fault.matches);
    }
    text.family("brim_fault_firings_total", "counter", "Requests that a row did something to.");
    for (disk, fault) in all() {
        let labels = [("export", disk.export.as_str()), ("fault", fault.row.name.as_str())];
        text.sample("brim_fault_firings_total", &labels, fault.firings);
    }
}

fn space(disks: &[Status], text: &mut Text) {
    let name = "brim_without_space_total";
    text.family(name, "counter", "Requests that needed more space than the pool had.");
    for disk in disks {
        text.sample(name, &[("export", &disk.export)], disk.without_space);
    }
}

fn gauges(disks: &[Status], text: &mut Text) {
    let gauges: [Gauge; 5] = [
        ("brim_held", "Requests that wait at gates.", |disk| disk.held),
        ("brim_delayed", "Requests that wait for their time.", |disk| disk.delayed),
        ("brim_dirty_bytes", "What a power cut would undo.", |disk| disk.dirty.0),
        ("brim_allocated_bytes", "What the blocks of the disk take.", |disk| disk.allocated.0),
        ("brim_size_bytes", "The size of the disk.", |disk| disk.size.0),
    ];
    for (name, help, value) in gauges {
        text.family(name, "gauge", help);
        for disk in disks {
            text.sample(name, &[("export", &disk.export)], value(disk));
        }
    }
}

fn lateness(disks: &[Status], text: &mut Text) {
    text.family(
        "brim_lateness_seconds",
        "histogram",
        "How much later than asked delayed requests were answered.",
    );
    for disk in disks {
        for fault in &disk.faults {
            if let Some(lateness) = &fault.lateness {
                histogram(&disk.export, &fault.row.name, lateness, text);
            }
        }
    }
}

fn histogram(export: &str, fault: &str, lateness: &LatenessSummary, text: &mut Text) {
    let labels = [("export", export), ("fault", fault)];
    for (bound, count) in &lateness.within {
        let bound = seconds(*bound);
        text.sample("brim_lateness_seconds_bucket", &[&labels[..], &[("le", &bound)]].concat(), count);
    }
    text.sample("brim_lateness_seconds_bucket", &[&labels[..], &[("le", "+Inf")]].concat(), lateness.count);
    text.sample("brim_lateness_seconds_sum", &labels, seconds(lateness.sum));
    text.sample("brim_lateness_seconds_count", &labels, lateness.count);
}

/// As a decimal number, to the nanosecond.
fn seconds(nanos: Nanos) -> String {
    let (whole, rest) = (nanos.0 / 1_000_000_000, nanos.0 % 1_000_000_000);
    let text = format!("{whole}.{rest:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

struct Text(String);

impl Text {
    /// "Only one TYPE line may exist for a given metric name", and it "must appear before the first sample".
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[Label<'_>], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        self.line(format_args!("{name}{{{}}} {value}", labels.join(",")));
    }

    fn line(&mut self, line: impl Display) {
        let _text_takes_all = writeln!(self.0, "{line}");
    }
}

/// "`label_value` can be any sequence of UTF-8 characters, but the backslash, double-quote, and line feed characters have to be
/// escaped".
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
