//! The page of a campaign: what each sweep came to as maps and curves, kernels, and failures alike with what was seen of the first.

use std::collections::BTreeMap;

use brim_campaign::head::{Head, Sweep};
use brim_campaign::result::{CampaignResult, CellEnded, CellResult, Group as Alike, ThresholdResult};
use brim_trial::event::Lateness;
use brim_trial::{Event, Nanos, Verdict};

use super::curve;
use super::lateness::Late;
use super::map::{self, Cell, Dimension, KERNEL, MAPS_MAX, Map, Matrix, Row, SCENARIO};
use super::numbers::grouped;
use super::run::class;
use super::sets::{Set, sets};
use super::text;
use crate::campaign::{ended, threshold, value};
use crate::evidence;
use crate::style::Style;

/// A trial of a campaign whose journal is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its cell.
    pub cell: String,
    /// Which trial of the cell, from 1.
    pub number: u32,
    /// What failures alike have in common.
    pub signature: String,
    /// It reproduced, or else it was inconclusive.
    pub reproduced: bool,
    /// All that was seen.
    pub events: Vec<Event>,
    /// Its bundle, where it has one, as somebody may type it.
    pub bundle: Option<String>,
}

/// A campaign, for its template.
#[derive(Debug)]
pub(super) struct CampaignPage {
    pub(super) title: String,
    pub(super) name: String,
    pub(super) about: String,
    pub(super) sums: Vec<(String, &'static str, &'static str)>,
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) sweeps: Vec<SweepPart>,
    pub(super) has_maps: bool,
    pub(super) matrix: Option<Matrix>,
    pub(super) groups: Vec<GroupPart>,
    pub(super) late: Vec<LatePart>,
}

#[derive(Debug)]
pub(super) struct SweepPart {
    pub(super) name: String,
    pub(super) maps: Vec<Map>,
    pub(super) maps_left: usize,
    pub(super) curves: Vec<Curve>,
    pub(super) curves_left: usize,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Row>,
}

#[derive(Debug)]
pub(super) struct Curve {
    pub(super) title: String,
    pub(super) words: Option<String>,
    pub(super) plot: String,
}

#[derive(Debug)]
pub(super) struct GroupPart {
    pub(super) class: &'static str,
    pub(super) verdict: String,
    pub(super) signature: String,
    pub(super) trials: String,
    pub(super) cells: String,
    pub(super) wherever: Vec<(String, String)>,
    pub(super) evidence: Vec<String>,
    pub(super) command: String,
    pub(super) bundle: Option<String>,
    /// The run below that shows it whole.
    pub(super) whole: Option<String>,
}

/// How late a fault was, in all journals that are kept.
#[derive(Debug)]
pub(super) struct LatePart {
    pub(super) fault: String,
    pub(super) words: String,
    pub(super) trials: usize,
    pub(super) late: Late,
}

impl CampaignPage {
    pub(super) fn of(head: &Head, result: &CampaignResult, kept: &[Kept], runs: &[(usize, String)]) -> Self {
        let count = |wanted: &dyn Fn(&&CellResult) -> bool| {
            grouped(u64::try_from(result.cells.iter().filter(wanted).count()).unwrap_or(0))
        };
        let cells: Vec<Cell> = result.cells.iter().map(|cell| of_cell(head, cell)).collect();
        let sweeps: Vec<SweepPart> = head
            .sweeps
            .iter()
            .enumerate()
            .filter_map(|(index, sweep)| part(index, sweep, result, &cells))
            .collect();
        let mut facts = vec![("how it ended", ended(result)), ("seed", format!("{:#x}", head.seed))];
        facts.extend(head.shard.map(|shard| ("shard", format!("{} of {}", shard.index, shard.count))));
        facts.extend(
            result.kernels.iter().map(|(name, release)| ("kernel", text(&format!("{name} ({release})")))),
        );
        Self {
            title: text(&format!(
                "{}: {} of {} trials reproduced",
                head.name, result.reproduced, result.trials
            )),
            name: text(&head.name),
            about: text(&head.about),
            sums: vec![
                (grouped(result.trials), "trials", ""),
                (grouped(u64::try_from(result.cells.len()).unwrap_or(0)), "cells", ""),
                (count(&|cell| cell.reproduced > 0), "cells reproduced", "hit"),
                (count(&|cell| cell.reproduced == 0 && cell.trials > cell.inconclusive), "did not", "miss"),
                (count(&|cell| cell.trials == cell.inconclusive), "inconclusive or not run", "open"),
                (count(&|cell| cell.as_known == Some(false)), "not as known", ""),
            ],
            facts,
            has_maps: sweeps.iter().any(|sweep| !sweep.maps.is_empty()),
            sweeps,
            matrix: map::matrix(&cells),
            groups: result.groups.iter().map(|alike| group(alike, result, &cells, kept, runs)).collect(),
            late: late(kept),
        }
    }
}

/// Of each group the first journal that is kept: which, and with the run that it is of.
pub(super) fn first_of_each<'k>(result: &CampaignResult, kept: &'k [Kept]) -> Vec<(usize, Set<'k>)> {
    let first = |alike: &Alike| kept_of(alike, kept).into_iter().next();
    let set = |index: usize| {
        let kept = kept.get(index)?;
        let mut set = sets(&kept.events).into_iter().next()?;
        let cell = result.cells.iter().find(|cell| cell.cell.id.to_string() == kept.cell)?;
        // It is of one trial, and all of that is there.
        set.is_whole = true;
        set.verdict.command = format!("{} --seed {:#x}", cell.cell.command, set.run.seed);
        Some((index, set))
    };
    result.groups.iter().filter_map(first).filter_map(set).collect()
}

fn kept_of(alike: &Alike, kept: &[Kept]) -> Vec<usize> {
    let first = (alike.first.cell.to_string(), alike.first.number);
    let mut of: Vec<usize> = kept
        .iter()
        .enumerate()
        .filter(|(_, kept)| kept.signature == alike.signature && kept.reproduced == alike.reproduced)
        .map(|(index, _)| index)
        .collect();
    // The one that its line runs again, where that is kept.
    of.sort_by_key(|index| kept.get(*index).is_none_or(|kept| (kept.cell.clone(), kept.number) != first));
    of
}

fn of_cell(head: &Head, cell: &CellResult) -> Cell {
    let setting = &cell.cell.setting;
    let mut place = BTreeMap::from([
        (SCENARIO.to_owned(), setting.scenario.clone()),
        (KERNEL.to_owned(), setting.kernel.clone()),
    ]);
    for axis in head.sweeps.get(cell.cell.sweep).into_iter().flat_map(|sweep| &sweep.axes) {
        place.insert(bare_name(&axis.name).to_owned(), value(cell, &axis.name));
    }
    let judged = cell.trials.saturating_sub(cell.inconclusive);
    let verdict = match (cell.reproduced, judged) {
        (0, 0) => Verdict::Inconclusive,
        (0, _) => Verdict::NotReproduced,
        _ => Verdict::Reproduced,
    };
    let most =
        cell.signatures.iter().max_by_key(|(_, count)| **count).map(|(signature, _)| signature.clone());
    let symptom = match cell.ended {
        CellEnded::Failed => format!("could not be run: {}", cell.reason.as_deref().unwrap_or_default()),
        _ => most.or_else(|| cell.reason.clone()).unwrap_or_default(),
    };
    Cell {
        place,
        verdict,
        as_known: cell.as_known,
        trials: if cell.ended == CellEnded::Failed { 0 } else { judged.into() },
        reproduced: cell.reproduced.into(),
        interval: cell.rate.filter(|_| judged > 1).map(|rate| (rate.low, rate.high)),
        symptom,
        command: cell.cell.command.clone(),
    }
}

/// `param.free` is `free` to whoever reads.
fn bare_name(axis: &str) -> &str {
    axis.strip_prefix("param.").unwrap_or(axis)
}

fn part(index: usize, sweep: &Sweep, result: &CampaignResult, all: &[Cell]) -> Option<SweepPart> {
    let of: Vec<(&CellResult, &Cell)> =
        result.cells.iter().zip(all).filter(|(cell, _)| cell.cell.sweep == index).collect();
    if of.is_empty() {
        return None;
    }
    let cells: Vec<Cell> = of.iter().map(|(_, cell)| (*cell).clone()).collect();
    let varying: Vec<Dimension<'_>> = sweep
        .axes
        .iter()
        .map(|axis| Dimension {
            name: bare_name(&axis.name),
            values: axis.values.iter().map(String::as_str).collect(),
        })
        .collect();
    let mut curves: Vec<Curve> =
        result.thresholds.iter().filter_map(|found| searched(found, &of, &varying)).collect();
    let is_search = sweep.search.is_some();
    if !is_search && sweep.stop.trials > 1 {
        curves.extend(repeated(&of, &varying));
    }
    let (maps, maps_left) = if is_search { (Vec::new(), 0) } else { map::maps(&cells, &varying) };
    let curves_left = curves.len().saturating_sub(MAPS_MAX);
    curves.truncate(MAPS_MAX);
    Some(SweepPart {
        name: text(&sweep.name),
        maps,
        maps_left,
        curves,
        curves_left,
        columns: varying.iter().map(|dimension| text(dimension.name)).collect(),
        rows: cells.iter().map(|cell| map::row(cell, &varying)).collect(),
    })
}

/// The curve of a search.
fn searched(
    found: &ThresholdResult,
    of: &[(&CellResult, &Cell)],
    varying: &[Dimension<'_>],
) -> Option<Curve> {
    let row: Vec<(&CellResult, &Cell)> =
        of.iter().filter(|(cell, _)| cell.cell.row == found.row).copied().collect();
    let dimension = varying.iter().find(|dimension| dimension.name == found.param)?;
    let results: Vec<&CellResult> = row.iter().map(|(cell, _)| *cell).collect();
    if results.is_empty() {
        return None;
    }
    let mut words = threshold(found, &results).into_iter().map(|line| text(line.trim()));
    let title = words.next().unwrap_or_default();
    let points: Vec<(&str, &CellResult)> =
        row.iter().map(|(result, cell)| (cell.at(dimension.name), *result)).collect();
    let plot = curve::plot(dimension, &points, Some(found), dimension.name);
    Some(Curve { title, words: words.next(), plot })
}

/// Curves along the longest parameter of cells that were tried more than once.
fn repeated(of: &[(&CellResult, &Cell)], varying: &[Dimension<'_>]) -> Vec<Curve> {
    let is_param = |dimension: &&Dimension<'_>| ![SCENARIO, KERNEL].contains(&dimension.name);
    let along = varying.iter().filter(is_param).max_by_key(|dimension| dimension.values.len());
    let Some(along) = along.filter(|along| along.values.len() > 2) else { return Vec::new() };
    let mut each: Vec<(String, Vec<(&str, &CellResult)>)> = Vec::new();
    for (result, cell) in of {
        let others = varying.iter().filter(|dimension| dimension.name != along.name);
        let key: Vec<String> =
            others.map(|dimension| format!("{} {}", dimension.name, cell.at(dimension.name))).collect();
        let point = (cell.at(along.name), *result);
        let key = key.join(", ");
        match each.iter_mut().find(|(known, _)| *known == key) {
            Some((_, points)) => points.push(point),
            None => each.push((key, vec![point])),
        }
    }
    let curve = |(key, points): (String, Vec<(&str, &CellResult)>)| {
        let of = if key.is_empty() { String::new() } else { format!("; {key}") };
        let title = text(&format!("rate over {}{of}", along.name));
        Curve { plot: curve::plot(along, &points, None, &title), title, words: None }
    };
    each.into_iter().map(curve).collect()
}

fn group(
    alike: &Alike,
    result: &CampaignResult,
    cells: &[Cell],
    kept: &[Kept],
    runs: &[(usize, String)],
) -> GroupPart {
    let has = |(cell, _): &(&CellResult, &Cell)| cell.signatures.contains_key(&alike.signature);
    let of: Vec<&Cell> = result.cells.iter().zip(cells).filter(has).map(|(_, cell)| cell).collect();
    let verdict = if alike.reproduced { Verdict::Reproduced } else { Verdict::Inconclusive };
    let shown = kept_of(alike, kept).into_iter().next();
    let evidence = shown.and_then(|index| kept.get(index)).map_or_else(Vec::new, |kept| {
        evidence::lines(&kept.events, 1, Style::PLAIN).iter().map(|line| text(line)).collect()
    });
    let names: std::collections::BTreeSet<&str> =
        of.iter().flat_map(|cell| cell.place.keys().map(String::as_str)).collect();
    let dimensions = map::dimensions(cells);
    let wherever = dimensions
        .iter()
        .filter(|dimension| dimension.values.len() > 1 && names.contains(dimension.name))
        .map(|dimension| (text(dimension.name), text(&map::values_of(dimension, &of))))
        .collect();
    GroupPart {
        class: class(verdict),
        verdict: verdict.to_string(),
        signature: text(&alike.signature),
        trials: grouped(alike.trials),
        cells: grouped(alike.cells),
        wherever,
        evidence,
        command: text(&alike.first.command),
        bundle: shown.and_then(|index| kept.get(index)).and_then(|kept| kept.bundle.as_deref()).map(quoted),
        whole: shown.and_then(|index| runs.iter().find(|(of, _)| *of == index)).map(|(_, id)| id.clone()),
    }
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+=,:@".contains(letter);
    if path.chars().all(plain) { text(path) } else { text(&format!("'{}'", path.replace('\'', "'\\''"))) }
}

/// The lateness of several trials.
#[derive(Debug, Default)]
struct Sum {
    trials: usize,
    max: Nanos,
    histogram: BTreeMap<Nanos, u64>,
}

/// What each fault that delays was asked for, and what it gave, over all journals that are kept.
fn late(kept: &[Kept]) -> Vec<LatePart> {
    let mut rows: BTreeMap<(String, String), Sum> = BTreeMap::new();
    for kept in kept {
        let plan = kept.events.iter().find_map(|event| match event {
            Event::Run(run) => run.plan.as_deref(),
            _ => None,
        });
        for event in &kept.events {
            let Event::Fault { row, lateness: Some(lateness), .. } = event else { continue };
            let fault = plan.and_then(|plan| plan.faults.iter().find(|fault| fault.row.name == *row));
            let words = fault.map_or_else(String::new, |fault| format!("the disk {}", fault.row));
            let Sum { trials, max, histogram } = rows.entry((row.clone(), words)).or_default();
            *trials += 1;
            *max = (*max).max(lateness.max);
            for (bound, count) in &lateness.steps {
                *histogram.entry(*bound).or_default() += count;
            }
        }
    }
    let part = |((fault, words), sum): ((String, String), Sum)| {
        let Sum { trials, max, histogram } = sum;
        let count: u64 = histogram.values().sum();
        // What lies in a step is told by its end.
        let within = |share: u64| {
            let mut so_far = 0;
            let mut bounds = histogram.iter().map(|(bound, count)| {
                so_far += count;
                (*bound, so_far)
            });
            let enough = bounds.find(|(_, so_far)| so_far * 100 >= count * share);
            enough.map_or(max, |(bound, _)| bound.min(max))
        };
        let (p50, p99) = (within(50), within(99));
        let lateness = Lateness { count, p50, p99, max, steps: histogram.into_iter().collect() };
        LatePart { late: Late::of(&fault, &lateness), fault: text(&fault), words: text(&words), trials }
    };
    rows.into_iter().map(part).collect()
}
