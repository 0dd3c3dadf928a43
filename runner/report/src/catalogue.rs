//! The page `docs/catalogue.md`: every scenario with its claim, its control, and what is known of it on which kernel.

use std::fmt::Write;

use brim_trial::kernel::Requirement;
use brim_trial::{Control, Known, Plan, Verdict};

/// The kernels that have a column: a series, and the release that stands for it.
const KERNELS: [(&str, &str); 5] =
    [("5.10", "5.10.262"), ("6.1", "6.1.192"), ("6.12", "6.12.117"), ("6.18", "6.18.44"), ("7.2", "7.2.7")];

/// The line that makes the page.
pub const COMMAND: &str = "brim list --markdown > docs/catalogue.md";

/// The whole page. Of each scenario, its plans on every filesystem with its default parameters, its own filesystem first.
#[must_use]
pub fn page(scenarios: &[Vec<Plan>]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_page(&mut text, scenarios);
    text
}

fn write_page(text: &mut String, scenarios: &[Vec<Plan>]) -> std::fmt::Result {
    writeln!(text, "# The catalogue\n")?;
    writeln!(
        text,
        "Made from the scenarios by `{COMMAND}`. A scenario is `reproduced` where what its claim denies happens: a bug, or a \
         promise that is broken. What is known was measured with the scenario's default parameters; an empty cell is a kernel on \
         which nobody has said what to expect. The control is the smallest change that makes the verdict another; `brim run \
         --control` tries both.\n"
    )?;
    writeln!(text, "| scenario | {} |", KERNELS.map(|(series, _)| series).join(" | "))?;
    writeln!(text, "|---|{}|", KERNELS.map(|_| "---").join("|"))?;
    for plans in scenarios {
        if let Some(plan) = plans.first() {
            let name = &plan.scenario;
            writeln!(text, "| [{name}](#{}) | {} |", anchor(name), cells(plan).join(" | "))?;
        }
    }
    for plans in scenarios {
        write_scenario(text, plans)?;
    }
    Ok(())
}

fn write_scenario(text: &mut String, plans: &[Plan]) -> std::fmt::Result {
    let Some(plan) = plans.first() else { return Ok(()) };
    writeln!(text, "\n## {}\n", plan.scenario)?;
    writeln!(text, "**Claim:** {}.\n", sentence(&plan.claim))?;
    writeln!(text, "**Source:** {}.\n", linked(sentence(&plan.source)))?;
    if let Some(why) = &plan.why {
        let paragraphs = why
            .trim()
            .split("\n\n")
            .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
        writeln!(text, "{}\n", paragraphs.collect::<Vec<_>>().join("\n\n"))?;
    }
    if let Some(Control { change, changes, verdict, kernel }) = &plan.control {
        let changes: Vec<String> = changes.iter().map(|change| code(change)).collect();
        let kernel =
            if *kernel == Requirement::STAR { String::new() } else { format!(" on kernels `{kernel}`") };
        writeln!(text, "**Control:** {} ({}): {verdict}{kernel}.\n", sentence(change), changes.join(", "))?;
    }
    let known: Vec<(&Plan, Vec<String>)> = plans
        .iter()
        .map(|plan| (plan, cells(plan)))
        .filter(|(_, cells)| cells.iter().any(|cell| !cell.is_empty()))
        .collect();
    if !known.is_empty() {
        writeln!(text, "| | {} |", KERNELS.map(|(series, _)| series).join(" | "))?;
        writeln!(text, "|---|{}|", KERNELS.map(|_| "---").join("|"))?;
        for (plan, cells) in known {
            writeln!(text, "| {} | {} |", plan.filesystem.kind, cells.join(" | "))?;
        }
        writeln!(text)?;
    }
    let control = if plan.control.is_some() { " --control" } else { "" };
    writeln!(text, "```sh\nbrim run {} --trials 20{control}\n```", plan.scenario)
}

/// What is known of a plan, kernel by kernel.
fn cells(plan: &Plan) -> Vec<String> {
    let cell = |(_, release): (&str, &str)| match plan.expected_on(release) {
        None => String::new(),
        Some(Known { rate: Some(rate), .. }) => rate.to_string(),
        Some(Known { verdict: Verdict::Reproduced, .. }) => "**reproduced**".to_owned(),
        Some(Known { verdict, .. }) => verdict.to_string(),
    };
    KERNELS.into_iter().map(cell).collect()
}

/// Without the full stop, which the page sets itself.
fn sentence(text: &str) -> &str {
    text.trim().trim_end_matches('.')
}

/// What is not words already is code.
fn code(change: &str) -> String {
    if change.contains('`') || change.starts_with("with") { change.to_owned() } else { format!("`{change}`") }
}

/// Addresses as links.
fn linked(text: &str) -> String {
    let word = |word: &str| {
        let address = word.trim_end_matches([',', ';', ')']);
        match address.strip_prefix("https://") {
            Some(_) => format!("<{address}>{}", &word[address.len()..]),
            None => word.to_owned(),
        }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// How a heading is linked to: its letters and digits, small, and dashes for spaces.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}
