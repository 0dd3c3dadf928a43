//! Single values, as a scenario writes them.

use std::fmt::Display;

use brim_device::{BLOCK, Bytes, Nanos, Ratio};
use brim_trial::template::{COPY, ITERATION};
use brim_trial::{Expression, Limits, Template};

/// A table on one line.
pub(super) struct Table(Vec<String>);

impl Table {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn key(&mut self, key: &str, value: impl Display) {
        self.0.push(format!("{key} = {value}"));
    }

    pub(super) fn some(&mut self, key: &str, value: Option<String>) {
        if let Some(value) = value {
            self.key(key, value);
        }
    }

    pub(super) fn text(self) -> String {
        if self.0.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", self.0.join(", ")) }
    }
}

/// A table of these keys.
pub(super) fn table<const N: usize>(pairs: [(&str, String); N]) -> String {
    let mut table = Table::new();
    for (key, value) in pairs {
        table.key(key, value);
    }
    table.text()
}

/// Text in quotes.
pub(super) fn string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A text with what it has of the round as it stands.
pub(super) fn template(text: &Template) -> String {
    string(text.as_str())
}

pub(super) fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(", "))
}

/// A whole number; one that TOML's own do not reach stands in quotes.
pub(super) fn count(number: u64) -> String {
    if i64::try_from(number).is_ok() { number.to_string() } else { string(&number.to_string()) }
}

/// A number that need not be whole, exact to the billionth.
pub(super) fn ratio(ratio: Ratio) -> String {
    let (whole, rest) = (ratio.0 / Ratio::ONE.0, ratio.0 % Ratio::ONE.0);
    let digits = format!("{rest:09}");
    match digits.trim_end_matches('0') {
        "" => format!("{whole}.0"),
        digits => format!("{whole}.{digits}"),
    }
}

pub(super) fn size(size: Bytes) -> String {
    string(&plain_size(size))
}

/// A record of 132096 B is known by that number, not as 129 KiB.
fn plain_size(size: Bytes) -> String {
    if size.is_multiple_of(BLOCK) { size.to_string() } else { format!("{} B", size.0) }
}

/// In the largest unit that is exact.
pub(super) fn duration(nanos: Nanos) -> String {
    const UNITS: [(u64, &str); 4] =
        [(60_000_000_000, "min"), (1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    let exact = |(unit, _): &(u64, &str)| nanos.0 != 0 && nanos.0.is_multiple_of(*unit);
    let (unit, name) = UNITS.into_iter().find(exact).unwrap_or((1, "ns"));
    string(&format!("{} {name}", nanos.0 / unit))
}

pub(super) fn expression(expression: &Expression) -> String {
    string(&formula(expression))
}

fn formula(expression: &Expression) -> String {
    match expression {
        Expression::Size(size) => plain_size(*size),
        Expression::Count(count) => count.to_string(),
        Expression::Iteration => ITERATION.to_owned(),
        Expression::Copy => COPY.to_owned(),
        Expression::Add(left, right) => format!("{} + {}", side(left), side(right)),
        Expression::Subtract(left, right) => format!("{} - {}", side(left), side(right)),
        Expression::Multiply(left, right) => format!("{} * {}", side(left), side(right)),
    }
}

/// One side of a sign: in parentheses where it has a sign of its own.
fn side(expression: &Expression) -> String {
    match expression {
        Expression::Size(_) | Expression::Count(_) | Expression::Iteration | Expression::Copy => {
            formula(expression)
        }
        Expression::Add(..) | Expression::Subtract(..) | Expression::Multiply(..) => {
            format!("({})", formula(expression))
        }
    }
}

/// How many a condition allows.
pub(super) fn limits_of_count(limits: Limits) -> String {
    self::limits(limits, count)
}

/// How much it allows.
pub(super) fn limits_of_bytes(limits: Limits) -> String {
    self::limits(limits, |bytes| size(Bytes(bytes)))
}

fn limits(Limits { at_least, at_most }: Limits, show: impl Fn(u64) -> String) -> String {
    if at_most == Some(at_least) {
        return show(at_least);
    }
    let mut table = Table::new();
    // One of the two has to be there.
    table.some("at_least", (at_least > 0 || at_most.is_none()).then(|| show(at_least)));
    table.some("at_most", at_most.map(show));
    table.text()
}
