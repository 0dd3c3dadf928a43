//! `brim shrink`: a scenario that fails, made smaller while it fails in the same way; each step on the way is verified by trials.

use std::fmt::Write;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use brim_bundle::EXTENSION;
use brim_campaign::signature::signature;
use brim_scenario::{Settings as ScenarioSettings, Shrunk, Unprintable, print, shrink};
use brim_trial::{Event, Plan, TrialVerdict};

use crate::bundle;
use crate::catalogue;
use crate::cli;
use crate::error::{Error, Exit};
use crate::executor::{self, Executor, Settings};
use crate::interrupt::Interrupt;
use crate::kernel::{self, Kernel};
use crate::output;
use crate::rig::RigError;

/// What is shrunk, and what it was.
struct Origin {
    plan: Plan,
    /// As somebody may type it again.
    word: String,
    seed: u64,
    kernel: String,
}

/// Shrinks a scenario, or that of a bundle, and writes what is left.
pub(crate) fn run(arguments: &cli::Shrink) -> Result<Exit, Error> {
    let interrupt =
        Interrupt::take_over().map_err(|source| Error::Process { what: "take signals over", source })?;
    let origin = origin(arguments)?;
    let kernel = Kernel::find_all(std::slice::from_ref(&origin.kernel), None)?.into_iter().next().flatten();
    executor::allow(&origin.plan, kernel.as_ref())?;
    let rig = arguments.rig.rig.stand(kernel.as_ref(), &interrupt)?;
    let mut quiet = |_: &Event| {};
    let settings = Settings { trials: arguments.trials, first: 1, seed: origin.seed, runs_before: 0 };
    let executor = Executor::new(settings, rig, &mut quiet);
    let hits = arguments.hits.unwrap_or(arguments.trials / 2 + 1);
    let mut trying = Trying { executor, hits, signature: String::new(), refused: 0 };
    let (wanted, seen) = trying.first(&origin.plan)?;
    if seen < hits {
        return Err(unsteady(arguments, hits, seen, &wanted));
    }
    trying.signature.clone_from(&wanted);
    let before = size(&origin.plan);
    output::note(&format!("{wanted}, {seen} of {} trials; {before}", arguments.trials));
    let (shrunk, ended) = shrink(&origin.plan, &mut |candidate, what| {
        let holds = trying.holds(candidate)?;
        if holds {
            output::note(&format!("  {what}: {}", size(candidate)));
        }
        Ok::<bool, RigError>(holds)
    });
    let (refused, release) = (trying.refused, trying.executor.kernel().to_owned());
    let told =
        Told { arguments, origin: &origin, shrunk: &shrunk, signature: &wanted, hits, release, refused };
    let text = print(&shrunk.plan, &told.comment()).map_err(|error| unprintable(&error))?;
    write(&arguments.out, &text)?;
    output::line(&format!(
        "{}: {} of {}; {} others were tried{}",
        arguments.out.display(),
        size(&shrunk.plan),
        before,
        shrunk.tried,
        if shrunk.is_minimal { "" } else { "; it was not done" },
    ));
    match ended {
        Some(error) => Err(error.into()),
        None => Ok(Exit::Expected),
    }
}

fn origin(arguments: &cli::Shrink) -> Result<Origin, Error> {
    let kernel = |known: &str| arguments.kernel.clone().unwrap_or_else(|| known.to_owned());
    if arguments.scenario.ends_with(EXTENSION) {
        if !arguments.parameters.set.is_empty() || arguments.parameters.filesystem.is_some() {
            return Err(Error::Usage {
                what: "the scenario in a bundle has no parameters: all of it is fixed".to_owned(),
                help: "leave --set and --filesystem out".to_owned(),
            });
        }
        let opened = bundle::open(Path::new(&arguments.scenario))?;
        let manifest = &opened.bundle.manifest;
        return Ok(Origin {
            plan: opened.plan,
            word: arguments.scenario.clone(),
            seed: arguments.rig.seed.unwrap_or(manifest.verdict.seed),
            kernel: kernel(&manifest.kernel),
        });
    }
    let entry = catalogue::find(&arguments.scenario)?;
    let cli::Parameters { set, filesystem } = arguments.parameters.clone();
    let mut plans = entry.scenario.plans(&ScenarioSettings { filesystem, set })?;
    let (plan, more) = (plans.pop(), plans.len());
    let plan = plan.filter(|_| more == 0).ok_or_else(|| Error::Usage {
        what: format!("a range of {} values cannot be shrunk at once", more + 1),
        help: "give the value that fails".to_owned(),
    })?;
    let seed = arguments.rig.seed.unwrap_or(cli::SEED);
    Ok(Origin { plan, word: entry.word, seed, kernel: kernel(kernel::RUNNING) })
}

/// Whoever runs candidates.
struct Trying<'a> {
    executor: Executor<'a>,
    /// So many trials have to fail in the same way.
    hits: u32,
    signature: String,
    /// Candidates that the rig could not bring up.
    refused: u64,
}

impl Trying<'_> {
    /// How the plan fails most often, and how often it does.
    fn first(&mut self, plan: &Plan) -> Result<(String, u32), RigError> {
        let mut seen: Vec<(String, u32)> = Vec::new();
        self.executor.try_out(plan, &mut |verdict, events| {
            if let Some(signature) = failure(verdict, events) {
                match seen.iter_mut().find(|(known, _)| *known == signature) {
                    Some((_, count)) => *count += 1,
                    None => seen.push((signature, 1)),
                }
            }
            ControlFlow::Continue(())
        })?;
        seen.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Ok(seen.into_iter().next().unwrap_or_default())
    }

    /// Whether enough trials of a plan fail in the same way. It stops as soon as that is clear.
    fn holds(&mut self, plan: &Plan) -> Result<bool, RigError> {
        let (wanted, hits, trials) = (&self.signature, self.hits, self.executor.trials());
        let (mut same, mut ran) = (0, 0);
        let tried = self.executor.try_out(plan, &mut |verdict, events| {
            ran += 1;
            same += u32::from(failure(verdict, events).as_ref() == Some(wanted));
            let out_of_reach = same + (trials - ran) < hits;
            if same >= hits || out_of_reach { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match tried {
            Ok(()) => Ok(same >= hits),
            // mkfs takes no disk that small, or a step makes no sense any more: that is no answer of the kernel's.
            Err(RigError::Agent(_)) => {
                self.refused += 1;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// How a trial failed: its signature with its verdict; `None` where it did not.
fn failure(verdict: &TrialVerdict, events: &[Event]) -> Option<String> {
    if verdict.verdict == brim_trial::Verdict::NotReproduced {
        return None;
    }
    let signature = signature(verdict, events)?;
    Some(format!("{} {signature}", verdict.verdict))
}

fn unsteady(arguments: &cli::Shrink, hits: u32, seen: u32, signature: &str) -> Error {
    let trials = arguments.trials;
    let what = match seen {
        0 => format!("it fails in none of {trials} trials"),
        seen => format!("{signature} is seen in {seen} of {trials} trials, and {hits} are wanted"),
    };
    Error::Usage {
        what: format!("there is nothing to shrink: {what}"),
        help: "a failure that is seen now and then takes more trials: `--trials 20 --hits 3`".to_owned(),
    }
}

/// `3 steps of 1 phase, 1 worker, 0 faults, 66 blocks free of 128 MiB`.
fn size(plan: &Plan) -> String {
    let steps: usize = plan.phases.iter().map(|phase| phase.steps.len()).sum();
    let many = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let mut text = format!("{} in {}", many(steps, "step"), many(plan.phases.len(), "phase"));
    let faults = plan.faults.len();
    if faults > 0 {
        let _ = write!(text, ", {}", many(faults, "fault"));
    }
    if let Some(free) = plan.prepare.fill.data_free {
        let _ = write!(text, ", {} free", brim_trial::judge::blocks(free));
    }
    let disks: Vec<String> = plan.devices.iter().map(|device| device.size.to_string()).collect();
    let _ = write!(text, ", {}", disks.join(" + "));
    text
}

struct Told<'a> {
    arguments: &'a cli::Shrink,
    origin: &'a Origin,
    shrunk: &'a Shrunk,
    signature: &'a str,
    hits: u32,
    release: String,
    refused: u64,
}

impl Told<'_> {
    /// What stands before the scenario: what it came from, and what its being minimal means.
    fn comment(&self) -> String {
        let Self { arguments, origin, shrunk, signature, hits, release, refused } = self;
        let mut lines = vec![format!("Shrunk from {}: {}.", origin.word, size(&origin.plan))];
        let params = origin.plan.params.iter().map(|(name, value)| format!("{name} = {value}"));
        let params: Vec<String> = params.collect();
        if !params.is_empty() {
            lines.push(format!("Its parameters were {}.", params.join(", ")));
        }
        lines.push(format!("It fails as that did: {signature},"));
        lines.push(format!(
            "in at least {hits} of {} trials, on {release} with seed {:#x}.",
            arguments.trials, origin.seed
        ));
        lines.push(
            "Each step, phase, worker, fault, condition of a fault and option was taken out of it once,"
                .to_owned(),
        );
        lines.push(if shrunk.is_minimal {
            "and each size made smaller: it did not fail in that way any more.".to_owned()
        } else {
            "but not all of them: it was ended before that.".to_owned()
        });
        let refused = if *refused > 0 {
            format!(", {refused} of which could not be brought up")
        } else {
            String::new()
        };
        lines.push(format!(
            "Of {} others that were tried{refused}, {} were smaller and failed:",
            shrunk.tried,
            shrunk.taken.len()
        ));
        lines.extend(shrunk.taken.iter().map(|taken| format!("  {taken}")));
        lines.join("\n")
    }
}

fn unprintable(error: &Unprintable) -> Error {
    Error::Usage {
        what: format!("the scenario cannot be written down: {error}"),
        help: "shrink a scenario whose words stand alone".to_owned(),
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|error| Error::Usage {
        what: format!("cannot write {}: {error}", path.display()),
        help: "name a file in a directory that is there".to_owned(),
    })
}
