//! TOML to the keys of `schema`, and its parser's and serde's messages in the words of this house.

use std::ops::Range;

use serde::Deserialize;
use toml::de::{DeTable, DeValue, Deserializer, Error};

use crate::SCHEMA;
use crate::error::{Checked, Objection};
use crate::schema::File;
use crate::suggest;
use crate::token;
use crate::written::Place;

/// Reads the keys of a scenario file.
pub(crate) fn file(text: &str) -> Checked<File> {
    versioned(text)
}

/// Reads the keys of a file that says which version of the language it is in.
pub(crate) fn versioned<'a, T: Deserialize<'a>>(text: &'a str) -> Checked<T> {
    let table = DeTable::parse(text).map_err(|error| not_toml(&error, text))?;
    check_schema(table.get_ref(), text)?;
    T::deserialize(Deserializer::from(table)).map_err(|error| not_a_scenario(&error, text))
}

/// Reads the keys of text that is in the language of this brim.
pub(crate) fn unversioned<'a, T: Deserialize<'a>>(text: &'a str) -> Checked<T> {
    let table = DeTable::parse(text).map_err(|error| not_toml(&error, text))?;
    T::deserialize(Deserializer::from(table)).map_err(|error| not_a_scenario(&error, text))
}

/// The language's version comes first: with another one, no other message is worth reading.
fn check_schema(table: &DeTable<'_>, text: &str) -> Checked<()> {
    let Some(value) = table.get("schema") else { return Err(missing("schema", 0..text.len(), text)) };
    let number = match value.get_ref() {
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    };
    if number == Some(SCHEMA) {
        return Ok(());
    }
    let shown = text.get(value.span()).unwrap_or_default();
    let place = Place::scenario(value.span());
    Err(Objection::new(place, format!("schema {shown} is not one that this brim reads"), "unknown schema")
        .help(format!("write `schema = {SCHEMA}`; if the file is for a newer brim, run that")))
}

fn not_toml(error: &Error, text: &str) -> Objection {
    let message = error.message();
    let span = visible(error.span().unwrap_or_default(), text);
    let (what, wanted) = message.split_once(", expected ").unwrap_or((message, ""));
    if what == "duplicate key" {
        let key = text.get(span.clone()).unwrap_or_default().trim_matches(['[', ']']);
        return Objection::new(
            Place::scenario(span),
            format!("`{key}` stands there twice"),
            "the second one",
        )
        .help("each key stands once in its table; several phases, faults and so on are written `[[phase]]`");
    }
    let objection =
        Objection::new(Place::scenario(span), format!("this is not TOML: {what}"), "the parser stops here");
    match (what, wanted) {
        ("string values must be quoted", _) => objection.help("write the value in quotes: `\"…\"`"),
        ("unexpected key or value", _) => {
            objection.help("write one `key = value` a line, and no comma behind it")
        }
        ("key with no value", _) => objection.help("write `key = value`"),
        ("invalid basic string", "`\"`") => {
            objection.help("a string ends with `\"`, on the line it begins on")
        }
        (what, _) if what.contains("array") => {
            objection.help("a list is `[a, b]`: is there a `]` or a `,` missing before this place?")
        }
        (_, "") => objection.help("a line is `key = value`, `[table]` or `[[list of tables]]`"),
        (_, wanted) => objection.help(format!("expected here: {wanted}")),
    }
}

fn not_a_scenario(error: &Error, text: &str) -> Objection {
    let message = error.message();
    let whole = error.span().unwrap_or(0..text.len());
    let place = Place::scenario(visible(whole.clone(), text));
    let name = |rest: &str| rest.split('`').next().unwrap_or_default().to_owned();
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let name = name(rest);
        let objection = Objection::new(place, format!("the key `{name}` is not known here"), "unknown key");
        return match possible(rest) {
            names if names.is_empty() => objection.help("this table is empty: `{}`"),
            names if names.contains(&"do") => objection
                .help(suggest::help(&name, &names, "possible here"))
                .more_help("a step's verb stands behind `do`: `do.fsync = { file = \"blob\" }`"),
            names => objection.help(suggest::help(&name, &names, "possible here")),
        };
    }
    if let Some(rest) = message.strip_prefix("unknown variant `") {
        let name = name(rest);
        return Objection::new(place, format!("the verb `{name}` is not known"), "unknown verb")
            .help(suggest::help(&name, &possible(rest), "possible here"));
    }
    if let Some(rest) = message.strip_prefix("missing field `") {
        return missing(&name(rest), whole, text);
    }
    if message.starts_with("wanted ") {
        return Objection::new(place, "a step does one thing", "not exactly one verb")
            .help("write one verb a step: `{ do.fsync = { file = \"blob\" } }`");
    }
    if message.contains("unit variant") {
        return Objection::new(place, "a verb stands without its table", "only a verb's name")
            .help("write `do.syncfs = {}`, or with what the verb needs: `do.fsync = { file = \"blob\" }`");
    }
    if let Some((found, wanted)) =
        message.strip_prefix("invalid type: ").and_then(|rest| rest.split_once(", expected "))
    {
        return mistyped(place, found, wanted, text);
    }
    Objection::new(place, message, "here")
        .help("see the scenarios that come with brim for the form of each table")
}

fn mistyped(place: Place, found: &str, wanted: &str, text: &str) -> Objection {
    if let Some(objection) = wrong_header(&place, found, wanted, text) {
        return objection;
    }
    let wanted = match wanted {
        "a string" | "string" => "a string in quotes",
        "a boolean" => "`true` or `false`",
        "a sequence" => "a list in brackets: `[ … ]`",
        "a map" => "a table: `{ key = value }`",
        "i64" | "u64" => "a whole number",
        other => other,
    };
    if let (Some(number), true) = (found.strip_prefix("integer "), wanted.starts_with("a quantity")) {
        let message = format!("the number {} has no unit", number.replace('`', ""));
        return Objection::new(place, message, "a quantity belongs here")
            .help("write it in quotes and with its unit, such as \"128 MiB\", \"66 blocks\" or, for a duration, \"30 s\"");
    }
    let found = match found.split_once(' ').unwrap_or((found, "")) {
        ("integer", number) => format!("the number {number}"),
        ("floating", rest) => format!("the number {}", rest.trim_start_matches("point ")),
        ("boolean", value) => value.to_owned(),
        ("string", value) => format!("the string {value}"),
        ("map", _) => "a table".to_owned(),
        ("sequence", _) => "a list".to_owned(),
        _ => found.to_owned(),
    };
    Objection::new(
        place,
        format!("{} stands where another kind of value belongs", found.replace('`', "")),
        "wrong kind of value",
    )
    .help(format!("write {wanted}"))
}

/// The objection to `[phase]` and to `[[device]]`.
fn wrong_header(place: &Place, found: &str, wanted: &str, text: &str) -> Option<Objection> {
    let header = text.get(place.span.clone())?;
    let name = header.trim_matches(['[', ']']);
    if !name.chars().all(token::is_name) {
        return None;
    }
    let objection = |message: String, label| Objection::new(place.clone(), message, label);
    match found {
        "map" if wanted == "a sequence" && header.starts_with('[') => Some(
            objection(format!("`{name}` is a list of tables"), "a single table")
                .help(format!("write double brackets before each: `[[{name}]]`")),
        ),
        "sequence" if header.starts_with("[[") => Some(
            objection(format!("`{name}` is a single table"), "a list of tables")
                .help(format!("write it with single brackets, and once: `[{name}]`")),
        ),
        _ => None,
    }
}

/// The objection to a table without one of its keys.
fn missing(key: &str, table: Range<usize>, text: &str) -> Objection {
    let top = table.start == 0;
    let (place, whose) =
        if top { (visible(0..0, text), "this file") } else { (visible(table, text), "this table") };
    let help = match key {
        "schema" => "begin with the line `schema = 1`",
        "name" => "add `name = \"…\"`",
        "claim" => "add `claim = \"…\"`: what ought to be true, in one sentence",
        "source" => "add `source = \"…\"`: the mail or the report that the claim comes from",
        "device" if top => "add `[device]` with `size = \"128 MiB\"`",
        "filesystem" if top => "add `[filesystem]` with `kind = \"btrfs\"`",
        "phase" => "add a `[[phase]]` with `name` and `step`",
        "reproduced" => "add a `[[reproduced]]` with `step`, and `errno` or `space`: when is the bug there?",
        "device" => "add `device = \"b\"`: the name of a disk",
        "do" => "say what the step does: `do.fsync = { file = \"blob\" }`",
        "file" => "add `file = \"blob\"`: a path relative to the mount",
        "verdict" => "add `verdict = \"reproduced\"` or `verdict = \"not-reproduced\"`",
        "offset" | "length" | "size" => {
            return Objection::new(
                Place::scenario(place),
                format!("{whose} has no `{key}`"),
                "a key is missing",
            )
            .help(format!("add `{key} = \"64 KiB\"`, or another size"));
        }
        _ => "",
    };
    let help = if help.is_empty() { format!("add `{key} = …`") } else { help.to_owned() };
    Objection::new(Place::scenario(place), format!("{whose} has no `{key}`"), "a key is missing").help(help)
}

/// The names in backquotes in the rest of a message of serde, behind the name that it is about.
fn possible(rest: &str) -> Vec<&str> {
    rest.split('`').skip(1).enumerate().filter(|(index, _)| index % 2 == 1).map(|(_, name)| name).collect()
}

/// The part of `span` that is worth underlining: its first line, and at least one letter.
fn visible(span: Range<usize>, text: &str) -> Range<usize> {
    let start = span.start.min(text.len());
    let line = text.get(start..).and_then(|rest| rest.find('\n')).map_or(text.len(), |end| start + end);
    let end = span.end.clamp(start, line);
    if end > start { start..end } else { start..line.max(start) }
}
