//! `brim compare`: the same scenario on several kernels, and what differs.

use brim_report::kernels::{self, Side};
use brim_scenario::Settings as ScenarioSettings;
use brim_trial::Event;

use crate::catalogue;
use crate::cli;
use crate::error::{Error, Exit};
use crate::executor::{self, Executor, Settings};
use crate::interrupt::Interrupt;
use crate::kernel::{self, Kernel};
use crate::output::{self, Progress};
use crate::rig::RigName;

/// Runs a scenario on each kernel and shows them beside each other; the exit code says whether they came to the same.
pub(crate) fn compare(arguments: &cli::Compare) -> Result<Exit, Error> {
    let interrupt =
        Interrupt::take_over().map_err(|source| Error::Process { what: "take signals over", source })?;
    let cli::Parameters { filesystem, set } = arguments.parameters.clone();
    let entry = catalogue::find(&arguments.scenario)?;
    let plans = entry.scenario.plans(&ScenarioSettings { filesystem, set })?;
    let [plan] = plans.as_slice() else {
        return Err(Error::Usage {
            what: format!("a range of {} values cannot be compared side by side", plans.len()),
            help: "give one value, or let `brim run --kernel A --kernel B` draw a map".to_owned(),
        });
    };
    let settings = Settings { trials: arguments.trials, first: 1, seed: arguments.seed, runs_before: 0 };
    let mut progress = Progress::on_stderr(true);
    let mut sink = |event: &Event| progress.event(event);
    let mut sides = Vec::new();
    let kernels = Kernel::find_all(&arguments.kernel, None)?;
    kernels.iter().try_for_each(|kernel| executor::allow(plan, kernel.as_ref()))?;
    for kernel in kernels {
        let rig = RigName::Auto.stand(kernel.as_ref(), &interrupt)?;
        let (verdict, events) = Executor::new(settings, rig, &mut sink).run(plan, String::new())?;
        sides.push(Side { kernel: kernel::name(kernel.as_ref()).to_owned(), verdict, events });
    }
    Progress::clear(&std::io::stderr());
    let style = output::style(&std::io::stdout());
    output::line(&format!("{}: {}", style.strong(entry.scenario.name()), plan.claim));
    for line in kernels::compare(&sides, style) {
        output::line(&line);
    }
    let first = sides.first();
    let same =
        sides.iter().all(|side| first.is_some_and(|first| first.verdict.verdict == side.verdict.verdict));
    Ok(if same { Exit::Expected } else { Exit::Unexpected })
}
