//! The verdict of a set of parameters: a block of its own, or one line of a range.

use brim_trial::control::ControlEvent;
use brim_trial::event::{MeasuredRate, VerdictEvent};
use brim_trial::{Event, Flip, Interval, Verdict};

use crate::evidence;
use crate::style::Style;

/// What is shown of a scenario before its first verdict.
#[must_use]
pub fn heading(verdict: &VerdictEvent, claim: &str, style: Style) -> String {
    let VerdictEvent { scenario, kernel, filesystem, rig, seed, .. } = verdict;
    format!(
        "{}: {claim}\n  {}",
        style.strong(scenario),
        style.faint(format!("kernel {kernel}, {filesystem}, rig {rig}, seed {seed:#x}")),
    )
}

/// One verdict with its evidence. `events` is the journal of this set of parameters.
#[must_use]
pub fn block(verdict: &VerdictEvent, events: &[Event], style: Style) -> String {
    let params: Vec<String> =
        verdict.params.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    let control = verdict.control.as_ref().map(|change| format!("  {}: {change}", style.strong("control")));
    let mut lines: Vec<String> = control.into_iter().collect();
    if !params.is_empty() {
        lines.push(format!("  {}", params.join(", ")));
    }
    lines.extend([
        String::new(),
        format!(
            "  {}  {}",
            style.verdict(verdict.verdict, verdict.expected, verdict.verdict),
            [counts(verdict), expectation(verdict)].join("; ")
        ),
    ]);
    if let Some(reason) = &verdict.reason {
        lines.push(format!("  {reason}"));
    }
    let shown = representative(verdict.verdict, events);
    lines.push(String::new());
    if let Some((trial, verdict)) = shown.filter(|_| verdict.trials > 1) {
        lines.push(style.faint(format!("  evidence of trial {trial}, the first {verdict}")));
    }
    let trial = shown.map_or(1, |(trial, _)| trial);
    lines.extend(evidence::lines(events, trial, style).into_iter().map(|line| format!("    {line}")));
    lines.push(String::new());
    lines.push(format!("  again: {}", verdict.command));
    lines.join("\n")
}

/// One verdict on one line, for a range: the value of each parameter in `swept`, then what came of it.
#[must_use]
pub fn line(verdict: &VerdictEvent, swept: &[String], style: Style) -> String {
    let values: Vec<String> = swept
        .iter()
        .map(|name| format!("{name} = {}", verdict.params.get(name).map_or("?", String::as_str)))
        .collect();
    let coloured = style.verdict(verdict.verdict, verdict.expected, format!("{:<14}", verdict.verdict));
    let what = symptom(verdict);
    let trials = if verdict.trials > 1 { format!("{}; ", counts(verdict)) } else { String::new() };
    let unexpected = if contradicts(verdict) { "  ← not as known" } else { "" };
    format!("  {:<24} {coloured} {trials}{what}{unexpected}", values.join(", "))
}

/// The verdict and what was seen: `reproduced, pwrite = ENOSPC, for want of data space`.
#[must_use]
pub fn outcome(verdict: &VerdictEvent) -> String {
    format!("{}, {}", verdict.verdict, symptom(verdict))
}

/// What was seen of it: the step that failed, or why nothing can be said.
pub(crate) fn symptom(verdict: &VerdictEvent) -> String {
    match (&verdict.reason, &verdict.failed_step, verdict.errno) {
        (Some(reason), _, _) => reason.clone(),
        (None, Some(step), Some(errno)) => match verdict.space {
            Some(space) => format!("{step} = {errno}, for want of {space} space"),
            None => format!("{step} = {errno}"),
        },
        (None, Some(step), None) => format!("{step} was not satisfied"),
        (None, None, _) => settled(verdict).unwrap_or_else(|| "no step failed".to_owned()),
    }
}

/// What the verdict rests on where it is no step that failed.
fn settled(verdict: &VerdictEvent) -> Option<String> {
    let wanted = Some(verdict.verdict == Verdict::Reproduced);
    verdict.findings.iter().find(|finding| finding.holds == wanted).map(|finding| finding.found.clone())
}

/// The sum of a range: how many came out how.
#[must_use]
pub fn sum(verdicts: &[VerdictEvent]) -> String {
    let count = |wanted: Verdict| verdicts.iter().filter(|verdict| verdict.verdict == wanted).count();
    let seconds: f64 = verdicts.iter().map(|verdict| verdict.seconds).sum();
    format!(
        "  {} values in {seconds:.1} s: {} reproduced, {} not reproduced, {} inconclusive; {} as known, {} not, {} unknown",
        verdicts.len(),
        count(Verdict::Reproduced),
        count(Verdict::NotReproduced),
        count(Verdict::Inconclusive),
        verdicts.iter().filter(|verdict| verdict.known.is_some() && verdict.expected).count(),
        verdicts.iter().filter(|verdict| contradicts(verdict)).count(),
        verdicts.iter().filter(|verdict| verdict.known.is_none()).count(),
    )
}

/// Whether the verdict says something else than what was known: an inconclusive one says nothing.
fn contradicts(verdict: &VerdictEvent) -> bool {
    verdict.known.is_some() && verdict.verdict != Verdict::Inconclusive && !verdict.expected
}

/// `20 of 20 trials`.
pub(crate) fn counts(verdict: &VerdictEvent) -> String {
    let VerdictEvent { trials, reproduced, inconclusive, .. } = verdict;
    match verdict.verdict {
        _ if *trials == 0 => "no trial was run".to_owned(),
        Verdict::Reproduced => format!("{reproduced} of {trials} trials"),
        Verdict::NotReproduced => format!("0 of {trials} trials reproduced it"),
        Verdict::Inconclusive => format!("{inconclusive} of {trials} trials say nothing"),
    }
}

pub(crate) fn expectation(verdict: &VerdictEvent) -> String {
    if let (Some(rate), Some(_)) = (&verdict.rate, verdict.known) {
        return rated(verdict, rate);
    }
    match (verdict.known, verdict.expected) {
        (Some(wanted), expected) if verdict.control.is_some() && verdict.verdict != Verdict::Inconclusive => {
            if expected {
                "as the control is to be".to_owned()
            } else {
                format!("not as the control is to be: every trial was to be {wanted}")
            }
        }
        (Some(known), _) if verdict.verdict == Verdict::Inconclusive => {
            format!("{known} was known for this kernel")
        }
        (None, _) => "nothing is known of these parameters on this kernel".to_owned(),
        (Some(_), true) => "as known for this kernel".to_owned(),
        (Some(known), false) => format!("not as known for this kernel: every trial was to be {known}"),
    }
}

/// `1.4 % to 6.4 % at 95 % confidence; as known for this kernel: 2 % to 10 %, as …`.
fn rated(verdict: &VerdictEvent, rate: &MeasuredRate) -> String {
    let measured = Interval { low: rate.low, high: rate.high };
    let known = Interval { low: rate.at_least, high: rate.at_most };
    let as_known = match verdict.expected {
        _ if verdict.inconclusive > 0 => "what says nothing is not counted: known for this kernel",
        true => "as known for this kernel",
        false => "not as known for this kernel",
    };
    format!("{measured} at 95 % confidence; {as_known}: {known}, as {}", rate.why.trim_end_matches('.'))
}

/// What follows from a scenario and its control, in a line.
#[must_use]
pub fn flip(control: &ControlEvent, style: Style) -> String {
    let ControlEvent { verdict, control: came_to, wanted, flip, .. } = control;
    let (words, why) = match flip {
        Flip::Flipped => ("the control flips it", format!("{verdict} as it is, {came_to} with the change")),
        Flip::NotFlipped => {
            let wanted = wanted.map(|wanted| format!(", where every trial was to be {wanted}"));
            let wanted = wanted.unwrap_or_default();
            ("the control does not flip it", format!("{verdict} as it is, {came_to} with the change{wanted}"))
        }
        Flip::NothingToFlip => {
            ("there is nothing to flip here", format!("{verdict} as it is, {came_to} with the change"))
        }
        Flip::Inconclusive => (
            "whether the control flips it cannot be said",
            format!("{verdict} as it is, {came_to} with the change"),
        ),
    };
    let good = matches!(flip, Flip::Flipped | Flip::NothingToFlip);
    let words = if good { words.to_owned() } else { style.strong(words) };
    format!("  {words}: {why}")
}

/// The trial that stands for all: the first with the verdict of the whole.
pub(crate) fn representative(verdict: Verdict, events: &[Event]) -> Option<(u32, Verdict)> {
    events.iter().find_map(|event| match event {
        Event::TrialVerdict(trial) if trial.verdict == verdict => Some((trial.trial, verdict)),
        _ => None,
    })
}
