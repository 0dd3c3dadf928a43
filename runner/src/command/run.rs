//! `brim run`: scenarios to verdicts.

use brim_report::verdict;
use brim_scenario::Settings as ScenarioSettings;
use brim_trial::event::VerdictEvent;
use brim_trial::{Event, JournalLine, Plan, Verdict};

use crate::catalogue::{self, Entry};
use crate::cli;
use crate::error::{Error, Exit};
use crate::executor::{Executor, Settings};
use crate::interrupt::Interrupt;
use crate::output::{self, Progress};

/// Runs every scenario that was named and gives the exit code of the worst.
pub(crate) fn run(arguments: &cli::Run) -> Result<Exit, Error> {
    let interrupt =
        Interrupt::take_over().map_err(|source| Error::Process { what: "take signals over", source })?;
    // Everything is read and checked before anything runs.
    let settings = ScenarioSettings {
        filesystem: arguments.parameters.filesystem,
        set: arguments.parameters.set.clone(),
    };
    let mut scenarios = Vec::new();
    for word in &arguments.scenarios {
        let entry = catalogue::find(word)?;
        let mut plans = entry.scenario.plans(&settings)?;
        plans.iter_mut().try_for_each(|plan| without_faults(plan, &arguments.without_fault))?;
        scenarios.push((entry, plans));
    }
    let mut verdicts = Vec::new();
    let mut progress = Progress::on_stderr(!arguments.json);
    let mut sink = |event: &Event| {
        if arguments.json {
            output::json_line(&JournalLine::from(event.clone()));
        }
        progress.event(event);
    };
    let settings = Settings { rig: arguments.rig.rig, trials: arguments.trials, seed: arguments.rig.seed };
    let mut executor = Executor::new(settings, interrupt, &mut sink);
    for (entry, plans) in &scenarios {
        match run_scenario(&mut executor, arguments, entry, plans) {
            Ok(more) => verdicts.extend(more),
            Err(error) => {
                if arguments.json {
                    output::json_line(&JournalLine::from(failed(&error)));
                }
                return Err(error);
            }
        }
    }
    Ok(exit(&verdicts))
}

fn without_faults(plan: &mut Plan, names: &[String]) -> Result<(), Error> {
    for name in names {
        if !plan.remove_fault(name) {
            let there: Vec<String> = plan.device.faults.iter().map(|row| format!("{:?}", row.name)).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            return Err(Error::Usage {
                what: format!("{} has no fault {name:?} to leave out", plan.scenario),
                help: format!("its faults: {there}"),
            });
        }
    }
    Ok(())
}

/// The error with its causes, for those who read only the journal.
fn failed(error: &Error) -> Event {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let why: Vec<String> =
        std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect();
    Event::Failed { why: why.join(": "), exit: error.exit().code() }
}

fn run_scenario(
    executor: &mut Executor<'_>,
    arguments: &cli::Run,
    entry: &Entry,
    plans: &[Plan],
) -> Result<Vec<VerdictEvent>, Error> {
    let style = output::style(&std::io::stdout());
    let swept = swept(plans);
    let mut verdicts: Vec<VerdictEvent> = Vec::new();
    for plan in plans {
        let (verdict, journal) = executor.run(plan, command(arguments, entry, plan))?;
        if !arguments.json {
            Progress::clear(&std::io::stderr());
            if verdicts.is_empty() {
                output::line(&verdict::heading(&verdict, &plan.claim, style));
            }
            output::line(&match swept.as_slice() {
                [] => verdict::block(&verdict, &journal, style),
                swept => verdict::line(&verdict, swept, style),
            });
        }
        verdicts.push(verdict);
    }
    if !arguments.json && !swept.is_empty() {
        output::line(&verdict::sum(&verdicts));
    }
    Ok(verdicts)
}

/// The parameters whose value is not the same in all plans.
fn swept(plans: &[Plan]) -> Vec<String> {
    let Some(first) = plans.first() else { return Vec::new() };
    let differs = |name: &&String| plans.iter().any(|plan| plan.params.get(*name) != first.params.get(*name));
    first.params.keys().filter(differs).cloned().collect()
}

/// The one line that runs a plan again.
fn command(arguments: &cli::Run, entry: &Entry, plan: &Plan) -> String {
    let mut words = vec!["brim".to_owned(), "run".to_owned(), entry.word.clone()];
    if plan.filesystem.kind != entry.scenario.default_filesystem() {
        words.extend(["--filesystem".to_owned(), plan.filesystem.kind.to_string()]);
    }
    let given = |name: &String| arguments.parameters.set.iter().any(|(set, _)| set == name);
    for (name, value) in plan.params.iter().filter(|(name, _)| given(name)) {
        words.extend(["--set".to_owned(), format!("{name}={value}")]);
    }
    for fault in &arguments.without_fault {
        words.extend(["--without-fault".to_owned(), fault.clone()]);
    }
    words.extend(["--seed".to_owned(), format!("{:#x}", arguments.rig.seed)]);
    if arguments.trials > 1 {
        words.extend(["--trials".to_owned(), arguments.trials.to_string()]);
    }
    let quoted = shlex::try_join(words.iter().map(String::as_str));
    // Only a nul byte cannot be quoted, and no argument has one.
    quoted.unwrap_or_else(|_| words.join(" "))
}

fn exit(verdicts: &[VerdictEvent]) -> Exit {
    let unexpected = |verdict: &&VerdictEvent| !verdict.expected;
    match verdicts.iter().filter(unexpected).map(|verdict| verdict.verdict).min() {
        None => Exit::Expected,
        Some(Verdict::Inconclusive) => Exit::Inconclusive,
        Some(Verdict::Reproduced | Verdict::NotReproduced) => Exit::Unexpected,
    }
}
