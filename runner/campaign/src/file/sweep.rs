//! One `[[sweep]]`: its axes, which of their combinations are tried, and what ends a cell.

use std::collections::BTreeMap;

use brim_scenario::{Document, Scenario, ScenarioError, Table};
use brim_trial::FilesystemKind;
use toml::Spanned;

use super::schema::{self, Select, Text, count, each, narrow, share, words};
use super::{Campaign, Missing, World};
use crate::cell::{RUNNING, Setting};
use crate::head;
use crate::pairwise::pairwise;
use crate::sample::sample;

/// What is said of a rate unless the file says it.
const CONFIDENCE: f64 = 0.95;
/// How many trials a value of a search may take to be decided.
const SEARCH_TRIALS: u64 = 400;
/// How many values beside those of a search are tried.
const VERIFY: u64 = 256;

/// A sweep that is right.
pub(super) struct Sweep {
    pub(super) head: head::Sweep,
    axes: Vec<Axis>,
    select: Selection,
}

/// A setting, and whether a row begins with it.
pub(super) struct InRow {
    pub(super) setting: Setting,
    pub(super) begins_row: bool,
}

enum Selection {
    All,
    Sample(u64),
    Pairwise,
}

/// Something that varies: its name, and what each of its values makes of a setting.
struct Axis {
    name: String,
    values: Vec<Value>,
}

impl Axis {
    /// The scenarios that are its values, where it is theirs.
    fn of<'a>(&'a self, campaign: &'a Campaign) -> impl Iterator<Item = (&'a str, &'a Scenario)> {
        self.values.iter().filter_map(|value| match value {
            Value::Scenario(word) => Some((word.as_str(), campaign.scenarios.get(word)?)),
            _ => None,
        })
    }
}

#[derive(Clone)]
enum Value {
    Scenario(String),
    Param(String, String),
    Filesystem(FilesystemKind),
    Mkfs(Vec<String>),
    Mount(Vec<String>),
    Kernel(String),
    Profile(Option<String>),
    WithoutFault(String),
    Seed(u64),
}

impl Value {
    fn apply(&self, setting: &mut Setting) {
        match self.clone() {
            Self::Scenario(word) => setting.scenario = word,
            Self::Param(name, value) => drop(setting.params.insert(name, value)),
            Self::Filesystem(kind) => setting.filesystem = Some(kind),
            Self::Mkfs(list) => setting.mkfs = Some(list),
            Self::Mount(list) => setting.mount = Some(list),
            Self::Kernel(word) => setting.kernel = word,
            Self::Profile(word) => setting.profile = word,
            Self::WithoutFault(name) => {
                setting.without_fault =
                    name.split(',').filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect();
            }
            Self::Seed(seed) => setting.seed = Some(seed),
        }
    }

    /// As a report shows it.
    fn shown(&self) -> String {
        match self {
            Self::Scenario(word) | Self::Param(_, word) | Self::Kernel(word) => word.clone(),
            Self::Filesystem(kind) => kind.to_string(),
            Self::Mkfs(list) => list.join(" "),
            Self::Mount(list) => list.join(","),
            Self::Profile(word) => word.clone().unwrap_or_default(),
            Self::WithoutFault(name) => name.clone(),
            Self::Seed(seed) => seed.to_string(),
        }
    }
}

impl Sweep {
    pub(super) fn read(
        document: Document<'_>,
        table: &Spanned<Table<schema::Sweep>>,
        index: usize,
        world: &dyn World,
        campaign: &mut Campaign,
    ) -> Result<Self, ScenarioError> {
        let keys = table.get_ref();
        let name = keys
            .name
            .as_ref()
            .map_or_else(|| Ok(format!("sweep {}", index + 1)), |name| words(document, name, "name"))?;
        let scenarios = scenarios(document, keys, world, campaign)?;
        let others = others(document, keys, world, campaign, &scenarios)?;
        let mut axes = vec![scenarios];
        axes.extend(others);
        let of = |list: &Option<Spanned<Vec<Vec<String>>>>, name: &str, value: fn(Vec<String>) -> Value| {
            list.as_ref().map(|list| Axis {
                name: name.to_owned(),
                values: list.get_ref().iter().cloned().map(value).collect(),
            })
        };
        axes.extend(of(&keys.mkfs, "mkfs", Value::Mkfs));
        axes.extend(of(&keys.mount, "mount", Value::Mount));
        let search =
            keys.search.as_ref().map(|search| read_search(document, search.get_ref())).transpose()?;
        let mut params = params(document, keys, campaign, &axes)?;
        if let Some(found) = &search {
            let at = params.iter().position(|axis| axis.name == format!("param.{}", found.param));
            let Some(at) = at else {
                let names: Vec<&str> =
                    keys.params.0.iter().map(|(name, _)| name.get_ref().as_str()).collect();
                let span = keys.search.as_ref().map_or(0..0, |search| search.get_ref().param.span());
                return Err(document.unknown(
                    span,
                    &found.param,
                    "one of the `params` of this sweep",
                    &names,
                ));
            };
            // The searched one varies fastest: a row is its values.
            let searched = params.remove(at);
            params.push(searched);
        }
        axes.extend(params);
        if let Some(empty) = axes.iter().find(|axis| axis.values.is_empty()) {
            let message = format!("`{}` has no value", empty.name.trim_start_matches("param."));
            return Err(document.error(
                table.span(),
                &message,
                "nothing to try",
                "give it one value at least, or leave it out",
            ));
        }
        let select = selection(document, keys.select.as_ref(), search.is_some())?;
        let shown = |axis: &Axis| head::Axis {
            name: axis.name.clone(),
            values: axis.values.iter().map(Value::shown).collect(),
        };
        let varied = axes.iter().filter(|axis| axis.values.len() > 1).map(shown).collect();
        let stop = read_stop(document, keys.stop.as_ref(), search.is_some())?;
        Ok(Self { head: head::Sweep { name, axes: varied, stop, search }, axes, select })
    }

    /// The settings that are tried, in canonical order.
    pub(super) fn settings(&self, seed: u64) -> Vec<InRow> {
        let lengths: Vec<usize> = self.axes.iter().map(|axis| axis.values.len()).collect();
        let row = if self.head.search.is_some() { lengths.last().copied().unwrap_or(1) } else { 1 };
        let setting = |choices: &[usize]| {
            let mut setting = Setting {
                scenario: String::new(),
                params: BTreeMap::new(),
                filesystem: None,
                mkfs: None,
                mount: None,
                kernel: RUNNING.to_owned(),
                profile: None,
                without_fault: Vec::new(),
                seed: None,
            };
            for (axis, choice) in self.axes.iter().zip(choices) {
                if let Some(value) = axis.values.get(*choice) {
                    value.apply(&mut setting);
                }
            }
            setting
        };
        let choices: Vec<Vec<usize>> = match self.select {
            Selection::Pairwise => pairwise(&lengths),
            Selection::All => every(&lengths, super::CELL_COUNT_MAX + 1).collect(),
            Selection::Sample(wanted) => {
                let all = lengths
                    .iter()
                    .try_fold(1u64, |product, length| product.checked_mul(u64::try_from(*length).ok()?));
                sample(all.unwrap_or(u64::MAX), wanted, seed)
                    .into_iter()
                    .map(|index| decode(index, &lengths))
                    .collect()
            }
        };
        let in_row = |(index, choices): (usize, &Vec<usize>)| InRow {
            setting: setting(choices),
            begins_row: index % row == 0,
        };
        choices.iter().enumerate().map(in_row).collect()
    }
}

/// Every combination, the last axis varying fastest; no more than `most`.
fn every(lengths: &[usize], most: usize) -> impl Iterator<Item = Vec<usize>> {
    let all =
        lengths.iter().try_fold(1usize, |product, length| product.checked_mul(*length)).unwrap_or(usize::MAX);
    (0..all.min(most)).map(|index| decode(u64::try_from(index).unwrap_or(u64::MAX), lengths))
}

/// Combination number `index`.
fn decode(index: u64, lengths: &[usize]) -> Vec<usize> {
    let mut rest = index;
    let mut choices: Vec<usize> = lengths
        .iter()
        .rev()
        .map(|length| {
            let length = u64::try_from(*length).unwrap_or(u64::MAX).max(1);
            let choice = rest % length;
            rest /= length;
            usize::try_from(choice).unwrap_or(0)
        })
        .collect();
    choices.reverse();
    choices
}

fn scenarios(
    document: Document<'_>,
    keys: &schema::Sweep,
    world: &dyn World,
    campaign: &mut Campaign,
) -> Result<Axis, ScenarioError> {
    let mut values = Vec::new();
    for word in each(&keys.scenario) {
        for (word, scenario) in
            world.scenarios(word.get_ref()).map_err(|missing| told(document, &word, &missing))?
        {
            campaign.scenarios.insert(word.clone(), scenario);
            values.push(Value::Scenario(word));
        }
    }
    Ok(Axis { name: "scenario".to_owned(), values })
}

fn told(document: Document<'_>, word: &Text, Missing { why, help }: &Missing) -> ScenarioError {
    document.error(word.span(), why, "named here", help)
}

fn others(
    document: Document<'_>,
    keys: &schema::Sweep,
    world: &dyn World,
    campaign: &mut Campaign,
    scenarios: &Axis,
) -> Result<Vec<Axis>, ScenarioError> {
    let mut axes = Vec::new();
    let mut add = |name: &str, values: Vec<Value>| axes.push(Axis { name: name.to_owned(), values });
    if let Some(kernels) = &keys.kernel {
        let kernel = |word: Text| {
            let found = if word.get_ref() == RUNNING { Ok(()) } else { world.kernel(word.get_ref()) };
            found
                .map_err(|missing| told(document, &word, &missing))
                .map(|()| Value::Kernel(word.into_inner()))
        };
        add("kernel", each(kernels).into_iter().map(kernel).collect::<Result<_, _>>()?);
    }
    if let Some(filesystems) = &keys.filesystem {
        let filesystem = |word: Text| {
            let kind = word.get_ref().parse().map(Value::Filesystem);
            let names = FilesystemKind::ALL.map(FilesystemKind::name);
            kind.map_err(|_| {
                document.unknown(word.span(), word.get_ref(), "a filesystem that brim can fill", &names)
            })
        };
        add("filesystem", each(filesystems).into_iter().map(filesystem).collect::<Result<_, _>>()?);
    }
    if let Some(profiles) = &keys.profile {
        let mut values = Vec::new();
        for word in each(profiles) {
            if word.get_ref() == "none" {
                values.push(Value::Profile(None));
                continue;
            }
            let profile = world.profile(word.get_ref()).map_err(|missing| told(document, &word, &missing))?;
            campaign.profiles.insert(word.get_ref().clone(), profile);
            values.push(Value::Profile(Some(word.into_inner())));
        }
        add("profile", values);
    }
    if let Some(faults) = &keys.without_fault {
        let mut values = Vec::new();
        for word in each(faults) {
            without_fault(document, campaign, scenarios, &word)?;
            values.push(Value::WithoutFault(word.into_inner()));
        }
        add("without_fault", values);
    }
    if let Some(seeds) = &keys.seed {
        let mut values = Vec::new();
        for word in each(seeds) {
            for value in document.values(&word)? {
                let number = Spanned::new(word.span(), value);
                values.push(Value::Seed(seed(document, &number)?));
            }
        }
        add("seed", values);
    }
    Ok(axes)
}

/// Several faults are named together: `scrub,commit`; an empty string leaves none out.
fn without_fault(
    document: Document<'_>,
    campaign: &Campaign,
    scenarios: &Axis,
    word: &Text,
) -> Result<(), ScenarioError> {
    for name in word.get_ref().split(',').filter(|name| !name.is_empty()) {
        for (scenario, read) in scenarios.of(campaign) {
            let plans = read.plans(&brim_scenario::Settings::default())?;
            let faults: Vec<&str> =
                plans.iter().flat_map(|plan| &plan.faults).map(|fault| fault.row.name.as_str()).collect();
            if faults.is_empty() {
                let message = format!("{scenario} has no fault");
                let help = "leave `without_fault` out, or name scenarios that have it";
                return Err(document.error(word.span(), &message, "of none", help));
            }
            if !faults.contains(&name) {
                return Err(document.unknown(word.span(), name, &format!("a fault of {scenario}"), &faults));
            }
        }
    }
    Ok(())
}

fn seed(document: Document<'_>, text: &Text) -> Result<u64, ScenarioError> {
    text.get_ref().trim().parse().map_err(|_| {
        let message = format!("`{}` is no seed", text.get_ref());
        document.error(
            text.span(),
            &message,
            "a number belongs here",
            "write `seed = [1, 2, 3]` or `seed = \"1..10\"`",
        )
    })
}

fn params(
    document: Document<'_>,
    keys: &schema::Sweep,
    campaign: &Campaign,
    axes: &[Axis],
) -> Result<Vec<Axis>, ScenarioError> {
    let mut params = Vec::new();
    for (name, values) in &keys.params.0 {
        for (word, scenario) in axes.iter().flat_map(|axis| axis.of(campaign)) {
            if !scenario.params().contains_key(name.get_ref()) {
                let names: Vec<&str> = scenario.params().keys().map(String::as_str).collect();
                return Err(document.unknown(
                    name.span(),
                    name.get_ref(),
                    &format!("a parameter of {word}"),
                    &names,
                ));
            }
        }
        let mut all = Vec::new();
        for value in each(values) {
            all.extend(
                document.values(&value)?.into_iter().map(|text| Value::Param(name.get_ref().clone(), text)),
            );
        }
        params.push(Axis { name: format!("param.{}", name.get_ref()), values: all });
    }
    Ok(params)
}

fn selection(
    document: Document<'_>,
    select: Option<&Spanned<Select>>,
    is_search: bool,
) -> Result<Selection, ScenarioError> {
    let Some(select) = select else { return Ok(Selection::All) };
    let found = match select.get_ref() {
        Select::Word(word) if word == "all" => Selection::All,
        Select::Word(word) if word == "pairwise" => Selection::Pairwise,
        Select::Word(word) => {
            let what = "a way to select";
            return Err(document.unknown(
                select.span(),
                word,
                what,
                &["all", "pairwise", "{ sample = 1000 }"],
            ));
        }
        Select::Sample(number) => Selection::Sample(count(document, number, 1)?),
    };
    if is_search && !matches!(found, Selection::All) {
        let message = "a search needs all values of its parameter";
        return Err(document.error(
            select.span(),
            message,
            "leaves some out",
            "leave `select` out, or the search",
        ));
    }
    Ok(found)
}

fn read_stop(
    document: Document<'_>,
    stop: Option<&Table<schema::Stop>>,
    is_search: bool,
) -> Result<head::Stop, ScenarioError> {
    let trials = if is_search { SEARCH_TRIALS } else { 1 };
    let Some(stop) = stop else {
        let trials = narrow(document, None, trials, 1)?;
        return Ok(head::Stop {
            trials,
            first_hit: false,
            width: None,
            side_of: None,
            confidence: CONFIDENCE,
        });
    };
    let early = stop.width.as_ref().or(stop.side_of.as_ref());
    if let Some(early) = early.filter(|_| is_search) {
        let help = "a value of a search is tried until it is decided; `trials` is the most that it may take";
        return Err(document.error(early.span(), "a search has its own rule", "no effect", help));
    }
    if let (Some(early), None) = (early, &stop.trials) {
        let help = "add `trials = 1000`: a rate near the bar may never be decided";
        return Err(document.error(
            early.span(),
            "this rule may never end a cell",
            "no limit beside it",
            help,
        ));
    }
    Ok(head::Stop {
        trials: narrow(document, stop.trials.as_ref(), trials, 1)?,
        first_hit: stop.first_hit,
        width: stop.width.as_ref().map(|width| share(document, width)).transpose()?,
        side_of: stop.side_of.as_ref().map(|rate| share(document, rate)).transpose()?,
        confidence: stop
            .confidence
            .as_ref()
            .map_or(Ok(CONFIDENCE), |confidence| share(document, confidence))?,
    })
}

fn read_search(document: Document<'_>, search: &schema::Search) -> Result<head::Search, ScenarioError> {
    let verify = search.verify.as_ref().map_or(Ok(VERIFY), |verify| count(document, verify, 0))?;
    Ok(head::Search {
        param: search.param.get_ref().clone(),
        rate: search.rate.as_ref().map_or(Ok(0.5), |rate| share(document, rate))?,
        confidence: search
            .confidence
            .as_ref()
            .map_or(Ok(CONFIDENCE), |confidence| share(document, confidence))?,
        verify: usize::try_from(verify).unwrap_or(usize::MAX),
    })
}
