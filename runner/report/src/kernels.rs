//! Several kernels beside each other: what each made of the same scenario.

use brim_trial::event::VerdictEvent;
use brim_trial::{Event, Verdict};

use crate::evidence;
use crate::style::Style;
use crate::verdict::{counts, representative, symptom};

/// What a kernel made of a scenario: the verdicts of one set of parameters, or of each of a range.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// What it is called: `uml/6.12`.
    pub kernel: &'a str,
    /// The verdicts, in the order of the range.
    pub verdicts: &'a [VerdictEvent],
}

/// One line for each kernel. A range is drawn as a map, a mark for each value.
#[must_use]
pub fn table(rows: &[Row<'_>], style: Style) -> Vec<String> {
    let width = rows.iter().map(|row| row.kernel.len()).max().unwrap_or(0);
    let releases = rows.iter().filter_map(|row| row.verdicts.first()).map(|verdict| verdict.kernel.len());
    let release_width = releases.max().unwrap_or(0);
    let mut lines: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let what = match row.verdicts {
                [] => return None,
                [one] => {
                    let shown = style.verdict(one.verdict, one.expected, format!("{:<14}", one.verdict));
                    format!("{shown} {}; {}", counts(one), symptom(one))
                }
                range => range.iter().map(|verdict| mark(verdict.verdict)).collect(),
            };
            let release = row.verdicts.first().map_or("", |verdict| verdict.kernel.as_str());
            Some(format!("  {:<width$}  {release:<release_width$}  {what}", row.kernel))
        })
        .collect();
    if rows.iter().any(|row| row.verdicts.len() > 1) {
        lines.push(style.faint("  X reproduced, . not reproduced, ? inconclusive"));
    }
    lines
}

fn mark(verdict: Verdict) -> char {
    match verdict {
        Verdict::Reproduced => 'X',
        Verdict::NotReproduced => '.',
        Verdict::Inconclusive => '?',
    }
}

/// One side of a comparison.
#[derive(Clone, Debug)]
pub struct Side {
    /// What its kernel is called.
    pub kernel: String,
    /// What it came to.
    pub verdict: VerdictEvent,
    /// Its journal.
    pub events: Vec<Event>,
}

/// Verdict, symptom and evidence of each side, one finding after the other; what is the same everywhere is said once.
#[must_use]
pub fn compare(sides: &[Side], style: Style) -> Vec<String> {
    let mut findings: Vec<(String, Vec<Vec<String>>)> = Vec::new();
    let mut add = |side: usize, label: String, text: String| {
        let at = findings.iter().position(|(known, _)| *known == label).unwrap_or_else(|| {
            findings.push((label, vec![Vec::new(); sides.len()]));
            findings.len() - 1
        });
        if let Some(texts) = findings.get_mut(at).and_then(|(_, texts)| texts.get_mut(side)) {
            texts.push(text);
        }
    };
    for (index, side) in sides.iter().enumerate() {
        let Side { verdict, events, .. } = side;
        add(index, "kernel".to_owned(), verdict.kernel.clone());
        let shown = style.verdict(verdict.verdict, verdict.expected, verdict.verdict);
        add(index, "verdict".to_owned(), format!("{shown}  {}", counts(verdict)));
        add(index, "symptom".to_owned(), symptom(verdict));
        let trial = representative(verdict.verdict, events).map_or(1, |(trial, _)| trial);
        for line in evidence::lines(events, trial, Style::PLAIN) {
            let (label, text) = line.split_at_checked(evidence::LABEL).unwrap_or((line.as_str(), ""));
            add(index, label.trim().to_owned(), text.trim().to_owned());
        }
    }
    let width = sides.iter().map(|side| side.kernel.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for (label, texts) in findings {
        let label = format!("{label:<width$}", width = evidence::LABEL);
        if let Some(first) = texts.first().filter(|first| texts.iter().all(|other| other == *first)) {
            lines.extend(first.iter().map(|text| format!("  {label} {}", style.faint(text))));
            continue;
        }
        for (side, texts) in sides.iter().zip(texts) {
            let texts = if texts.is_empty() { vec!["nothing".to_owned()] } else { texts };
            lines.extend(texts.iter().map(|text| format!("  {label} {:<width$}  {text}", side.kernel)));
        }
    }
    lines
}
