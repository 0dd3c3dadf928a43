//! The rows of the fault table.

use brim_device::ByteRange;
use brim_device::fault::{Delay, Flip, Latency, Limit, Row, Seek, Sizes, Then, Unit, When};

use brim_trial::plan::Fault;

use super::value::{Table, count, duration, list, ratio, size, string, table};
use super::{Unprintable, keys};

/// The keys of a `[[fault]]`, where `first` is the disk that is meant if none is named.
pub(super) fn fault(fault: &Fault, first: Option<&str>) -> Result<String, Unprintable> {
    let Fault { device, row: Row { name, when, then } } = fault;
    let then = self::then(then)
        .ok_or_else(|| Unprintable::NoWords { what: format!("what the fault {name:?} does") })?;
    let mut pairs = vec![("name", string(name))];
    if Some(device.as_str()) != first {
        pairs.push(("device", string(device)));
    }
    pairs.extend([("when", self::when(when)), ("then", then)]);
    Ok(keys(&pairs))
}

fn when(when: &When) -> String {
    let When { op, fua, range, region, size: sizes, while_gate, nth, every, between, probability, times } =
        when;
    let mut table = Table::new();
    match op.named() {
        [] => {}
        [one] => table.key("op", string(one.name())),
        several => table.key("op", list(several.iter().map(|op| string(op.name())))),
    }
    table.some("fua", fua.map(|fua| fua.to_string()));
    table.some(
        "range",
        range.map(|ByteRange { offset, length }| {
            self::table([("offset", size(offset)), ("length", size(length))])
        }),
    );
    table.some("region", region.as_deref().map(string));
    table.some(
        "size",
        sizes.map(|Sizes { min, max }| {
            let mut table = Table::new();
            table.some("min", min.map(size));
            table.some("max", max.map(size));
            table.text()
        }),
    );
    table.some("while_gate", while_gate.as_deref().map(string));
    table.some("nth", nth.map(count));
    table.some("every", every.map(count));
    table.some("between", between.map(|(first, last)| list([first, last].into_iter().map(count))));
    table.some("probability", probability.map(ratio));
    table.some("times", times.map(count));
    table.text()
}

/// `None` for what a scenario cannot say: rows are made by others, too, and their words may grow.
fn then(then: &Then) -> Option<String> {
    let of = |key: &str, value: String| table([(key, value)]);
    Some(match then {
        Then::Hold { limit: None }
        | Then::Drop
        | Then::Volatile
        | Then::Torn { sectors: None }
        | Then::Disconnect
        | Then::Close => string(then.name()),
        Then::Hold { limit: Some(limit) } => of("hold", of("limit", duration(*limit))),
        Then::Delay(delay) => of("delay", self::delay(delay)?),
        Then::Limit(Limit { unit, per_second, burst }) => {
            let (key, rate, at_once): (_, fn(u64) -> String, _) = match unit {
                Unit::Requests => ("requests_per_second", count, count(*burst)),
                Unit::Bytes => ("bytes_per_second", bytes, bytes(*burst)),
            };
            let mut table = Table::new();
            table.key(key, rate(*per_second));
            table.some("burst", (*burst > 0).then_some(at_once));
            of("limit", table.text())
        }
        Then::Seek(Seek { min, max, rpm, bytes_per_second }) => of(
            "seek",
            table([
                ("min", duration(*min)),
                ("max", duration(*max)),
                ("rpm", rpm.to_string()),
                ("bytes_per_second", bytes(*bytes_per_second)),
            ]),
        ),
        Then::Error(error) => of("error", string(error.name())),
        Then::Torn { sectors: Some(sectors) } => of("torn", of("sectors", count(*sectors))),
        Then::Misdirect { by } => of("misdirect", of("by", size(*by))),
        Then::Flip(Flip { bits, at_rest }) => {
            let mut table = Table::new();
            table.key("bits", bits.to_string());
            table.some("at_rest", at_rest.then(|| "true".to_owned()));
            of("flip", table.text())
        }
        _ => return None,
    })
}

fn bytes(number: u64) -> String {
    size(brim_device::Bytes(number))
}

/// `None` for a histogram: a scenario stands alone, and cannot name the file that has it.
fn delay(Delay { latency, at_most }: &Delay) -> Option<String> {
    if let (Latency::Fixed(fixed), None) = (latency, at_most) {
        return Some(duration(*fixed));
    }
    let mut table = Table::new();
    match latency {
        Latency::Fixed(fixed) => table.key("fixed", duration(*fixed)),
        Latency::Uniform { min, max } => {
            table.key("uniform", self::table([("min", duration(*min)), ("max", duration(*max))]));
        }
        Latency::Normal { mean, deviation } => {
            let pairs = [("mean", duration(*mean)), ("deviation", duration(*deviation))];
            table.key("normal", self::table(pairs));
        }
        Latency::Exponential { mean } => {
            table.key("exponential", self::table([("mean", duration(*mean))]));
        }
        Latency::Lognormal { median, sigma } => {
            table.key("lognormal", self::table([("median", duration(*median)), ("sigma", ratio(*sigma))]));
        }
        Latency::Pareto { min, shape } => {
            table.key("pareto", self::table([("min", duration(*min)), ("shape", ratio(*shape))]));
        }
        Latency::Histogram(_) => return None,
    }
    table.some("at_most", at_most.map(duration));
    Some(table.text())
}
