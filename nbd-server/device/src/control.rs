//! What a disk that serves can be told and asked, as data: one JSON object a line, and one for its answer.
//!
//! Sizes and offsets are in bytes, times in nanoseconds, both as whole numbers. This is the form for machines; people write rows
//! of the fault table in TOML, which ends up here. Nothing is done here: a shell carries orders out.

mod answer;
mod command;
mod prometheus;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use answer::{Answer, Count, ExportStatus, Fault, Held, LatenessSummary, Region, Stats, Status};
pub use command::{Command, PartlyCut, Pool, Release, WhenFull, Which};
pub use prometheus::prometheus;

use crate::Nanos;

/// The longest line that a server takes, its end included.
pub const LINE_MAX: usize = 1 << 20;

/// For how long an order waits for the requests before it, unless it says otherwise.
pub const LIMIT: Nanos = Nanos(10_000_000_000);

/// One line to a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Comes back with the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The disk that it is about, by the name of its export; the first export if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<String>,
    /// For how long to wait for the requests before it; [`LIMIT`] if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Nanos>,
    /// What to do.
    #[serde(rename = "do")]
    pub command: Command,
}

impl From<Command> for Order {
    fn from(command: Command) -> Self {
        Self { id: None, export: None, limit: None, command }
    }
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong, as one sentence without a full stop.
    pub error: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl Refusal {
    /// One without a hint.
    #[must_use]
    pub fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), hint: None }
    }

    /// With a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

impl std::error::Error for Refusal {}

/// One line from a server: the answer to one order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ReplyLine", into = "ReplyLine")]
pub struct Reply {
    /// What the order had.
    pub id: Option<u64>,
    /// What came of it.
    pub result: Result<Answer, Refusal>,
}

/// A reply as it is written: with `ok`, or with `error` and perhaps a `hint`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplyLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ok: Option<Answer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl From<Reply> for ReplyLine {
    fn from(reply: Reply) -> Self {
        let id = reply.id;
        match reply.result {
            Ok(answer) => Self { id, ok: Some(answer), error: None, hint: None },
            Err(Refusal { error, hint }) => Self { id, ok: None, error: Some(error), hint },
        }
    }
}

impl TryFrom<ReplyLine> for Reply {
    type Error = &'static str;

    fn try_from(line: ReplyLine) -> Result<Self, Self::Error> {
        let result = match (line.ok, line.error) {
            (Some(answer), None) => Ok(answer),
            (None, Some(error)) => Err(Refusal { error, hint: line.hint }),
            _ => return Err("a reply has either `ok` or `error`"),
        };
        Ok(Self { id: line.id, result })
    }
}

impl Order {
    /// Reads a line.
    ///
    /// # Errors
    ///
    /// When it is no order: the reply to send, which says at which column.
    pub fn parse(line: &[u8]) -> Result<Self, Reply> {
        serde_json::from_slice(line).map_err(|error| {
            let refusal = Refusal::new(complaint(&error));
            Reply { id: id_of(line), result: Err(refusal.hint("docs/control.md has every command")) }
        })
    }

    /// As a line, with its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        line_of(self)
    }
}

impl Reply {
    /// Reads a line.
    ///
    /// # Errors
    ///
    /// When it is no reply: at which column, and why.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| complaint(&error))
    }

    /// As a line, with its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        line_of(self)
    }
}

/// Where and why, without the line, of which there is one.
fn complaint(error: &serde_json::Error) -> String {
    let why = error.to_string();
    let why = why.rsplit_once(" at line ").map_or(why.as_str(), |(why, _)| why);
    format!("column {}: {why}", error.column())
}

/// The number of an order that is JSON, though no order.
fn id_of(line: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Numbered {
        id: Option<u64>,
    }
    serde_json::from_slice::<Numbered>(line).ok()?.id
}

fn line_of(value: &impl Serialize) -> String {
    // Only maps with keys that are not text, and writers that fail, keep a value from being JSON; there is neither.
    let mut line = serde_json::to_string(value).unwrap_or_default();
    assert!(!line.is_empty(), "a value of the control protocol is not JSON");
    line.push('\n');
    line
}
