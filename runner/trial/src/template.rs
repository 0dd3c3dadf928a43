//! Texts that may depend on how often a worker has gone round, and on which of its copies it is: `dir/f${i}`.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::expression::Round;

/// A name in which `${i}` stands for the round and `${copy}` for the copy of the worker, both from 0. Nothing else in it is
/// read: parameters have been filled in before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template(String);

/// The round, in a template.
pub const ITERATION: &str = "${i}";
/// The copy of the worker, in a template.
pub const COPY: &str = "${copy}";

impl Template {
    /// The text of one round. One that is the same in all costs nothing.
    #[must_use]
    pub fn at(&self, round: Round) -> Cow<'_, str> {
        let Some(first) = self.0.find("${") else { return Cow::Borrowed(&self.0) };
        let (head, rest) = self.0.split_at(first);
        let rest = rest.replace(ITERATION, &round.iteration.to_string());
        Cow::Owned(format!("{head}{}", rest.replace(COPY, &round.copy.to_string())))
    }

    /// Whether it is another text in each round.
    #[must_use]
    pub fn depends_on_round(&self) -> bool {
        self.0.contains(ITERATION)
    }

    /// The text as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Template {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Template {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_rounds_and_copies() {
        let round = Round { iteration: 12, copy: 3 };
        assert!(matches!(Template::from("dir/blob").at(round), Cow::Borrowed("dir/blob")));
        assert_eq!(Template::from("d${copy}/f${i}-${i}").at(round), "d3/f12-12");
        assert!(Template::from("f${i}").depends_on_round());
        assert!(!Template::from("f${copy}").depends_on_round());
    }
}
