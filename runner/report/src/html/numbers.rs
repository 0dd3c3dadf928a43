//! Numbers as people read them: grouped, with their unit, aligned by the style of the page.

use brim_trial::{Bytes, Nanos};

/// A thin space that does not break.
const THIN: char = '\u{202f}';

/// `270 336`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(THIN);
        }
        text.push(digit);
    }
    text
}

/// `270 336 B`.
pub(super) fn bytes(bytes: Bytes) -> String {
    format!("{}{THIN}B", grouped(bytes.0))
}

/// `+270 336 B`.
pub(super) fn change(before: Bytes, after: Bytes) -> String {
    match after.0.checked_sub(before.0) {
        Some(0) => "0".to_owned(),
        Some(more) => format!("+{}", bytes(Bytes(more))),
        None => format!("−{}", bytes(Bytes(before.0 - after.0))),
    }
}

/// Three digits and the unit that goes with them: `736 ns`, `1.08 ms`, `30.0 s`.
pub(super) fn duration(nanos: Nanos) -> String {
    let (unit, name) = unit(nanos);
    let value = nanos.to_f64() / unit;
    let digits = if name == "ns" || value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{THIN}{name}")
}

/// The unit that a span of time is told in, in nanoseconds, and its name.
pub(super) fn unit(nanos: Nanos) -> (f64, &'static str) {
    match nanos.0 {
        0..1_000 => (1.0, "ns"),
        1_000..1_000_000 => (1e3, "µs"),
        1_000_000..1_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    }
}

/// Round steps of an axis from 0 to `end`, some five of them.
pub(super) fn ticks(end: f64) -> Vec<f64> {
    if end.is_nan() || end <= 0.0 {
        return vec![0.0];
    }
    let rough = end / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(end);
    let mut ticks = Vec::new();
    let mut at = 0.0;
    while at <= end * 1.000_001 {
        ticks.push(at);
        at += step;
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_exact_where_they_count() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(change(Bytes(5000), Bytes(1000)), "−4\u{202f}000\u{202f}B");
        assert_eq!(duration(Nanos(736)), "736\u{202f}ns");
        assert_eq!(duration(Nanos(1_080_637)), "1.08\u{202f}ms");
        assert_eq!(duration(Nanos(30_000_000_000)), "30.0\u{202f}s");
        assert_eq!(ticks(420.0), [0.0, 100.0, 200.0, 300.0, 400.0]);
        assert_eq!(ticks(0.0), [0.0]);
    }
}
