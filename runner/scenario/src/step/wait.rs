//! Steps that wait: for a time, or for a program.

use brim_trial::{Nanos, Operation, Template};
use toml::Spanned;

use super::Setting;
use crate::error::{Checked, Objection};
use crate::quantity::Dimension;
use crate::read::{Found, Reader};
use crate::schema::{self, Formula};
use crate::written::Place;

/// `sleep`, which has to end within the limit of a step.
pub(super) fn sleep(
    field: &Spanned<Formula>,
    setting: Setting<'_>,
    reader: &mut Reader<'_>,
) -> Checked<Operation> {
    let Found { value, place } = reader.constant(field, Dimension::Duration, "sleep")?;
    if value >= setting.limit.0 {
        let message =
            format!("a sleep of {} does not end within the limit of a step, {}", Nanos(value), setting.limit);
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
