//! Plain quantities: a whole number and its unit.

use std::fmt;

use crate::error::{Checked, Objection};
use crate::suggest;
use crate::token::{self, Kind, Token};
use crate::written::Written;

/// What a quantity measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dimension {
    /// Bytes.
    Size,
    /// Nanoseconds.
    Duration,
    /// Pieces.
    Count,
}

impl Dimension {
    /// With its article: `a size`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Size => "a size",
            Self::Duration => "a duration",
            Self::Count => "a number without a unit",
        }
    }

    /// What such a quantity looks like, for a help.
    pub(crate) fn example(self) -> &'static str {
        match self {
            Self::Size => {
                "write a size with its unit: `66 blocks` (of 4 KiB each), `4096 B`, `128 KiB`, `64 MiB`"
            }
            Self::Duration => "write a duration with its unit: `250 us`, `10 ms`, `30 s`, `2 min`",
            Self::Count => "write a whole number without a unit: `3`",
        }
    }
}

/// A unit of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    symbol: &'static str,
    /// What it measures.
    pub(crate) dimension: Dimension,
    /// How many bytes, nanoseconds or pieces it is.
    pub(crate) factor: u64,
}

const COUNT: Unit = Unit { symbol: "", dimension: Dimension::Count, factor: 1 };

const UNITS: [Unit; 12] = [
    size("blocks", 4096),
    size("B", 1),
    size("KiB", 1 << 10),
    size("MiB", 1 << 20),
    size("GiB", 1 << 30),
    size("TiB", 1 << 40),
    duration("ns", 1),
    duration("us", 1_000),
    duration("ms", 1_000_000),
    duration("s", 1_000_000_000),
    duration("min", 60_000_000_000),
    size("block", 4096),
];

const fn size(symbol: &'static str, factor: u64) -> Unit {
    Unit { symbol, dimension: Dimension::Size, factor }
}

const fn duration(symbol: &'static str, factor: u64) -> Unit {
    Unit { symbol, dimension: Dimension::Duration, factor }
}

impl Unit {
    fn find(word: &str) -> Option<Self> {
        let symbol = match word {
            "block" => "blocks",
            "µs" | "μs" => "us",
            other => other,
        };
        UNITS.into_iter().find(|unit| unit.symbol == symbol)
    }
}

/// A whole number of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quantity {
    /// How many of the unit.
    pub(crate) number: u64,
    /// The unit.
    pub(crate) unit: Unit,
    /// The same in bytes, nanoseconds or pieces.
    pub(crate) value: u64,
}

impl Quantity {
    /// `number` of `unit`, if it fits in 64 bits.
    pub(crate) fn new(number: u64, unit: Unit) -> Option<Self> {
        Some(Self { number, unit, value: number.checked_mul(unit.factor)? })
    }

    /// Reads a quantity that is no more than a number and its unit.
    pub(crate) fn parse(written: &Written) -> Checked<Self> {
        let tokens = token::tokens(written)?;
        let (quantity, rest) = Self::take(written, &tokens)?;
        let Some(extra) = rest.first() else { return Ok(quantity) };
        let end = rest.last().map_or(extra.span.end, |last| last.span.end);
        Err(Objection::new(
            written.at(&(extra.span.start..end)),
            format!("`{}` is more than a number and its unit", written.text),
            "not wanted here",
        )
        .help("arithmetic and `${…}` belong where a quantity is used; here write one quantity, such as `66 blocks`"))
    }

    /// Reads a number and, where one follows, its unit from the front of `tokens`; also gives what is left.
    pub(crate) fn take<'t>(written: &Written, tokens: &'t [Token]) -> Checked<(Self, &'t [Token])> {
        let Some((first, rest)) = tokens.split_first() else {
            return Err(Objection::new(written.whole(), "a quantity is missing", "nothing stands here")
                .help(Dimension::Size.example()));
        };
        let Kind::Number(number) = &first.kind else { return Err(no_number(written, first)) };
        let (unit, rest, span) = match rest.split_first() {
            Some((Token { kind: Kind::Word(word), span }, rest)) => {
                let unit = Unit::find(word).ok_or_else(|| unknown_unit(written, word, number, span))?;
                (unit, rest, first.span.start..span.end)
            }
            _ => (COUNT, rest, first.span.clone()),
        };
        let quantity = number.parse().ok().and_then(|number| Self::new(number, unit));
        let quantity = quantity.ok_or_else(|| {
            let text = written.text.get(span.clone()).unwrap_or_default();
            Objection::new(written.at(&span), format!("`{text}` is too large"), "does not fit in 64 bits")
                .help(format!("the largest quantity is {} (16 EiB − 1 B)", u64::MAX))
        })?;
        Ok((quantity, rest))
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.unit.symbol, self.number) {
            ("", number) => write!(f, "{number}"),
            ("blocks", 1) => f.write_str("1 block"),
            (symbol, number) => write!(f, "{number} {symbol}"),
        }
    }
}

fn no_number(written: &Written, token: &Token) -> Objection {
    let text = written.text.get(token.span.clone()).unwrap_or_default();
    let objection = Objection::new(
        written.at(&token.span),
        format!("`{}` is not a quantity", written.text),
        "a number stands here",
    );
    match &token.kind {
        Kind::Word(word) => objection
            .help(format!("to read a parameter, write `${{{word}}}`; else {}", Dimension::Size.example())),
        Kind::Minus => objection.help("quantities are not negative"),
        Kind::Param(_) => objection
            .help(format!("`{text}` cannot stand here: write the quantity itself, as in `66 blocks`")),
        _ => objection.help(Dimension::Size.example()),
    }
}

fn unknown_unit(written: &Written, word: &str, number: &str, span: &std::ops::Range<usize>) -> Objection {
    let objection = Objection::new(written.at(span), format!("`{word}` is not a unit"), "unknown unit");
    if let Some((binary, thousands)) = decimal(word) {
        let bytes = number.parse().ok().and_then(|number: u64| number.checked_mul(thousands));
        let decimal =
            bytes.map(|bytes| format!(", or `{bytes} B` if powers of 1000 are meant")).unwrap_or_default();
        return objection.help(format!("write `{number} {binary}`{decimal}"));
    }
    let symbols: Vec<&str> =
        UNITS.iter().map(|unit| unit.symbol).filter(|symbol| *symbol != "block").collect();
    let near: Vec<&str> = UNITS.iter().map(|unit| unit.symbol).collect();
    let meant = suggest::nearest(word, &near).map(|near| format!("did you mean `{number} {near}`? "));
    objection.help(format!(
        "{}sizes: {} (1 block = 4096 B); durations: {}",
        meant.unwrap_or_default(),
        symbols[..6].join(", "),
        symbols[6..].join(", "),
    ))
}

/// The binary unit somebody may have meant who wrote a decimal or a short one, and the decimal one's bytes.
fn decimal(word: &str) -> Option<(&'static str, u64)> {
    match word {
        "k" | "K" | "kB" | "KB" | "kb" => Some(("KiB", 1_000)),
        "M" | "MB" | "Mb" | "mb" => Some(("MiB", 1_000_000)),
        "G" | "GB" | "Gb" | "gb" => Some(("GiB", 1_000_000_000)),
        "T" | "TB" | "Tb" | "tb" => Some(("TiB", 1_000_000_000_000)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use toml::Spanned;

    use super::*;

    fn parse(text: &str) -> Checked<Quantity> {
        Quantity::parse(&Written::scenario(&Spanned::new(0..text.len(), text), text))
    }

    #[test]
    fn units_are_what_they_say() {
        for (text, dimension, value, shown) in [
            ("66 blocks", Dimension::Size, 270_336, "66 blocks"),
            ("1block", Dimension::Size, 4096, "1 block"),
            ("132096 B", Dimension::Size, 132_096, "132096 B"),
            ("129KiB", Dimension::Size, 132_096, "129 KiB"),
            ("2 TiB", Dimension::Size, 2 << 40, "2 TiB"),
            ("250 µs", Dimension::Duration, 250_000, "250 us"),
            ("30 s", Dimension::Duration, 30_000_000_000, "30 s"),
            ("2 min", Dimension::Duration, 120_000_000_000, "2 min"),
            (" 007 ", Dimension::Count, 7, "7"),
            ("18446744073709551615 B", Dimension::Size, u64::MAX, "18446744073709551615 B"),
        ] {
            let quantity = parse(text).unwrap();
            assert_eq!((quantity.unit.dimension, quantity.value), (dimension, value), "{text}");
            assert_eq!(quantity.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        let wrong = [
            "",
            "blocks",
            "66 blokcs",
            "66 Blocks",
            "1.5 MiB",
            "1_000 B",
            "-1 B",
            "64 kB",
            "64 MB",
            "1 B 2",
            "2*3",
        ];
        for text in
            wrong.into_iter().chain(["18446744073709551616", "16777216 TiB", "1 h", "0x10 B", "60..61 B"])
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        /// For all quantities: what is shown is read as the same quantity.
        #[test]
        fn display_and_parse_are_inverse(number in any::<u64>(), shift in 0u32..64, unit in prop::sample::select(UNITS.to_vec())) {
            if let Some(quantity) = Quantity::new(number >> shift, unit) {
                prop_assert_eq!(parse(&quantity.to_string()).unwrap().value, quantity.value);
            }
        }
    }
}
