//! The keys of what a disk is told.

use serde::Deserialize;
use toml::Spanned;

use super::{Formula, Text, shapes};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mark {
    pub(crate) text: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    pub(crate) name: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OnDevice {
    pub(crate) device: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pool {
    pub(crate) device: Option<Text>,
    pub(crate) limit: Option<Spanned<Formula>>,
    pub(crate) free: Option<Spanned<Formula>>,
    pub(crate) when_full: Option<Text>,
}

shapes! {
    Mark => "a table such as `{ text = \"synced\" }`",
    OnDevice => "a table such as `{}`, or `{ device = \"a\" }`",
    Named => "a table such as `{ name = \"before\" }`",
    Pool => "a table such as `{ free = \"1 MiB\", when_full = \"hold\" }`",
}
