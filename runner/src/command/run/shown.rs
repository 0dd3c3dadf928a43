//! What stdout gets of a run where it is not the journal: each verdict with its evidence, a line for each value of a range, or of
//! several scenarios a table, with the evidence of what is not as it ought to be.

use brim_report::summary::{Row, Table};
use brim_report::{Style, verdict};
use brim_trial::control::ControlEvent;
use brim_trial::event::VerdictEvent;
use brim_trial::{Event, Plan};

use super::Chosen;
use crate::cli;
use crate::error::Error;
use crate::output::{self, Progress};

/// What is shown of one kernel's run.
pub(super) struct Shown<'a> {
    arguments: &'a cli::Run,
    kernel: &'a str,
    style: Style,
    /// There are several scenarios.
    table: Option<Table>,
    /// The table's head has been shown.
    begun: bool,
    /// Pages for which the line in the table comes first.
    pages: Vec<String>,
    skipped: usize,
}

impl<'a> Shown<'a> {
    /// Of a run of these scenarios on the kernel of this name.
    pub(super) fn new(arguments: &'a cli::Run, chosen: &[Chosen], kernel: &'a str) -> Self {
        let width = chosen.iter().map(|scenario| scenario.entry.scenario.name().len()).max().unwrap_or(0);
        let table = (chosen.len() > 1).then_some(Table { width, controls: arguments.control });
        let style = output::style(&std::io::stdout());
        Self { arguments, kernel, style, table, begun: false, pages: Vec::new(), skipped: 0 }
    }

    /// A scenario that is none for this kernel.
    pub(super) fn skipped(&mut self, scenario: &str, why: &Error) {
        self.skipped += 1;
        if let Some(table) = self.table.filter(|_| !self.arguments.json) {
            self.begin(table);
            line(&table.skipped(scenario, &why.to_string(), self.style));
        }
    }

    /// One verdict, `first` of its scenario.
    pub(super) fn verdict(
        &mut self,
        plan: &Plan,
        verdict: &VerdictEvent,
        journal: &[Event],
        swept: &[String],
        first: bool,
    ) {
        if self.arguments.json {
            return;
        }
        if self.table.is_some() {
            if !verdict.expected {
                self.pages.push(page(plan, verdict, journal, self.style));
            }
            return;
        }
        if first {
            line(&verdict::heading(verdict, &plan.claim, self.style));
        }
        line(&match swept {
            [] => verdict::block(verdict, journal, self.style),
            swept => verdict::line(verdict, swept, self.style),
        });
    }

    /// What a control came to, and what follows.
    pub(super) fn control(
        &mut self,
        plan: &Plan,
        verdict: &VerdictEvent,
        journal: &[Event],
        event: &ControlEvent,
    ) {
        if self.arguments.json {
            return;
        }
        let flip = verdict::flip(event, self.style);
        if self.table.is_some() {
            if !verdict.expected {
                let page = page(plan, verdict, journal, self.style);
                self.pages.push(format!("{page}\n\n{flip}"));
            }
            return;
        }
        line(&format!("\n{}\n\n{flip}", verdict::block(verdict, journal, self.style)));
    }

    /// The line of a scenario in the table, and what was to come behind it.
    pub(super) fn row(&mut self, row: &Row, swept: &[String]) {
        let Some(table) = self.table.filter(|_| !self.arguments.json) else { return };
        self.begin(table);
        line(&table.row(row, swept, self.style));
        for page in std::mem::take(&mut self.pages) {
            line(&format!("\n{page}\n"));
        }
    }

    /// The sum of a range, where it is alone.
    pub(super) fn range(&self, rows: &[Row], swept: &[String]) {
        if !self.arguments.json && self.table.is_none() && !swept.is_empty() {
            let verdicts: Vec<VerdictEvent> = rows.iter().map(|row| row.verdict.clone()).collect();
            line(&verdict::sum(&verdicts));
        }
    }

    /// The sum of all.
    pub(super) fn sum(&self, rows: &[Vec<Row>]) {
        if let Some(table) = self.table.filter(|_| !self.arguments.json) {
            let rows: Vec<Row> = rows.iter().flatten().cloned().collect();
            line(&table.sum(&rows, self.skipped));
        }
    }

    fn begin(&mut self, table: Table) {
        if !std::mem::replace(&mut self.begun, true) {
            line(&table.head(self.kernel, self.style));
        }
    }
}

/// One line of the result, or several, in the place of the progress.
fn line(text: &str) {
    Progress::clear(&std::io::stderr());
    output::line(text);
}

/// A verdict that is not as it ought to be, whole.
fn page(plan: &Plan, verdict: &VerdictEvent, journal: &[Event], style: Style) -> String {
    let heading = verdict::heading(verdict, &plan.claim, style);
    format!("{heading}\n{}", verdict::block(verdict, journal, style))
}
