//! What a row does.

use brim_device::Nanos;
use brim_device::fault::{Bucket, Delay, ErrorName, Flip, Latency, Limit, Seek, Then, Unit};
use toml::Spanned;

use super::{ratio, size};
use crate::check;
use crate::error::{Checked, Objection};
use crate::quantity::{Dimension, Quantity};
use crate::read::Reader;
use crate::schema::fault as keys;
use crate::schema::{Scalar, Text};
use crate::step;
use crate::suggest;
use crate::token;
use crate::written::{Place, Written};

/// What one word says.
const WORDS: [&str; 6] = ["hold", "drop", "volatile", "torn", "disconnect", "close"];

/// What a table says.
const KEYS: [&str; 8] = ["hold", "delay", "limit", "seek", "error", "torn", "misdirect", "flip"];

pub(super) fn then(
    given: &Spanned<keys::Worded<keys::Then>>,
    files: &dyn Fn(&str) -> Result<String, String>,
    reader: &mut Reader<'_>,
) -> Checked<Then> {
    let place = || Place::scenario(given.span());
    let table = match given.get_ref() {
        keys::Worded::Table(table) => table,
        keys::Worded::Word(word) => return one_word(word, place()),
    };
    let mut found: Vec<Then> = Vec::new();
    if let Some(hold) = &table.hold {
        let limit = hold.limit.as_ref().map(|limit| duration(limit, "limit", reader)).transpose()?;
        found.push(Then::Hold { limit });
    }
    if let Some(given) = &table.delay {
        found.push(Then::Delay(delay(given, files, reader)?));
    }
    if let Some(given) = &table.limit {
        found.push(Then::Limit(limit(given, place(), reader)?));
    }
    if let Some(given) = &table.seek {
        found.push(Then::Seek(seek(given, reader)?));
    }
    if let Some(error) = &table.error {
        let options = ErrorName::ALL.map(|error| (error.name(), error));
        let error = check::choose(error.get_ref(), Place::scenario(error.span()), "error", &options)?;
        found.push(Then::Error(error));
    }
    if let Some(torn) = &table.torn {
        let sectors = torn.sectors.as_ref().map(|sectors| count(sectors, "sectors", reader)).transpose()?;
        found.push(Then::Torn { sectors });
    }
    if let Some(misdirect) = &table.misdirect {
        found.push(Then::Misdirect { by: size(&misdirect.by, "by", reader)? });
    }
    if let Some(flip) = &table.flip {
        let bits = step::at_least_one(&flip.bits, "bits", reader)?;
        let bits = u32::try_from(bits).unwrap_or(u32::MAX);
        found.push(Then::Flip(Flip { bits, at_rest: flip.at_rest }));
    }
    match <[Then; 1]>::try_from(found) {
        Ok([then]) => Ok(then),
        Err(found) => {
            let what = if found.is_empty() { "says nothing" } else { "says more than one thing" };
            Err(Objection::new(place(), format!("`then` {what}"), "one thing belongs here")
                .help(format!("write one of `{}`; for more, write more faults", KEYS.join("`, `"))))
        }
    }
}

fn one_word(word: &str, place: Place) -> Checked<Then> {
    match word {
        "hold" => Ok(Then::HOLD),
        "drop" => Ok(Then::Drop),
        "volatile" => Ok(Then::Volatile),
        "torn" => Ok(Then::Torn { sectors: None }),
        "disconnect" => Ok(Then::Disconnect),
        "close" => Ok(Then::Close),
        _ if KEYS.contains(&word) => {
            Err(Objection::new(place, format!("`{word}` does not say enough"), "a table belongs here")
                .help(format!("write {}", example(word))))
        }
        _ => Err(Objection::new(place, format!("`{word}` is not possible for `then`"), "unknown")
            .help(suggest::help(word, &WORDS, "possible here"))
            .more_help(&format!("or a table with one of `{}`", KEYS.join("`, `")))),
    }
}

fn example(word: &str) -> &'static str {
    match word {
        "delay" => "`{ delay = \"10 ms\" }`",
        "limit" => "`{ limit = { requests_per_second = 100, burst = 10 } }`",
        "seek" => {
            "`{ seek = { min = \"1 ms\", max = \"15 ms\", rpm = 7200, bytes_per_second = \"120 MiB\" } }`"
        }
        "error" => "`{ error = \"EIO\" }`",
        "misdirect" => "`{ misdirect = { by = \"8 KiB\" } }`",
        _ => "`{ flip = { bits = 1 } }`",
    }
}

fn duration<T: AsRef<str>>(field: &Spanned<T>, key: &str, reader: &mut Reader<'_>) -> Checked<Nanos> {
    reader.constant(field, Dimension::Duration, key).map(|found| Nanos(found.value))
}

fn count(field: &Spanned<Scalar>, key: &str, reader: &mut Reader<'_>) -> Checked<u64> {
    reader.constant(field, Dimension::Count, key).map(|found| found.value)
}

fn delay(
    given: &Spanned<keys::Worded<keys::Delay>>,
    files: &dyn Fn(&str) -> Result<String, String>,
    reader: &mut Reader<'_>,
) -> Checked<Delay> {
    let table = match given.get_ref() {
        keys::Worded::Word(_) => return Ok(Latency::Fixed(duration(given, "delay", reader)?).into()),
        keys::Worded::Table(table) => table,
    };
    let mut found = Vec::new();
    if let Some(fixed) = &table.fixed {
        found.push(Latency::Fixed(duration(fixed, "fixed", reader)?));
    }
    if let Some(given) = &table.uniform {
        let (min, max) = (duration(&given.min, "min", reader)?, duration(&given.max, "max", reader)?);
        found.push(Latency::Uniform { min, max });
    }
    if let Some(given) = &table.normal {
        let mean = duration(&given.mean, "mean", reader)?;
        found.push(Latency::Normal { mean, deviation: duration(&given.deviation, "deviation", reader)? });
    }
    if let Some(given) = &table.exponential {
        found.push(Latency::Exponential { mean: duration(&given.mean, "mean", reader)? });
    }
    if let Some(given) = &table.lognormal {
        let median = duration(&given.median, "median", reader)?;
        found.push(Latency::Lognormal { median, sigma: ratio(&given.sigma, "sigma", reader)? });
    }
    if let Some(given) = &table.pareto {
        let min = duration(&given.min, "min", reader)?;
        found.push(Latency::Pareto { min, shape: ratio(&given.shape, "shape", reader)? });
    }
    if let Some(file) = &table.histogram {
        found.push(Latency::Histogram(histogram(file, files)?));
    }
    let at_most = table.at_most.as_ref().map(|most| duration(most, "at_most", reader)).transpose()?;
    match <[Latency; 1]>::try_from(found) {
        Ok([latency]) => Ok(Delay { latency, at_most }),
        Err(_) => Err(Objection::new(
            Place::scenario(given.span()),
            "`delay` needs one distribution",
            "none, or more than one",
        )
        .help(
            "write one of `fixed`, `uniform`, `normal`, `exponential`, `lognormal`, `pareto`, `histogram`; several faults \
             add up their delays",
        )),
    }
}

/// The buckets of a file: a duration and a count in each line, such as `250 us 17`.
fn histogram(field: &Text, files: &dyn Fn(&str) -> Result<String, String>) -> Checked<Vec<Bucket>> {
    let name = check::fixed(field, "histogram")?;
    let place = || Place::scenario(field.span());
    let text = files(&name).map_err(|error| {
        Objection::new(place(), format!("the histogram `{name}` cannot be read: {error}"), "this file")
            .help("the path is relative to the file that names it")
    })?;
    let lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.split('#').next().unwrap_or("").trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty());
    let buckets: Checked<Vec<Bucket>> = lines
        .map(|(number, line)| {
            bucket(line).ok_or_else(|| {
                Objection::new(place(), format!("line {number} of `{name}` is `{line}`"), "named here")
                    .help("each line is a duration with its unit and how often it was seen: `250 us 17`")
            })
        })
        .collect();
    buckets
}

fn bucket(line: &str) -> Option<Bucket> {
    let (duration, count) = line.rsplit_once(char::is_whitespace)?;
    let written = Written::setting(0, "", duration.trim_end());
    let tokens = token::tokens(&written).ok()?;
    let (quantity, rest) = Quantity::take(&written, &tokens).ok()?;
    let is_duration = rest.is_empty() && quantity.unit.dimension == Dimension::Duration;
    is_duration.then_some(())?;
    Some(Bucket { latency: Nanos(quantity.value), count: count.parse().ok()? })
}

fn limit(given: &keys::Limit, place: Place, reader: &mut Reader<'_>) -> Checked<Limit> {
    let mut burst = |want| {
        let burst = given.burst.as_ref().map(|burst| reader.constant(burst, want, "burst"));
        burst.transpose().map(|found| found.map_or(0, |found| found.value))
    };
    match (&given.requests_per_second, &given.bytes_per_second) {
        (Some(rate), None) => {
            let burst = burst(Dimension::Count)?;
            Ok(Limit { unit: Unit::Requests, per_second: count(rate, "requests_per_second", reader)?, burst })
        }
        (None, Some(rate)) => {
            let burst = burst(Dimension::Size)?;
            Ok(Limit { unit: Unit::Bytes, per_second: size(rate, "bytes_per_second", reader)?.0, burst })
        }
        _ => Err(Objection::new(place, "`limit` needs one rate", "none, or two").help(
            "write `requests_per_second` or `bytes_per_second`; for both, write two faults: each has its own bucket",
        )),
    }
}

fn seek(given: &keys::Seek, reader: &mut Reader<'_>) -> Checked<Seek> {
    let rpm = step::at_least_one(&given.rpm, "rpm", reader)?;
    Ok(Seek {
        min: duration(&given.min, "min", reader)?,
        max: duration(&given.max, "max", reader)?,
        rpm: u32::try_from(rpm).unwrap_or(u32::MAX),
        bytes_per_second: size(&given.bytes_per_second, "bytes_per_second", reader)?.0,
    })
}
