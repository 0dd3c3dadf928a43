//! `brim run --bundle FILE`: the trial of a bundle once more, on the disk that is in it.

use std::path::Path;

use brim_report::junit;
use brim_report::verdict;
use brim_trial::event::VerdictEvent;
use brim_trial::{Event, JournalLine, Verdict};

use crate::bundle::{self, Opened};
use crate::cli;
use crate::command::{report, run};
use crate::error::{Error, Exit};
use crate::executor::{self, Executor, Settings};
use crate::interrupt::Interrupt;
use crate::kernel::{self, Kernel};
use crate::output::{self, Progress};

/// Runs the bundle at `path` again, and says whether it came to the same.
pub(crate) fn rerun(arguments: &cli::Run, path: &Path) -> Result<Exit, Error> {
    refuse(arguments)?;
    let interrupt =
        Interrupt::take_over().map_err(|source| Error::Process { what: "take signals over", source })?;
    let opened = bundle::open(path)?;
    let manifest = &opened.bundle.manifest;
    let words =
        if arguments.kernel.is_empty() { vec![manifest.kernel.clone()] } else { arguments.kernel.clone() };
    let kernels = Kernel::find_all(&words, arguments.modules.as_deref())?;
    kernels.iter().try_for_each(|kernel| executor::allow(&opened.plan, kernel.as_ref()))?;
    let seed = arguments.rig.seed.unwrap_or(manifest.verdict.seed);
    let settings = Settings { trials: arguments.trials, first: manifest.trial, seed, runs_before: 0 };
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
    let (mut exit, mut cases) = (Exit::Expected, Vec::new());
    for kernel in &kernels {
        let rig = arguments.rig.rig.stand(kernel.as_ref(), &interrupt)?;
        let mut executor = Executor::new(settings, rig, &mut sink);
        executor.begin_with(&opened.image);
        let command = command(arguments, path, kernel.as_ref());
        let (verdict, events) = executor.run(&opened.plan, command).inspect_err(|error| {
            if arguments.json {
                let event = Event::Failed { why: error.to_string(), exit: Exit::Rig.code() };
                output::json_line(&JournalLine::from(event));
            }
        })?;
        exit = worse(exit, compared(&manifest.verdict, &verdict));
        show(arguments, &opened, &verdict, &events);
        cases.push(junit::Case::new(kernel::name(kernel.as_ref()).to_owned(), verdict, &events));
    }
    if let Some(path) = &arguments.junit {
        run::write_junit(path, &cases)?;
    }
    if let Some(path) = &arguments.html {
        report::write_html(path, &told, vec!["this run".to_owned()])?;
    }
    Ok(exit)
}

/// What would make another trial of it.
fn refuse(arguments: &cli::Run) -> Result<(), Error> {
    let parameters = &arguments.parameters;
    let given = [
        ("--set", !parameters.set.is_empty()),
        ("--filesystem", parameters.filesystem.is_some()),
        ("--without-fault", !arguments.without_fault.is_empty()),
        ("--git-bisect", arguments.git_bisect),
        ("--control", arguments.control),
        ("--log", arguments.log.is_some()),
        ("--config", arguments.config.is_some()),
        ("--mkfs", arguments.mkfs.is_some()),
        ("--mount", arguments.mount.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((option, _)) => Err(Error::Usage {
            what: format!("{option} does not go with the bundle that is run again: all of it is fixed"),
            help: "`brim bundle scenario FILE` prints its scenario, to be changed and run without the bundle"
                .to_owned(),
        }),
    }
}

fn command(arguments: &cli::Run, path: &Path, kernel: Option<&Kernel>) -> String {
    let mut words =
        vec!["brim".to_owned(), "run".to_owned(), "--bundle".to_owned(), path.display().to_string()];
    if !arguments.kernel.is_empty() {
        words.extend(["--kernel".to_owned(), kernel::name(kernel).to_owned()]);
    }
    if let Some(seed) = arguments.rig.seed {
        words.extend(["--seed".to_owned(), format!("{seed:#x}")]);
    }
    if arguments.trials > 1 {
        words.extend(["--trials".to_owned(), arguments.trials.to_string()]);
    }
    // Only a nul byte cannot be quoted, and no argument has one.
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}

fn show(arguments: &cli::Run, opened: &Opened, verdict: &VerdictEvent, events: &[Event]) {
    let was = &opened.bundle.manifest.verdict;
    let style = output::style(&std::io::stdout());
    let same = if same(was, verdict) { "the same" } else { "not the same" };
    let line = format!("  {same} as in the bundle: {}, on {}", verdict::outcome(was), was.kernel);
    if arguments.json {
        output::note(&line);
        return;
    }
    Progress::clear(&std::io::stderr());
    output::line(&verdict::heading(verdict, &opened.plan.claim, style));
    output::line(&verdict::block(verdict, events, style));
    output::line(&line);
}

/// Whether both came to the same in the same way.
fn same(was: &VerdictEvent, is: &VerdictEvent) -> bool {
    was.verdict == is.verdict
        && was.failed_step == is.failed_step
        && was.errno == is.errno
        && was.space == is.space
}

fn compared(was: &VerdictEvent, is: &VerdictEvent) -> Exit {
    match is.verdict {
        _ if same(was, is) => Exit::Expected,
        Verdict::Inconclusive => Exit::Inconclusive,
        Verdict::Reproduced | Verdict::NotReproduced => Exit::Unexpected,
    }
}

fn worse(one: Exit, other: Exit) -> Exit {
    if one == Exit::Inconclusive || other == Exit::Expected { one } else { other }
}
