//! `brim run`: scenarios to verdicts.

mod shown;

use std::path::Path;

use brim_report::junit::{self, Case};
use brim_report::kernels;
use brim_report::summary::Row;
use brim_scenario::{Profile, Settings as ScenarioSettings};
use brim_trial::control::ControlEvent;
use brim_trial::event::VerdictEvent;
use brim_trial::{Control, Event, Flip, JournalLine, Plan, Verdict};

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
use crate::rig::{RigName, fit};
use crate::write_log::RunLog;
use shown::Shown;

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
    let chosen = choose(arguments)?;
    let kernels = Kernel::find_all(&arguments.kernel, arguments.modules.as_deref())?;
    // One that was named has to be possible; of several that a pattern names, those run that can.
    for scenario in chosen.iter().filter(|scenario| !scenario.by_pattern) {
        kernels.iter().try_for_each(|kernel| scenario.allow(kernel.as_ref()))?;
    }
    let rigs = kernels.iter().map(|kernel| arguments.rig.rig.stand(kernel.as_ref(), &interrupt));
    let rigs = rigs.collect::<Result<Vec<_>, _>>()?;
    if let Some(rig) = rigs.iter().find(|rig| arguments.log.is_some() && !rig.can_keep_log()) {
        return Err(no_log(rig.name()));
    }
    let all: Vec<&Plan> =
        chosen.iter().flat_map(|scenario| scenario.plans.iter().chain(&scenario.controls)).collect();
    let log = arguments.log.as_deref().map(|path| RunLog::create(path, &all));
    let mut log = log.transpose()?;
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
    let sets = chosen.iter().map(|scenario| scenario.plans.len()).sum::<usize>() * kernels.len();
    let target = arguments.bundle.as_ref().map(|path| Target::new(path, sets)).transpose()?;
    let settings = Settings { trials: arguments.trials, first: 1, seed: seed(arguments), runs_before: 0 };
    // Of each kernel, those of each scenario.
    let mut rows: Vec<Vec<Vec<Row>>> = Vec::new();
    let mut cases = Vec::new();
    let mut runs_before = 0;
    for (kernel, rig) in kernels.iter().zip(rigs) {
        tell(&chosen, rig.name());
        let mut executor = Executor::new(Settings { runs_before, ..settings }, rig, &mut sink);
        if let Some(log) = log.take() {
            executor.keep_log(log);
        }
        if target.is_some() {
            executor.keep_disks();
        }
        let mut shown = Shown::new(arguments, &chosen, kernel::name(kernel.as_ref()));
        let on_kernel = chosen.iter().map(|scenario| {
            if let Err(why) = scenario.allow(kernel.as_ref()) {
                shown.skipped(scenario.entry.scenario.name(), &why);
                return Ok(Vec::new());
            }
            let kernel = kernel.as_ref().map(|kernel| kernel.name.as_str());
            let run = Run { arguments, entry: &scenario.entry, kernel, target: target.as_ref() };
            run.scenario(&mut executor, scenario, &mut shown, &mut cases).inspect_err(|error| {
                if arguments.json {
                    output::json_line(&JournalLine::from(failed(error)));
                }
            })
        });
        let on_kernel = on_kernel.collect::<Result<Vec<_>, Error>>()?;
        shown.sum(&on_kernel);
        rows.push(on_kernel);
        runs_before = executor.runs();
        log = executor.take_log();
    }
    if let Some(log) = log {
        log.finish()?;
    }
    if let Some(path) = &arguments.junit {
        write_junit(path, &cases)?;
    }
    if let Some(path) = &arguments.html {
        report::write_html(path, &told, vec!["this run".to_owned()])?;
    }
    if kernels.len() > 1 && !arguments.json {
        let names: Vec<&str> = kernels.iter().map(|kernel| kernel::name(kernel.as_ref())).collect();
        for (index, scenario) in chosen.iter().enumerate() {
            output::line(&format!("{}:", scenario.entry.scenario.name()));
            let of_scenario = |on_kernel: &Vec<Vec<Row>>| {
                let rows = on_kernel.get(index).map_or(&[][..], Vec::as_slice);
                rows.iter().map(|row| row.verdict.clone()).collect::<Vec<_>>()
            };
            table(&names, &rows.iter().map(of_scenario).collect::<Vec<_>>());
        }
    }
    let rows: Vec<&Row> = rows.iter().flatten().flatten().collect();
    Ok(if arguments.git_bisect { bisect(&rows) } else { exit(&rows) })
}

/// A scenario that is to be run.
struct Chosen {
    entry: Entry,
    plans: Vec<Plan>,
    /// The control of each plan.
    controls: Vec<Plan>,
    /// A pattern names it, and others.
    by_pattern: bool,
}

impl Chosen {
    /// Whether its kernel may be this one.
    fn allow(&self, kernel: Option<&Kernel>) -> Result<(), Error> {
        self.plans.iter().chain(&self.controls).try_for_each(|plan| executor::allow(plan, kernel))
    }
}

fn choose(arguments: &cli::Run) -> Result<Vec<Chosen>, Error> {
    let settings = ScenarioSettings {
        filesystem: arguments.parameters.filesystem,
        set: arguments.parameters.set.clone(),
    };
    let profile = arguments.config.as_deref().map(profile::find).transpose()?;
    let mut chosen: Vec<Chosen> = Vec::new();
    for word in &arguments.scenarios {
        for entry in catalogue::find_all(word)? {
            let by_pattern = entry.word != *word;
            let mut plans = entry.scenario.plans(&settings)?;
            plans.iter_mut().try_for_each(|plan| without_faults(plan, &arguments.without_fault))?;
            for plan in &mut plans {
                adjust(plan, arguments, profile.as_ref());
            }
            let controls =
                if arguments.control { entry.scenario.controls(&settings)? } else { Some(Vec::new()) };
            let mut controls = controls.ok_or_else(|| no_control(&entry))?;
            for (control, plan) in controls.iter_mut().zip(&plans) {
                // What the control leaves out itself is not there to be left out.
                for fault in &arguments.without_fault {
                    let _was_there = control.remove_fault(fault);
                }
                adjust(control, arguments, profile.as_ref());
                if plan.known.is_empty() {
                    control.known.clear();
                }
            }
            chosen.push(Chosen { entry, plans, controls, by_pattern });
        }
    }
    Ok(chosen)
}

fn no_control(entry: &Entry) -> Error {
    Error::Usage {
        what: format!("{} has no control", entry.word),
        help: "add a `[control]` with the smallest change that makes its verdict another (docs/scenarios.md)"
            .to_owned(),
    }
}

/// Says what of the scenarios this rig does not deliver as they ask.
fn tell(scenarios: &[Chosen], rig: RigName) {
    for scenario in scenarios {
        // What is asked of the way to the disk is the same whatever the parameters are.
        let notes = scenario.plans.first().map_or_else(Vec::new, |plan| fit::notes(plan, rig));
        for note in notes {
            output::note(&format!("brim: on {}, {note}", rig.name()));
        }
    }
}

/// A rig whose disk is in the guest.
fn no_log(rig: RigName) -> Error {
    Error::Usage {
        what: format!(
            "the rig {} keeps no write log: its disk is in the guest, and goes with it",
            rig.name()
        ),
        help: "run it with --rig host/fuse".to_owned(),
    }
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
fn table(names: &[&str], verdicts: &[Vec<VerdictEvent>]) {
    let rows = names.iter().zip(verdicts).map(|(kernel, verdicts)| kernels::Row { kernel, verdicts });
    let rows: Vec<kernels::Row<'_>> = rows.collect();
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
    fn scenario(
        &self,
        executor: &mut Executor<'_>,
        scenario: &Chosen,
        shown: &mut Shown<'_>,
        cases: &mut Vec<Case>,
    ) -> Result<Vec<Row>, Error> {
        let swept = swept(&scenario.plans);
        let mut rows = Vec::new();
        let controls =
            scenario.controls.iter().map(|plan| plan.changed.as_ref().map(|changed| (changed, plan)));
        for (plan, control) in scenario.plans.iter().zip(controls.chain(std::iter::repeat(None))) {
            let (verdict, journal) = executor.run(plan, self.command(plan))?;
            self.bundle(executor, plan, (&verdict, &journal), &swept)?;
            self.case(&verdict, &journal, cases);
            shown.verdict(plan, &verdict, &journal, &swept, rows.is_empty());
            let control = control.map(|control| self.control(executor, control, &verdict, shown, cases));
            let row = Row { verdict, control: control.transpose()? };
            shown.row(&row, &swept);
            rows.push(row);
        }
        shown.range(&rows, &swept);
        Ok(rows)
    }

    /// Runs the control of a plan that came to `verdict`.
    fn control(
        &self,
        executor: &mut Executor<'_>,
        (changed, plan): (&Control, &Plan),
        scenario: &VerdictEvent,
        shown: &mut Shown<'_>,
        cases: &mut Vec<Case>,
    ) -> Result<(VerdictEvent, Flip), Error> {
        let (verdict, journal) = executor.run(plan, self.command(plan))?;
        let wanted = changed.wanted_on(&verdict.kernel);
        let flip = Flip::of(scenario, &verdict, wanted);
        self.case(&verdict, &journal, cases);
        let event = ControlEvent {
            scenario: plan.scenario.clone(),
            kernel: verdict.kernel.clone(),
            change: changed.change.clone(),
            wanted,
            verdict: scenario.verdict,
            control: verdict.verdict,
            flip,
        };
        executor.tell(&Event::Control(event.clone()));
        shown.control(plan, &verdict, &journal, &event);
        Ok((verdict, flip))
    }

    fn case(&self, verdict: &VerdictEvent, journal: &[Event], cases: &mut Vec<Case>) {
        if self.arguments.junit.is_some() {
            let kernel = self.kernel.unwrap_or(kernel::RUNNING).to_owned();
            cases.push(Case::new(kernel, verdict.clone(), journal));
        }
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
        if arguments.control {
            words.push("--control".to_owned());
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

fn exit(rows: &[&Row]) -> Exit {
    let flips =
        |wanted: Flip| rows.iter().any(|row| row.control.as_ref().is_some_and(|(_, flip)| *flip == wanted));
    let unexpected = rows.iter().filter(|row| !row.verdict.expected).map(|row| row.verdict.verdict);
    match unexpected.min() {
        Some(Verdict::Reproduced | Verdict::NotReproduced) => Exit::Unexpected,
        _ if flips(Flip::NotFlipped) => Exit::Unexpected,
        Some(Verdict::Inconclusive) => Exit::Inconclusive,
        None if flips(Flip::Inconclusive) => Exit::Inconclusive,
        None => Exit::Expected,
    }
}

/// For `git bisect run` (git-bisect(1)): a commit is bad, good, or not to be judged.
fn bisect(rows: &[&Row]) -> Exit {
    let any = |wanted| rows.iter().any(|row| row.verdict.verdict == wanted);
    if any(Verdict::Reproduced) {
        Exit::Unexpected
    } else if any(Verdict::Inconclusive) || rows.is_empty() {
        Exit::Skip
    } else {
        Exit::Expected
    }
}
