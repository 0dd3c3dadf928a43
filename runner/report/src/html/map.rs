//! Many runs beside each other: a map of what came of them over two of their dimensions, kernels, and failures alike.

use std::collections::BTreeMap;

use brim_trial::Verdict;

use super::numbers::grouped;
use super::run::class;
use super::sets::Set;
use super::svg::{Anchor, Svg, width};
use super::text;
use crate::verdict::symptom;

const WIDTH: f64 = 960.0;
const SIDE_MAX: f64 = 26.0;
const SIDE_MIN: f64 = 2.0;
/// Cells that are drawn one by one, each with its words; of more, neighbours alike are one.
const SINGLE_MAX: usize = 2500;
/// Maps that are drawn.
pub(super) const MAPS_MAX: usize = 12;
/// Room for a letter in a cell.
const LETTER: f64 = 13.0;

/// One cell of a sweep or a campaign.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    /// What tells it from others: `scenario`, `kernel`, `filesystem` and each parameter, with its value.
    pub(super) place: BTreeMap<String, String>,
    /// What it came to.
    pub(super) verdict: Verdict,
    /// Whether that is as was known; `None` where nothing was.
    pub(super) as_known: Option<bool>,
    /// Trials that ran.
    pub(super) trials: u64,
    /// Trials that reproduced.
    pub(super) reproduced: u64,
    /// Where the rate lies, with the confidence of its sweep.
    pub(super) interval: Option<(f64, f64)>,
    /// What was seen of it, or why nothing can be said.
    pub(super) symptom: String,
    /// The line that runs it again.
    pub(super) command: String,
}

impl Cell {
    /// That of a run.
    pub(super) fn of(set: &Set<'_>) -> Self {
        let verdict = &set.verdict;
        let mut place: BTreeMap<String, String> = set.run.params.clone();
        place.insert(SCENARIO.to_owned(), set.run.scenario.clone());
        place.insert(KERNEL.to_owned(), set.run.kernel.clone());
        place.insert(FILESYSTEM.to_owned(), verdict.filesystem.to_string());
        Self {
            place,
            verdict: verdict.verdict,
            as_known: verdict
                .known
                .filter(|_| verdict.verdict != Verdict::Inconclusive)
                .map(|_| verdict.expected),
            trials: verdict.trials.into(),
            reproduced: verdict.reproduced.into(),
            interval: None,
            symptom: symptom(verdict),
            command: verdict.command.clone(),
        }
    }

    pub(super) fn at<'c>(&'c self, dimension: &str) -> &'c str {
        self.place.get(dimension).map_or("", String::as_str)
    }

    /// Of five steps from none of the trials to all, which one.
    fn shade(&self) -> &'static str {
        let reproduced = self.reproduced.min(self.trials);
        match (self.verdict, reproduced, self.trials) {
            (Verdict::Inconclusive, 0, _) | (_, _, 0) => "open",
            (_, 0, _) => "m0",
            (_, hits, trials) if hits == trials => "m4",
            (_, hits, trials) if hits * 3 < trials => "m1",
            (_, hits, trials) if hits * 3 < trials * 2 => "m2",
            _ => "m3",
        }
    }

    fn letter(&self) -> &'static str {
        match self.shade() {
            "m0" => "·",
            "open" => "?",
            "m4" => "X",
            _ => "x",
        }
    }

    fn outcome(&self) -> String {
        format!("{}, {} of {} trials: {}", self.verdict, self.reproduced, self.trials, self.symptom)
    }
}

pub(super) const SCENARIO: &str = "scenario";
pub(super) const KERNEL: &str = "kernel";
const FILESYSTEM: &str = "filesystem";

/// A dimension and its values, in the order in which they were tried.
#[derive(Debug)]
pub(super) struct Dimension<'c> {
    pub(super) name: &'c str,
    pub(super) values: Vec<&'c str>,
}

/// Many runs, for their template.
#[derive(Debug)]
pub(super) struct Overview {
    pub(super) title: String,
    pub(super) sums: Vec<(String, &'static str, &'static str)>,
    pub(super) fixed: Vec<(String, String)>,
    pub(super) maps: Vec<Map>,
    pub(super) maps_left: usize,
    pub(super) matrix: Option<Matrix>,
    pub(super) groups: Vec<Group>,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Row>,
}

#[derive(Debug)]
pub(super) struct Map {
    pub(super) title: String,
    pub(super) plot: String,
}

/// Scenarios by kernels.
#[derive(Debug)]
pub(super) struct Matrix {
    pub(super) kernels: Vec<String>,
    pub(super) rows: Vec<(String, Vec<MatrixCell>)>,
}

#[derive(Debug)]
pub(super) struct MatrixCell {
    pub(super) class: &'static str,
    pub(super) words: String,
}

/// Failures alike.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) class: &'static str,
    pub(super) verdict: String,
    pub(super) signature: String,
    pub(super) cells: String,
    pub(super) trials: String,
    pub(super) wherever: Vec<(String, String)>,
    pub(super) command: String,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) class: &'static str,
    pub(super) place: Vec<String>,
    pub(super) verdict: String,
    pub(super) trials: String,
    pub(super) symptom: String,
    pub(super) unexpected: bool,
}

impl Overview {
    pub(super) fn of(sets: &[Set<'_>]) -> Self {
        let cells: Vec<Cell> = sets.iter().map(Cell::of).collect();
        Self::of_cells(&cells)
    }

    pub(super) fn of_cells(cells: &[Cell]) -> Self {
        let dimensions = dimensions(cells);
        let (varying, fixed): (Vec<Dimension<'_>>, Vec<Dimension<'_>>) =
            dimensions.into_iter().partition(|dimension| dimension.values.len() > 1);
        let count = |wanted: &dyn Fn(&&Cell) -> bool| cells.iter().filter(wanted).count();
        let reproduced = count(&|cell| cell.verdict == Verdict::Reproduced);
        let scenario = fixed.iter().find(|dimension| dimension.name == SCENARIO);
        let name =
            scenario.and_then(|scenario| scenario.values.first()).map_or("several scenarios", |name| name);
        let sum = |number: usize, words: &'static str, class: &'static str| {
            (grouped(u64::try_from(number).unwrap_or(0)), words, class)
        };
        let (maps, maps_left) = maps(cells, &varying);
        Self {
            title: format!("{name}: {reproduced} of {} reproduced", cells.len()),
            sums: vec![
                sum(reproduced, "reproduced", "hit"),
                sum(count(&|cell| cell.verdict == Verdict::NotReproduced), "not reproduced", "miss"),
                sum(count(&|cell| cell.verdict == Verdict::Inconclusive), "inconclusive", "open"),
                sum(count(&|cell| cell.as_known == Some(true)), "as known", ""),
                sum(count(&|cell| cell.as_known == Some(false)), "not as known", ""),
            ],
            fixed: in_order(&fixed)
                .filter_map(|dimension| Some((text(dimension.name), text(dimension.values.first()?))))
                .collect(),
            maps,
            maps_left,
            matrix: matrix(cells),
            groups: groups(cells, &varying),
            columns: varying.iter().map(|dimension| text(dimension.name)).collect(),
            rows: cells.iter().map(|cell| row(cell, &varying)).collect(),
        }
    }
}

pub(super) fn dimensions(cells: &[Cell]) -> Vec<Dimension<'_>> {
    let mut dimensions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut seen: std::collections::BTreeSet<(&str, &str)> = std::collections::BTreeSet::new();
    for cell in cells {
        for (name, value) in &cell.place {
            let values = dimensions.entry(name).or_default();
            if seen.insert((name, value)) {
                values.push(value);
            }
        }
    }
    dimensions.into_iter().map(|(name, values)| Dimension { name, values }).collect()
}

pub(super) fn row(cell: &Cell, varying: &[Dimension<'_>]) -> Row {
    let interval = cell.interval.map(|(low, high)| format!(" ({}–{} %)", percent(low), percent(high)));
    Row {
        class: class(cell.verdict),
        place: varying.iter().map(|dimension| text(cell.at(dimension.name))).collect(),
        verdict: cell.verdict.to_string(),
        trials: format!("{} of {}{}", cell.reproduced, cell.trials, interval.unwrap_or_default()),
        symptom: text(&cell.symptom),
        unexpected: cell.as_known == Some(false),
    }
}

fn percent(share: f64) -> String {
    format!("{:.0}", share * 100.0)
}

/// What ran first, then where, then with what.
fn in_order<'d, 'c>(dimensions: &'d [Dimension<'c>]) -> impl Iterator<Item = &'d Dimension<'c>> {
    let of_run = |dimension: &&Dimension<'_>| [SCENARIO, KERNEL, FILESYSTEM].contains(&dimension.name);
    let named = [SCENARIO, KERNEL, FILESYSTEM].into_iter();
    let first = named.filter_map(|name| dimensions.iter().find(|dimension| dimension.name == name));
    first.chain(dimensions.iter().filter(move |dimension| !of_run(dimension)))
}

/// The unit that all values end with: it is said once.
pub(super) fn unit<'v>(values: &[&'v str]) -> Option<&'v str> {
    let unit_of = |value: &&'v str| {
        value.split_once(' ').filter(|(number, _)| number.parse::<u64>().is_ok()).map(|(_, unit)| unit)
    };
    // One block and two blocks: that of several is longer.
    let unit = values.iter().filter_map(unit_of).max_by_key(|unit| unit.len())?;
    let same = |value: &&'v str| {
        unit_of(value).is_some_and(|other| other == unit || unit.strip_suffix('s') == Some(other))
    };
    values.iter().all(same).then_some(unit)
}

/// A value without the unit that all have.
pub(super) fn bare<'v>(value: &'v str, unit: Option<&str>) -> &'v str {
    match (unit, value.split_once(' ')) {
        (Some(_), Some((number, _))) => number,
        _ => value,
    }
}

/// A dimension, with its unit.
pub(super) fn named(dimension: &Dimension<'_>) -> String {
    match unit(&dimension.values) {
        Some(unit) => format!("{} in {unit}", dimension.name),
        None => dimension.name.to_owned(),
    }
}

/// What is across, what is down, and what each map has one value of.
struct Layout<'d, 'c> {
    across: &'d Dimension<'c>,
    down: Option<&'d Dimension<'c>>,
    of_each: Vec<&'d Dimension<'c>>,
}

fn layout<'d, 'c>(varying: &'d [Dimension<'c>]) -> Option<Layout<'d, 'c>> {
    let is_param = |dimension: &&Dimension<'_>| ![SCENARIO, KERNEL, FILESYSTEM].contains(&dimension.name);
    let mut order: Vec<&Dimension<'_>> = varying.iter().filter(is_param).collect();
    order.sort_by_key(|dimension| std::cmp::Reverse(dimension.values.len()));
    // A map over two parameters tells most; then a line for each kernel.
    for name in [KERNEL, FILESYSTEM, SCENARIO] {
        order.extend(varying.iter().filter(|dimension| dimension.name == name));
    }
    let (across, rest) = order.split_first()?;
    let (down, of_each) = match rest.split_first() {
        Some((down, rest)) => (Some(*down), rest.to_vec()),
        None => (None, Vec::new()),
    };
    Some(Layout { across, down, of_each })
}

pub(super) fn maps(cells: &[Cell], varying: &[Dimension<'_>]) -> (Vec<Map>, usize) {
    let Some(layout) = layout(varying) else { return (Vec::new(), 0) };
    let mut each: Vec<(Vec<&str>, Vec<&Cell>)> = Vec::new();
    let mut index: BTreeMap<Vec<&str>, usize> = BTreeMap::new();
    for cell in cells {
        let key: Vec<&str> = layout.of_each.iter().map(|dimension| cell.at(dimension.name)).collect();
        let at = *index.entry(key.clone()).or_insert_with(|| {
            each.push((key, Vec::new()));
            each.len() - 1
        });
        if let Some((_, cells)) = each.get_mut(at) {
            cells.push(cell);
        }
    }
    let left = each.len().saturating_sub(MAPS_MAX);
    let map = |(key, cells): &(Vec<&str>, Vec<&Cell>)| {
        let names =
            layout.of_each.iter().zip(key).map(|(dimension, value)| format!("{} {value}", dimension.name));
        let names: Vec<String> = names.collect();
        let down = layout.down.map_or_else(String::new, |down| format!(" (across) × {} (down)", named(down)));
        let of = if names.is_empty() { String::new() } else { format!("; {}", names.join(", ")) };
        let title = text(&format!("{}{down}{of}", named(layout.across)));
        Map { plot: plot(&layout, cells, &title), title }
    };
    (each.iter().take(MAPS_MAX).map(map).collect(), left)
}

/// A number of things as a length.
pub(super) fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn plot(layout: &Layout<'_, '_>, cells: &[&Cell], title: &str) -> String {
    let down = layout.down.map_or(&[""][..], |down| down.values.as_slice());
    let across = layout.across.values.as_slice();
    let (unit_across, unit_down) = (unit(across), unit(down));
    let left = down.iter().map(|value| width(bare(value, unit_down))).fold(0.0, f64::max).min(240.0) + 12.0;
    let side = ((WIDTH - left - 8.0) / number(across.len())).clamp(SIDE_MIN, SIDE_MAX);
    // A line of its own may be higher than many are.
    let height = side.max(if down.len() > 1 { 12.0 } else { 18.0 });
    let columns: BTreeMap<&str, usize> =
        across.iter().enumerate().map(|(index, value)| (*value, index)).collect();
    let rows: BTreeMap<&str, usize> = down.iter().enumerate().map(|(index, value)| (*value, index)).collect();
    let mut grid: Vec<Vec<Option<&Cell>>> = vec![vec![None; across.len()]; down.len()];
    for cell in cells {
        let row = layout.down.map_or(Some(&0), |down| rows.get(cell.at(down.name)));
        let place = row.zip(columns.get(cell.at(layout.across.name)));
        if let Some(slot) = place.and_then(|(row, column)| grid.get_mut(*row)?.get_mut(*column)) {
            *slot = Some(cell);
        }
    }
    let mut svg = Svg::new();
    let labels: Vec<&str> = across.iter().map(|value| bare(value, unit_across)).collect();
    let top = labels_across(&mut svg, &labels, left, side);
    for (index, row) in grid.iter().enumerate() {
        let y = top + number(index) * height;
        if let Some(label) = down.get(index).filter(|label| !label.is_empty()) {
            // Of rows that are too low for a line of text each, some have their label.
            let every = (12.0 / height).ceil().max(1.0);
            if (number(index) % every).abs() < f64::EPSILON {
                svg.text("axis", (left - 8.0, y + height / 2.0 + 4.0), Anchor::End, bare(label, unit_down));
            }
        }
        draw(&mut svg, row, (left, y), (side, height), cells.len() > SINGLE_MAX);
    }
    let bottom = top + number(grid.len()) * height;
    let label = format!(
        "Map of what came of {} cells over {title}; the table of all cells has the same",
        cells.len()
    );
    let whole = (left + number(across.len()) * side + 4.0, bottom + 4.0);
    if side < SIDE_MAX {
        svg.finish("map", (WIDTH, whole.1), &label)
    } else {
        svg.finish_sized("map", whole, &label)
    }
}

/// Labels over the columns, as many as have room; gives where the cells begin.
fn labels_across(svg: &mut Svg, values: &[&str], left: f64, side: f64) -> f64 {
    let widest = values.iter().map(|value| width(value)).fold(0.0, f64::max) + 10.0;
    let every = (widest / side).ceil().max(1.0);
    for (index, value) in values.iter().enumerate() {
        if (number(index) % every).abs() < f64::EPSILON {
            let middle = left + number(index) * side + side / 2.0;
            svg.line("tick", (middle, 16.0), (middle, 20.0));
            if middle + width(value) / 2.0 < WIDTH {
                svg.text("axis", (middle, 12.0), Anchor::Middle, value);
            }
        }
    }
    22.0
}

fn draw(
    svg: &mut Svg,
    row: &[Option<&Cell>],
    (left, y): (f64, f64),
    (side, height): (f64, f64),
    joined: bool,
) {
    let gap = if side >= 6.0 { 1.0 } else { 0.0 };
    let mut index = 0;
    while let Some(slot) = row.get(index) {
        let Some(cell) = slot else {
            index += 1;
            continue;
        };
        let alike = |other: &Cell| other.shade() == cell.shade() && other.as_known == cell.as_known;
        let rest = row.get(index..).unwrap_or_default();
        let count = if joined { rest.iter().take_while(|other| other.is_some_and(alike)).count() } else { 1 };
        let x = left + number(index) * side;
        let title = if joined { String::new() } else { format!("{}: {}", place(cell), cell.outcome()) };
        let unexpected = if cell.as_known == Some(false) { " unexpected" } else { "" };
        let class = format!("cell {}{unexpected}", cell.shade());
        svg.rect(&class, (x, y), (number(count) * side - gap, height - gap), &title);
        if side >= LETTER && !joined {
            let class = format!("letter {}", cell.shade());
            svg.text(&class, (x + side / 2.0, y + height / 2.0 + 4.0), Anchor::Middle, cell.letter());
        }
        index += count.max(1);
    }
}

fn place(cell: &Cell) -> String {
    let of: Vec<String> = cell.place.iter().map(|(name, value)| format!("{name} {value}")).collect();
    of.join(", ")
}

/// Scenarios by kernels, where there are several of either.
pub(super) fn matrix(cells: &[Cell]) -> Option<Matrix> {
    let dimensions = dimensions(cells);
    let of = |name: &str| dimensions.iter().find(|dimension| dimension.name == name);
    let (scenarios, kernels) = (of(SCENARIO)?, of(KERNEL)?);
    if scenarios.values.len() < 2 && kernels.values.len() < 2 {
        return None;
    }
    let mut sums: BTreeMap<(&str, &str), (usize, usize, usize)> = BTreeMap::new();
    for cell in cells {
        let (hits, misses, open) = sums.entry((cell.at(SCENARIO), cell.at(KERNEL))).or_default();
        match cell.verdict {
            Verdict::Reproduced => *hits += 1,
            Verdict::NotReproduced => *misses += 1,
            Verdict::Inconclusive => *open += 1,
        }
    }
    let cell = |scenario: &str, kernel: &str| match sums.get(&(scenario, kernel)) {
        None => MatrixCell { class: "none", words: "—".to_owned() },
        Some((hits, misses, open)) => {
            let class = match (hits, misses, open) {
                (0, _, 0) => "miss",
                (0, _, _) => "open",
                _ => "hit",
            };
            let open = if *open > 0 { format!(", {open} open") } else { String::new() };
            MatrixCell { class, words: format!("{hits} of {}{open}", hits + misses) }
        }
    };
    let row = |scenario: &&str| {
        (text(scenario), kernels.values.iter().map(|kernel| cell(scenario, kernel)).collect())
    };
    Some(Matrix {
        kernels: kernels.values.iter().map(|kernel| text(kernel)).collect(),
        rows: scenarios.values.iter().map(row).collect(),
    })
}

fn groups(cells: &[Cell], varying: &[Dimension<'_>]) -> Vec<Group> {
    let mut groups: BTreeMap<(&str, Verdict, &str), Vec<&Cell>> = BTreeMap::new();
    for cell in cells.iter().filter(|cell| cell.verdict != Verdict::NotReproduced) {
        groups.entry((cell.at(SCENARIO), cell.verdict, &cell.symptom)).or_default().push(cell);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|((_, verdict, _), cells)| (*verdict, std::cmp::Reverse(cells.len())));
    let group = |((scenario, verdict, symptom), cells): ((&str, Verdict, &str), Vec<&Cell>)| {
        let total: u64 = cells
            .iter()
            .map(|cell| if verdict == Verdict::Reproduced { cell.reproduced } else { cell.trials })
            .sum();
        Group {
            class: class(verdict),
            verdict: verdict.to_string(),
            signature: text(&format!("{scenario}: {symptom}")),
            cells: grouped(u64::try_from(cells.len()).unwrap_or(0)),
            trials: grouped(total),
            wherever: varying
                .iter()
                .map(|dimension| (text(dimension.name), text(&values_of(dimension, &cells))))
                .collect(),
            command: text(cells.first().map_or("", |cell| cell.command.as_str())),
        }
    };
    groups.into_iter().map(group).collect()
}

/// The values that these cells have of a dimension, neighbours joined: `66, 99, 132–140 blocks`.
pub(super) fn values_of(dimension: &Dimension<'_>, cells: &[&Cell]) -> String {
    let has: std::collections::BTreeSet<&str> = cells.iter().map(|cell| cell.at(dimension.name)).collect();
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (index, value) in dimension.values.iter().enumerate() {
        if has.contains(value) {
            match runs.last_mut().filter(|(_, last)| *last + 1 == index) {
                Some((_, last)) => *last = index,
                None => runs.push((index, index)),
            }
        }
    }
    let shown = |index: usize| dimension.values.get(index).copied().unwrap_or_default();
    let words: Vec<String> = runs
        .iter()
        .take(12)
        .map(|(first, last)| match last - first {
            0 => shown(*first).to_owned(),
            1 => format!("{}, {}", shown(*first), shown(*last)),
            _ => format!("{} … {}", shown(*first), shown(*last)),
        })
        .collect();
    let more = runs.len().saturating_sub(12);
    if more > 0 { format!("{}, and {more} more", words.join(", ")) } else { words.join(", ") }
}
