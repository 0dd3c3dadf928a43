//! The keys of a `[[fault]]`.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::{Formula, Scalar, Shape, Table, Text};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) name: Text,
    pub(crate) device: Option<Text>,
    pub(crate) when: Table<When>,
    pub(crate) then: Spanned<Worded<Then>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct When {
    #[serde(default)]
    pub(crate) op: Words,
    pub(crate) fua: Option<bool>,
    pub(crate) range: Option<Spanned<Table<Range>>>,
    pub(crate) region: Option<Text>,
    pub(crate) size: Option<Table<Sizes>>,
    pub(crate) while_gate: Option<Text>,
    pub(crate) nth: Option<Spanned<Scalar>>,
    pub(crate) every: Option<Spanned<Scalar>>,
    pub(crate) between: Option<Spanned<Vec<Spanned<Scalar>>>>,
    pub(crate) probability: Option<Spanned<Number>>,
    pub(crate) times: Option<Spanned<Scalar>>,
    pub(crate) once: Option<Spanned<bool>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Range {
    pub(crate) offset: Spanned<Formula>,
    pub(crate) length: Spanned<Formula>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sizes {
    pub(crate) min: Option<Spanned<Formula>>,
    pub(crate) max: Option<Spanned<Formula>>,
}

/// What is done, where one word does not say it: one of these keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Then {
    pub(crate) hold: Option<Table<Hold>>,
    pub(crate) delay: Option<Spanned<Worded<Delay>>>,
    pub(crate) limit: Option<Table<Limit>>,
    pub(crate) seek: Option<Table<Seek>>,
    pub(crate) error: Option<Text>,
    pub(crate) torn: Option<Table<Torn>>,
    pub(crate) misdirect: Option<Table<Misdirect>>,
    pub(crate) flip: Option<Table<Flip>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hold {
    pub(crate) limit: Option<Spanned<Formula>>,
}

/// A delay that is not always the same: one distribution, and where its tail ends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Delay {
    pub(crate) fixed: Option<Spanned<Formula>>,
    pub(crate) uniform: Option<Table<Uniform>>,
    pub(crate) normal: Option<Table<Normal>>,
    pub(crate) exponential: Option<Table<Exponential>>,
    pub(crate) lognormal: Option<Table<Lognormal>>,
    pub(crate) pareto: Option<Table<Pareto>>,
    pub(crate) histogram: Option<Text>,
    pub(crate) at_most: Option<Spanned<Formula>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Uniform {
    pub(crate) min: Spanned<Formula>,
    pub(crate) max: Spanned<Formula>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Normal {
    pub(crate) mean: Spanned<Formula>,
    pub(crate) deviation: Spanned<Formula>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exponential {
    pub(crate) mean: Spanned<Formula>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lognormal {
    pub(crate) median: Spanned<Formula>,
    pub(crate) sigma: Spanned<Number>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pareto {
    pub(crate) min: Spanned<Formula>,
    pub(crate) shape: Spanned<Number>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    pub(crate) requests_per_second: Option<Spanned<Scalar>>,
    pub(crate) bytes_per_second: Option<Spanned<Formula>>,
    pub(crate) burst: Option<Spanned<Scalar>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seek {
    pub(crate) min: Spanned<Formula>,
    pub(crate) max: Spanned<Formula>,
    pub(crate) rpm: Spanned<Scalar>,
    pub(crate) bytes_per_second: Spanned<Formula>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Torn {
    pub(crate) sectors: Option<Spanned<Scalar>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Misdirect {
    pub(crate) by: Spanned<Formula>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Flip {
    pub(crate) bits: Spanned<Scalar>,
    #[serde(default)]
    pub(crate) at_rest: bool,
}

super::shapes! {
    Fault => "a table with `name`, `when` and `then`",
    When => "a table such as `{ op = \"write\", nth = 1 }`",
    Range => "a table such as `{ offset = \"64 KiB\", length = \"4 KiB\" }`",
    Sizes => "a table such as `{ min = \"64 KiB\" }`",
    Then => "a word such as `\"hold\"`, or a table such as `{ delay = \"10 ms\" }`",
    Hold => "a table such as `{ limit = \"30 s\" }`",
    Delay => "a duration such as `\"10 ms\"`, or a table such as `{ exponential = { mean = \"10 ms\" } }`",
    Uniform => "a table with `min` and `max`",
    Normal => "a table with `mean` and `deviation`",
    Exponential => "a table with `mean`",
    Lognormal => "a table with `median` and `sigma`",
    Pareto => "a table with `min` and `shape`",
    Limit => "a table such as `{ requests_per_second = 100 }`",
    Seek => "a table with `min`, `max`, `rpm` and `bytes_per_second`",
    Torn => "a table such as `{ sectors = 3 }`",
    Misdirect => "a table such as `{ by = \"8 KiB\" }`",
    Flip => "a table such as `{ bits = 1 }`",
}

/// A word or a duration in quotes, or a table that says more.
#[derive(Debug)]
pub(crate) enum Worded<T> {
    Word(String),
    Table(T),
}

impl<T> AsRef<str> for Worded<T> {
    /// The word; nothing of a table.
    fn as_ref(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Table(_) => "",
        }
    }
}

impl<'de, T: Shape + Deserialize<'de>> Deserialize<'de> for Worded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Shape + Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = Worded<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::SHAPE)
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Worded<T>, E> {
                Ok(Worded::Word(word.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Worded<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Worded::Table)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// A string, or a list of them.
#[derive(Debug, Default)]
pub(crate) struct Words(pub(crate) Vec<Text>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = Spanned::<OneOrMany>::deserialize(deserializer)?;
        let span = words.span();
        Ok(Self(match words.into_inner() {
            OneOrMany::One(word) => vec![Spanned::new(span, word)],
            OneOrMany::Many(words) => words,
        }))
    }
}

#[derive(Debug)]
enum OneOrMany {
    One(String),
    Many(Vec<Text>),
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string such as \"write\", or a list of them")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany::One(word.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = list.next_element()? {
                    words.push(word);
                }
                Ok(OneOrMany::Many(words))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A number that need not be whole, or a string with one: `0.25`, `"25 %"`. As text.
#[derive(Debug)]
pub(crate) struct Number(String);

impl AsRef<str> for Number {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number such as 0.25, or a string such as \"25 %\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
                Ok(Number(text.to_owned()))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Number, E> {
                Ok(Number(number.to_string()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Number, E> {
                Ok(Number(number.to_string()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
