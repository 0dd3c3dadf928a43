//! The keys of a campaign file, as they are written.

use std::collections::BTreeMap;
use std::ops::Range;

use brim_scenario::{Document, Scalar, ScenarioError, Shape, Table, Values};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use toml::Spanned;

pub(super) type Text = Spanned<String>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(rename = "schema")]
    _schema: i64,
    pub(super) name: Text,
    pub(super) about: Text,
    pub(super) seed: Option<Spanned<Scalar>>,
    pub(super) keep: Option<Spanned<Scalar>>,
    pub(super) limits: Option<Table<Limits>>,
    #[serde(rename = "sweep")]
    pub(super) sweeps: Vec<Spanned<Table<Sweep>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) trials: Option<Spanned<Scalar>>,
    pub(super) time: Option<Text>,
    #[serde(default)]
    pub(super) first_hit: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sweep {
    pub(super) name: Option<Text>,
    pub(super) scenario: Spanned<Values>,
    #[serde(default)]
    pub(super) params: Params,
    pub(super) filesystem: Option<Spanned<Values>>,
    pub(super) mkfs: Option<Spanned<Vec<Vec<String>>>>,
    pub(super) mount: Option<Spanned<Vec<Vec<String>>>>,
    pub(super) kernel: Option<Spanned<Values>>,
    pub(super) profile: Option<Spanned<Values>>,
    pub(super) without_fault: Option<Spanned<Values>>,
    pub(super) seed: Option<Spanned<Values>>,
    pub(super) select: Option<Spanned<Select>>,
    pub(super) stop: Option<Table<Stop>>,
    pub(super) search: Option<Spanned<Table<Search>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stop {
    pub(super) trials: Option<Spanned<Scalar>>,
    #[serde(default)]
    pub(super) first_hit: bool,
    pub(super) width: Option<Text>,
    pub(super) side_of: Option<Text>,
    pub(super) confidence: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    pub(super) param: Text,
    pub(super) rate: Option<Text>,
    pub(super) confidence: Option<Text>,
    pub(super) verify: Option<Spanned<Scalar>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sample {
    pub(super) sample: Spanned<Scalar>,
}

/// Which of all combinations are tried.
#[derive(Debug)]
pub(super) enum Select {
    Word(String),
    Sample(Spanned<Scalar>),
}

/// Parameters in the order in which they stand in the file: the last varies fastest.
#[derive(Debug, Default)]
pub(super) struct Params(pub(super) Vec<(Text, Spanned<Values>)>);

impl Params {
    /// The place of the parameter that a message names, else `otherwise`.
    pub(super) fn span_of(&self, message: &str, otherwise: Range<usize>) -> Range<usize> {
        let named = self.0.iter().find(|(name, _)| message.contains(&format!("`{}`", name.get_ref())));
        let only = match self.0.as_slice() {
            [only] => Some(only),
            _ => None,
        };
        named.or(only).map_or(otherwise, |(_, value)| value.span())
    }
}

macro_rules! shapes {
    ($($table:ty => $shape:literal,)*) => {
        $(impl Shape for $table {
            const SHAPE: &str = $shape;
        })*
    };
}

shapes! {
    Limits => "a table such as `{ trials = 10000 }`, `{ time = \"60 min\" }` or `{ first_hit = true }`",
    Sweep => "a table with `scenario`",
    Stop => "a table such as `{ trials = 20 }`, or `{ trials = 1000, width = \"10 %\" }`",
    Search => "a table such as `{ param = \"free\" }`",
    Sample => "a table such as `{ sample = 1000 }`",
}

impl<'de> Deserialize<'de> for Select {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Select;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`\"all\"`, `\"pairwise\"` or a table such as `{ sample = 1000 }`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Select, E> {
                Ok(Select::Word(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Select, A::Error> {
                Sample::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                    .map(|sample| Select::Sample(sample.sample))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Params {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table: BTreeMap<Text, Spanned<Values>> = BTreeMap::deserialize(deserializer)?;
        let mut params: Vec<_> = table.into_iter().collect();
        params.sort_by_key(|(name, _)| name.span().start);
        Ok(Self(params))
    }
}

/// A string that says something.
pub(super) fn words(document: Document<'_>, text: &Text, key: &str) -> Result<String, ScenarioError> {
    if text.get_ref().trim().is_empty() {
        let (message, help) = (format!("`{key}` is empty"), format!("give `{key}` some words"));
        return Err(document.error(text.span(), &message, "nothing stands here", &help));
    }
    Ok(text.get_ref().clone())
}

/// A whole number from `least` on; also as `0x…`.
pub(super) fn count(
    document: Document<'_>,
    value: &Spanned<Scalar>,
    least: u64,
) -> Result<u64, ScenarioError> {
    let text = value.get_ref().as_ref().trim();
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.ok().filter(|number| *number >= least).ok_or_else(|| {
        let message = format!("`{text}` is not a whole number from {least} on");
        document.error(
            value.span(),
            &message,
            "a number belongs here",
            "write a whole number without a unit: `20`",
        )
    })
}

/// A whole number of 32 bits, or the one that stands for none.
pub(super) fn narrow(
    document: Document<'_>,
    value: Option<&Spanned<Scalar>>,
    otherwise: u64,
    least: u64,
) -> Result<u32, ScenarioError> {
    let number = value.map_or(Ok(otherwise), |value| count(document, value, least))?;
    u32::try_from(number).map_err(|_| {
        let span = value.map_or(0..0, Spanned::span);
        document.error(span, &format!("{number} is too many"), "past 2^32", "write a smaller number")
    })
}

/// A share strictly between nothing and all, as `10 %`.
pub(super) fn share(document: Document<'_>, text: &Text) -> Result<f64, ScenarioError> {
    let percent =
        text.get_ref().trim().strip_suffix('%').map(str::trim).and_then(|number| number.parse::<f64>().ok());
    percent.map(|percent| percent / 100.0).filter(|share| *share > 0.0 && *share < 1.0).ok_or_else(|| {
        document.error(
            text.span(),
            &format!("`{}` is not a share between 0 % and 100 %", text.get_ref()),
            "a share belongs here",
            "write it in per cent: `\"50 %\"`, `\"0.5 %\"`",
        )
    })
}

/// The strings of one value or several, each with its place.
pub(super) fn each(values: &Spanned<Values>) -> Vec<Spanned<String>> {
    match values.get_ref() {
        Values::One(one) => vec![Spanned::new(values.span(), one.as_ref().to_owned())],
        Values::Several(several) => several
            .iter()
            .map(|value| Spanned::new(value.span(), value.get_ref().as_ref().to_owned()))
            .collect(),
    }
}
