//! A rate over the values of one parameter: each with its interval, and, of a search, where it crosses.

use std::collections::BTreeMap;

use brim_campaign::result::{CellResult, Found, ThresholdResult};

use super::map::{Dimension, bare, named, number, unit};
use super::svg::{Anchor, Svg, width};
use crate::campaign::rate;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 40.0;

/// Where a value is on the axis: a number if all values are numbers of one unit, or else its place among them.
fn places<'v>(values: &[&'v str]) -> BTreeMap<&'v str, f64> {
    let shared = unit(values);
    let parsed: Option<Vec<f64>> = values
        .iter()
        .map(|value| bare(value, shared).parse::<f64>().ok().filter(|at| at.is_finite()))
        .collect();
    let by_place = || (0..values.len()).map(number).collect();
    values.iter().copied().zip(parsed.unwrap_or_else(by_place)).collect()
}

/// The curve of `cells`, which differ in `dimension` alone. `found` is what a search along it came to.
pub(super) fn plot(
    dimension: &Dimension<'_>,
    cells: &[(&str, &CellResult)],
    found: Option<&ThresholdResult>,
    title: &str,
) -> String {
    let places = places(&dimension.values);
    let (first, last) = places
        .values()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(first, last), at| (first.min(*at), last.max(*at)));
    let span = (last - first).max(f64::MIN_POSITIVE);
    let wide = WIDTH - LEFT - RIGHT;
    let x = |value: &str| places.get(value).map(|at| LEFT + wide * (at - first) / span);
    let y = |share: f64| TOP + HEIGHT * (1.0 - share.clamp(0.0, 1.0));
    let mut svg = Svg::new();
    for percent in [0_u32, 25, 50, 75, 100] {
        let at = y(f64::from(percent) / 100.0);
        svg.line("grid", (LEFT, at), (WIDTH - RIGHT, at));
        svg.text("axis", (LEFT - 8.0, at + 4.0), Anchor::End, &format!("{percent} %"));
    }
    if let Some(ThresholdResult { found: Found::Threshold { before, after, .. }, .. }) = found
        && let (Some(from), Some(to)) = (x(before), x(after))
    {
        let (from, to) = (from.min(to), from.max(to));
        let title = format!("it crosses between {before} and {after}");
        svg.rect("band", (from, TOP), ((to - from).max(2.0), HEIGHT), &title);
    }
    if let Some(found) = found {
        svg.line("guide", (LEFT, y(found.rate)), (WIDTH - RIGHT, y(found.rate)));
    }
    labels(&mut svg, dimension, &x);
    let mut points: Vec<(f64, &str, &CellResult)> =
        cells.iter().filter_map(|(value, cell)| Some((x(value)?, *value, *cell))).collect();
    points.sort_by(|(one, ..), (other, ..)| one.total_cmp(other));
    let line: Vec<(f64, f64)> =
        points.iter().filter_map(|(at, _, cell)| Some((*at, y(cell.rate.as_ref()?.rate)))).collect();
    if line.len() > 1 {
        svg.path("rate", &line, false);
    }
    for (at, value, cell) in points {
        let judged = cell.trials.saturating_sub(cell.inconclusive);
        let Some(seen) = cell.rate.as_ref().filter(|_| judged > 0) else {
            svg.mark("open", (at - 4.0, y(0.0) - 9.0), 8.0, &format!("{value}: inconclusive"));
            continue;
        };
        // One trial says little of a rate, and its interval would hide those that do.
        if judged > 1 {
            svg.line("interval", (at, y(seen.low)), (at, y(seen.high)));
            for end in [seen.low, seen.high] {
                svg.line("interval", (at - 3.0, y(end)), (at + 3.0, y(end)));
            }
        }
        let (class, radius) = if judged > 1 { ("point", 3.2) } else { ("point few", 2.4) };
        let title = format!("{value}: {} of {judged}, {}", cell.reproduced, rate(seen));
        svg.circle(class, (at, y(seen.rate)), radius, &title);
    }
    let label = format!("The rate over {title}; the table of all cells has the same numbers");
    svg.finish("curve", (WIDTH, TOP + HEIGHT + BOTTOM), &label)
}

/// As many values below the axis as have room, and what they are.
fn labels(svg: &mut Svg, dimension: &Dimension<'_>, x: &dyn Fn(&str) -> Option<f64>) {
    let shared = unit(&dimension.values);
    let bottom = TOP + HEIGHT;
    let mut free = f64::NEG_INFINITY;
    let mut ordered: Vec<(f64, &str)> =
        dimension.values.iter().filter_map(|value| Some((x(value)?, bare(value, shared)))).collect();
    ordered.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    for (at, value) in ordered {
        let half = width(value) / 2.0;
        if at - half < free || at + half > WIDTH {
            continue;
        }
        free = at + half + 14.0;
        svg.line("tick", (at, bottom), (at, bottom + 4.0));
        svg.text("axis", (at, bottom + 17.0), Anchor::Middle, value);
    }
    svg.text("axis", (LEFT + (WIDTH - LEFT - RIGHT) / 2.0, bottom + 34.0), Anchor::Middle, &named(dimension));
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn numbers_of_one_unit_stand_where_they_are() {
        let at = |values: &[&str]| places(values).into_values().collect::<Vec<f64>>();
        assert_eq!(at(&["1 block", "2 blocks", "9 blocks"]), [1.0, 2.0, 9.0]);
        assert_eq!(at(&["1 KiB", "4 MiB"]), [0.0, 1.0], "units differ: by their places");
    }
}
