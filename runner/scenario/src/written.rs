//! Text that a user wrote, and where: every message points back at it.

use std::ops::Range;

use toml::Spanned;

/// A range of bytes in one of the texts a user gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// In which text.
    pub(crate) origin: Origin,
    /// Which bytes of it.
    pub(crate) span: Range<usize>,
}

/// The texts a user gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The scenario file.
    Scenario,
    /// One of `Settings::set`, from 0; its text is `key=value`.
    Setting(usize),
}

impl Place {
    /// A place in the scenario file.
    pub(crate) fn scenario(span: Range<usize>) -> Self {
        Self { origin: Origin::Scenario, span }
    }
}

/// The content of a string and its place.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// The content, without quotes.
    pub(crate) text: String,
    whole: Place,
    /// Where in the origin's text the content begins, where it stands there letter by letter (no escapes).
    start: Option<usize>,
}

impl Written {
    /// A value of the scenario file `document`.
    pub(crate) fn scenario<T: AsRef<str>>(value: &Spanned<T>, document: &str) -> Self {
        let text = value.get_ref().as_ref().to_owned();
        let raw = document.get(value.span()).unwrap_or_default();
        let start = raw.find(&text).filter(|_| !text.is_empty()).map(|at| value.span().start + at);
        Self { text, whole: Place::scenario(value.span()), start }
    }

    /// The value of `--set key=value`, which is number `index` of them.
    pub(crate) fn setting(index: usize, key: &str, value: &str) -> Self {
        let start = key.len() + 1;
        let whole = Place { origin: Origin::Setting(index), span: start..start + value.len() };
        Self { text: value.to_owned(), whole, start: Some(start) }
    }

    /// All of it, with its quotes.
    pub(crate) fn whole(&self) -> Place {
        self.whole.clone()
    }

    /// The bytes `range` of the content.
    pub(crate) fn at(&self, range: &Range<usize>) -> Place {
        match self.start {
            Some(start) => Place { origin: self.whole.origin, span: start + range.start..start + range.end },
            None => self.whole(),
        }
    }

    /// The bytes `range` of the content, as text of their own.
    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        let text = self.text.get(range.clone()).unwrap_or_default().to_owned();
        Self { text, whole: self.at(&range), start: self.start.map(|start| start + range.start) }
    }
}
