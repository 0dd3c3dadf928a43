//! The one error of this crate: what is wrong, where, and what would be right.

use std::fmt;
use std::ops::Range;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

use crate::written::{Origin, Place};

/// What a check returns.
pub(crate) type Checked<T> = Result<T, Objection>;

/// A mistake in a scenario or in a `--set`: the place underlined, and a help that says what would be right.
///
/// Nobody branches on the kind of mistake, so it is one type with its words, and not an enum of all mistakes.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.words.message)]
pub struct ScenarioError(Box<Diagnosis>);

#[derive(Debug)]
struct Diagnosis {
    words: Words,
    source: NamedSource<String>,
}

/// A mistake before it is put beside the text it is in. Boxed inside, because it is large and rare.
#[derive(Debug)]
pub(crate) struct Objection(Box<Words>);

#[derive(Debug)]
struct Words {
    message: String,
    place: Place,
    label: String,
    also: Vec<(Place, String)>,
    help: String,
}

impl Objection {
    /// `message` says what is wrong, `label` stands under `place`.
    pub(crate) fn new(place: Place, message: impl Into<String>, label: impl Into<String>) -> Self {
        let (message, label) = (message.into(), label.into());
        Self(Box::new(Words { message, place, label, also: Vec::new(), help: String::new() }))
    }

    /// Says what would be right.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help = help.into();
        self
    }

    /// Says more of what would be right, behind what is said already.
    pub(crate) fn more_help(mut self, help: &str) -> Self {
        self.0.help = format!("{}\n{help}", self.0.help);
        self
    }

    /// Underlines a second place, if it is in the same text as the first and not the same.
    pub(crate) fn also(mut self, place: Place, label: impl Into<String>) -> Self {
        if place != self.0.place && place.origin == self.0.place.origin {
            self.0.also.push((place, label.into()));
        }
        self
    }
}

impl ScenarioError {
    pub(crate) fn new(objection: Objection, path: &str, text: &str, set: &[(String, String)]) -> Self {
        let source = match objection.0.place.origin {
            Origin::Scenario => NamedSource::new(path, text.to_owned()),
            Origin::Setting(index) => {
                let argument = set.get(index).map(|(key, value)| format!("{key}={value}"));
                NamedSource::new("--set", argument.unwrap_or_default())
            }
        };
        Self(Box::new(Diagnosis { words: *objection.0, source }))
    }
}

impl Diagnosis {
    /// The end of a text has no letter to underline: the last one stands for it.
    fn underlined(&self) -> Range<usize> {
        let span = self.words.place.span.clone();
        let before = self.source.inner().get(..span.start).unwrap_or_default();
        let last = before.chars().next_back().map_or(0, char::len_utf8);
        if span.is_empty() && span.start == self.source.inner().len() {
            span.start - last..span.end
        } else {
            span
        }
    }
}

impl Diagnostic for ScenarioError {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = &self.0.words.help;
        (!help.is_empty()).then(|| -> Box<dyn fmt::Display> { Box::new(help) })
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.0.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let Words { label, also, .. } = &self.0.words;
        let first = LabeledSpan::new_primary_with_span(Some(label.clone()), self.0.underlined());
        let others = also
            .iter()
            .map(|(place, label)| LabeledSpan::new_with_span(Some(label.clone()), place.span.clone()));
        Some(Box::new(std::iter::once(first).chain(others)))
    }
}
