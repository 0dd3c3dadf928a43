//! Ranges of quantities: `60..140 blocks`, both ends included.

use crate::error::{Checked, Objection};
use crate::quantity::{Dimension, Quantity};
use crate::written::Written;

/// Every whole number of a unit from the first to the last. A single quantity is a range of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sweep {
    pub(crate) first: Quantity,
    pub(crate) last: Quantity,
}

impl Sweep {
    /// Reads a range or a single quantity.
    pub(crate) fn parse(written: &Written) -> Checked<Self> {
        let Some(dots) = written.text.find("..") else {
            let only = Quantity::parse(written)?;
            return Ok(Self { first: only, last: only });
        };
        let end = written.text.len();
        if written.text[dots..].starts_with("..=") {
            let message = format!("`{}` is not how a range is written", written.text);
            return Err(Objection::new(written.at(&(dots..dots + 3)), message, "without `=`")
                .help("both ends are included anyway: `60..140 blocks`"));
        }
        let last = Quantity::parse(&written.slice(dots + 2..end))
            .map_err(|objection| range_help(objection, written))?;
        let first =
            Quantity::parse(&written.slice(0..dots)).map_err(|objection| range_help(objection, written))?;
        let first = if first.unit.dimension == Dimension::Count {
            Quantity::new(first.number, last.unit).unwrap_or(first)
        } else {
            first
        };
        if first.unit != last.unit {
            let message = format!("the ends of `{}` have different units", written.text);
            return Err(Objection::new(written.whole(), message, "one range, one unit: it is also the step")
                .help("write the unit once, after the second number: `60..140 blocks`"));
        }
        if first.number > last.number {
            return Err(Objection::new(
                written.whole(),
                format!("the range `{}` is empty", written.text),
                format!("{} is more than {}", first.number, last.number),
            )
            .help(format!(
                "write the smaller end first: `{}..{last}`",
                last.number,
                last = first
            )));
        }
        Ok(Self { first, last })
    }

    /// How many values it has; `None` past 2^64.
    pub(crate) fn count(&self) -> Option<u64> {
        (self.last.number - self.first.number).checked_add(1)
    }

    /// Value number `index`, from 0; the last one past the end.
    pub(crate) fn value(&self, index: u64) -> Quantity {
        let number = self.first.number.saturating_add(index);
        Quantity::new(number, self.first.unit).filter(|_| number <= self.last.number).unwrap_or(self.last)
    }

    /// Whether `quantity` is one of its values, in whatever unit.
    pub(crate) fn contains(&self, quantity: &Quantity) -> bool {
        quantity.unit.dimension == self.first.unit.dimension
            && (self.first.value..=self.last.value).contains(&quantity.value)
            && (quantity.value - self.first.value).is_multiple_of(self.first.unit.factor)
    }
}

fn range_help(objection: Objection, written: &Written) -> Objection {
    let help = format!("`{}` is read as a range, which is written `60..140 blocks`", written.text);
    objection.more_help(&help)
}

#[cfg(test)]
mod tests {
    use toml::Spanned;

    use super::*;

    fn parse(text: &str) -> Checked<Sweep> {
        Sweep::parse(&Written::scenario(&Spanned::new(0..text.len(), text), text))
    }

    fn contains(range: &str, text: &str) -> bool {
        parse(range).unwrap().contains(&parse(text).unwrap().first)
    }

    #[test]
    fn both_ends_belong_to_a_range() {
        let sweep = parse("60..140 blocks").unwrap();
        assert_eq!(sweep.count(), Some(81));
        assert_eq!(
            (sweep.value(0).to_string(), sweep.value(80).to_string()),
            ("60 blocks".into(), "140 blocks".into())
        );
        assert_eq!(parse("0..18446744073709551615").unwrap().count(), None);
    }

    #[test]
    fn a_range_contains_values_not_words() {
        assert!(contains("60..65 blocks", "60 blocks") && contains("60..65 blocks", "260 KiB"));
        assert!(!contains("60..65 blocks", "59 blocks") && !contains("60..65 blocks", "66 blocks"));
        assert!(!contains("60..65 blocks", "241 KiB"), "between two of its values");
        assert!(contains("66 blocks", "264 KiB") && !contains("66 blocks", "67 blocks"));
        assert!(!contains("1..5", "3 B") && contains("1..5", "3"));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in
            ["..", "1..", "..5 B", "5..1 B", "1 B..5 KiB", "1 s..5", "1..=5 B", "1...5 B", "a..b", "1..2..3"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
