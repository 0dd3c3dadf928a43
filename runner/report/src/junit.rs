//! Verdicts in the XML of `JUnit`, which CI servers show: one test case for each set of parameters on each kernel.

use std::time::Duration;

use brim_trial::event::VerdictEvent;
use brim_trial::{Event, Verdict};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::evidence;
use crate::style::Style;
use crate::verdict::{representative, symptom};

/// One set of parameters on one kernel.
#[derive(Clone, Debug)]
pub struct Case {
    /// What the kernel is called: `uml/6.12`, `running`.
    pub kernel: String,
    /// What it came to.
    pub verdict: VerdictEvent,
    /// The evidence of the trial that stands for all.
    pub evidence: Vec<String>,
}

impl Case {
    /// With the evidence out of its journal.
    #[must_use]
    pub fn new(kernel: String, verdict: VerdictEvent, events: &[Event]) -> Self {
        let trial = representative(verdict.verdict, events).map_or(1, |(trial, _)| trial);
        Self { kernel, verdict, evidence: evidence::lines(events, trial, Style::PLAIN) }
    }
}

/// The whole file. A verdict that was not expected is a failure, one that says nothing an error.
///
/// # Errors
/// Never, with a `String` to write to; the library says it may.
pub fn report(cases: &[Case]) -> Result<String, quick_junit::SerializeError> {
    let mut suites: Vec<TestSuite> = Vec::new();
    for case in cases {
        let name = format!("{} on {}", case.verdict.scenario, case.kernel);
        if suites.last().is_none_or(|last| last.name.as_str() != name) {
            suites.push(TestSuite::new(name));
        }
        if let Some(suite) = suites.last_mut() {
            suite.add_test_case(test_case(case));
        }
    }
    let mut report = Report::new("brim");
    report.add_test_suites(suites);
    report.to_string()
}

fn test_case(case: &Case) -> TestCase {
    let Case { verdict, evidence, .. } = case;
    let words = evidence.join("\n");
    let status = match (verdict.verdict, verdict.expected) {
        (_, true) => TestCaseStatus::success(),
        (Verdict::Inconclusive, false) => unsuccessful(NonSuccessKind::Error, verdict, &words),
        (_, false) => unsuccessful(NonSuccessKind::Failure, verdict, &words),
    };
    let params: Vec<String> =
        verdict.params.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    let mut name = if params.is_empty() { "as it is".to_owned() } else { params.join(", ") };
    if let Some(change) = &verdict.control {
        name = format!("control: {change}; {name}");
    }
    let mut test = TestCase::new(name, status);
    test.set_classname(format!("{}.{}", verdict.scenario, verdict.kernel));
    test.set_time(Duration::try_from_secs_f64(verdict.seconds).unwrap_or_default());
    test.set_system_out(format!("{}\n{words}\nagain: {}", symptom(verdict), verdict.command));
    test
}

fn unsuccessful(kind: NonSuccessKind, verdict: &VerdictEvent, words: &str) -> TestCaseStatus {
    let known = verdict.known.map_or_else(String::new, |known| format!("; {known} was known"));
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(verdict.verdict.to_string()).set_message(format!("{}{known}", symptom(verdict)));
    status.set_description(words.to_owned());
    status
}
