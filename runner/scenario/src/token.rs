//! The pieces of a quantity or an expression: numbers, words, `${…}` and signs.

use std::ops::Range;

use crate::error::{Checked, Objection};
use crate::written::Written;

/// More pieces than any expression needs; the parser's recursion stays within it.
const TOKEN_COUNT_MAX: usize = 200;

/// A piece and where it stands in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) span: Range<usize>,
}

/// What a piece is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Digits, as written.
    Number(String),
    /// Letters: a unit, if all is well.
    Word(String),
    /// The name in `${name}`.
    Param(String),
    Plus,
    Minus,
    Times,
    Open,
    Close,
}

/// All pieces of `written`.
pub(crate) fn tokens(written: &Written) -> Checked<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(rest) = written.text.get(at..).filter(|rest| !rest.is_empty()) {
        let blank = rest.len() - rest.trim_start().len();
        if blank > 0 {
            at += blank;
            continue;
        }
        if tokens.len() == TOKEN_COUNT_MAX {
            return Err(Objection::new(written.whole(), "an expression is too long", "more than 200 pieces")
                .help("work part of it out by hand"));
        }
        let token = next(written, at, rest)?;
        at = token.span.end;
        tokens.push(token);
    }
    Ok(tokens)
}

fn next(written: &Written, at: usize, rest: &str) -> Checked<Token> {
    let sign = |kind| Ok(Token { kind, span: at..at + 1 });
    match rest.chars().next() {
        Some('+') => sign(Kind::Plus),
        Some('-') => sign(Kind::Minus),
        Some('*') => sign(Kind::Times),
        Some('(') => sign(Kind::Open),
        Some(')') => sign(Kind::Close),
        Some('$') => {
            let (name, span) = param(written, at)?;
            Ok(Token { kind: Kind::Param(name), span })
        }
        Some(first) if first.is_ascii_digit() => number(written, at, rest),
        Some(first) if first.is_alphabetic() => {
            let word = prefix(rest, char::is_alphabetic);
            Ok(Token { kind: Kind::Word(word.to_owned()), span: at..at + word.len() })
        }
        first => Err(stray(written, at, first.unwrap_or_default())),
    }
}

fn number(written: &Written, at: usize, rest: &str) -> Checked<Token> {
    let digits = prefix(rest, |c| c.is_ascii_digit());
    let after = &rest[digits.len()..];
    if after.starts_with("..") {
        return Err(Objection::new(
            written.whole(),
            format!("`{}` is a range", written.text),
            "one value belongs here",
        )
        .help("ranges are for `--set` and for the `params` of a `[[known]]`; write one value here"));
    }
    if after.starts_with(['.', ',', '_']) {
        let whole = prefix(rest, |c| c.is_ascii_digit() || matches!(c, '.' | ',' | '_'));
        return Err(Objection::new(
            written.at(&(at..at + whole.len())),
            format!("`{whole}` is not a whole number"),
            "digits only",
        )
        .help("write a whole number of a smaller unit: `1536 MiB`, not `1.5 GiB`; and `1000`, not `1,000` or `1_000`"));
    }
    Ok(Token { kind: Kind::Number(digits.to_owned()), span: at..at + digits.len() })
}

/// Reads `${name}` at byte `at`: the name, and the bytes of all of it.
pub(crate) fn param(written: &Written, at: usize) -> Checked<(String, Range<usize>)> {
    let rest = written.text.get(at..).unwrap_or_default();
    let Some(inner) = rest.strip_prefix("${") else {
        return Err(Objection::new(
            written.at(&(at..at + 1)),
            "a lone `$`",
            "a parameter's name in braces follows `$`",
        )
        .help("write `${name}` to read a parameter"));
    };
    let name = prefix(inner, is_name);
    if name.is_empty() || !inner[name.len()..].starts_with('}') {
        let shown = 2 + name.len();
        let message = match name {
            "" => "`${` is not followed by a name".to_owned(),
            name => format!("`${{{name}` is not closed"),
        };
        return Err(Objection::new(written.at(&(at..at + shown)), message, "not a parameter")
            .help("write `${name}`; a name is made of letters, digits, `_` and `-`"));
    }
    Ok((name.to_owned(), at..at + name.len() + 3))
}

/// Whether a parameter's name may have this letter.
pub(crate) fn is_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-')
}

fn stray(written: &Written, at: usize, letter: char) -> Objection {
    let objection = Objection::new(
        written.at(&(at..at + letter.len_utf8())),
        format!("`{letter}` has no meaning in a quantity"),
        "not expected here",
    );
    match letter {
        '×' | '·' => objection.help("multiply with `*`"),
        '/' | '%' => objection.help("there is no division: only `+`, `-`, `*` and parentheses"),
        '{' | '}' => objection.help("write `${name}` to read a parameter"),
        _ => objection
            .help("a quantity is made of numbers with units, `${name}`, `+`, `-`, `*` and parentheses"),
    }
}

fn prefix(text: &str, belongs: impl Fn(char) -> bool) -> &str {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    &text[..end]
}
