//! Expressions as they are written: `${i} * ${record}`. Their values and dimensions are worked out in `read`.

use std::fmt;
use std::ops::Range;

use crate::error::{Checked, Objection};
use crate::quantity::Quantity;
use crate::token::{self, Kind, Token};
use crate::written::Written;

/// An expression, and which bytes of its text it is.
#[derive(Clone, Debug)]
pub(crate) struct Formula {
    pub(crate) node: Node,
    pub(crate) span: Range<usize>,
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Quantity(Quantity),
    /// `${name}`; `${i}` is one of them here.
    Param(String),
    Binary(Sign, Box<Formula>, Box<Formula>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    Plus,
    Minus,
    Times,
}

impl Formula {
    /// Reads an expression that is all of `written`.
    pub(crate) fn parse(written: &Written) -> Checked<Self> {
        let tokens = token::tokens(written)?;
        let mut parser = Parser { written, rest: &tokens };
        let formula = parser.sum()?;
        match parser.rest.first() {
            None => Ok(formula),
            Some(token) => Err(parser.unexpected(token)),
        }
    }

    /// The names of the parameters in it, `i` among them, from left to right.
    pub(crate) fn params(&self) -> Vec<&str> {
        match &self.node {
            Node::Quantity(_) => Vec::new(),
            Node::Param(name) => vec![name],
            Node::Binary(_, left, right) => [left.params(), right.params()].concat(),
        }
    }
}

struct Parser<'a> {
    written: &'a Written,
    rest: &'a [Token],
}

impl Parser<'_> {
    fn sum(&mut self) -> Checked<Formula> {
        let mut left = self.product()?;
        while let Some(sign) = self.sign(&[(Kind::Plus, Sign::Plus), (Kind::Minus, Sign::Minus)]) {
            let right = self.product()?;
            left = binary(sign, left, right);
        }
        Ok(left)
    }

    fn product(&mut self) -> Checked<Formula> {
        let mut left = self.operand()?;
        while let Some(sign) = self.sign(&[(Kind::Times, Sign::Times)]) {
            let right = self.operand()?;
            left = binary(sign, left, right);
        }
        Ok(left)
    }

    fn operand(&mut self) -> Checked<Formula> {
        match self.rest.split_first() {
            Some((Token { kind: Kind::Param(name), span }, rest)) => {
                self.rest = rest;
                Ok(Formula { node: Node::Param(name.clone()), span: span.clone() })
            }
            Some((Token { kind: Kind::Open, span }, rest)) => {
                self.rest = rest;
                let inner = self.sum()?;
                let Some((Token { kind: Kind::Close, span: close }, rest)) = self.rest.split_first() else {
                    let place = self.written.at(span);
                    return Err(Objection::new(place, "a parenthesis is not closed", "opened here")
                        .help("add the `)` that belongs to it"));
                };
                self.rest = rest;
                Ok(Formula { node: inner.node, span: span.start..close.end })
            }
            None if !self.written.text.trim().is_empty() => {
                let end = self.written.text.trim_end().len();
                let place = self.written.at(&(end - 1..end));
                Err(Objection::new(place, format!("`{}` is not finished", self.written.text), "the end")
                    .help("a quantity or `${name}` follows a sign"))
            }
            _ => {
                let before = self.rest.first().map_or(0, |token| token.span.start);
                let (quantity, rest) = Quantity::take(self.written, self.rest)?;
                let used = self.rest.len() - rest.len();
                let end = self.rest.get(used - 1).map_or(before, |token| token.span.end);
                self.rest = rest;
                Ok(Formula { node: Node::Quantity(quantity), span: before..end })
            }
        }
    }

    fn sign(&mut self, signs: &[(Kind, Sign)]) -> Option<Sign> {
        let (first, rest) = self.rest.split_first()?;
        let (_, sign) = signs.iter().find(|(kind, _)| *kind == first.kind)?;
        self.rest = rest;
        Some(*sign)
    }

    fn unexpected(&self, token: &Token) -> Objection {
        let text = self.written.text.get(token.span.clone()).unwrap_or_default();
        Objection::new(
            self.written.at(&token.span),
            format!("`{text}` is not expected here"),
            "`+`, `-`, `*` or the end",
        )
        .help("between two quantities stands a sign; a unit follows a number directly: `2 * 64 KiB`")
    }
}

fn binary(sign: Sign, left: Formula, right: Formula) -> Formula {
    let span = left.span.start..right.span.end;
    Formula { node: Node::Binary(sign, Box::new(left), Box::new(right)), span }
}

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Node::Quantity(quantity) => write!(f, "{quantity}"),
            Node::Param(name) => write!(f, "${{{name}}}"),
            Node::Binary(sign, left, right) => {
                let sign = match sign {
                    Sign::Plus => '+',
                    Sign::Minus => '-',
                    Sign::Times => '*',
                };
                write!(f, "({left} {sign} {right})")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use toml::Spanned;

    use super::*;

    fn parse(text: &str) -> Checked<Formula> {
        Formula::parse(&Written::scenario(&Spanned::new(0..text.len(), text), text))
    }

    fn formula() -> impl Strategy<Value = Formula> {
        let quantity = (0u64..1000, prop::sample::select(vec!["", "blocks", "B", "KiB", "TiB", "us", "min"]));
        let leaf = prop_oneof![
            quantity.prop_map(|(number, unit)| parse(&format!("{number} {unit}")).unwrap()),
            "[a-z][a-z0-9_-]{0,4}".prop_map(|name| Formula { node: Node::Param(name), span: 0..0 }),
        ];
        let sign = || prop::sample::select(vec![Sign::Plus, Sign::Minus, Sign::Times]);
        leaf.prop_recursive(4, 24, 2, move |inner| {
            (sign(), inner.clone(), inner).prop_map(|(sign, left, right)| binary(sign, left, right))
        })
    }

    proptest! {
        /// For all expressions: what is shown is read as the same expression.
        #[test]
        fn display_and_parse_are_inverse(formula in formula()) {
            let shown = formula.to_string();
            prop_assert_eq!(parse(&shown).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn products_bind_tighter_and_differences_go_from_the_left() {
        for (text, read) in [
            ("1+2*3", "(1 + (2 * 3))"),
            ("1-2-3", "((1 - 2) - 3)"),
            ("(1 - (2-3))*4KiB", "((1 - (2 - 3)) * 4 KiB)"),
            ("${i}*${record} + 1 blocks", "((${i} * ${record}) + 1 block)"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), read);
        }
    }

    #[test]
    fn an_operand_knows_its_place() {
        let Node::Binary(_, left, right) = parse("(1 + 2) * 64 KiB").unwrap().node else {
            panic!("a product")
        };
        assert_eq!((left.span, right.span), (0..7, 10..16));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        let deep = format!("{}1{}", "(".repeat(150), ")".repeat(150));
        for text in [
            "", " ", "1 +", "(1", "1)", "1 2", "* 1", "-1", "1 B B", "free", "$free", "${}", "${a b}", "1/2",
            &deep,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
