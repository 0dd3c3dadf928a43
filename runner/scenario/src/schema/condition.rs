//! The keys of a `[[reproduced]]`.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use toml::Spanned;

use super::{Scalar, Table, Text};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reproduced {
    pub(crate) step: Option<Text>,
    pub(crate) outcome: Option<Text>,
    pub(crate) errno: Option<Text>,
    pub(crate) signal: Option<Text>,
    pub(crate) space: Option<Text>,
    pub(crate) content: Option<Text>,
    pub(crate) short: Option<Spanned<Amount>>,
    pub(crate) extents: Option<Spanned<Table<Extents>>>,
    pub(crate) counter: Option<Text>,
    pub(crate) sum: Option<Text>,
    pub(crate) is: Option<Spanned<Amount>>,
    pub(crate) grew: Option<Spanned<Amount>>,
    pub(crate) shrank: Option<Spanned<Amount>>,
    pub(crate) unchanged: Option<Spanned<bool>>,
    pub(crate) since: Option<Text>,
    pub(crate) at: Option<Text>,
    pub(crate) ticket: Option<Text>,
    pub(crate) kernel_log: Option<Text>,
    pub(crate) mount: Option<Text>,
    pub(crate) requests: Option<Text>,
    pub(crate) phase: Option<Text>,
    pub(crate) bytes: Option<Spanned<Amount>>,
    pub(crate) fault: Option<Text>,
    pub(crate) crash: Option<Text>,
    pub(crate) any: Option<Spanned<Vec<Spanned<Table<Reproduced>>>>>,
    pub(crate) times: Option<Spanned<Amount>>,
    pub(crate) not: Option<Spanned<bool>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Extents {
    pub(crate) count: Option<Spanned<Amount>>,
    pub(crate) shared: Option<Spanned<Amount>>,
    pub(crate) unwritten: Option<Spanned<Amount>>,
}

/// A value, or a table of what it is between.
#[derive(Debug)]
pub(crate) enum Amount {
    Exactly(Scalar),
    Between(Between),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Between {
    pub(crate) at_least: Option<Spanned<Scalar>>,
    pub(crate) at_most: Option<Spanned<Scalar>>,
}

super::shapes! {
    Reproduced => "a table such as `{ step = \"pwrite\", errno = \"ENOSPC\" }`",
    Extents => "a table such as `{ shared = { at_least = 1 } }`",
}

impl Reproduced {
    /// The keys that are there, in the order above, and where their values stand.
    pub(crate) fn present(&self) -> Vec<(&'static str, Range<usize>)> {
        fn span<T>(field: Option<&Spanned<T>>) -> Option<Range<usize>> {
            field.map(Spanned::span)
        }
        let keys = [
            ("step", span(self.step.as_ref())),
            ("outcome", span(self.outcome.as_ref())),
            ("errno", span(self.errno.as_ref())),
            ("signal", span(self.signal.as_ref())),
            ("space", span(self.space.as_ref())),
            ("content", span(self.content.as_ref())),
            ("short", span(self.short.as_ref())),
            ("extents", span(self.extents.as_ref())),
            ("counter", span(self.counter.as_ref())),
            ("sum", span(self.sum.as_ref())),
            ("is", span(self.is.as_ref())),
            ("grew", span(self.grew.as_ref())),
            ("shrank", span(self.shrank.as_ref())),
            ("unchanged", span(self.unchanged.as_ref())),
            ("since", span(self.since.as_ref())),
            ("at", span(self.at.as_ref())),
            ("ticket", span(self.ticket.as_ref())),
            ("kernel_log", span(self.kernel_log.as_ref())),
            ("mount", span(self.mount.as_ref())),
            ("requests", span(self.requests.as_ref())),
            ("phase", span(self.phase.as_ref())),
            ("bytes", span(self.bytes.as_ref())),
            ("fault", span(self.fault.as_ref())),
            ("crash", span(self.crash.as_ref())),
            ("any", span(self.any.as_ref())),
            ("times", span(self.times.as_ref())),
            ("not", span(self.not.as_ref())),
        ];
        keys.into_iter().filter_map(|(key, span)| span.map(|span| (key, span))).collect()
    }
}

impl AsRef<str> for Amount {
    /// The value; nothing of a table.
    fn as_ref(&self) -> &str {
        match self {
            Self::Exactly(scalar) => scalar.as_ref(),
            Self::Between(_) => "",
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueOrTable;
        impl<'de> Visitor<'de> for ValueOrTable {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, or a table such as `{ at_least = …, at_most = … }`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Amount, E> {
                Ok(Amount::Exactly(Scalar(text.to_owned())))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Amount, E> {
                Ok(Amount::Exactly(Scalar(number.to_string())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Amount, A::Error> {
                Between::deserialize(MapAccessDeserializer::new(map)).map(Amount::Between)
            }
        }
        deserializer.deserialize_any(ValueOrTable)
    }
}
