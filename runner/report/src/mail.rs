//! What a bundle says to people: its README, and a mail to a kernel list that can go as it is.

use brim_trial::event::{KernelLogLine, Ticket, VerdictEvent};
use brim_trial::{Event, Plan};
use textwrap::Options;

use crate::evidence;
use crate::explain;
use crate::recipe::{NeedsBrim, recipe};
use crate::style::Style;
use crate::verdict::{counts, symptom};

/// What lists want (Documentation/process/email-clients.rst: wrapped, but for what was copied from a log).
const WIDTH: usize = 72;

/// A run that is told.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// What the bundle's file is called, without its extension.
    pub name: &'a str,
    /// What was done.
    pub plan: &'a Plan,
    /// What came of it.
    pub verdict: &'a VerdictEvent,
    /// The journal.
    pub events: &'a [Event],
    /// The trial that stands for the verdict.
    pub trial: u32,
    /// The programs that were used, each with its version.
    pub tools: &'a [(String, String)],
    /// The brim that ran it.
    pub brim: &'a str,
}

/// The mail: a subject line, an empty one, and the text.
#[must_use]
pub fn mail(told: Told<'_>) -> String {
    let Told { name, plan, verdict, events, trial, .. } = told;
    let mut text = vec![format!("Subject: {}", subject(verdict)), String::new()];
    let mut section = |title: &str, lines: Vec<String>| {
        text.extend([title.to_owned(), String::new()]);
        text.extend(lines);
        text.push(String::new());
    };
    section("What ought to hold:", vec![paragraph(&plan.claim), paragraph(&format!("({})", plan.source))]);
    section("What happens:", vec![paragraph(&format!("{}: {}", counts(verdict), symptom(verdict)))]);
    section("Where:", facts(told));
    let words = explain::steps(plan);
    section("Exact steps:", words.lines().map(|line| hanging(&format!("  {line}"))).collect());
    let findings = evidence::lines(events, trial, Style::PLAIN);
    let log = kernel_log(events, trial);
    let is_log = |line: &String| line.starts_with("kernel log");
    section(
        &format!("Evidence of trial {trial}:"),
        findings.iter().filter(|line| !is_log(line)).map(|line| finding(line)).collect(),
    );
    let nothing = findings.iter().any(is_log).then(|| "  nothing new".to_owned());
    section(
        "Kernel log:",
        if log.is_empty() { vec![nothing.unwrap_or_else(|| "  was not seen".to_owned())] } else { log },
    );
    section(
        "To run it again with brim, on the very disk that is in the bundle:",
        vec![format!("  brim run --bundle {name}.brim.tar.gz")],
    );
    match recipe(plan, name) {
        Ok(lines) => section(
            "Without brim, as root in bash (it opens its files anew at each step):",
            lines.iter().map(|line| format!("  {line}")).collect(),
        ),
        Err(NeedsBrim(why)) => {
            section("Without brim it cannot be done:", vec![paragraph(&format!("{why}."))]);
        }
    }
    let mut text: Vec<&str> = text.iter().map(|line| line.trim_end()).collect();
    while text.last().is_some_and(|line| line.is_empty()) {
        text.pop();
    }
    text.join("\n") + "\n"
}

/// `btrfs: pwrite = ENOSPC, for want of data space (reproduced on 6.18.44)`.
#[must_use]
pub fn subject(verdict: &VerdictEvent) -> String {
    let VerdictEvent { filesystem, kernel, verdict: outcome, .. } = verdict;
    format!("{filesystem}: {} ({outcome} on {kernel})", symptom(verdict))
}

/// What the bundle's README says.
#[must_use]
pub fn readme(told: Told<'_>, left_out: &[String]) -> String {
    let Told { name, plan, verdict, brim, .. } = told;
    let mut text = vec![
        format!("{}: {}", verdict.scenario, verdict.verdict),
        String::new(),
        paragraph(&plan.claim),
        paragraph(&format!("{}: {}", counts(verdict), symptom(verdict))),
        String::new(),
        "Run it again, on the disk that is in here:".to_owned(),
        String::new(),
        format!("  brim run --bundle {name}.brim.tar.gz"),
        String::new(),
    ];
    text.extend(facts(told));
    text.extend([String::new(), "What is in here:".to_owned(), String::new()]);
    for (file, what) in [
        ("scenario.toml", "the scenario as it ran, every parameter fixed"),
        ("bundle.json", "versions, verdict, and the line that ran it first"),
        ("journal.jsonl", "all that was seen, as JSON lines"),
        ("kernel.log", "what the kernel logged during the trial that stands for the verdict"),
        ("tickets.txt", "the reservations that btrfs refused during it"),
        (
            "disk.img",
            "the disk as every trial begins with it: a sparse file; disk-2.img and so on are the others",
        ),
        ("disk-after.img", "the disk as that trial left it, unmounted"),
    ] {
        if !left_out.iter().any(|left| left.starts_with(file)) {
            text.push(entry(file, 14, what));
        }
    }
    for left in left_out {
        text.push(hanging(&format!("  not in here: {left}")));
    }
    text.extend([String::new(), format!("Written by brim {brim}.")]);
    text.join("\n") + "\n"
}

fn facts(Told { plan, verdict, tools, brim, .. }: Told<'_>) -> Vec<String> {
    let VerdictEvent { kernel, filesystem, rig, seed, .. } = verdict;
    let words = |words: &[String]| if words.is_empty() { "defaults".to_owned() } else { words.join(" ") };
    let mut facts = vec![
        ("kernel", kernel.clone()),
        ("filesystem", filesystem.to_string()),
        ("mkfs", words(&plan.filesystem.mkfs)),
        ("mount", words(&plan.filesystem.mount)),
    ];
    for device in &plan.devices {
        let spare = if device.in_filesystem { "" } else { ", not in the filesystem" };
        facts.push((device.name.as_str(), format!("{} ({} B){spare}", device.size, device.size.0)));
    }
    if let Some(free) = plan.prepare.fill.data_free {
        facts.push(("data free", format!("{}, by its own counters", brim_trial::judge::blocks(free))));
    }
    if let Some(free) = plan.prepare.fill.metadata_free {
        facts.push(("meta free", format!("{}, by its own counters", brim_trial::judge::blocks(free))));
    }
    facts.extend([("rig", rig.clone()), ("seed", format!("{seed:#x}")), ("brim", brim.to_owned())]);
    let mut lines: Vec<String> =
        facts.into_iter().map(|(name, value)| entry(name, evidence::LABEL, &value)).collect();
    lines.extend(tools.iter().map(|(name, version)| entry(name, evidence::LABEL, version)));
    lines
}

/// The lines of the kernel log during a trial, and its last words, as they were.
#[must_use]
pub fn kernel_log(events: &[Event], trial: u32) -> Vec<String> {
    let mut lines = Vec::new();
    for event in events {
        match event {
            Event::KernelLog(KernelLogLine { trial: of, text, .. }) if *of == trial => {
                lines.push(text.clone());
            }
            Event::Crash(crash) if crash.trial == trial => lines.extend(crash.last_words.iter().cloned()),
            _ => {}
        }
    }
    lines
}

/// The reservations that were refused during a trial, one line each.
#[must_use]
pub fn tickets(events: &[Event], trial: u32) -> Vec<String> {
    let ticket = |event: &Event| match event {
        Event::Ticket(Ticket { trial: of, space, bytes, errno, count }) if *of == trial => {
            Some(format!("{space} {} B = {errno} ×{count}", bytes.0))
        }
        _ => None,
    };
    events.iter().filter_map(ticket).collect()
}

/// Wrapped text, indented by two.
fn paragraph(text: &str) -> String {
    wrapped(text, "  ", "  ")
}

/// Wrapped text whose further lines are indented as far as the first one's item.
fn hanging(line: &str) -> String {
    let text = line.trim_start();
    let indent = line.len() - text.len();
    // Behind the number of a step.
    let item = text.split_once(". ").filter(|(number, _)| number.chars().all(|digit| digit.is_ascii_digit()));
    let hang = item.map_or(0, |(number, _)| number.len() + 2);
    wrapped(text, &" ".repeat(indent), &" ".repeat(indent + hang))
}

/// A name, then what it is, wrapped behind it.
fn entry(name: &str, width: usize, what: &str) -> String {
    wrapped(&format!("{name:<width$} {what}"), "  ", &" ".repeat(width + 3))
}

/// A line of evidence: what it is called, then what was found.
fn finding(line: &str) -> String {
    wrapped(line, "  ", &" ".repeat(2 + evidence::LABEL + 1))
}

fn wrapped(text: &str, first: &str, then: &str) -> String {
    // A path, an address or a number that is longer than a line stays whole.
    let options = Options::new(WIDTH).initial_indent(first).subsequent_indent(then).break_words(false);
    textwrap::fill(text, options.word_splitter(textwrap::WordSplitter::NoHyphenation))
}
