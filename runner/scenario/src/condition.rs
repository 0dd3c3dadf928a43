//! `[[reproduced]]`: each entry is about one thing, and the keys beside it say what of that.

use brim_device::fault::Op;
use brim_trial::condition::{
    About, Condition, Content, ExtentLimits, Measure, Outcome, Reading, StepCondition,
};
use brim_trial::event::{Signal, SpaceKind};
use brim_trial::limits::{Change, Limits};
use brim_trial::plan::{Fault, Phase};
use brim_trial::{FilesystemKind, Operation, Pattern, counters};
use toml::Spanned;

use crate::check;
use crate::error::{Checked, Objection};
use crate::quantity::Dimension;
use crate::read::{Found, Reader};
use crate::schema::Text;
use crate::schema::condition::{Amount, Between, Extents, Reproduced};
use crate::schema::{Scalar, Table};
use crate::step;
use crate::suggest;
use crate::written::Place;

/// What a condition may be about, and the keys that say more of it. `not` goes with each.
const SUBJECTS: [(&str, &[&str]); 10] = [
    ("step", &["outcome", "errno", "signal", "space", "content", "short", "extents", "times"]),
    ("counter", &["is", "grew", "shrank", "unchanged", "since", "at"]),
    ("sum", &["grew", "shrank", "unchanged"]),
    ("ticket", &["errno", "times"]),
    ("kernel_log", &["times"]),
    ("mount", &[]),
    ("requests", &["times", "bytes", "phase"]),
    ("fault", &["times"]),
    ("crash", &[]),
    ("any", &[]),
];

/// Spaces of btrfs whose reservations the kernel tells of.
const SPACES: [(&str, SpaceKind); 3] =
    [("data", SpaceKind::Data), ("metadata", SpaceKind::Metadata), ("system", SpaceKind::System)];

/// The counters that the kernel tells every change of.
const SUMS: [(&str, SpaceKind); 3] = [
    ("data.may_use", SpaceKind::Data),
    ("metadata.may_use", SpaceKind::Metadata),
    ("system.may_use", SpaceKind::System),
];

/// What a condition may name.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    /// The filesystem that the scenario is about, be it run on another.
    pub(crate) filesystem: FilesystemKind,
    /// The disk.
    pub(crate) faults: &'a [Fault],
    /// What is done.
    pub(crate) phases: &'a [Phase],
    /// What the steps are called that are the control's alone. The scenario has none of them, but its control is judged by the
    /// same conditions.
    pub(crate) of_control: &'a [String],
}

/// One entry.
pub(crate) fn condition(
    entry: &Spanned<Table<Reproduced>>,
    scene: Scene<'_>,
    reader: &mut Reader<'_>,
) -> Checked<Condition> {
    let given: &Reproduced = entry.get_ref();
    about_one_thing(given, Place::scenario(entry.span()))?;
    let not = given.not.as_ref().is_some_and(|not| *not.get_ref());
    Ok(Condition { about: about(given, scene, reader)?, not })
}

fn about(given: &Reproduced, scene: Scene<'_>, reader: &mut Reader<'_>) -> Checked<About> {
    if let Some(step) = &given.step {
        return Ok(About::Step(ends(step, given, scene, reader)?));
    }
    if let Some(name) = &given.counter {
        return counter(name, given, scene, reader);
    }
    if let Some(name) = &given.sum {
        let space = step::option(name, "sum", &SUMS, reader)?;
        return Ok(About::MayUse { space, change: change(given, name, reader)? });
    }
    if let Some(space) = &given.ticket {
        return Ok(About::Tickets {
            space: step::option(space, "ticket", &SPACES, reader)?,
            errno: given.errno.as_ref().map(|name| step::errno(name, "errno", reader)).transpose()?,
            times: times(given, reader)?,
        });
    }
    if let Some(text) = &given.kernel_log {
        let pattern = pattern(text, "kernel_log", reader)?;
        return Ok(About::KernelLog { pattern, times: times(given, reader)? });
    }
    if let Some(end) = &given.mount {
        let ends = [("read-only", true), ("read-write", false)];
        return Ok(About::Mount { read_only: step::option(end, "mount", &ends, reader)? });
    }
    if let Some(op) = &given.requests {
        return requests(op, given, scene, reader);
    }
    if let Some(name) = &given.fault {
        let row = step::a_fault(name, "fault", scene.faults)?;
        return Ok(About::Fault { row, times: times(given, reader)? });
    }
    if let Some(text) = &given.crash {
        return Ok(About::Crash { pattern: pattern(text, "crash", reader)? });
    }
    any(given, scene, reader)
}

/// The one key that says what a condition is about; the others go with it.
fn about_one_thing(given: &Reproduced, place: Place) -> Checked<()> {
    let present = given.present();
    let mut subjects = SUBJECTS.iter().filter(|(name, _)| present.iter().any(|(key, _)| key == name));
    let Some((subject, goes)) = subjects.next() else {
        let names: Vec<String> = SUBJECTS.iter().map(|(name, _)| format!("`{name}`")).collect();
        return Err(Objection::new(place, "this condition is about nothing", "nothing to look at")
            .help(format!("say what it is about by one of {}", names.join(", "))));
    };
    if let Some((second, _)) = subjects.next() {
        let at = present.iter().find(|(key, _)| key == second).map(|(_, span)| span.clone());
        let place = at.map_or(place, Place::scenario);
        let message = format!("a condition is about one thing: `{subject}`, or `{second}`");
        return Err(Objection::new(place, message, "the second one").help(
            "all `[[reproduced]]` have to hold: write two; or `any = [{ … }, { … }]`, of which one is enough",
        ));
    }
    let goes_with_it = |key: &str| key == *subject || key == "not" || goes.contains(&key);
    if let Some((key, span)) = present.into_iter().find(|(key, _)| !goes_with_it(key)) {
        let names: Vec<String> = goes.iter().chain(&["not"]).map(|name| format!("`{name}`")).collect();
        let message = format!("`{key}` says nothing of a `{subject}`");
        return Err(Objection::new(Place::scenario(span), message, format!("not with `{subject}`"))
            .help(format!("with `{subject}` go {}", names.join(", "))));
    }
    Ok(())
}

fn ends(
    name: &Text,
    given: &Reproduced,
    scene: Scene<'_>,
    reader: &mut Reader<'_>,
) -> Checked<StepCondition> {
    let step = a_step(name, scene)?;
    let outcomes = [("ok", Outcome::Ok), ("fails", Outcome::Fails)];
    let outcome = given.outcome.as_ref().map(|name| step::option(name, "outcome", &outcomes, reader));
    // What a step looked at is there where it did not fail.
    let default = if given.extents.is_some() { Outcome::Ok } else { Outcome::Fails };
    let outcome = outcome.transpose()?.unwrap_or(default);
    if outcome == Outcome::Ok {
        let failures = ["errno", "signal", "space", "content"];
        let present = given.present();
        if let Some((key, span)) = present.into_iter().find(|(key, _)| failures.contains(key)) {
            let message = format!("a step that ends well has no `{key}`");
            return Err(Objection::new(Place::scenario(span), message, "says how it fails")
                .help("take `outcome = \"ok\"` out, or this"));
        }
    }
    let contents = [("lost", Content::Lost)];
    let limits =
        |amount: &Spanned<Amount>, reader: &mut Reader<'_>| limits(amount, Dimension::Size, "short", reader);
    Ok(StepCondition {
        step,
        outcome,
        errno: given.errno.as_ref().map(|name| step::errno(name, "errno", reader)).transpose()?,
        signal: given.signal.as_ref().map(|name| signal(name, reader)).transpose()?,
        space: given.space.as_ref().map(|name| step::option(name, "space", &SPACES, reader)).transpose()?,
        content: given
            .content
            .as_ref()
            .map(|name| step::option(name, "content", &contents, reader))
            .transpose()?,
        short: given.short.as_ref().map(|amount| limits(amount, reader)).transpose()?,
        extents: given.extents.as_ref().map(|table| extents(table, reader)).transpose()?,
        times: times(given, reader)?,
    })
}

/// Signals by which the kernel ends a step.
fn signal(field: &Text, reader: &mut Reader<'_>) -> Checked<Signal> {
    step::option(field, "signal", &[("SIGBUS", Signal::Bus)], reader)
}

fn extents(table: &Spanned<Table<Extents>>, reader: &mut Reader<'_>) -> Checked<ExtentLimits> {
    let Extents { count, shared, unwritten } = &**table.get_ref();
    let mut limits = |field: &Option<Spanned<Amount>>, key: &str| {
        field.as_ref().map(|amount| limits(amount, Dimension::Count, key, reader)).transpose()
    };
    let found = ExtentLimits {
        count: limits(count, "count")?,
        shared: limits(shared, "shared")?,
        unwritten: limits(unwritten, "unwritten")?,
    };
    if found == ExtentLimits::default() {
        return Err(Objection::new(Place::scenario(table.span()), "`extents` says nothing", "empty")
            .help("say how many there are to be: `{ count = 1 }`, `{ shared = { at_least = 1 } }`"));
    }
    Ok(found)
}

/// The name of a step of the scenario.
fn a_step(field: &Text, scene: Scene<'_>) -> Checked<String> {
    let step = check::fixed(field, "step")?;
    let steps = scene.phases.iter().flat_map(|phase| &phase.steps).map(|step| step.name.as_str());
    let names = names(steps.chain(scene.of_control.iter().map(String::as_str)));
    if names.contains(&step.as_str()) {
        return Ok(step);
    }
    let place = Place::scenario(field.span());
    Err(Objection::new(place, format!("no step is called `{step}`"), "names no step").help(suggest::help(
        &step,
        &names,
        "steps of this scenario (by their `name`, else their verb)",
    )))
}

/// The name of a counter that a filesystem has.
pub(crate) fn counter_name(field: &Text, kind: FilesystemKind, reader: &mut Reader<'_>) -> Checked<String> {
    let Found { value: name, place } = reader.text(field)?;
    let known = counters::names(kind);
    if !known.contains(&name) {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let message = format!("{kind} has no counter `{name}`");
        return Err(Objection::new(place, message, "unknown counter").help(suggest::help(
            &name,
            &known,
            "possible here",
        )));
    }
    Ok(name)
}

fn counter(field: &Text, given: &Reproduced, scene: Scene<'_>, reader: &mut Reader<'_>) -> Checked<About> {
    let name = counter_name(field, scene.filesystem, reader)?;
    let at = given.at.as_ref().map_or(Ok(Reading::After), |at| reading(at, "at", scene))?;
    let is = match (&given.is, &given.since) {
        (Some(_), Some(since)) => {
            return Err(Objection::new(
                Place::scenario(since.span()),
                "`since` says nothing of `is`",
                "no change",
            )
            .help("with `since` goes a change: `grew`, `shrank` or `unchanged = true`"));
        }
        (Some(amount), None)
            if given.grew.is_none() && given.shrank.is_none() && given.unchanged.is_none() =>
        {
            Measure::Is(limits(amount, Dimension::Size, "is", reader)?)
        }
        _ => {
            let since =
                given.since.as_ref().map_or(Ok(Reading::Before), |since| reading(since, "since", scene))?;
            Measure::Changed { since, by: change(given, field, reader)? }
        }
    };
    Ok(About::Counter { name, at, is })
}

/// The one change that is given of what `whose` names.
fn change(given: &Reproduced, whose: &Text, reader: &mut Reader<'_>) -> Checked<Change> {
    let mut changes = Vec::new();
    let mut amount = |field: &Option<Spanned<Amount>>, key: &'static str, change: fn(Limits) -> Change| {
        if let Some(field) = field {
            changes.push((field.span(), change(limits(field, Dimension::Size, key, reader)?)));
        }
        Ok(())
    };
    amount(&given.grew, "grew", Change::Grew)?;
    amount(&given.shrank, "shrank", Change::Shrank)?;
    if let Some(unchanged) = &given.unchanged {
        if !unchanged.get_ref() {
            return Err(Objection::new(
                Place::scenario(unchanged.span()),
                "`unchanged = false` says nothing",
                "no such word",
            )
            .help("that it changes, whichever way, is `unchanged = true` with `not = true`"));
        }
        changes.push((unchanged.span(), Change::Unchanged));
    }
    let is = given.is.as_ref().map(Spanned::span);
    match (changes.as_slice(), is) {
        ([(_, change)], None) => Ok(*change),
        ([], _) => {
            let message = format!("nothing is said of `{}`", whose.get_ref());
            Err(Objection::new(Place::scenario(whose.span()), message, "what of it?")
                .help("write one of `is` (of a `counter`), `grew`, `shrank` and `unchanged = true`: `grew = { at_least = \"1 block\" }`"))
        }
        (several, is) => {
            let second = is.or_else(|| several.last().map(|(span, _)| span.clone())).unwrap_or_default();
            Err(Objection::new(
                Place::scenario(second),
                "a condition says one thing of a counter",
                "another one",
            )
            .help("all `[[reproduced]]` have to hold: write two"))
        }
    }
}

/// `before`, `after`, or a step that reads.
fn reading(field: &Text, key: &str, scene: Scene<'_>) -> Checked<Reading> {
    let name = check::fixed(field, key)?;
    let reads = |step: &&brim_trial::Step| matches!(step.operation, Operation::Counters {});
    let steps = scene.phases.iter().flat_map(|phase| &phase.steps).filter(reads);
    let mut possible = vec!["before", "after"];
    possible.extend(names(steps.map(|step| step.name.as_str())));
    match name.as_str() {
        "before" => Ok(Reading::Before),
        "after" => Ok(Reading::After),
        other if possible.contains(&other) => Ok(Reading::Step(name)),
        _ => {
            let message = format!("no reading of the counters is called `{name}`");
            Err(Objection::new(Place::scenario(field.span()), message, "names no reading").help(format!(
                "{}; a step `{{ name = \"full\", do.counters = {{}} }}` is one that is called `full`",
                suggest::help(&name, &possible, "possible here")
            )))
        }
    }
}

fn requests(field: &Text, given: &Reproduced, scene: Scene<'_>, reader: &mut Reader<'_>) -> Checked<About> {
    let operations = Op::ALL.map(|op| (op.name(), op));
    let op = step::option(field, "requests", &operations, reader)?;
    let mut part = |field: &Option<Spanned<Amount>>, dimension, key: &str| {
        field.as_ref().map(|amount| limits(amount, dimension, key, reader)).transpose()
    };
    let (times, bytes) =
        (part(&given.times, Dimension::Count, "times")?, part(&given.bytes, Dimension::Size, "bytes")?);
    if times.is_none() && bytes.is_none() {
        let message = format!("nothing is said of the requests `{}`", op.name());
        return Err(Objection::new(Place::scenario(field.span()), message, "what of them?")
            .help("say how many there are, `times = { at_least = 100 }`, or how large they are together, `bytes = { at_least = \"1 MiB\" }`"));
    }
    let phase = given.phase.as_ref().map(|name| a_phase(name, scene, reader)).transpose()?;
    Ok(About::Requests { op: op.name().to_owned(), phase, times, bytes })
}

fn a_phase(field: &Text, scene: Scene<'_>, reader: &mut Reader<'_>) -> Checked<usize> {
    let Found { value: name, place } = reader.text(field)?;
    scene.phases.iter().position(|phase| phase.name == name).ok_or_else(|| {
        let names = names(scene.phases.iter().map(|phase| phase.name.as_str()));
        Objection::new(place, format!("no phase is called `{name}`"), "names no phase").help(suggest::help(
            &name,
            &names,
            "phases of this scenario",
        ))
    })
}

fn any(given: &Reproduced, scene: Scene<'_>, reader: &mut Reader<'_>) -> Checked<About> {
    let Some(alternatives) = &given.any else { return Ok(About::Any(Vec::new())) };
    if alternatives.get_ref().len() < 2 {
        let place = Place::scenario(alternatives.span());
        return Err(Objection::new(place, "`any` has no two conditions to choose from", "too few")
            .help("write two or more: `any = [{ step = \"pwrite\" }, { step = \"fsync\" }]`"));
    }
    let alternatives = alternatives.get_ref().iter().map(|entry| condition(entry, scene, reader));
    Ok(About::Any(alternatives.collect::<Checked<_>>()?))
}

fn times(given: &Reproduced, reader: &mut Reader<'_>) -> Checked<Limits> {
    let Some(amount) = &given.times else { return Ok(Limits::SOME) };
    limits(amount, Dimension::Count, "times", reader)
}

pub(crate) fn limits(
    amount: &Spanned<Amount>,
    dimension: Dimension,
    key: &str,
    reader: &mut Reader<'_>,
) -> Checked<Limits> {
    let Amount::Between(Between { at_least, at_most }) = amount.get_ref() else {
        return Ok(Limits::exactly(reader.constant(amount, dimension, key)?.value));
    };
    let mut end = |field: &Option<Spanned<Scalar>>, key: &str| {
        field.as_ref().map(|field| reader.constant(field, dimension, key)).transpose()
    };
    let (least, most) = (end(at_least, "at_least")?, end(at_most, "at_most")?);
    match (&least, &most) {
        (None, None) => Err(Objection::new(
            Place::scenario(amount.span()),
            format!("`{key}` has no limit"),
            "anything fits",
        )
        .help("write `at_least`, `at_most` or both")),
        (Some(least), Some(most)) if least.value > most.value => {
            Err(Objection::new(most.place.clone(), format!("nothing fits `{key}`"), "less than `at_least`")
                .help("`at_most` is the larger of the two"))
        }
        _ => Ok(Limits {
            at_least: least.map_or(0, |found| found.value),
            at_most: most.map(|found| found.value),
        }),
    }
}

pub(crate) fn pattern(field: &Text, key: &str, reader: &mut Reader<'_>) -> Checked<Pattern> {
    let Found { value, place } = reader.text(field)?;
    if value.is_empty() {
        return Err(Objection::new(place, format!("`{key}` is empty"), "every line is like that")
            .help("write a regular expression for the line, such as `'Transaction aborted'`"));
    }
    Pattern::new(&value).map_err(|error| {
        Objection::new(place, error.to_string(), "not a regular expression").help(
            "it is found anywhere in a line, in the syntax of docs.rs/regex; in single quotes `\\` stands for itself: `'error -\\d+'`",
        )
    })
}

/// Names in the order they come, each once.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = std::collections::BTreeSet::new();
    all.filter(|name| seen.insert(*name)).collect()
}
