//! A plan as the text of a scenario that stands alone: every parameter is fixed, and what is read from it is that plan.
//!
//! The words are those of `schema`. Each `match` here is exhaustive, so that whoever adds a word is told to print it.

mod administration;
mod condition;
mod fault;
mod file;
mod operation;
mod value;

use std::collections::BTreeMap;

use brim_trial::operation::Pool;
use brim_trial::plan::{Allow, Device, Filesystem, Fill, Known, Loop, Prepare};
use brim_trial::{Phase, Plan, Rate, Step, judge};

use crate::error::ScenarioError;
use crate::plan::STEP_LIMIT;
use crate::scenario::{Scenario, Settings};
use crate::step::TIMES_UNTIL;
use value::{Table, count, duration, list, ratio, size, string, table};

/// Why a plan cannot be written down.
#[derive(Debug, thiserror::Error)]
pub enum Unprintable {
    /// Something in it has no words in a scenario.
    #[error("{what} has no words in a scenario")]
    NoWords {
        /// What it is.
        what: String,
    },
    /// It breaks a rule of the language.
    #[error("it breaks a rule of the language: {0}")]
    Refused(ScenarioError),
    /// It holds a text that is read as another one, such as one with `${` in it.
    #[error("its text reads as another plan")]
    ReadsOtherwise,
}

/// The text of a scenario that says what `plan` does, with the lines of `comment` before it. Read with its defaults it is the
/// same plan, but for [`Plan::params`], [`Plan::control`] and [`Plan::changed`]: it has none of them.
///
/// # Errors
/// The language has no words for something in it, or it breaks a rule of the language; every plan of a scenario can be printed
/// unless a parameter put `${` together.
pub fn print(plan: &Plan, comment: &str) -> Result<String, Unprintable> {
    // TOML has no control characters in its comments.
    let shown = |letter: char| if letter.is_control() && letter != '\t' { '\u{fffd}' } else { letter };
    let line = |line: &str| {
        format!("# {}", line.chars().map(shown).collect::<String>()).trim_end().to_owned() + "\n"
    };
    let mut text: String = comment.split('\n').filter(|_| !comment.is_empty()).map(line).collect();
    text.push_str(&body(plan)?);
    let read = Scenario::parse(&plan.scenario, &text).map_err(Unprintable::Refused)?;
    let read = read.plans(&Settings::default()).map_err(Unprintable::Refused)?;
    let meant = Plan { params: BTreeMap::new(), control: None, changed: None, ..plan.clone() };
    if read == [meant] { Ok(text) } else { Err(Unprintable::ReadsOtherwise) }
}

fn body(plan: &Plan) -> Result<String, Unprintable> {
    let Plan {
        scenario,
        claim,
        source,
        why,
        // What a control changes has no words any more in what is changed already, or never will be.
        control: _,
        changed: _,
        params: _,
        devices,
        faults,
        pools,
        filesystem,
        prepare,
        phases,
        reproduced,
        known,
        step_limit,
    } = plan;
    let mut head = vec![
        ("schema", crate::SCHEMA.to_string()),
        ("name", string(scenario)),
        ("claim", string(claim)),
        ("source", string(source)),
    ];
    head.extend(why.as_deref().map(|why| ("why", string(why))));
    let mut parts = vec![keys(&head)];
    if *step_limit != STEP_LIMIT {
        parts.push(keys(&[("step_limit", duration(*step_limit))]));
    }
    parts.push(disks(devices, pools));
    parts.push(format!("\n[filesystem]\n{}", self::filesystem(filesystem)));
    parts.push(self::prepare(prepare));
    for fault in faults {
        let first = devices.first().map(|device| device.name.as_str());
        parts.push(format!("\n[[fault]]\n{}", fault::fault(fault, first)?));
    }
    for phase in phases {
        parts.push(format!("\n[[phase]]\n{}", self::phase(phase)));
    }
    for condition in reproduced {
        parts.push(format!("\n[[reproduced]]\n{}", keys(&condition::pairs(condition, phases))));
    }
    for known in known {
        parts.push(format!("\n[[known]]\n{}", self::known(known)));
    }
    Ok(parts.concat())
}

/// The disks: the only one of a scenario needs no name.
fn disks(devices: &[Device], pools: &BTreeMap<String, Pool>) -> String {
    let disk = |device: &Device| {
        let Device { name, size: of_disk, write_cache, in_filesystem } = device;
        let mut pairs = Vec::new();
        if devices.len() > 1 || name != Device::ONLY {
            pairs.push(("name", string(name)));
        }
        pairs.push(("size", size(*of_disk)));
        if *write_cache {
            pairs.push(("write_cache", "true".to_owned()));
        }
        if !in_filesystem {
            pairs.push(("in_filesystem", "false".to_owned()));
        }
        pairs.extend(pools.get(name).map(|pool| ("pool", operation::pool(pool, None))));
        keys(&pairs)
    };
    let head = if devices.len() == 1 { "[device]" } else { "[[device]]" };
    let parts: Vec<String> = devices.iter().map(|device| format!("\n{head}\n{}", disk(device))).collect();
    parts.concat()
}

fn prepare(Prepare { steps, fill }: &Prepare) -> String {
    let Fill { data_free, metadata_free } = fill;
    let mut table = Table::new();
    table.some("data_free", data_free.map(|free| string(&judge::blocks(free))));
    table.some("metadata_free", metadata_free.map(size));
    let mut pairs = Vec::new();
    if !fill.is_none() {
        pairs.push(("fill", table.text()));
    }
    if !steps.is_empty() {
        pairs.push(("step", self::steps(steps)));
    }
    if pairs.is_empty() { String::new() } else { format!("\n[prepare]\n{}", keys(&pairs)) }
}

fn steps(steps: &[Step]) -> String {
    let steps: Vec<String> = steps.iter().map(|step| format!("  {},\n", self::step(step))).collect();
    format!("[\n{}]", steps.concat())
}

/// One `key = value` a line.
fn keys(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    let lines: Vec<String> = pairs.iter().map(|(key, value)| format!("{key:<width$} = {value}\n")).collect();
    lines.concat()
}

fn filesystem(filesystem: &Filesystem) -> String {
    let Filesystem { kind, mkfs, mount } = filesystem;
    let mut pairs = vec![("kind", string(kind.name()))];
    for (key, words) in [("mkfs", mkfs), ("mount", mount)] {
        if !words.is_empty() {
            pairs.push((key, list(words.iter().map(|word| string(word)))));
        }
    }
    keys(&pairs)
}

fn phase(phase: &Phase) -> String {
    let Phase { name, until, times, steps, loops } = phase;
    let mut pairs = vec![("name", string(name))];
    if let Some(until) = until {
        pairs.push(("until", string(&until.to_string())));
    }
    let by_itself = if until.is_some() && phase.workers().len() == 1 { TIMES_UNTIL } else { 1 };
    if *times != by_itself {
        pairs.push(("times", count(*times)));
    }
    pairs.push(("step", self::steps(steps)));
    let own = loops.iter().map(|own| format!("\n[[phase.worker]]\n{}", keys(&worker(own, phase))));
    keys(&pairs) + &own.collect::<String>()
}

/// How a worker goes round by itself, as far as it is not as the phase says.
fn worker(own: &Loop, phase: &Phase) -> Vec<(&'static str, String)> {
    let Loop { by, times, until, beside, copies } = own;
    let mut pairs = vec![("name", string(by))];
    if *until != phase.until {
        pairs.extend(until.map(|until| ("until", string(&until.to_string()))));
    }
    pairs.extend(beside.as_deref().map(|other| ("while", string(other))));
    // What it is where nothing is said depends on how it ends.
    if *times != u64::MAX || beside.is_none() {
        pairs.push(("times", count(*times)));
    }
    if *copies != 1 {
        pairs.push(("copies", count(*copies)));
    }
    pairs
}

fn step(step: &Step) -> String {
    let Step { name, operation, by, allow } = step;
    let mut table = Table::new();
    table.some("by", by.as_deref().map(string));
    table.key(&operation::key(operation), operation::value(operation));
    table.some("name", (name != operation.verb()).then(|| string(name)));
    let ways: Vec<String> = allow.iter().map(|way| string(&self::allow(*way))).collect();
    table.some(
        "allow",
        match ways.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            several => Some(list(several.iter().cloned())),
        },
    );
    table.text()
}

fn allow(way: Allow) -> String {
    match way {
        Allow::Any => "any".to_owned(),
        Allow::Errno(errno) => errno.to_string(),
        Allow::Signal(signal) => signal.to_string(),
    }
}

fn known(known: &Known) -> String {
    let Known { kernel, verdict, rate } = known;
    let mut pairs = vec![("kernel", string(&kernel.to_string()))];
    match rate {
        None => pairs.push(("verdict", string(&verdict.to_string()))),
        Some(Rate { at_least, at_most, why }) => pairs.push((
            "rate",
            table([("at_least", ratio(*at_least)), ("at_most", ratio(*at_most)), ("why", string(why))]),
        )),
    }
    keys(&pairs)
}
