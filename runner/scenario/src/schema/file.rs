//! The keys of the verbs that work on files.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::condition::Amount;
use super::fault::{Worded, Words};
use super::{Formula, Text, shapes};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OneFile {
    pub(crate) file: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OnePath {
    pub(crate) path: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Range {
    pub(crate) file: Text,
    pub(crate) offset: Spanned<Formula>,
    pub(crate) length: Spanned<Formula>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fallocate {
    pub(crate) file: Text,
    pub(crate) offset: Spanned<Formula>,
    pub(crate) length: Spanned<Formula>,
    pub(crate) mode: Option<Text>,
    pub(crate) keep_size: Option<Spanned<bool>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pwrite {
    pub(crate) file: Text,
    pub(crate) offset: Spanned<Formula>,
    pub(crate) length: Spanned<Formula>,
    pub(crate) data: Option<Spanned<Worded<Pattern>>>,
    #[serde(default)]
    pub(crate) how: Words,
    pub(crate) short: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MmapWrite {
    pub(crate) file: Text,
    pub(crate) offset: Spanned<Formula>,
    pub(crate) length: Spanned<Formula>,
    pub(crate) data: Option<Spanned<Worded<Pattern>>>,
}

/// What is written, where one word does not say it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pattern {
    pub(crate) text: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pread {
    pub(crate) file: Text,
    pub(crate) offset: Spanned<Formula>,
    pub(crate) length: Spanned<Formula>,
    pub(crate) expect: Option<Text>,
    #[serde(default)]
    pub(crate) how: Words,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MmapRead {
    pub(crate) file: Text,
    pub(crate) offset: Spanned<Formula>,
    pub(crate) length: Spanned<Formula>,
    pub(crate) expect: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Truncate {
    pub(crate) file: Text,
    pub(crate) size: Spanned<Formula>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Open {
    pub(crate) file: Text,
    #[serde(default)]
    pub(crate) flags: Words,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unlink {
    pub(crate) file: Text,
    #[serde(default)]
    pub(crate) keep_open: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rename {
    pub(crate) from: Text,
    pub(crate) to: Text,
    pub(crate) how: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Link {
    pub(crate) from: Text,
    pub(crate) to: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Symlink {
    pub(crate) path: Text,
    pub(crate) target: Option<Text>,
    pub(crate) length: Option<Spanned<Formula>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Setxattr {
    pub(crate) file: Text,
    pub(crate) name: Text,
    pub(crate) length: Spanned<Formula>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Removexattr {
    pub(crate) file: Text,
    pub(crate) name: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chmod {
    pub(crate) file: Text,
    pub(crate) mode: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reflink {
    pub(crate) from: Text,
    pub(crate) to: Text,
    pub(crate) offset: Option<Spanned<Formula>>,
    pub(crate) length: Option<Spanned<Formula>>,
    pub(crate) to_offset: Option<Spanned<Formula>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dedupe {
    pub(crate) from: Text,
    pub(crate) to: Text,
    pub(crate) offset: Spanned<Formula>,
    pub(crate) length: Spanned<Formula>,
    pub(crate) to_offset: Option<Spanned<Formula>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Extents {
    pub(crate) file: Text,
    pub(crate) expect: Option<BTreeMap<Spanned<String>, Spanned<Amount>>>,
}

shapes! {
    OneFile => "a table such as `{ file = \"blob\" }`",
    OnePath => "a table such as `{ path = \"dir\" }`",
    Range => "a table with `file`, `offset` and `length`",
    Fallocate => "a table with `file`, `offset` and `length`",
    Pwrite => "a table with `file`, `offset` and `length`",
    MmapWrite => "a table with `file`, `offset` and `length`",
    Pattern => "a word such as \"random\", or a table such as `{ text = \"brim \" }`",
    Pread => "a table with `file`, `offset` and `length`",
    MmapRead => "a table with `file`, `offset` and `length`",
    Truncate => "a table with `file` and `size`",
    Open => "a table such as `{ file = \"blob\", flags = [\"O_TRUNC\"] }`",
    Unlink => "a table such as `{ file = \"blob\" }`",
    Rename => "a table such as `{ from = \"blob\", to = \"other\" }`",
    Link => "a table such as `{ from = \"blob\", to = \"other\" }`",
    Symlink => "a table such as `{ path = \"link\", target = \"blob\" }`",
    Setxattr => "a table such as `{ file = \"blob\", name = \"user.x\", length = \"100 B\" }`",
    Removexattr => "a table such as `{ file = \"blob\", name = \"user.x\" }`",
    Chmod => "a table such as `{ file = \"blob\", mode = \"0600\" }`",
    Reflink => "a table with `from` and `to`, and `offset` and `length` for a part",
    Dedupe => "a table with `from`, `to`, `offset` and `length`",
    Extents => "a table such as `{ file = \"blob\" }`",
}
