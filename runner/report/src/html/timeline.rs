//! Everything that has a time in a trial, on one axis: what the workers did, what gates held, which faults fired, what the kernel
//! asked of the disk, and the filesystem's counters.

use std::collections::BTreeMap;

use brim_trial::event::{Series, StepEvent, When};
use brim_trial::{Bytes, Event, Nanos};

use super::numbers::{self, grouped};
use super::svg::{Anchor, Svg, width};
use crate::evidence;

const WIDTH: f64 = 960.0;
/// What is left free at both sides.
const MARGIN: f64 = 12.0;
const AXIS: f64 = 26.0;
const BAR: f64 = 14.0;
const LABEL: f64 = 13.0;
const TITLE: f64 = 18.0;
const ROW: f64 = 30.0;
/// Rows of labels under a lane, at most.
const LABEL_ROWS: usize = 5;
/// A step of less than this part of the whole time would hardly be seen.
const SMALL: f64 = 0.01;
/// With more moments than these there is no room to stretch any.
const KNOTS_MAX: usize = 60;
/// How far apart the labels of the axis are at least, where they are not even.
const TICK_GAP: f64 = 58.0;

/// The plot and its equivalent as a table.
#[derive(Debug)]
pub(super) struct Timeline {
    pub(super) plot: String,
    pub(super) is_stretched: bool,
    pub(super) steps: Vec<StepRow>,
}

/// A step as a row of a table.
#[derive(Debug)]
pub(super) struct StepRow {
    pub(super) began: String,
    pub(super) ended: String,
    pub(super) took: String,
    pub(super) by: String,
    pub(super) what: String,
    pub(super) failed: bool,
}

/// The axis of time: from zero to its end, in stretches that each are straight.
struct Scale {
    /// Moments and where they are, from 0 to 1, in order.
    knots: Vec<(f64, f64)>,
    is_stretched: bool,
}

impl Scale {
    /// For steps from these moments to those. Where one of them would hardly be seen, the axis gives half of its length to what
    /// happens, whatever time it takes.
    fn new(steps: &[(f64, f64)], end: f64) -> Self {
        let straight = || Self { knots: vec![(0.0, 0.0), (end, 1.0)], is_stretched: false };
        let mut moments: Vec<f64> =
            steps.iter().flat_map(|(from, to)| [*from, *to]).chain([0.0, end]).collect();
        moments.sort_by(f64::total_cmp);
        moments.dedup_by(|one, other| (*one - *other).abs() < end / 1e6);
        let is_small = |(from, to): &(f64, f64)| to - from < end * SMALL;
        if !steps.iter().any(is_small) || moments.len() > KNOTS_MAX || moments.len() < 3 {
            return straight();
        }
        let parts = f64::from(u32::try_from(moments.len() - 1).unwrap_or(1));
        let mut at = 0.0;
        let mut knots = vec![(0.0, 0.0)];
        for pair in moments.windows(2) {
            let [from, to] = pair else { continue };
            at += f64::midpoint((to - from) / end, 1.0 / parts);
            knots.push((*to, at));
        }
        Self { knots, is_stretched: true }
    }

    fn x(&self, at: Nanos) -> f64 {
        let at = at.to_f64();
        let after = self.knots.partition_point(|(moment, _)| *moment < at);
        let share =
            match (after.checked_sub(1).and_then(|before| self.knots.get(before)), self.knots.get(after)) {
                (Some((from, left)), Some((to, right))) => {
                    left + (right - left) * ((at - from) / (to - from))
                }
                (None, Some((_, share))) | (Some((_, share)), None) => *share,
                (None, None) => 0.0,
            };
        MARGIN + (WIDTH - 2.0 * MARGIN) * share.clamp(0.0, 1.0)
    }

    /// The moments that the axis names, each with its label.
    fn ticks(&self, end: Nanos) -> Vec<(f64, String)> {
        let (unit, name) = numbers::unit(end);
        let mut ticks: Vec<(f64, String)> = Vec::new();
        if self.is_stretched {
            for (moment, _) in &self.knots {
                let at = Nanos::from_f64(*moment);
                let label = if at.0 == 0 { "0".to_owned() } else { numbers::duration(at) };
                let x = self.x(at);
                if ticks.last().is_none_or(|(last, _)| x - last >= TICK_GAP) {
                    ticks.push((x, label));
                }
            }
            return ticks;
        }
        let values = numbers::ticks(end.to_f64() / unit);
        let last = values.len().saturating_sub(1);
        for (index, value) in values.into_iter().enumerate() {
            let digits = usize::from(value.fract() != 0.0);
            let unit_name = if index == last { format!("\u{202f}{name}") } else { String::new() };
            ticks.push((self.x(Nanos::from_f64(value * unit)), format!("{value:.digits$}{unit_name}")));
        }
        ticks
    }
}

/// The timeline of a trial; `None` where its journal has no times.
pub(super) fn timeline(events: &[Event], trial: u32) -> Option<Timeline> {
    let steps: Vec<(&StepEvent, Nanos)> = events.iter().filter_map(|event| step(event, trial)).collect();
    let series: Vec<Series> = events
        .iter()
        .filter_map(|event| match event {
            Event::Series(series) if series.trial == trial => Some(from_the_start(series, events)),
            _ => None,
        })
        .collect();
    let last = steps.iter().map(|(_, at)| *at);
    let last = last.chain(series.iter().filter_map(|series| series.at.last().copied())).max()?;
    let spans: Vec<(f64, f64)> =
        steps.iter().map(|(step, at)| (began(step, *at).to_f64(), at.to_f64())).collect();
    let scale = Scale::new(&spans, last.to_f64().max(1.0));
    let mut drawing = Drawing { svg: Svg::new(), scale: &scale, y: AXIS };
    drawing.workers(&steps);
    drawing.rows(&series);
    let Drawing { svg: front, y, .. } = drawing;
    // What is behind: the axis, and a line down from each moment that explains others.
    let mut svg = Svg::new();
    axis(&mut svg, &scale, last, y);
    for (step, at) in &steps {
        let is_word = matches!(step.syscall.as_str(), "release" | "await" | "arm" | "close" | "power_cut");
        if step.failed() || is_word {
            let class = if step.failed() { "guide hit" } else { "guide" };
            svg.line(class, (scale.x(*at), AXIS), (scale.x(*at), y));
        }
    }
    let label = format!(
        "Timeline of trial {trial}: {} steps over {}; the table behind it has them all",
        steps.len(),
        numbers::duration(last)
    );
    svg.append(&front);
    let plot = svg.finish("timeline", (WIDTH, y + 6.0), &label);
    let is_stretched = scale.is_stretched;
    Some(Timeline { plot, is_stretched, steps: steps.iter().map(|(step, at)| row(step, *at)).collect() })
}

/// Counters with what they were before the first step: they are looked at a little later than that for the first time.
fn from_the_start(series: &Series, events: &[Event]) -> Series {
    let before = events.iter().find_map(|event| match event {
        Event::Counters { trial, when: When::Before, counters, .. } if *trial == series.trial => {
            Some(counters)
        }
        _ => None,
    });
    let mut series = series.clone();
    let Some(before) = before.filter(|_| series.of == "counters") else { return series };
    let value = |name: &String| match name.as_str() {
        "data_free" => Some(before.data_free),
        name => before.values.get(name).copied(),
    };
    let first: Option<Vec<Bytes>> = series.names.iter().map(value).collect();
    if let Some(first) = first {
        series.at.insert(0, Nanos(0));
        series.values.iter_mut().zip(first).for_each(|(values, first)| values.insert(0, first.0));
    }
    series
}

fn step(event: &Event, wanted: u32) -> Option<(&StepEvent, Nanos)> {
    match event {
        Event::Step(step) if step.trial == wanted => step.at.map(|at| (&**step, at)),
        _ => None,
    }
}

fn began(step: &StepEvent, at: Nanos) -> Nanos {
    Nanos(at.0.saturating_sub(step.nanos.0))
}

fn row(step: &StepEvent, at: Nanos) -> StepRow {
    StepRow {
        began: numbers::duration(began(step, at)),
        ended: numbers::duration(at),
        took: numbers::duration(step.nanos),
        by: super::text(step.by.as_deref().unwrap_or("main")),
        what: super::text(&evidence::failure(step)),
        failed: step.failed(),
    }
}

fn axis(svg: &mut Svg, scale: &Scale, last: Nanos, bottom: f64) {
    for (index, (x, label)) in scale.ticks(last).into_iter().enumerate() {
        svg.line("grid", (x, AXIS - 6.0), (x, bottom));
        let anchor = match index {
            0 => Anchor::Start,
            _ if x > WIDTH - 40.0 => Anchor::End,
            _ => Anchor::Middle,
        };
        svg.text("axis", (x, 12.0), anchor, &label);
    }
}

/// What is drawn so far, from the top down.
struct Drawing<'a> {
    svg: Svg,
    scale: &'a Scale,
    y: f64,
}

impl Drawing<'_> {
    fn title(&mut self, text: &str, right: &str) {
        self.svg.text("lane", (MARGIN, self.y + 12.0), Anchor::Start, text);
        if !right.is_empty() {
            self.svg.text("value", (WIDTH - MARGIN, self.y + 12.0), Anchor::End, right);
        }
        self.y += TITLE;
    }

    /// A lane for each worker: a bar for each step, with its name under it.
    fn workers(&mut self, steps: &[(&StepEvent, Nanos)]) {
        let mut lanes: BTreeMap<Option<&str>, Vec<(&StepEvent, Nanos)>> = BTreeMap::new();
        for (step, at) in steps {
            lanes.entry(step.by.as_deref()).or_default().push((step, *at));
        }
        for (by, mut steps) in lanes {
            steps.sort_by_key(|(step, at)| began(step, *at));
            let name = by.map_or_else(|| "steps".to_owned(), |by| format!("steps by {by}"));
            self.title(&name, "");
            self.rounds(&steps);
            for (step, at) in &steps {
                let (from, to) = (self.scale.x(began(step, *at)), self.scale.x(*at));
                let title = format!(
                    "{} – {}: {}",
                    numbers::duration(began(step, *at)),
                    numbers::duration(*at),
                    evidence::failure(step)
                );
                let class = if step.failed() { "step hit" } else { "step" };
                self.svg.rect(class, (from, self.y), ((to - from).max(1.5), BAR), &title);
            }
            self.y += BAR;
            self.labels(&steps);
            self.y += 6.0;
        }
    }

    /// Where rounds went by of which the journal has no more than their number.
    fn rounds(&mut self, steps: &[(&StepEvent, Nanos)]) {
        for pair in steps.windows(2) {
            let [(one, end), (other, at)] = pair else { continue };
            if one.phase == other.phase && other.iteration > one.iteration + 1 {
                let (from, to) = (self.scale.x(*end), self.scale.x(began(other, *at)));
                let title = format!("rounds {} to {}", one.iteration, other.iteration);
                self.svg.rect(
                    "rounds",
                    (from, self.y + BAR / 2.0 - 1.5),
                    ((to - from).max(0.0), 3.0),
                    &title,
                );
            }
        }
    }

    /// The names of the steps of a lane, each in the first row where it has room.
    fn labels(&mut self, steps: &[(&StepEvent, Nanos)]) {
        let mut ends = [f64::NEG_INFINITY; LABEL_ROWS];
        let mut used = 0;
        for (step, at) in steps {
            let text = match step.errno {
                Some(errno) => format!("{} = {errno}", step.step),
                None if step.problem.is_some() => format!("{}: not as it ought to be", step.step),
                None => step.step.clone(),
            };
            let text = super::text(&text);
            let from = self.scale.x(began(step, *at));
            // What failed is in bold letters.
            let wide = width(&text) * if step.failed() { 1.12 } else { 1.0 };
            let x = from.min(WIDTH - MARGIN - wide).max(MARGIN);
            let Some(row) = ends.iter().position(|end| *end + 8.0 <= x) else { continue };
            if let Some(end) = ends.get_mut(row) {
                *end = x + wide;
            }
            used = used.max(row + 1);
            let down = self.y + LABEL * f64::from(u32::try_from(row).unwrap_or(0));
            if row > 0 {
                self.svg.line("lead", (from + 0.7, self.y), (from + 0.7, down + 3.0));
            }
            let class = if step.failed() { "name hit" } else { "name" };
            self.svg.text(class, (x, down + 11.0), Anchor::Start, &text);
        }
        self.y += LABEL * f64::from(u32::try_from(used).unwrap_or(0));
    }

    /// A row for each number that changed.
    fn rows(&mut self, series: &[Series]) {
        let mut group = |wanted: &dyn Fn(&Series, &str) -> Option<String>, class: &str| {
            for series in series {
                for (name, values) in series.names.iter().zip(&series.values) {
                    if let Some(title) = wanted(series, name) {
                        let disk = series.device.as_ref().map(|device| format!("{device}: "));
                        let title = format!("{}{title}", disk.unwrap_or_default());
                        self.row(&title, &series.at, values, class, series.of == "counters");
                    }
                }
            }
        };
        group(
            &|_, name| name.strip_prefix("held ").map(|gate| format!("held by gate \"{gate}\"")),
            "area gate",
        );
        group(
            &|_, name| name.strip_prefix("fired ").map(|row| format!("fault \"{row}\" fired")),
            "area fault",
        );
        group(
            &|series, name| {
                // Their bytes grow as they do; the table has the sum.
                let is_request = series.of == "requests" && !name.contains([' ', '.']);
                is_request.then(|| format!("{name} requests so far"))
            },
            "area disk",
        );
        group(
            &|series, name| (series.of == "counters").then(|| name.replace("data_free", "free for data")),
            "area counter",
        );
    }

    fn row(&mut self, title: &str, at: &[Nanos], values: &[u64], class: &str, is_bytes: bool) {
        let shown = |value: u64| if is_bytes { numbers::bytes(Bytes(value)) } else { grouped(value) };
        let (Some(first), Some(last), Some(highest), Some(lowest)) =
            (values.first(), values.last(), values.iter().max(), values.iter().min())
        else {
            return;
        };
        let mut right = vec![format!("{} → {}", shown(*first), shown(*last))];
        if highest != first && highest != last {
            right.push(format!("at most {}", shown(*highest)));
        }
        if lowest != first && lowest != last {
            right.push(format!("at least {}", shown(*lowest)));
        }
        self.title(&super::text(title), &right.join(", "));
        let (top, bottom) = (self.y, self.y + ROW - 8.0);
        let span = Nanos(highest - lowest).to_f64().max(1.0);
        let y = |value: u64| bottom - (bottom - top) * (Nanos(value - lowest).to_f64() / span);
        let mut points = vec![(self.scale.x(at.first().copied().unwrap_or_default()), bottom)];
        let mut outline: Vec<(f64, f64)> = Vec::new();
        for (index, (moment, value)) in at.iter().zip(values).enumerate() {
            let x = self.scale.x(*moment);
            let before = index.checked_sub(1).and_then(|before| values.get(before));
            if let Some(before) = before.filter(|before| *before != value) {
                outline.push((x, y(*before)));
            }
            if before != Some(value) {
                outline.push((x, y(*value)));
            }
        }
        let end = WIDTH - MARGIN;
        outline.push((end, y(*last)));
        points.extend(outline.iter().copied());
        points.push((end, bottom));
        self.svg.path(class, &points, true);
        self.svg.path(&class.replace("area", "trace"), &outline, false);
        self.y += ROW;
    }
}
