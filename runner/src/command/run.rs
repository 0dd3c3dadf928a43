//! `brim run`: scenarios to verdicts.

use std::path::Path;

use brim_report::junit::{self, Case};
use brim_report::kernels::{self, Row};
use brim_report::verdict;
use brim_scenario::{Profile, Settings as ScenarioSettings};
use brim_trial::event::VerdictEvent;
use brim_trial::{Event, JournalLine, Plan, Verdict};

use crate::bundle::{Ran, Target};
use crate::catalogue::{self, Entry};
use crate::cli;
use crate::command::{report, rerun};
use crate::error::{Error, Exit};
use crate::executor::{self, Executor, Settings};
use crate::interrupt::Interrupt;
use crate::kernel::{self, Kernel};
use crate::output::{self, Progress};
use crate::profile;
use crate::rig::RigName;

/// Runs every scenario that was named on every kernel that was, and gives the exit code of the worst, or the one that
/// `git bisect run` wants.
pub(crate) fn run(arguments: &cli::Run) -> Result<Exit, Error> {
    let ended = run_all(arguments);
    if !arguments.git_bisect {
        return ended;
    }
    ended.or_else(|error| {
        // To git every other code up to 127 says that the commit is bad (git-bisect(1), "Bisect run").
        let exit = match error.exit() {
            Exit::Usage => Exit::Stop,
            Exit::Interrupted => Exit::Interrupted,
            _ => Exit::Skip,
        };
        crate::show(error);
        Ok(exit)
    })
}

fn run_all(arguments: &cli::Run) -> Result<Exit, Error> {
    if let (Some(path), []) = (&arguments.bundle, arguments.scenarios.as_slice()) {
        return rerun::rerun(arguments, path);
    }
    let interrupt =
        Interrupt::take_over().map_err(|source| Error::Process { what: "take signals over", source })?;
    // Everything is read and checked before anything runs.
    let settings = ScenarioSettings {
        filesystem: arguments.parameters.filesystem,
        set: arguments.parameters.set.clone(),
    };
    let profile = arguments.config.as_deref().map(profile::find).transpose()?;
    let mut scenarios = Vec::new();
    for word in &arguments.scenarios {
        let entry = catalogue::find(word)?;
        let mut plans = entry.scenario.plans(&settings)?;
        plans.iter_mut().try_for_each(|plan| without_faults(plan, &arguments.without_fault))?;
        for plan in &mut plans {
            adjust(plan, arguments, profile.as_ref());
        }
        scenarios.push((entry, plans));
    }
    let kernels = Kernel::find_all(&arguments.kernel, arguments.modules.as_deref())?;
    for plan in scenarios.iter().flat_map(|(_, plans)| plans) {
        kernels.iter().try_for_each(|kernel| executor::allow(plan, kernel.as_ref()))?;
    }
    let mut progress = Progress::on_stderr(!arguments.json);
    let mut told = Vec::new();
    let mut sink = |event: &Event| {
        if arguments.json {
            output::json_line(&JournalLine::from(event.clone()));
        }
        if arguments.html.is_some() {
            told.push(event.clone());
        }
        progress.event(event);
    };
    let sets = scenarios.iter().map(|(_, plans)| plans.len()).sum::<usize>() * kernels.len();
    let target = arguments.bundle.as_ref().map(|path| Target::new(path, sets)).transpose()?;
    let settings = Settings { trials: arguments.trials, first: 1, seed: seed(arguments) };
    // Of each kernel, those of each scenario.
    let mut verdicts: Vec<Vec<Vec<VerdictEvent>>> = Vec::new();
    let mut cases = Vec::new();
    for kernel in &kernels {
        let rig = arguments.rig.rig.stand(kernel.as_ref(), &interrupt)?;
        let mut executor = Executor::new(settings, rig, &mut sink);
        if target.is_some() {
            executor.keep_disks();
        }
        let on_kernel = scenarios.iter().map(|(entry, plans)| {
            let kernel = kernel.as_ref().map(|kernel| kernel.name.as_str());
            let run = Run { arguments, entry, kernel, target: target.as_ref() };
            run.plans(&mut executor, plans, &mut cases).inspect_err(|error| {
                if arguments.json {
                    output::json_line(&JournalLine::from(failed(error)));
                }
            })
        });
        verdicts.push(on_kernel.collect::<Result<_, _>>()?);
    }
    if let Some(path) = &arguments.junit {
        write_junit(path, &cases)?;
    }
    if let Some(path) = &arguments.html {
        report::write_html(path, &told, vec!["this run".to_owned()])?;
    }
    if kernels.len() > 1 && !arguments.json {
        let names: Vec<&str> = kernels.iter().map(|kernel| kernel::name(kernel.as_ref())).collect();
        for (index, (entry, _)) in scenarios.iter().enumerate() {
            output::line(&format!("{}:", entry.scenario.name()));
            table(&names, verdicts.iter().map(|on_kernel| on_kernel.get(index)));
        }
    }
    let verdicts: Vec<&VerdictEvent> = verdicts.iter().flatten().flatten().collect();
    Ok(if arguments.git_bisect { bisect(&verdicts) } else { exit(&verdicts) })
}

pub(super) fn write_junit(path: &Path, cases: &[Case]) -> Result<(), Error> {
    let failed = |error: String| Error::Usage {
        what: format!("cannot write {}: {error}", path.display()),
        help: "name a file in a directory that is there".to_owned(),
    };
    let report = junit::report(cases).map_err(|error| failed(error.to_string()))?;
    std::fs::write(path, report).map_err(|error| failed(error.to_string()))
}

/// What each kernel made of one scenario.
fn table<'a>(names: &[&'a str], verdicts: impl Iterator<Item = Option<&'a Vec<VerdictEvent>>>) {
    let row = |(kernel, verdicts): (&&'a str, Option<&'a Vec<VerdictEvent>>)| Row {
        kernel,
        verdicts: verdicts.map_or(&[], Vec::as_slice),
    };
    let rows: Vec<Row<'_>> = names.iter().zip(verdicts).map(row).collect();
    for line in kernels::table(&rows, output::style(&std::io::stdout())) {
        output::line(&line);
    }
}

/// What the command line says of the filesystem and the disk.
fn adjust(plan: &mut Plan, arguments: &cli::Run, profile: Option<&Profile>) {
    if let Some(cli::Words(mkfs)) = &arguments.mkfs {
        plan.filesystem.mkfs.clone_from(mkfs);
    }
    if let Some(mount) = &arguments.mount {
        plan.filesystem.mount =
            mount.split(',').filter(|option| !option.is_empty()).map(ToOwned::to_owned).collect();
    }
    if let Some(profile) = profile {
        plan.on_disk(profile.write_cache, &profile.faults);
    }
}

fn without_faults(plan: &mut Plan, names: &[String]) -> Result<(), Error> {
    for name in names {
        if !plan.remove_fault(name) {
            let there: Vec<String> =
                plan.faults.iter().map(|fault| format!("{:?}", fault.row.name)).collect();
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

/// A scenario on a kernel.
struct Run<'a> {
    arguments: &'a cli::Run,
    entry: &'a Entry,
    kernel: Option<&'a str>,
    target: Option<&'a Target>,
}

impl Run<'_> {
    fn plans(
        &self,
        executor: &mut Executor<'_>,
        plans: &[Plan],
        cases: &mut Vec<Case>,
    ) -> Result<Vec<VerdictEvent>, Error> {
        let style = output::style(&std::io::stdout());
        let swept = swept(plans);
        let mut verdicts: Vec<VerdictEvent> = Vec::new();
        for plan in plans {
            let (verdict, journal) = executor.run(plan, self.command(plan))?;
            self.bundle(executor, plan, (&verdict, &journal), &swept)?;
            if !self.arguments.json {
                Progress::clear(&std::io::stderr());
                if verdicts.is_empty() {
                    output::line(&verdict::heading(&verdict, &plan.claim, style));
                }
                output::line(&match swept.as_slice() {
                    [] => verdict::block(&verdict, &journal, style),
                    swept => verdict::line(&verdict, swept, style),
                });
            }
            if self.arguments.junit.is_some() {
                let kernel = self.kernel.unwrap_or(kernel::RUNNING).to_owned();
                cases.push(Case::new(kernel, verdict.clone(), &journal));
            }
            verdicts.push(verdict);
        }
        if !self.arguments.json && !swept.is_empty() {
            output::line(&verdict::sum(&verdicts));
        }
        Ok(verdicts)
    }

    /// Puts what ran into its bundle, where one is wanted.
    fn bundle(
        &self,
        executor: &mut Executor<'_>,
        plan: &Plan,
        (verdict, events): (&VerdictEvent, &[Event]),
        swept: &[String],
    ) -> Result<(), Error> {
        let (Some(target), Some(kept)) = (self.target, executor.take_kept()) else { return Ok(()) };
        let value = |name: &String| plan.params.get(name).map(|value| format!("{name}={value}"));
        let mut sets: Vec<String> = swept.iter().filter_map(value).collect();
        sets.extend(self.kernel.map(ToOwned::to_owned));
        let kernel = self.kernel.unwrap_or(kernel::RUNNING);
        let path = target.write(Ran { plan, verdict, events, kept, kernel }, &sets)?;
        Progress::clear(&std::io::stderr());
        output::note(&format!("bundle: {}", path.display()));
        Ok(())
    }

    /// The one line that runs a plan again.
    fn command(&self, plan: &Plan) -> String {
        let Self { arguments, entry, kernel, target: _ } = self;
        let mut words = vec!["brim".to_owned(), "run".to_owned(), entry.word.clone()];
        let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
        if let Some(kernel) = kernel {
            option("--kernel", (*kernel).to_owned());
        }
        if let (Some(_), Some(modules)) = (kernel, &arguments.modules) {
            option("--modules", modules.display().to_string());
        }
        if arguments.rig.rig != RigName::Auto {
            option("--rig", arguments.rig.rig.name().to_owned());
        }
        if plan.filesystem.kind != entry.scenario.default_filesystem() {
            option("--filesystem", plan.filesystem.kind.to_string());
        }
        let given = |name: &String| arguments.parameters.set.iter().any(|(set, _)| set == name);
        for (name, value) in plan.params.iter().filter(|(name, _)| given(name)) {
            option("--set", format!("{name}={value}"));
        }
        for fault in &arguments.without_fault {
            option("--without-fault", fault.clone());
        }
        if let Some(config) = &arguments.config {
            option("--config", config.clone());
        }
        if let Some(cli::Words(mkfs)) = &arguments.mkfs {
            let mkfs = shlex::try_join(mkfs.iter().map(String::as_str)).unwrap_or_else(|_| mkfs.join(" "));
            words.push(format!("--mkfs={mkfs}"));
        }
        if let Some(mount) = &arguments.mount {
            words.push(format!("--mount={mount}"));
        }
        let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
        option("--seed", format!("{:#x}", seed(arguments)));
        if arguments.trials > 1 {
            option("--trials", arguments.trials.to_string());
        }
        let quoted = shlex::try_join(words.iter().map(String::as_str));
        // Only a nul byte cannot be quoted, and no argument has one.
        quoted.unwrap_or_else(|_| words.join(" "))
    }
}

fn seed(arguments: &cli::Run) -> u64 {
    arguments.rig.seed.unwrap_or(cli::SEED)
}

/// The parameters whose value is not the same in all plans.
fn swept(plans: &[Plan]) -> Vec<String> {
    let Some(first) = plans.first() else { return Vec::new() };
    let differs = |name: &&String| plans.iter().any(|plan| plan.params.get(*name) != first.params.get(*name));
    first.params.keys().filter(differs).cloned().collect()
}

fn exit(verdicts: &[&VerdictEvent]) -> Exit {
    let unexpected = |verdict: &&&VerdictEvent| !verdict.expected;
    match verdicts.iter().filter(unexpected).map(|verdict| verdict.verdict).min() {
        None => Exit::Expected,
        Some(Verdict::Inconclusive) => Exit::Inconclusive,
        Some(Verdict::Reproduced | Verdict::NotReproduced) => Exit::Unexpected,
    }
}

/// For `git bisect run` (git-bisect(1)): a commit is bad, good, or not to be judged.
fn bisect(verdicts: &[&VerdictEvent]) -> Exit {
    let any = |wanted| verdicts.iter().any(|verdict| verdict.verdict == wanted);
    if any(Verdict::Reproduced) {
        Exit::Unexpected
    } else if any(Verdict::Inconclusive) || verdicts.is_empty() {
        Exit::Skip
    } else {
        Exit::Expected
    }
}
