//! Regular expressions for lines that a kernel prints.

use std::fmt;

use regex::Regex;
use serde::{Deserialize, Serialize};

/// A regular expression in the syntax of the crate `regex`, which is found anywhere in a line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Pattern(Regex);

/// Text that is no regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no regular expression: {why}")]
pub struct BadPattern {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl Pattern {
    /// Reads a regular expression.
    ///
    /// # Errors
    /// The text is none.
    pub fn new(text: &str) -> Result<Self, BadPattern> {
        Regex::new(text).map(Self).map_err(|error| {
            // Its message draws the place over several lines; the last one says what is wrong.
            let whole = error.to_string();
            let why = whole.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            BadPattern { text: text.to_owned(), why }
        })
    }

    /// Whether it is found in `line`.
    #[must_use]
    pub fn matches(&self, line: &str) -> bool {
        self.0.is_match(line)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0.as_str().to_owned()
    }
}

impl TryFrom<String> for Pattern {
    type Error = BadPattern;

    fn try_from(text: String) -> Result<Self, BadPattern> {
        Self::new(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_found_anywhere_in_a_line() {
        let aborted = Pattern::new(r"Transaction aborted \(error -\d+\)").unwrap();
        assert!(aborted.matches("BTRFS: Transaction aborted (error -28)"));
        assert!(!aborted.matches("BTRFS info: forced readonly"));
    }

    #[test]
    fn what_is_no_pattern_says_why_in_one_line() {
        let error = Pattern::new("error [-28").unwrap_err();
        assert_eq!(error.why, "unclosed character class");
    }
}
