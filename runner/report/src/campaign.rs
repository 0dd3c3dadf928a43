//! What a campaign came to, as text: a function of its head and its result.

mod map;

use brim_campaign::cell::RUNNING;
use brim_campaign::head::Head;
use brim_campaign::result::{
    CampaignResult, CellEnded, CellResult, Ended, Found, Group, Rate, ThresholdResult,
};
use brim_campaign::statistics::{Tally, fisher};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::style::Style;

/// How many cells are told one by one; more are drawn.
const TABLE_MAX: usize = 40;
/// How many letters of a reason are told.
const REASON_MAX: usize = 120;
/// How many of a kind are told where all would be too many.
const SHOWN_MAX: usize = 5;

/// The summary of a campaign; `bundle` gives the bundle of the first trial of a group, where it has one.
#[must_use]
pub fn lines(
    head: &Head,
    result: &CampaignResult,
    bundle: &dyn Fn(&Group) -> Option<String>,
    style: Style,
) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", style.strong(&head.name), head.about)];
    let kernels: Vec<String> =
        result.kernels.iter().map(|(name, release)| format!("{name} ({release})")).collect();
    let shard =
        head.shard.map_or_else(String::new, |shard| format!(", shard {} of {}", shard.index, shard.count));
    lines.push(style.faint(format!("  kernels {}, seed {:#x}{shard}", kernels.join(", "), head.seed)));
    lines.push(format!(
        "  {} trials in {} cells: {} reproduced, {} inconclusive; {}",
        result.trials,
        result.cells.len(),
        style.strong(result.reproduced),
        result.inconclusive,
        ended(result)
    ));
    for (index, sweep) in head.sweeps.iter().enumerate() {
        let cells: Vec<&CellResult> = result.cells.iter().filter(|cell| cell.cell.sweep == index).collect();
        if cells.is_empty() {
            continue;
        }
        lines.extend([String::new(), format!("  {}", style.strong(&sweep.name))]);
        let thresholds =
            result.thresholds.iter().filter(|found| cells.iter().any(|cell| cell.cell.row == found.row));
        let mut searched = false;
        for found in thresholds {
            searched = true;
            lines.extend(threshold(found, &cells));
        }
        match sweep.axes.as_slice() {
            _ if searched => {}
            [_, ..] if cells.len() > TABLE_MAX => lines.extend(map::lines(sweep, &cells, style)),
            _ => lines.extend(table(sweep, &cells)),
        }
    }
    lines.extend(groups(result, bundle, style));
    lines.extend(troubles(result, style));
    lines
}

pub(crate) fn ended(result: &CampaignResult) -> String {
    match result.ended {
        Ended::Done => "all cells are done".to_owned(),
        Ended::FirstHit => "ended at the first hit".to_owned(),
        Ended::Trials => "ended by its limit in trials".to_owned(),
        Ended::Time => {
            "ended by its limit in time, so another run may have come further, or less far".to_owned()
        }
        Ended::Unfinished => "not finished".to_owned(),
    }
}

/// `3.0 % (1.7 % to 5.2 %)`.
#[must_use]
pub fn rate(rate: &Rate) -> String {
    let percent = |share: f64| match share * 100.0 {
        percent if percent == 0.0 || (percent - 100.0).abs() < 1e-9 => format!("{percent:.0} %"),
        percent if percent < 1.0 => format!("{percent:.2} %"),
        percent => format!("{percent:.1} %"),
    };
    format!(
        "{} ({} to {} at {})",
        percent(rate.rate),
        percent(rate.low),
        percent(rate.high),
        percent(rate.confidence)
    )
}

fn table(sweep: &brim_campaign::head::Sweep, cells: &[&CellResult]) -> Vec<String> {
    let names: Vec<String> = cells.iter().map(|cell| varied(sweep, cell)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).min(72);
    let line = |(name, cell): (&String, &&CellResult)| {
        let rate = cell.rate.as_ref().map_or_else(String::new, |of| format!(": {}", rate(of)));
        let decided = sweep.stop.side_of.map_or_else(String::new, |bar| match cell.ended {
            CellEnded::Above => format!(", above {} %", bar * 100.0),
            CellEnded::Below => format!(", below {} %", bar * 100.0),
            _ => ", not decided".to_owned(),
        });
        let doubts = if cell.inconclusive > 0 {
            format!(", {} inconclusive", cell.inconclusive)
        } else {
            String::new()
        };
        let known = match cell.as_known {
            Some(true) => ", as known",
            Some(false) => ", NOT AS KNOWN",
            None => "",
        };
        let what = match cell.ended {
            CellEnded::Failed => format!("could not be run{}", shortened(cell)),
            _ => format!("{} of {}{rate}{decided}{doubts}{known}", cell.reproduced, cell.trials),
        };
        format!("  {name:<width$}  {what}")
    };
    names.iter().zip(cells).map(line).collect()
}

/// The beginning of why: some programs print all of their options when they are given a wrong one.
fn shortened(cell: &CellResult) -> String {
    let Some(reason) = &cell.reason else { return String::new() };
    match reason.char_indices().nth(REASON_MAX) {
        Some((end, _)) => format!(": {}…", &reason[..end]),
        None => format!(": {reason}"),
    }
}

/// What a cell has that the others of its sweep may have not.
fn varied(sweep: &brim_campaign::head::Sweep, cell: &CellResult) -> String {
    let parts: Vec<String> = sweep
        .axes
        .iter()
        .map(|axis| {
            let name = axis.name.trim_start_matches("param.");
            match value(cell, &axis.name) {
                text if matches!(name, "scenario" | "kernel" | "filesystem") => text,
                text if text.is_empty() => match name {
                    "without_fault" => "with all faults".to_owned(),
                    "profile" => "plain disk".to_owned(),
                    _ => format!("{name} without options"),
                },
                text => format!("{name} = {text}"),
            }
        })
        .collect();
    if parts.is_empty() { cell.cell.setting.scenario.clone() } else { parts.join(", ") }
}

/// The value that a cell has on an axis, as the head shows it.
#[must_use]
pub fn value(cell: &CellResult, axis: &str) -> String {
    let setting = &cell.cell.setting;
    match axis {
        "scenario" => setting.scenario.clone(),
        "kernel" => setting.kernel.clone(),
        "filesystem" => setting.filesystem.map_or_else(String::new, |kind| kind.to_string()),
        "mkfs" => setting.mkfs.as_ref().map_or_else(String::new, |list| list.join(" ")),
        "mount" => setting.mount.as_ref().map_or_else(String::new, |list| list.join(",")),
        "profile" => setting.profile.clone().unwrap_or_default(),
        "without_fault" => setting.without_fault.join(","),
        "seed" => setting.seed.map_or_else(String::new, |seed| seed.to_string()),
        param => setting.params.get(param.trim_start_matches("param.")).cloned().unwrap_or_default(),
    }
}

pub(crate) fn threshold(found: &ThresholdResult, cells: &[&CellResult]) -> Vec<String> {
    let row: Vec<&&CellResult> = cells.iter().filter(|cell| cell.cell.row == found.row).collect();
    let trials: u32 = row.iter().map(|cell| cell.trials).sum();
    let percent = found.rate * 100.0;
    let (param, tried) = (&found.param, found.tried.len());
    let side = |above: bool| if above { "above" } else { "below" };
    let what = match &found.found {
        Found::Threshold { before, after, above_after, confidence, undecided, verified } => {
            let between = match undecided {
                0 => String::new(),
                1 => ", one value between them undecided".to_owned(),
                count => format!(", {count} values between them undecided"),
            };
            format!(
                "{param}: at {before} the rate is {} {percent} %, at {after} {} it{between}; {} % sure, if it crosses once, as {verified} of {verified} values beside it say",
                side(!above_after),
                side(*above_after),
                confidence * 100.0
            )
        }
        Found::NoThreshold { above, verified } => {
            format!(
                "{param}: no threshold; at both ends the rate is {} {percent} %, and so at all {verified} values that were tried",
                side(*above)
            )
        }
        Found::NotMonotone { runs } => {
            let above: Vec<String> = runs
                .iter()
                .filter(|run| run.above)
                .map(|run| {
                    if run.first == run.last {
                        run.first.clone()
                    } else {
                        format!("{} to {}", run.first, run.last)
                    }
                })
                .collect();
            format!(
                "{param}: no threshold, the rate crosses {percent} % more than once: of {tried} values tried it is above at {}",
                above.join(", ")
            )
        }
        Found::Undecided { at, why } => format!("{param}: undecided, as {at} is: {why}"),
        Found::Open => format!("{param}: not finished"),
    };
    let place = row.first().map_or_else(String::new, |cell| {
        let setting = &cell.cell.setting;
        let kernel =
            if setting.kernel == RUNNING { String::new() } else { format!(" on {}", setting.kernel) };
        let others = setting.params.iter().filter(|(name, _)| *name != param);
        let others = others.fold(String::new(), |all, (name, value)| all + &format!(", {name} = {value}"));
        format!("{}{kernel}{others}", setting.scenario)
    });
    vec![format!("  {place}: {trials} trials"), format!("    {what}")]
}

fn groups(result: &CampaignResult, bundle: &dyn Fn(&Group) -> Option<String>, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    for group in result.groups.iter().take(SHOWN_MAX * 2) {
        if lines.is_empty() {
            lines.extend([String::new(), "  failures alike".to_owned()]);
        }
        let kind = if group.reproduced { "reproduced" } else { "inconclusive" };
        lines.push(format!(
            "  {}  {kind}, {} trials in {} cells",
            style.strong(&group.signature),
            group.trials,
            group.cells
        ));
        lines.push(style.faint(format!("    again: {}", group.first.command)));
        if let Some(bundle) = bundle(group).filter(|_| group.reproduced) {
            lines.push(style.faint(format!("    on the same disk: brim run --bundle {bundle}")));
        }
    }
    lines
}

fn troubles(result: &CampaignResult, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    let mut tell = |what: &str, is: &dyn Fn(&CellResult) -> bool| {
        let cells: Vec<&CellResult> = result.cells.iter().filter(|cell| is(cell)).collect();
        if cells.is_empty() {
            return;
        }
        lines.extend([String::new(), format!("  {} cells {what}", style.strong(cells.len()))]);
        for cell in cells.iter().take(SHOWN_MAX) {
            lines.push(format!("    {}{}", cell.cell.command, shortened(cell)));
        }
        if cells.len() > SHOWN_MAX {
            lines.push(format!("    and {} more", cells.len() - SHOWN_MAX));
        }
    };
    tell("are not as known", &|cell| cell.as_known == Some(false));
    tell("could not be run", &|cell| cell.ended == CellEnded::Failed);
    tell("have inconclusive trials alone", &|cell| {
        cell.ended != CellEnded::Failed && cell.trials == cell.inconclusive
    });
    lines
}

/// Whether `word` is the beginning of a cell's ID, or values that it has: `kernel=uml/6.1,free=66 blocks`.
#[must_use]
pub fn is_named(cell: &CellResult, word: &str) -> bool {
    let has = |part: &str| match part.split_once('=') {
        Some((name, wanted)) => {
            let name = name.trim();
            let known =
                ["scenario", "kernel", "filesystem", "mkfs", "mount", "profile", "without_fault", "seed"];
            let axis = if known.contains(&name) { name.to_owned() } else { format!("param.{name}") };
            value(cell, &axis) == wanted.trim()
        }
        None => false,
    };
    (word.len() >= 4 && cell.cell.id.to_string().starts_with(word)) || word.split(',').all(has)
}

/// Two cells beside each other.
#[must_use]
pub fn compare(one: &CellResult, other: &CellResult) -> Vec<String> {
    let tally = |cell: &CellResult| Tally {
        hits: cell.reproduced,
        misses: cell.trials.saturating_sub(cell.reproduced).saturating_sub(cell.inconclusive),
    };
    let line = |cell: &CellResult| {
        let rate = cell.rate.as_ref().map_or_else(String::new, |of| format!(": {}", rate(of)));
        format!("{} of {}{rate}  {}", tally(cell).hits, tally(cell).trials(), cell.cell.command)
    };
    let p = fisher(tally(one), tally(other));
    let chance = if p < 1e-6 { "less than 0.000001".to_owned() } else { format!("{p:.6}") };
    vec![
        line(one),
        line(other),
        format!(
            "the chance that cells with the same rate differ as much as these or more: {chance} (Fisher's exact test, two-sided)"
        ),
    ]
}

/// Every cell as a test case: one that is not as known is a failure, one that could not be run or says nothing an error.
///
/// # Errors
/// Never, with a `String` to write to; the library says it may.
pub fn junit(head: &Head, result: &CampaignResult) -> Result<String, quick_junit::SerializeError> {
    let mut report = Report::new("brim campaign");
    for (index, sweep) in head.sweeps.iter().enumerate() {
        let mut suite = TestSuite::new(format!("{} {}", head.name, sweep.name));
        for cell in result.cells.iter().filter(|cell| cell.cell.sweep == index) {
            let problem = match (cell.as_known, cell.ended) {
                (_, CellEnded::Failed) => Some((NonSuccessKind::Error, "could not be run")),
                (Some(false), _) => Some((NonSuccessKind::Failure, "not as known")),
                _ if cell.trials == cell.inconclusive => Some((NonSuccessKind::Error, "inconclusive")),
                _ => None,
            };
            let mut status =
                problem.map_or_else(TestCaseStatus::success, |(kind, _)| TestCaseStatus::non_success(kind));
            if let Some((_, what)) = problem {
                let reason = cell.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
                status
                    .set_type(what)
                    .set_message(format!("{} of {} reproduced{reason}", cell.reproduced, cell.trials));
            }
            let mut case = TestCase::new(varied(sweep, cell), status);
            case.set_classname(format!("{}.{}", cell.cell.setting.scenario, cell.cell.setting.kernel));
            let rate = cell.rate.as_ref().map_or_else(String::new, |of| format!(": {}", rate(of)));
            case.set_system_out(format!(
                "{} of {}{rate}\nagain: {}",
                cell.reproduced, cell.trials, cell.cell.command
            ));
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
    }
    report.to_string()
}
