//! Steps that wait: for something to be so, for a time, or for a program.

use brim_trial::{Nanos, Operation, Template};
use toml::Spanned;

use super::{Setting, at_least_one, disk};
use crate::condition;
use crate::error::{Checked, Objection};
use crate::quantity::Dimension;
use crate::read::{Found, Reader};
use crate::schema::condition::{Amount, Between};
use crate::schema::{self, Formula};
use crate::written::Place;

/// `await`: one thing, and how it has to be.
pub(super) fn wait_for(
    wait: &Spanned<schema::Table<schema::Await>>,
    setting: Setting<'_>,
    reader: &mut Reader<'_>,
) -> Checked<Operation> {
    let schema::Await { held, counter, is, at_least, at_most, kernel_log, count } = &**wait.get_ref();
    let spans = [
        held.as_ref().map(Spanned::span),
        counter.as_ref().map(Spanned::span),
        kernel_log.as_ref().map(Spanned::span),
    ];
    let mut subjects = spans.into_iter().flatten();
    let (first, second) = (subjects.next(), subjects.next());
    if first.is_none() {
        return Err(Objection::new(Place::scenario(wait.span()), "nothing is waited for", "no `held`, `counter` or `kernel_log`")
            .help("write `await.held = \"GATE\"`, `await = { counter = \"data.may_use\", is = \"0 B\" }` or `await.kernel_log = 'REGEX'`"));
    }
    if let Some(second) = second {
        return Err(Objection::new(Place::scenario(second), "a step waits for one thing", "the second one")
            .help("write one of `held`, `counter` and `kernel_log`; the next step may wait for another"));
    }
    let numbers = [
        ("is", is.as_ref().map(Spanned::span), counter.is_some()),
        ("at_least", at_least.as_ref().map(Spanned::span), counter.is_some()),
        ("at_most", at_most.as_ref().map(Spanned::span), counter.is_some()),
        ("count", count.as_ref().map(Spanned::span), kernel_log.is_some()),
    ];
    for (key, span, fits) in numbers {
        if let Some(span) = span.filter(|_| !fits) {
            return Err(Objection::new(Place::scenario(span), format!("`{key}` says nothing here"), "not of this")
                .help("`is`, `at_least` and `at_most` are of a `counter`, `count` is of a `kernel_log`; of a gate it is `held = { gate = \"GATE\", count = 2 }`"));
        }
    }
    if let Some(field) = counter {
        let counter = condition::counter_name(field, setting.ground.filesystem, reader)?;
        let is = match is {
            Some(amount) if at_least.is_none() && at_most.is_none() => {
                condition::limits(amount, Dimension::Size, "is", reader)?
            }
            None if at_least.is_some() || at_most.is_some() => {
                let between = Between { at_least: at_least.clone(), at_most: at_most.clone() };
                let amount = Spanned::new(wait.span(), Amount::Between(between));
                condition::limits(&amount, Dimension::Size, "await", reader)?
            }
            _ => {
                return Err(Objection::new(Place::scenario(field.span()), "a counter is awaited to be something", "to be what?")
                    .help("write `is = \"0 B\"`, or `at_most` and `at_least`: `{ counter = \"data.may_use\", at_most = \"0 B\" }`"));
            }
        };
        return Ok(Operation::AwaitCounter { counter, is });
    }
    if let Some(field) = kernel_log {
        let pattern = condition::pattern(field, "kernel_log", reader)?;
        let count = count.as_ref().map_or(Ok(1), |count| at_least_one(count, "count", reader))?;
        return Ok(Operation::AwaitLog { pattern, count });
    }
    match held {
        Some(held) => disk::held(held, setting, reader),
        None => unreachable!("one of the three is there"),
    }
}

/// `sleep`, which has to end within the limit of a step.
pub(super) fn sleep(
    field: &Spanned<Formula>,
    setting: Setting<'_>,
    reader: &mut Reader<'_>,
) -> Checked<Operation> {
    let Found { value, place } = reader.constant(field, Dimension::Duration, "sleep")?;
    if value >= setting.ground.limit.0 {
        let message = format!(
            "a sleep of {} does not end within the limit of a step, {}",
            Nanos(value),
            setting.ground.limit
        );
        return Err(Objection::new(place, message, "too long").help(
            "sleep less, or give all steps more time: `step_limit = \"60 s\"` at the top of the file",
        ));
    }
    Ok(Operation::Sleep { time: Nanos(value) })
}

/// `exec`: words of a program, and how it is to end.
pub(super) fn exec(
    given: &schema::Exec,
    setting: Setting<'_>,
    reader: &mut Reader<'_>,
) -> Checked<Operation> {
    let mut command: Vec<Template> = Vec::new();
    for word in given.command.get_ref() {
        let found = reader.template(word, setting.scope)?;
        if found.value.as_str().contains('\0') || (command.is_empty() && found.value.as_str().is_empty()) {
            return Err(Objection::new(
                found.place,
                "this is not a word of a command",
                "empty, or with a nul byte",
            )
            .help("write the program and its arguments: `command = [\"cp\", \"blob\", \"copy\"]`"));
        }
        command.push(found.value);
    }
    if command.is_empty() {
        let place = Place::scenario(given.command.span());
        return Err(Objection::new(place, "no program is named", "empty")
            .help("write the program and its arguments: `command = [\"cp\", \"blob\", \"copy\"]`"));
    }
    let exit = given.exit.as_ref().map(|exit| reader.constant(exit, Dimension::Count, "exit")).transpose()?;
    let exit = match exit {
        None => 0,
        Some(Found { value, place }) => u8::try_from(value).map_err(|_| {
            Objection::new(place, format!("no program ends with exit code {value}"), "not up to 255")
                .help("an exit code is 0 to 255; 128 and the number of a signal where that ends it: 137 for SIGKILL")
        })?,
    };
    Ok(Operation::Exec { command, exit })
}
