//! A campaign file: what it varies, checked against the scenarios that it names, to the cells of the campaign.

mod schema;
mod sweep;

use brim_scenario::{Document, Profile, Scenario, ScenarioError};
use brim_trial::Plan;
use sha2::{Digest, Sha256};

use crate::cell::{Cell, Setting};
use crate::head::{Head, Limits, Shard};

/// How many whole journals are kept for each signature unless the file says more.
const KEEP: u32 = 3;
/// The most cells of a campaign.
const CELL_COUNT_MAX: usize = 100_000;

/// What a campaign file names and somebody else has to find.
pub trait World {
    /// The scenarios that a word names, a name, a path or a pattern, each by the word that names it alone.
    ///
    /// # Errors
    /// Why there is none.
    fn scenarios(&self, word: &str) -> Result<Vec<(String, Scenario)>, Missing>;

    /// Looks whether there is such a kernel.
    ///
    /// # Errors
    /// Why not.
    fn kernel(&self, word: &str) -> Result<(), Missing>;

    /// A kind of disk.
    ///
    /// # Errors
    /// Why there is none.
    fn profile(&self, word: &str) -> Result<Profile, Missing>;
}

/// Why something that a file names is not there, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Why.
    pub why: String,
    /// What to do.
    pub help: String,
}

/// A campaign that can be run.
#[derive(Debug)]
pub struct Campaign {
    /// What its directory says of it.
    pub head: Head,
    scenarios: std::collections::BTreeMap<String, Scenario>,
    profiles: std::collections::BTreeMap<String, Profile>,
}

impl Campaign {
    /// Reads a campaign file. `path` is for messages only.
    ///
    /// # Errors
    /// There is a mistake in it, or something it names is not there: the place is underlined.
    pub fn parse(
        path: &str,
        text: &str,
        world: &dyn World,
        shard: Option<Shard>,
    ) -> Result<Self, ScenarioError> {
        let document = Document::new(path, text);
        let file: schema::File = document.read()?;
        let mut campaign = Self {
            head: Head {
                schema: crate::SCHEMA,
                name: schema::words(document, &file.name, "name")?,
                about: schema::words(document, &file.about, "about")?,
                seed: file.seed.as_ref().map_or(Ok(1), |seed| schema::count(document, seed, 0))?,
                hash: String::new(),
                shard,
                limits: limits(document, &file)?,
                keep: schema::narrow(document, file.keep.as_ref(), u64::from(KEEP), 0)?,
                sweeps: Vec::new(),
                cells: Vec::new(),
            },
            scenarios: std::collections::BTreeMap::new(),
            profiles: std::collections::BTreeMap::new(),
        };
        let mut seen = std::collections::BTreeMap::new();
        for (index, table) in file.sweeps.iter().enumerate() {
            let sweep = sweep::Sweep::read(document, table, index, world, &mut campaign)?;
            if campaign.head.limits.first_hit && sweep.head.search.is_some() {
                return Err(document.error(
                    table.span(),
                    "a campaign that ends at its first hit has nothing to search",
                    "a search needs hits",
                    "leave `first_hit` out of `limits`, or the search out of this sweep",
                ));
            }
            for setting in sweep.settings(campaign.head.seed) {
                let row = match (campaign.head.cells.last(), setting.begins_row) {
                    (Some(last), true) => last.row + 1,
                    (Some(last), false) => last.row,
                    (None, _) => 0,
                };
                let setting = setting.setting;
                let (id, command) = (setting.id(), setting.command());
                if let Some(earlier) = seen.insert(id.clone(), index) {
                    return Err(twice(document, table.span(), &setting, earlier, index));
                }
                campaign.head.cells.push(Cell { id, sweep: index, row, setting, command, known: Vec::new() });
                if campaign.head.cells.len() > CELL_COUNT_MAX {
                    return Err(document.error(
                        table.span(),
                        &format!("the campaign has more than {CELL_COUNT_MAX} cells"),
                        "too many",
                        "narrow a range, or `select = { sample = 1000 }` or `\"pairwise\"`",
                    ));
                }
            }
            campaign.head.sweeps.push(sweep.head);
        }
        if campaign.head.cells.is_empty() {
            return Err(document.error(
                0..0,
                "the campaign has no cell",
                "nothing to try",
                "add a `[[sweep]]` with `scenario`",
            ));
        }
        campaign.head.hash = campaign.check(document, &file, text)?;
        Ok(campaign)
    }

    /// Makes every plan once: what cannot be run is told before anything is. Gives the campaign's hash.
    fn check(
        &mut self,
        document: Document<'_>,
        file: &schema::File,
        text: &str,
    ) -> Result<String, ScenarioError> {
        let mut hash = Sha256::new();
        hash.update(text.as_bytes());
        let mut known = Vec::new();
        for cell in &self.head.cells {
            let plan = self.plan(cell).map_err(|error| {
                let help = miette::Diagnostic::help(&error).map(|help| help.to_string()).unwrap_or_default();
                let table = file.sweeps.get(cell.sweep);
                let place = table
                    .map_or(0..0, |table| table.get_ref().params.span_of(&error.to_string(), table.span()));
                let message = format!("{}: {error}", cell.setting.scenario);
                document.error(place, &message, &format!("with {}", params(&cell.setting)), &help)
            })?;
            hash.update(cell.id.to_string().as_bytes());
            hash.update(serde_json::to_vec(&plan).unwrap_or_default());
            known.push(plan.known);
        }
        for (cell, known) in self.head.cells.iter_mut().zip(known) {
            cell.known = known;
        }
        Ok(hash.finalize().iter().fold(String::new(), |mut text, byte| {
            use std::fmt::Write;
            // A string takes whatever is written to it.
            let _ = write!(text, "{byte:02x}");
            text
        }))
    }

    /// What the trials of a cell do.
    ///
    /// # Errors
    /// A value of the cell is not possible in its scenario.
    pub fn plan(&self, cell: &Cell) -> Result<Plan, ScenarioError> {
        let Setting { scenario, params, filesystem, mkfs, mount, profile, without_fault, .. } = &cell.setting;
        let known = self.scenarios.get(scenario);
        let settings = brim_scenario::Settings {
            filesystem: *filesystem,
            set: params.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        };
        let plans = known.map(|scenario| scenario.plans(&settings)).transpose()?.unwrap_or_default();
        let Some(mut plan) = plans.into_iter().next() else {
            return Err(Document::new(scenario, "").error(0..0, "no such scenario", "", ""));
        };
        if let Some(mkfs) = mkfs {
            plan.filesystem.mkfs.clone_from(mkfs);
        }
        if let Some(mount) = mount {
            plan.filesystem.mount.clone_from(mount);
        }
        for fault in without_fault {
            plan.remove_fault(fault);
        }
        if let Some(profile) = profile.as_ref().and_then(|name| self.profiles.get(name)) {
            plan.on_disk(profile.write_cache, &profile.faults);
        }
        Ok(plan)
    }
}

fn params(setting: &Setting) -> String {
    let params: Vec<String> =
        setting.params.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    if params.is_empty() { "its defaults".to_owned() } else { params.join(", ") }
}

fn twice(
    document: Document<'_>,
    span: std::ops::Range<usize>,
    setting: &Setting,
    earlier: usize,
    index: usize,
) -> ScenarioError {
    let other = if earlier == index { "this sweep".to_owned() } else { format!("sweep {}", earlier + 1) };
    document.error(
        span,
        &format!("{} with {} is there twice", setting.scenario, params(setting)),
        &format!("also in {other}"),
        "each cell counts once: take one of the two out, or give the second sweep another `seed`",
    )
}

fn limits(document: Document<'_>, file: &schema::File) -> Result<Limits, ScenarioError> {
    let Some(limits) = &file.limits else { return Ok(Limits::default()) };
    let seconds = limits.time.as_ref().map(|time| document.duration(time)).transpose()?;
    Ok(Limits {
        trials: limits.trials.as_ref().map(|trials| schema::count(document, trials, 1)).transpose()?,
        seconds: seconds.map(|nanos| nanos.div_ceil(1_000_000_000).max(1)),
        first_hit: limits.first_hit,
    })
}
