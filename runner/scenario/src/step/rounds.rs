//! How often workers go round, and how many of them there are.

use brim_trial::plan::Loop;
use brim_trial::{Errno, Round};
use toml::Spanned;

use super::{Entry, Ground, Setting, at_least_one, errno};
use crate::check;
use crate::error::{Checked, Objection};
use crate::read::Reader;
use crate::schema;
use crate::suggest;
use crate::written::Place;

/// How often a worker goes round at most that waits for an error and does not say.
pub(crate) const TIMES_UNTIL: u64 = 1_000_000;
/// More threads than a race can want.
const COPIES_MAX: u64 = 256;

/// How the workers of a phase go round.
pub(super) struct Rounds {
    /// As the phase has it.
    pub(super) until: Option<Errno>,
    /// As the phase has it.
    pub(super) times: u64,
    /// Those that go round by themselves.
    pub(super) loops: Vec<Loop>,
    /// Somebody is at work at the same time as another.
    pub(super) beside: bool,
}

impl Rounds {
    /// Of a phase of which a plan has these steps.
    pub(super) fn of(phase: &schema::Phase, steps: &[&Entry], reader: &mut Reader<'_>) -> Checked<Self> {
        let until = phase.until.as_ref().map(|name| errno(name, "until", reader)).transpose()?;
        let (here, names) = (workers(steps.iter().copied())?, workers(phase.step.get_ref())?);
        let several = here.len() > 1;
        let times = match &phase.times {
            None if until.is_some() && !several => TIMES_UNTIL,
            None => 1,
            Some(times) => at_least_one(times, "times", reader)?,
        };
        if let Some(field) = phase.times.as_ref().filter(|_| several && times > 1) {
            return Err(Objection::new(
                Place::scenario(field.span()),
                "a phase of several workers goes round once",
                "more than one round",
            )
            .help("say who goes round: a `[[phase.worker]]` with its `name` and `times`; nothing says where the others are then"));
        }
        let mut rounds = Self { until, times, loops: Vec::new(), beside: several };
        for entry in &phase.workers {
            let own = rounds.own(entry, &names, reader)?;
            rounds.loops.push(own);
        }
        for entry in &phase.workers {
            rounds.check_end(entry)?;
        }
        // Of a worker that only the control has there is nothing here.
        rounds.loops.retain(|own| here.contains(&Some(own.by.clone())));
        rounds.beside |= rounds.loops.iter().any(|own| own.copies > 1);
        Ok(rounds)
    }

    /// What `[[phase.worker]]` says of one of the workers `names`; what it does not say is as the phase says.
    fn own(
        &self,
        entry: &schema::Worker,
        names: &[Option<String>],
        reader: &mut Reader<'_>,
    ) -> Checked<Loop> {
        let by = named(&entry.name, "name", names)?;
        if self.loops.iter().any(|own| own.by == by) {
            let place = Place::scenario(entry.name.span());
            return Err(Objection::new(
                place,
                format!("`{by}` has two `[[phase.worker]]`"),
                "the second one",
            )
            .help("put what both say into one"));
        }
        let until = entry.until.as_ref().map(|name| errno(name, "until", reader)).transpose()?;
        let beside = entry.beside.as_ref().map(|name| named(name, "while", names)).transpose()?;
        let times = match &entry.times {
            Some(times) => at_least_one(times, "times", reader)?,
            None if beside.is_some() => u64::MAX,
            None if until.is_some() => TIMES_UNTIL,
            None => self.times,
        };
        let copies = entry.copies.as_ref().map_or(Ok(1), |copies| at_least_one(copies, "copies", reader))?;
        if let Some(field) = entry.copies.as_ref().filter(|_| copies > COPIES_MAX) {
            let message = format!("{copies} copies of a worker");
            return Err(Objection::new(Place::scenario(field.span()), message, "too many")
                .help(format!("each is a thread of its own: {COPIES_MAX} at most")));
        }
        Ok(Loop { by, times, until: until.or(self.until), beside, copies })
    }

    /// Whether the worker that `while` names ends by itself.
    fn check_end(&self, entry: &schema::Worker) -> Checked<()> {
        let Some(field) = &entry.beside else { return Ok(()) };
        let place = || Place::scenario(field.span());
        if field.get_ref() == entry.name.get_ref() {
            return Err(Objection::new(place(), "a worker goes round while it goes round", "itself")
                .help("name another worker of this phase: with that one it ends"));
        }
        let other = self.loops.iter().find(|own| own.by == *field.get_ref());
        match other.filter(|other| other.beside.is_some()) {
            None => Ok(()),
            Some(other) => Err(Objection::new(
                place(),
                format!("`{}` ends with somebody else itself", other.by),
                "has a `while`",
            )
            .help("name a worker that ends by itself")),
        }
    }

    /// What the steps of one worker are read with.
    pub(super) fn setting<'a>(&self, by: Option<&str>, ground: Ground<'a>) -> Setting<'a> {
        let own = self.loops.iter().find(|own| Some(own.by.as_str()) == by);
        let (times, until, open) =
            own.map_or((self.times, self.until, false), |own| (own.times, own.until, own.beside.is_some()));
        let copies = own.map_or(1, |own| own.copies);
        Setting {
            last_round: if until.is_some() || open { 0 } else { times - 1 },
            last_copy: copies - 1,
            scope: super::file::scope(copies),
            ground,
            beside: self.beside,
        }
    }
}

/// Rounds that tell what a straight line or a parabola does in all of those that are sure to be reached.
pub(super) fn rounds(setting: Setting<'_>) -> impl Iterator<Item = Round> {
    let last = setting.last_round;
    let mut iterations = vec![0, 1.min(last), 2.min(last), last];
    iterations.dedup();
    let mut copies = vec![0, 1.min(setting.last_copy), setting.last_copy];
    copies.dedup();
    copies
        .into_iter()
        .flat_map(move |copy| iterations.clone().into_iter().map(move |iteration| Round { iteration, copy }))
}

/// Who does these steps.
fn workers<'a>(steps: impl IntoIterator<Item = &'a Entry>) -> Checked<Vec<Option<String>>> {
    let mut workers = Vec::new();
    for step in steps {
        let by = step.get_ref().by.as_ref().map(|by| check::fixed(by, "by")).transpose()?;
        if !workers.contains(&by) {
            workers.push(by);
        }
    }
    Ok(workers)
}

/// The worker that `field` names.
fn named(field: &Spanned<String>, key: &str, names: &[Option<String>]) -> Checked<String> {
    let name = check::fixed(field, key)?;
    if names.contains(&Some(name.clone())) {
        return Ok(name);
    }
    let known: Vec<&str> = names.iter().filter_map(|name| name.as_deref()).collect();
    let help = if known.is_empty() {
        format!(
            "no step of this phase names its worker: write `by = \"{name}\"` in each that is to be done by it"
        )
    } else {
        suggest::help(&name, &known, "workers of this phase, by the `by` of their steps")
    };
    Err(Objection::new(
        Place::scenario(field.span()),
        format!("no step of this phase is by `{name}`"),
        "names no worker",
    )
    .help(help))
}
