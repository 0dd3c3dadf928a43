//! What other files share with scenarios: their TOML, their quantities, and messages that point at the place.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use crate::error::{Checked, Objection, ScenarioError};
use crate::quantity::{Dimension, Quantity};
use crate::suggest;
use crate::sweep::Sweep;
use crate::syntax;
use crate::written::{Place, Written};

/// More values than anybody tries; a slip of the pen in a range should not fill the memory.
const VALUE_COUNT_MAX: usize = 100_000;

/// The text of a file, and what it is called in messages.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    path: &'a str,
    text: &'a str,
}

impl<'a> Document<'a> {
    /// Of the file `path`.
    #[must_use]
    pub fn new(path: &'a str, text: &'a str) -> Self {
        Self { path, text }
    }

    /// Its keys.
    ///
    /// # Errors
    /// It is not TOML, not of this version, or has a key or a kind of value that does not belong there.
    pub fn read<T: Deserialize<'a>>(&self) -> Result<T, ScenarioError> {
        syntax::versioned(self.text).map_err(|objection| self.told(objection))
    }

    /// A mistake at the bytes `span`: what is wrong, what stands below the place, and what would be right.
    #[must_use]
    pub fn error(&self, span: Range<usize>, message: &str, label: &str, help: &str) -> ScenarioError {
        self.told(Objection::new(Place::scenario(span), message, label).help(help))
    }

    /// The mistake that `word` is none of the `possible` ones; `what` it should be, with its article.
    #[must_use]
    pub fn unknown(&self, span: Range<usize>, word: &str, what: &str, possible: &[&str]) -> ScenarioError {
        let help = suggest::help(word, possible, "there are");
        self.error(span, &format!("`{word}` is not {what}"), "unknown", &help)
    }

    /// The values that a string stands for: itself, or those of a range of quantities, as `0..200 blocks`,
    /// `4 KiB..256 KiB step 12 KiB` or `1..1024 blocks times 2`. Both ends are included where the steps meet them.
    ///
    /// # Errors
    /// The range is none, or has too many values.
    pub fn values<T: AsRef<str>>(&self, value: &Spanned<T>) -> Result<Vec<String>, ScenarioError> {
        values(&Written::scenario(value, self.text)).map_err(|objection| self.told(objection))
    }

    /// A duration, in nanoseconds.
    ///
    /// # Errors
    /// It is none.
    pub fn duration<T: AsRef<str>>(&self, value: &Spanned<T>) -> Result<u64, ScenarioError> {
        let written = Written::scenario(value, self.text);
        let quantity = Quantity::parse(&written).and_then(|quantity| match quantity.unit.dimension {
            Dimension::Duration => Ok(quantity.value),
            other => Err(Objection::new(
                written.whole(),
                format!("`{}` is {}, not a duration", written.text, other.name()),
                "not a duration",
            )
            .help(Dimension::Duration.example())),
        });
        quantity.map_err(|objection| self.told(objection))
    }

    fn told(&self, objection: Objection) -> ScenarioError {
        ScenarioError::new(objection, self.path, self.text, &[])
    }
}

fn values(written: &Written) -> Checked<Vec<String>> {
    if !written.text.contains("..") {
        return Ok(vec![written.text.clone()]);
    }
    let (range, stride) = match ["step", "times"].iter().find_map(|word| found(written, word)) {
        Some((at, word)) => {
            (written.slice(0..at), Some((word, written.slice(at + word.len()..written.text.len()))))
        }
        None => (written.clone(), None),
    };
    let (first, last) = ends(&range)?;
    let mut values = Vec::new();
    let mut number = first.number;
    let next: Box<dyn Fn(u64) -> Option<u64>> = match stride {
        None => Box::new(|number: u64| number.checked_add(1)),
        Some(("times", factor)) => {
            let by = Quantity::parse(&factor)?;
            if by.unit.dimension != Dimension::Count || by.number < 2 || first.number == 0 {
                return Err(Objection::new(
                    factor.whole(),
                    "a range grows by a whole number from 2 on",
                    "not that",
                )
                .help("write `1..1024 blocks times 2`; it cannot begin with 0"));
            }
            Box::new(move |number: u64| number.checked_mul(by.number))
        }
        Some((_, step)) => {
            let by = Quantity::parse(&step)?;
            let whole = by.value.checked_rem(first.unit.factor) == Some(0);
            if by.unit.dimension != first.unit.dimension || by.value == 0 || !whole {
                let message =
                    format!("a step of `{}` does not go with `{}`", step.text.trim(), range.text.trim());
                return Err(Objection::new(step.whole(), message, "not a whole number of the range's unit")
                    .help("write both in the same unit: `4096 B..262144 B step 16000 B`"));
            }
            let by = by.value / first.unit.factor;
            Box::new(move |number: u64| number.checked_add(by))
        }
    };
    while let Some(quantity) = Quantity::new(number, first.unit).filter(|_| number <= last.number) {
        values.push(quantity.to_string());
        if values.len() > VALUE_COUNT_MAX {
            return Err(Objection::new(
                written.whole(),
                format!("`{}` has more than {VALUE_COUNT_MAX} values", written.text),
                "too many values",
            )
            .help("narrow the range, or take larger steps"));
        }
        let Some(further) = next(number) else { break };
        number = further;
    }
    Ok(values)
}

/// Where the word stands by itself.
fn found(written: &Written, word: &'static str) -> Option<(usize, &'static str)> {
    let at = written.text.find(word)?;
    let alone = |c: Option<char>| c.is_none_or(|c| !c.is_alphabetic());
    let (before, after) = (&written.text[..at], &written.text[at + word.len()..]);
    (alone(before.chars().next_back()) && alone(after.chars().next())).then_some((at, word))
}

/// Both ends in one unit: that of the first where it has one, `4 KiB..256 KiB`, else that of the last.
fn ends(range: &Written) -> Checked<(Quantity, Quantity)> {
    let in_two = range.text.find("..").filter(|at| {
        let first = range.slice(0..*at);
        !first.text.trim().is_empty()
            && Quantity::parse(&first).is_ok_and(|first| first.unit.dimension != Dimension::Count)
    });
    let Some(at) = in_two else {
        let sweep = Sweep::parse(range)?;
        return Ok((sweep.first, sweep.last));
    };
    let (first, second) = (range.slice(0..at), range.slice(at + 2..range.text.len()));
    let (first, last) = (Quantity::parse(&first)?, Quantity::parse(&second)?);
    let same = first.unit.dimension == last.unit.dimension && last.value.is_multiple_of(first.unit.factor);
    if !same {
        return Sweep::parse(range).map(|sweep| (sweep.first, sweep.last));
    }
    let last = Quantity::new(last.value / first.unit.factor, first.unit).unwrap_or(last);
    if first.number > last.number {
        return Err(Objection::new(
            range.whole(),
            format!("the range `{}` is empty", range.text),
            "its end is before its beginning",
        )
        .help("write the smaller end first"));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<String>, ScenarioError> {
        Document::new("test", text).values(&Spanned::new(0..text.len(), text))
    }

    #[test]
    fn ranges_have_their_values() {
        for (text, wanted) in [
            ("66 blocks", vec!["66 blocks"]),
            ("1..3 blocks", vec!["1 block", "2 blocks", "3 blocks"]),
            ("4 KiB..30 KiB step 12 KiB", vec!["4 KiB", "16 KiB", "28 KiB"]),
            ("4096 B..20480 B step 8 KiB", vec!["4096 B", "12288 B", "20480 B"]),
            ("512 B..2 KiB step 512 B", vec!["512 B", "1024 B", "1536 B", "2048 B"]),
            ("1..10 blocks times 3", vec!["1 block", "3 blocks", "9 blocks"]),
            ("0..2", vec!["0", "1", "2"]),
            ("2..10 step 4", vec!["2", "6", "10"]),
            ("a word", vec!["a word"]),
        ] {
            assert_eq!(of(text).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            "..",
            "5..1 blocks",
            "5 KiB..1 KiB",
            "1 KiB..5 s",
            "1..5 blocks step 1 B",
            "0..8 blocks times 2",
            "1..8 blocks times 1",
            "1..8 blocks step",
            "1..8 blocks step 0 blocks",
            "0..200000 blocks",
            "4 KiB..5 B",
        ] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
