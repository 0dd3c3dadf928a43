//! A row of the fault table in words.

use std::fmt;

use super::latency::{Delay, Latency};
use super::limit::{Limit, Unit};
use super::row::{Flip, Row, Sizes, Then, When};
use super::seek::Seek;
use crate::Bytes;

impl fmt::Display for Row {
    /// As the end of a sentence that begins with the disk: `delays every read that touches superblock (by 10 ms)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", verb(&self.then), when(&self.when))?;
        match details(&self.then) {
            Some(details) => write!(f, " ({details})"),
            None => Ok(()),
        }
    }
}

fn when(when: &When) -> String {
    let names: Vec<&str> = when.op.named().iter().map(|op| op.name()).collect();
    let op = if names.is_empty() { "request".to_owned() } else { names.join(" or ") };
    let which = match (when.nth, when.every, when.between) {
        (Some(nth), ..) => format!("{op} number {nth}"),
        (None, Some(every), None) => format!("every {} {op}", ordinal(every)),
        (None, None, Some((first, last))) => format!("{op} number {first} to {last}"),
        (None, Some(every), Some((first, last))) => {
            format!("every {} {op} from number {first} to {last}", ordinal(every))
        }
        (None, None, None) => format!("every {op}"),
    };
    let mut parts = vec![which];
    parts.extend(when.fua.map(|fua| if fua { "with FUA" } else { "without FUA" }.to_owned()));
    if let Some(range) = when.range {
        parts.push(format!("that touches the {} from {} on", range.length, range.offset));
    }
    parts.extend(when.region.as_ref().map(|region| format!("that touches {region}")));
    if let Some(Sizes { min, max }) = when.size {
        parts.extend(min.map(|min| format!("of at least {min}")));
        parts.extend(max.map(|max| format!("of at most {max}")));
    }
    parts.extend(when.while_gate.as_ref().map(|gate| format!("while \"{gate}\" is closed")));
    parts.extend(when.probability.map(|odds| format!("with a probability of {} %", odds.to_f64() * 100.0)));
    parts.extend(
        when.times.map(|times| if times == 1 { "once".to_owned() } else { format!("{times} times at most") }),
    );
    parts.join(" ")
}

fn ordinal(number: u64) -> String {
    let end = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{end}")
}

fn verb(then: &Then) -> &'static str {
    match then {
        Then::Hold { .. } => "holds",
        Then::Delay(_) => "delays",
        Then::Limit(_) => "limits the rate of",
        Then::Seek(_) => "seeks for",
        Then::Error(_) => "fails",
        Then::Drop => "answers, and does not do,",
        Then::Volatile => "makes nothing durable at",
        Then::Torn { .. } => "tears",
        Then::Misdirect { .. } => "misdirects",
        Then::Flip(_) => "flips bits of",
        Then::Disconnect => "ends the connection after",
        Then::Close => "ends the connection at",
    }
}

fn details(then: &Then) -> Option<String> {
    match then {
        Then::Hold { limit } => limit.map(|limit| format!("for {limit} at most")),
        Then::Delay(delay) => Some(latency(delay)),
        Then::Limit(Limit { unit: Unit::Requests, per_second, burst }) => {
            Some(format!("{per_second} a second, {burst} at once"))
        }
        Then::Limit(Limit { unit: Unit::Bytes, per_second, burst }) => {
            Some(format!("{} a second, {} at once", Bytes(*per_second), Bytes(*burst)))
        }
        Then::Seek(Seek { min, max, rpm, bytes_per_second }) => {
            Some(format!("{min} to {max}, {rpm} rpm, {} a second", Bytes(*bytes_per_second)))
        }
        Then::Error(error) => Some(error.name().to_owned()),
        Then::Torn { sectors } => sectors.map(|sectors| format!("after {sectors} sectors")),
        Then::Misdirect { by } => Some(format!("by {by}")),
        Then::Flip(Flip { bits, at_rest: true }) => Some(format!("{bits} at rest")),
        Then::Flip(Flip { bits, at_rest: false }) => Some(bits.to_string()),
        Then::Drop | Then::Volatile | Then::Disconnect | Then::Close => None,
    }
}

fn latency(delay: &Delay) -> String {
    let drawn = match &delay.latency {
        Latency::Fixed(fixed) => format!("by {fixed}"),
        Latency::Uniform { min, max } => format!("by {min} to {max}"),
        Latency::Normal { mean, deviation } => {
            format!("by {mean} ± {deviation} (normal)")
        }
        Latency::Exponential { mean } => format!("by {mean} in the mean (exponential)"),
        Latency::Lognormal { median, sigma } => {
            format!("by {} in the median (lognormal, sigma {})", median, sigma.to_f64())
        }
        Latency::Pareto { min, shape } => {
            format!("by {} at least (Pareto, shape {})", min, shape.to_f64())
        }
        Latency::Histogram(buckets) => format!("by a histogram of {} values", buckets.len()),
    };
    let most = delay.at_most.map(|most| format!(", {most} at most"));
    format!("{drawn}{}", most.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::row::Op;
    use super::*;
    use crate::{ByteRange, Nanos};

    #[test]
    fn rows_read_as_sentences() {
        let range = Some(ByteRange { offset: Bytes(65536), length: Bytes(4096) });
        for (when, then, text) in [
            (When::default(), Then::HOLD, "holds every request"),
            (
                When { op: Op::Write.into(), nth: Some(3), range, ..When::default() },
                Then::Hold { limit: Some(Nanos(30_000_000_000)) },
                "holds write number 3 that touches the 4 KiB from 64 KiB on (for 30 s at most)",
            ),
            (
                When { op: Op::Flush.into(), times: Some(1), ..When::default() },
                Then::Drop,
                "answers, and does not do, every flush once",
            ),
        ] {
            assert_eq!(Row { name: "x".to_owned(), when, then }.to_string(), text);
        }
        let delay = Then::Delay(Latency::Fixed(Nanos(250_000)).into());
        let row = Row { name: "x".to_owned(), when: When { every: Some(2), ..When::default() }, then: delay };
        assert_eq!(row.to_string(), "delays every 2nd request (by 250 µs)");
    }
}
