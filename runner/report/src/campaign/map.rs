//! Cells as a map: one mark each, over the two axes that have the most values.

use std::collections::BTreeMap;

use brim_campaign::head::{Axis, Sweep};
use brim_campaign::result::{CellEnded, CellResult};

use super::value;
use crate::style::Style;

/// The most marks in a line.
const WIDTH_MAX: usize = 100;

/// One map for each combination of the other axes.
pub(super) fn lines(sweep: &Sweep, cells: &[&CellResult], style: Style) -> Vec<String> {
    let mut axes: Vec<&Axis> = sweep.axes.iter().collect();
    axes.sort_by_key(|axis| std::cmp::Reverse(axis.values.len()));
    let (down, across) = match axes.as_slice() {
        // Few enough to stand beside each other: a line is easier to read than a column.
        [only] if only.values.len() <= WIDTH_MAX => (None, *only),
        [longest, second, ..] if longest.values.len() <= WIDTH_MAX => (Some(*second), *longest),
        [longest, second, ..] => (Some(*longest), *second),
        [only] => (Some(*only), *only),
        [] => return Vec::new(),
    };
    let is_one_axis = down.is_some_and(|down| down.name == across.name);
    let others: Vec<&Axis> = sweep
        .axes
        .iter()
        .filter(|axis| axis.name != across.name && down.is_none_or(|down| down.name != axis.name))
        .collect();
    let mut maps: BTreeMap<Vec<usize>, BTreeMap<(String, String), char>> = BTreeMap::new();
    for cell in cells {
        let place = |axis: &&Axis| {
            axis.values.iter().position(|known| *known == value(cell, &axis.name)).unwrap_or(0)
        };
        let key = others.iter().map(place).collect();
        let row = down.map_or_else(String::new, |down| value(cell, &down.name));
        let column = if is_one_axis { String::new() } else { value(cell, &across.name) };
        maps.entry(key).or_default().insert((row, column), mark(cell));
    }
    let mut lines = Vec::new();
    for (key, marks) in &maps {
        let place: Vec<String> = others
            .iter()
            .zip(key)
            .map(|(axis, index)| {
                let shown = axis.values.get(*index).map_or("", String::as_str);
                format!("{} = {shown}", axis.name.trim_start_matches("param."))
            })
            .collect();
        if !place.is_empty() {
            lines.push(format!("  {}", place.join(", ")));
        }
        lines.extend(one(down, across, is_one_axis, marks));
    }
    lines.push(style.faint("  X all reproduced, . none, 1 to 9 so many tenths, ? inconclusive, ! could not be run, blank not tried"));
    lines
}

fn one(
    down: Option<&Axis>,
    across: &Axis,
    is_one_axis: bool,
    marks: &BTreeMap<(String, String), char>,
) -> Vec<String> {
    let none = vec![String::new()];
    let rows = down.map_or(&none, |down| &down.values);
    let columns = if is_one_axis { &none } else { &across.values };
    let row = |name: &String| -> String {
        columns
            .iter()
            .map(|column| marks.get(&(name.clone(), column.clone())).copied().unwrap_or(' '))
            .collect()
    };
    // Rows alike stand together: `0 blocks to 65 blocks`.
    let mut runs: Vec<(String, String, String)> = Vec::new();
    for name in rows {
        let drawn = row(name);
        match runs.last_mut() {
            Some((_, last, marks)) if *marks == drawn => last.clone_from(name),
            _ => runs.push((name.clone(), name.clone(), drawn)),
        }
    }
    let names: Vec<String> = runs
        .iter()
        .map(|(first, last, _)| if first == last { first.clone() } else { format!("{first} to {last}") })
        .collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    let short = |axis: &Axis| axis.name.trim_start_matches("param.").to_owned();
    let head = down.map_or_else(String::new, &short);
    if !is_one_axis {
        let ends = across.values.first().zip(across.values.last());
        let ends = ends
            .map_or_else(String::new, |(first, last)| format!("{} from {first} to {last}", short(across)));
        lines.push(format!("  {head:<width$}  {ends}"));
    }
    lines.extend(names.iter().zip(&runs).map(|(name, (.., marks))| format!("  {name:<width$}  {marks}")));
    lines
}

/// What a cell came to, in one letter.
fn mark(cell: &CellResult) -> char {
    let settled = cell.trials.saturating_sub(cell.inconclusive);
    match cell.ended {
        CellEnded::Failed => '!',
        _ if settled == 0 => '?',
        _ if cell.reproduced == 0 => '.',
        _ if cell.reproduced == settled => 'X',
        // At least one reproduced and one did not: never 0, and never all.
        _ => char::from_digit((cell.reproduced * 10 / settled).clamp(1, 9), 10).unwrap_or('5'),
    }
}
