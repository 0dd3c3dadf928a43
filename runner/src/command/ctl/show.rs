//! Answers for people.

use std::fmt::Write;

use brim_device::control::{Answer, Command, ExportStatus, Fault, Held, Region, Status, WhenFull};
use brim_device::fault::{Op, Row, Then};
use brim_device::{Bytes, Nanos};
use brim_report::Style;

/// What a command came to, in lines.
pub(super) fn lines(asked: &Command, answer: &Answer, style: Style) -> Vec<String> {
    match answer {
        Answer::Done => done(asked).into_iter().collect(),
        Answer::Faults(faults) => table(&fault_rows(faults), "there are no faults", style),
        Answer::Removed(fault) => {
            vec![format!("removed {}: {} matches, {} firings", fault.row.name, fault.matches, fault.firings)]
        }
        Answer::Regions(regions) => table(&region_rows(regions), "there are no regions", style),
        Answer::Waiting(count) => vec![format!("{} held", requests(*count))],
        Answer::Held(held) => table(&held_rows(held), "nothing is held", style),
        Answer::Released(count) => vec![format!("{} let go", requests(*count))],
        Answer::LostBytes(lost) => vec![format!("lost {lost}")],
        Answer::CutSectors(cut) => {
            vec![format!("sectors: {} lost, {} kept, {} torn", cut.lost, cut.kept, cut.torn)]
        }
        Answer::Snapshots(names) if names.is_empty() => vec!["there are no snapshots".to_owned()],
        Answer::Snapshots(names) => names.clone(),
        Answer::Forked(took) => vec![format!("forked in {}", time(*took))],
        Answer::Exports(exports) => table(&export_rows(exports), "there are no exports", style),
        Answer::Stats(status) => stats(status, style),
        other => vec![format!("{other:?}")],
    }
}

/// Most commands need no answer but the exit code.
fn done(asked: &Command) -> Option<String> {
    match asked {
        Command::AddFault(row) => Some(format!("added {}", row.name)),
        Command::Resize { size } => Some(format!("{size}; clients learn of it when they connect again")),
        _ => None,
    }
}

fn requests(count: u64) -> String {
    if count == 1 { "1 request".to_owned() } else { format!("{count} requests") }
}

type Line = Vec<String>;

/// The first line is the head; the columns are as wide as they need.
fn table(rows: &[Line], empty: &str, style: Style) -> Vec<String> {
    if rows.len() <= 1 {
        return vec![empty.to_owned()];
    }
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Line| {
        let mut text = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _text_takes_all = write!(text, "{cell:<width$}  ");
        }
        text.trim_end().to_owned()
    };
    let mut rows = rows.iter();
    let head = rows.next().map(line).map(|head| style.faint(head));
    head.into_iter().chain(rows.map(line)).collect()
}

fn head(words: &[&str]) -> Line {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn fault_rows(faults: &[Fault]) -> Vec<Line> {
    let row = |fault: &Fault| {
        let state = match (&fault.row.then, fault.open, fault.overdue) {
            (_, _, true) => "overdue",
            (_, true, _) => "open",
            (Then::Hold { .. }, ..) => "closed",
            _ => "-",
        };
        let lateness = fault.lateness.as_ref().map_or_else(
            || "-".to_owned(),
            |late| {
                let [p50, p99, max] = [late.p50, late.p99, late.max].map(time);
                format!("p50 {p50}, p99 {p99}, max {max} of {}", late.count)
            },
        );
        vec![
            fault.row.name.clone(),
            when(&fault.row),
            then(&fault.row.then),
            fault.matches.to_string(),
            fault.firings.to_string(),
            state.to_owned(),
            lateness,
        ]
    };
    let first = head(&["NAME", "WHEN", "THEN", "MATCHES", "FIRINGS", "GATE", "LATENESS"]);
    std::iter::once(first).chain(faults.iter().map(row)).collect()
}

/// The conditions of a row, in the words of the language.
fn when(row: &Row) -> String {
    let when = &row.when;
    let ops: Vec<&str> = when.op.named().iter().map(|op| op.name()).collect();
    let mut words = vec![if ops.is_empty() { "any".to_owned() } else { ops.join("+") }];
    let numbers = [("nth", when.nth), ("every", when.every), ("times", when.times)];
    words.extend(when.fua.map(|fua| if fua { "fua".to_owned() } else { "no fua".to_owned() }));
    words.extend(when.range.map(|range| format!("{}+{}", range.offset, range.length)));
    words.extend(when.region.as_ref().map(|region| format!("region {region}")));
    words.extend(when.size.and_then(|size| size.min).map(|min| format!("from {min}")));
    words.extend(when.size.and_then(|size| size.max).map(|max| format!("up to {max}")));
    words.extend(when.while_gate.as_ref().map(|gate| format!("while {gate}")));
    words.extend(numbers.into_iter().filter_map(|(name, number)| Some(format!("{name} {}", number?))));
    words.extend(when.between.map(|(first, last)| format!("{first} to {last}")));
    words.extend(when.probability.map(|ratio| format!("probability {}", ratio.to_f64())));
    words.join(", ")
}

fn then(then: &Then) -> String {
    let more = match then {
        Then::Hold { limit } => limit.map(|limit| format!("for {}", time(limit))),
        Then::Error(error) => Some(error.name().to_owned()),
        Then::Torn { sectors } => sectors.map(|sectors| format!("after {sectors} sectors")),
        Then::Misdirect { by } => Some(format!("by {by}")),
        Then::Flip(flip) => Some(format!("{} bits{}", flip.bits, if flip.at_rest { " at rest" } else { "" })),
        Then::Delay(delay) => Some(latency(delay)),
        Then::Limit(limit) => {
            let unit = if limit.unit == brim_device::fault::Unit::Bytes { "B" } else { "requests" };
            Some(format!("{} {unit}/s", limit.per_second))
        }
        _ => None,
    };
    more.map_or_else(|| then.name().to_owned(), |more| format!("{} {more}", then.name()))
}

fn latency(delay: &brim_device::fault::Delay) -> String {
    use brim_device::fault::Latency;
    match &delay.latency {
        Latency::Fixed(latency) => time(*latency),
        Latency::Uniform { min, max } => format!("{} to {}", time(*min), time(*max)),
        Latency::Normal { mean, .. } => format!("normal around {}", time(*mean)),
        Latency::Exponential { mean } => format!("exponential, mean {}", time(*mean)),
        Latency::Lognormal { median, .. } => format!("lognormal, median {}", time(*median)),
        Latency::Pareto { min, .. } => format!("pareto from {}", time(*min)),
        Latency::Histogram(buckets) => format!("by a histogram of {}", buckets.len()),
    }
}

fn held_rows(held: &[Held]) -> Vec<Line> {
    let row = |held: &Held| {
        let (offset, len) = (held.offset.0.to_string(), held.len.to_string());
        vec![held.id.to_string(), held.gate.clone(), held.op.name().to_owned(), offset, len, time(held.age)]
    };
    let first = head(&["ID", "GATE", "OP", "OFFSET", "LENGTH", "FOR"]);
    std::iter::once(first).chain(held.iter().map(row)).collect()
}

fn region_rows(regions: &[Region]) -> Vec<Line> {
    let row = |region: &Region| {
        let ranges = region.ranges.iter().map(|range| format!("{}+{}", range.offset.0, range.length.0));
        vec![region.name.clone(), ranges.collect::<Vec<_>>().join(" ")]
    };
    std::iter::once(head(&["NAME", "RANGES"])).chain(regions.iter().map(row)).collect()
}

fn export_rows(exports: &[ExportStatus]) -> Vec<Line> {
    let row = |export: &ExportStatus| {
        // The empty name is one too.
        let access = if export.read_only { "read-only" } else { "read-write" };
        vec![format!("{:?}", export.name), export.size.to_string(), access.to_owned()]
    };
    std::iter::once(head(&["NAME", "SIZE", "ACCESS"])).chain(exports.iter().map(row)).collect()
}

fn stats(status: &Status, style: Style) -> Vec<String> {
    let pool = status.pool.map(|pool| {
        let full = if pool.when_full == WhenFull::Hold { "hold" } else { "error" };
        format!("{} (when full: {full}; {} requests needed more)", pool.limit, status.without_space)
    });
    let cache = if status.write_cache { format!("{} dirty", status.dirty) } else { "none".to_owned() };
    let facts = [
        ("export", format!("{:?}", status.export)),
        ("size", status.size.to_string()),
        ("allocated", status.allocated.to_string()),
        ("write cache", cache),
        ("pool", pool.unwrap_or_else(|| "none".to_owned())),
        ("seed", format!("{:#x}", status.seed)),
        ("connections", status.connections.to_string()),
        ("held", status.held.to_string()),
        ("delayed", status.delayed.to_string()),
    ];
    let mut lines: Vec<String> = facts.iter().map(|(name, value)| format!("{name:<12}{value}")).collect();
    let count = |op: Op| {
        let count = status.requests.of(op);
        let bytes = if op == Op::Flush { String::new() } else { format!("  {}", bytes(count.bytes)) };
        format!("{:<12}{}{bytes}", op.name(), count.requests)
    };
    lines.extend(Op::ALL.map(count));
    if !status.faults.is_empty() {
        lines.push(String::new());
        lines.extend(table(&fault_rows(&status.faults), "", style));
    }
    lines
}

fn bytes(bytes: Bytes) -> String {
    format!("({bytes})")
}

/// In the largest unit that it has one of, to three digits behind the point.
fn time(nanos: Nanos) -> String {
    let (unit, name) = match nanos.0 {
        0..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "us"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let thousandths = u128::from(nanos.0) * 1000 / unit;
    let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
    format!("{} {name}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_that_fits() {
        for (nanos, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (10_000, "10 us"),
            (12_345, "12.345 us"),
            (1_000_000, "1 ms"),
            (30_500_000_000, "30.5 s"),
        ] {
            assert_eq!(time(Nanos(nanos)), text);
        }
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [head(&["A", "LONG", "C"]), head(&["longer", "b", ""])];
        assert_eq!(table(&rows, "", Style::PLAIN), ["A       LONG  C", "longer  b"]);
        assert_eq!(table(&rows[..1], "nothing", Style::PLAIN), ["nothing"]);
    }
}
