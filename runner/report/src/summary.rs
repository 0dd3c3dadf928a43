//! Many scenarios: a line for each.

use brim_trial::control::Flip;
use brim_trial::event::VerdictEvent;
use brim_trial::{Interval, Verdict};

use crate::style::Style;

/// A scenario, or one set of its parameters, and what its control came to.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it came to.
    pub verdict: VerdictEvent,
    /// Its control, where it was tried.
    pub control: Option<(VerdictEvent, Flip)>,
}

/// Lines of a table whose first column has this width.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// The width of the longest name.
    pub width: usize,
    /// Whether controls are tried.
    pub controls: bool,
}

impl Row {
    /// Whether the scenario and its control came to what they were to.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let flips = |(_, flip): &(VerdictEvent, Flip)| matches!(flip, Flip::Flipped | Flip::NothingToFlip);
        self.verdict.expected && self.control.as_ref().is_none_or(flips)
    }
}

impl Table {
    /// What the columns are, and what the kernel is called: `uml/6.12`.
    #[must_use]
    pub fn head(self, kernel: &str, style: Style) -> String {
        let control = if self.controls { format!("{:<18} ", "control") } else { String::new() };
        let width = self.width;
        style.faint(format!(
            "  {:<width$}  {:<14} {:<11} {:<16} {control}{:>8}",
            format!("on {kernel}"),
            "verdict",
            "trials",
            "known",
            "seconds"
        ))
    }

    /// One scenario. `swept` are the parameters that its rows differ in.
    #[must_use]
    pub fn row(self, row: &Row, swept: &[String], style: Style) -> String {
        let Row { verdict, control } = row;
        let values = swept
            .iter()
            .filter_map(|name| verdict.params.get(name).map(|value| format!(" {name} = {value}")));
        let name = format!("{}{}", verdict.scenario, values.collect::<String>());
        let shown = style.verdict(verdict.verdict, verdict.expected, format!("{:<14}", verdict.verdict));
        let trials = format!("{} of {}", hits(verdict), verdict.trials);
        let seconds = verdict.seconds + control.as_ref().map_or(0.0, |(control, _)| control.seconds);
        let control = match control {
            _ if !self.controls => String::new(),
            None => format!("{:<18} ", "none"),
            Some((control, flip)) => format!("{:<18} ", flipped(control, *flip)),
        };
        let width = self.width;
        format!("  {name:<width$}  {shown} {trials:<11} {:<16} {control}{seconds:>8.1}", known(verdict))
    }

    /// One that cannot be tried here, and why.
    #[must_use]
    pub fn skipped(self, scenario: &str, why: &str, style: Style) -> String {
        let width = self.width;
        format!("  {scenario:<width$}  {}", style.faint(format!("skipped: {why}")))
    }

    /// How many came out how.
    #[must_use]
    pub fn sum(self, rows: &[Row], skipped: usize) -> String {
        let count = |is: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| is(row)).count();
        let seconds: f64 = rows
            .iter()
            .map(|row| row.verdict.seconds + row.control.as_ref().map_or(0.0, |(control, _)| control.seconds))
            .sum();
        let flips =
            |wanted: Flip| count(&|row: &Row| row.control.as_ref().is_some_and(|(_, flip)| *flip == wanted));
        let mut parts = vec![format!(
            "  {} in {seconds:.1} s: {} as known, {} not, {} of which nothing is known",
            rows.len(),
            count(&|row| row.verdict.known.is_some() && row.verdict.expected),
            count(&|row| row.verdict.known.is_some() && !row.verdict.expected),
            count(&|row| row.verdict.known.is_none()),
        )];
        if self.controls {
            parts.push(format!(
                "of the controls {} flip, {} do not, {} have nothing to flip, {} say nothing",
                flips(Flip::Flipped),
                flips(Flip::NotFlipped),
                flips(Flip::NothingToFlip),
                flips(Flip::Inconclusive)
            ));
        }
        if skipped > 0 {
            parts.push(format!("{skipped} skipped"));
        }
        parts.join("; ")
    }
}

/// How many trials came to the verdict.
fn hits(verdict: &VerdictEvent) -> u32 {
    match verdict.verdict {
        Verdict::Reproduced => verdict.reproduced,
        Verdict::NotReproduced => verdict.trials,
        Verdict::Inconclusive => verdict.inconclusive,
    }
}

fn known(verdict: &VerdictEvent) -> String {
    match (&verdict.rate, verdict.known, verdict.expected) {
        (_, None, _) => "nothing".to_owned(),
        (Some(rate), _, expected) => {
            let rate = Interval { low: rate.at_least, high: rate.at_most };
            if expected { rate.to_string() } else { format!("not {rate}") }
        }
        (None, _, true) => "as known".to_owned(),
        (None, Some(known), false) => format!("not {known}"),
    }
}

fn flipped(control: &VerdictEvent, flip: Flip) -> String {
    let words = match flip {
        Flip::Flipped => "flips",
        Flip::NotFlipped => "does not flip",
        Flip::NothingToFlip => return "nothing to flip".to_owned(),
        Flip::Inconclusive => "says nothing",
    };
    format!("{words}, {}/{}", hits(control), control.trials)
}
