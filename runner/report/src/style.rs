//! Colour, where it is wanted.

use std::fmt::Display;

use brim_trial::Verdict;

/// Whether text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// With ANSI colours, or plain.
    pub colour: bool,
}

impl Style {
    /// Plain text.
    pub const PLAIN: Self = Self { colour: false };

    /// Text that stands out.
    #[must_use]
    pub fn strong(self, text: impl Display) -> String {
        self.sgr("1", text)
    }

    /// Text that stands back.
    #[must_use]
    pub fn faint(self, text: impl Display) -> String {
        self.sgr("2", text)
    }

    /// A verdict in its colour: what was expected is green, what was not is red, what is open is yellow.
    #[must_use]
    pub fn verdict(self, verdict: Verdict, expected: bool, text: impl Display) -> String {
        let code = match (verdict, expected) {
            (Verdict::Inconclusive, _) => "1;33",
            (_, true) => "1;32",
            (_, false) => "1;31",
        };
        self.sgr(code, text)
    }

    fn sgr(self, code: &str, text: impl Display) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}
