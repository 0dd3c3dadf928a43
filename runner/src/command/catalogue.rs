//! `brim check`, `brim list` and `brim explain`: scenarios without running them.

use std::path::Path;

use brim_report::explain::explain as in_words;
use brim_scenario::Settings;
use brim_trial::FilesystemKind;

use crate::catalogue::{self, Entry};
use crate::cli::Parameters;
use crate::error::{Error, Exit};
use crate::output;

/// Checks every file and shows what is wrong with each.
pub(crate) fn check(scenarios: &[String]) -> Result<Exit, Error> {
    let mut failed = None;
    for word in scenarios {
        match catalogue::find(word) {
            Ok(entry) => output::line(&format!("{}: ok", entry.word)),
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    crate::show(earlier);
                }
            }
        }
    }
    match failed {
        Some(last) => Err(last),
        None => Ok(Exit::Expected),
    }
}

/// The scenarios under a directory, or else those of the catalogue.
fn entries(directory: Option<&Path>) -> Result<Vec<Result<Entry, Error>>, Error> {
    Ok(match directory {
        Some(directory) => catalogue::files(directory)?.iter().map(|path| catalogue::read(path)).collect(),
        None => catalogue::all(),
    })
}

/// The page about them.
pub(crate) fn page(directory: Option<&Path>) -> Result<Exit, Error> {
    let mut scenarios = Vec::new();
    for entry in entries(directory)? {
        let scenario = entry?.scenario;
        let mut plans = Vec::new();
        for filesystem in FilesystemKind::ALL.into_iter().filter(|kind| scenario.is_possible_on(*kind)) {
            let settings = Settings { filesystem: Some(filesystem), set: Vec::new() };
            plans.extend(scenario.plans(&settings)?);
        }
        let filesystem = scenario.default_filesystem();
        // The filesystem that it is about comes first.
        plans.sort_by_key(|plan| plan.filesystem.kind != filesystem);
        scenarios.push(plans);
    }
    output::line(brim_report::catalogue::page(&scenarios).trim_end());
    Ok(Exit::Expected)
}

/// Lists the catalogue.
pub(crate) fn list(directory: Option<&Path>) -> Result<Exit, Error> {
    let mut exit = Exit::Expected;
    for entry in entries(directory)? {
        match entry {
            Ok(Entry { scenario, .. }) => {
                output::line(&format!("{:<44} {}", scenario.name(), scenario.claim()));
            }
            Err(error) => exit = crate::show(error),
        }
    }
    Ok(exit)
}

/// Says in words what a scenario does.
pub(crate) fn explain(scenario: &str, parameters: &Parameters) -> Result<Exit, Error> {
    let entry = catalogue::find(scenario)?;
    let settings = Settings { filesystem: parameters.filesystem, set: parameters.set.clone() };
    for plan in entry.scenario.plans(&settings)? {
        output::line(&in_words(&plan));
    }
    Ok(Exit::Expected)
}
