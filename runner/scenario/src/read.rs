//! Reads the values of a scenario with all parameters set, and remembers which parameters were read.

use std::collections::BTreeSet;

use brim_trial::template::{COPY, ITERATION};
use brim_trial::{Bytes, Expression, Round, Template};
use toml::Spanned;

use crate::error::{Checked, Objection};
use crate::formula::{Formula, Node, Sign};
use crate::params::{self, Value, Values};
use crate::quantity::{Dimension, Quantity};
use crate::schema::Text;
use crate::token;
use crate::written::{Origin, Place, Written};

/// A value, and the place to point at if it is not right: what the user would have to change.
#[derive(Debug)]
pub(crate) struct Found<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

/// What there is to be counted where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Nothing: it is the same in every round.
    Fixed,
    /// `${i}`: the rounds of a worker.
    Rounds,
    /// `${i}`, and `${copy}`: the worker has copies.
    Copies,
}

/// Reads quantities and strings with the parameters of one plan.
pub(crate) struct Reader<'a> {
    document: &'a str,
    values: &'a Values,
    used: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    /// Of the scenario file `document`, with `values`.
    pub(crate) fn new(document: &'a str, values: &'a Values) -> Self {
        Self { document, values, used: BTreeSet::new() }
    }

    /// The parameters that were read.
    pub(crate) fn used(self) -> BTreeSet<String> {
        self.used
    }

    /// The value of `key`, which is `want` and the same in every round.
    pub(crate) fn constant<T>(
        &mut self,
        field: &Spanned<T>,
        want: Dimension,
        key: &str,
    ) -> Checked<Found<u64>>
    where
        T: AsRef<str>,
    {
        let Found { value: expression, place } = self.expression(field, want, key, Scope::Fixed)?;
        let value = expression.value(Round::default()).map_err(|_| out_of_range(place.clone(), key, None))?;
        Ok(Found { value, place })
    }

    /// The expression of `key`, which is `want`.
    pub(crate) fn expression<T: AsRef<str>>(
        &mut self,
        field: &Spanned<T>,
        want: Dimension,
        key: &str,
        scope: Scope,
    ) -> Checked<Found<Expression>> {
        let written = Written::scenario(field, self.document);
        let formula = Formula::parse(&written)?;
        let (dimension, expression) = self.measure(&written, &formula, scope)?;
        let place = self.blame(&written, &formula.params(), matches!(formula.node, Node::Param(_)));
        if dimension == want {
            return Ok(Found { value: expression, place });
        }
        let message = format!("`{key}` is {}, but `{}` is {}", want.name(), written.text, dimension.name());
        let example = want.example();
        Err(Objection::new(place, message, format!("not {}", want.name()))
            .also(written.whole(), "read here")
            .help(example))
    }

    /// A string with its parameters filled in.
    pub(crate) fn text(&mut self, field: &Text) -> Checked<Found<String>> {
        self.string(field)
    }

    /// As [`Reader::text`], of whatever is text in the end.
    pub(crate) fn string<T: AsRef<str>>(&mut self, field: &Spanned<T>) -> Checked<Found<String>> {
        self.filled(field, Scope::Fixed)
    }

    /// A name that may be another one in each round.
    pub(crate) fn template(&mut self, field: &Text, scope: Scope) -> Checked<Found<Template>> {
        let Found { value, place } = self.filled(field, scope)?;
        Ok(Found { value: Template::from(value), place })
    }

    /// A string with its parameters filled in, in which `${i}` and `${copy}` stay.
    fn filled<T: AsRef<str>>(&mut self, field: &Spanned<T>, scope: Scope) -> Checked<Found<String>> {
        let written = Written::scenario(field, self.document);
        let mut value = String::new();
        let mut names = Vec::new();
        let mut at = 0;
        while let Some(begin) = written.text[at..].find("${").map(|found| at + found) {
            let (name, span) = token::param(&written, begin)?;
            value.push_str(&written.text[at..begin]);
            at = span.end;
            let count = [ITERATION, COPY].into_iter().find(|count| *count == format!("${{{name}}}"));
            if let Some(count) = count {
                counted(count, scope, written.at(&span))?;
                value.push_str(count);
                continue;
            }
            value.push_str(&self.lookup(&name, || written.at(&span))?.text);
            names.push(name);
        }
        value.push_str(&written.text[at..]);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let alone = names.len() == 1 && written.text.starts_with("${") && at == written.text.len();
        Ok(Found { value, place: self.blame(&written, &names, alone) })
    }

    fn lookup(&mut self, name: &str, place: impl Fn() -> Place) -> Checked<&'a Value> {
        let value = self.values.get(name).ok_or_else(|| params::undefined(name, place(), self.values))?;
        self.used.insert(name.to_owned());
        Ok(value)
    }

    fn measure(
        &mut self,
        written: &Written,
        formula: &Formula,
        scope: Scope,
    ) -> Checked<(Dimension, Expression)> {
        match &formula.node {
            Node::Quantity(quantity) => Ok(literal(quantity)),
            Node::Param(name) if name == "i" => {
                counted(ITERATION, scope, written.at(&formula.span))?;
                Ok((Dimension::Count, Expression::Iteration))
            }
            Node::Param(name) if name == "copy" => {
                counted(COPY, scope, written.at(&formula.span))?;
                Ok((Dimension::Count, Expression::Copy))
            }
            Node::Param(name) => {
                let value = self.lookup(name, || written.at(&formula.span))?;
                let parsed = value.quantity.map_or_else(|| Quantity::parse(&value.written), Ok);
                parsed
                    .map(|quantity| literal(&quantity))
                    .map_err(|objection| objection.also(written.at(&formula.span), "read as a quantity here"))
            }
            Node::Binary(sign, left, right) => {
                let (left_is, left_value) = self.measure(written, left, scope)?;
                let (right_is, right_value) = self.measure(written, right, scope)?;
                let dimension = combine(*sign, left_is, right_is).ok_or_else(|| {
                    clash(written.at(&right.span), *sign, right_is)
                        .also(written.at(&left.span), left_is.name())
                })?;
                let (left, right) = (Box::new(left_value), Box::new(right_value));
                let expression = match sign {
                    Sign::Plus => Expression::Add(left, right),
                    Sign::Minus => Expression::Subtract(left, right),
                    Sign::Times => Expression::Multiply(left, right),
                };
                Ok((dimension, expression))
            }
        }
    }

    /// What the user would have to change for another value: the `--set` that was read, else the parameter if it is
    /// all there is, else the text itself.
    fn blame(&self, written: &Written, names: &[&str], alone: bool) -> Place {
        let places =
            || names.iter().filter_map(|name| self.values.get(*name)).map(|value| value.written.whole());
        let set = places().find(|place| place.origin != Origin::Scenario);
        let only = places().find(|_| alone);
        set.or(only).unwrap_or_else(|| written.whole())
    }
}

/// The objection to a value below zero or past 2^64, in a round if it has rounds.
pub(crate) fn out_of_range(place: Place, key: &str, round: Option<Round>) -> Objection {
    let when = match round {
        None => String::new(),
        Some(Round { iteration, copy: 0 }) => format!(" in round {iteration}"),
        Some(Round { iteration, copy }) => format!(" in round {iteration} of copy {copy}"),
    };
    Objection::new(place, format!("`{key}` is below zero or past 2^64{when}"), "out of range")
        .help("quantities are whole numbers from 0 to 2^64 − 1; `${i}` counts from 0")
}

fn literal(quantity: &Quantity) -> (Dimension, Expression) {
    let dimension = quantity.unit.dimension;
    match dimension {
        Dimension::Size => (dimension, Expression::Size(Bytes(quantity.value))),
        // A plan has no expressions of time: durations are worked out here, in nanoseconds.
        Dimension::Duration | Dimension::Count => (dimension, Expression::Count(quantity.value)),
    }
}

fn combine(sign: Sign, left: Dimension, right: Dimension) -> Option<Dimension> {
    match (sign, left, right) {
        (Sign::Times, Dimension::Count, other) | (Sign::Times, other, Dimension::Count) => Some(other),
        (Sign::Plus | Sign::Minus, left, right) if left == right => Some(left),
        _ => None,
    }
}

fn clash(place: Place, sign: Sign, right: Dimension) -> Objection {
    let (message, help) = match sign {
        Sign::Times => (
            "two quantities with units are multiplied",
            "one side of `*` is a plain number, such as `2` or `${i}`",
        ),
        Sign::Plus | Sign::Minus => (
            "different kinds of quantities are added or subtracted",
            "both sides of `+` and `-` have units of one kind",
        ),
    };
    Objection::new(place, message, right.name()).help(help)
}

/// Whether `count`, which is `${i}` or `${copy}`, may stand where there is `scope` to be counted.
fn counted(count: &str, scope: Scope, place: Place) -> Checked<()> {
    let possible = "they may stand in the names and quantities of a step: `file`, `offset`, `length`, `size`";
    match scope {
        Scope::Copies => Ok(()),
        Scope::Rounds if count == ITERATION => Ok(()),
        Scope::Rounds => Err(Objection::new(
            place,
            "`${copy}` in a step whose worker has no copies",
            "nothing to count here",
        )
        .help("give the worker copies: a `[[phase.worker]]` with its `name` and `copies = 4`")),
        Scope::Fixed => {
            Err(Objection::new(place, format!("`{count}` outside a step"), "nothing to count here")
                .help(format!("`${{i}}` counts rounds and `${{copy}}` copies of a worker; {possible}")))
        }
    }
}
