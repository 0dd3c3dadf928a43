//! A scenario: parsed, checked, and turned into plans.

use std::collections::BTreeMap;

use brim_trial::{FilesystemKind, Plan, Verdict};

use crate::check;
use crate::control::{Changes, Variant};
use crate::error::{Checked, Objection, ScenarioError};
use crate::known::Known;
use crate::params::{Params, Values};
use crate::plan;
use crate::read::Reader;
use crate::schema::File;
use crate::syntax;

/// A scenario file that is right: its structure, and every value with the default parameters on every filesystem.
#[derive(Debug)]
pub struct Scenario {
    path: String,
    text: String,
    file: File,
    filesystem: FilesystemKind,
    params: Params,
    defaults: BTreeMap<String, String>,
    known: Vec<Known>,
    control: Option<Changes>,
}

/// What the command line changes about a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Another filesystem than the scenario's: `--filesystem`.
    pub filesystem: Option<FilesystemKind>,
    /// Values for parameters, as name and text: `--set free='66 blocks'`. A range gives a plan for each of its values:
    /// `--set free='60..140 blocks'`.
    pub set: Vec<(String, String)>,
}

impl Scenario {
    /// Reads a scenario from its text. `path` is for messages only.
    ///
    /// # Errors
    /// There is a mistake in it: in the TOML, in a key, or in a value with the default parameters on any filesystem.
    pub fn parse(path: &str, text: &str) -> Result<Self, ScenarioError> {
        let told = |objection| ScenarioError::new(objection, path, text, &[]);
        let scenario = Self::read(path, text).map_err(told)?;
        scenario.check().map_err(told)?;
        Ok(scenario)
    }

    fn read(path: &str, text: &str) -> Checked<Self> {
        let file = syntax::file(text)?;
        let params = Params::new(&file, text)?;
        let known: Vec<Known> =
            file.known.iter().map(|entry| Known::new(entry, &params, text)).collect::<Checked<_>>()?;
        let defaults =
            params.defaults().iter().map(|(name, value)| (name.clone(), value.text.clone())).collect();
        let filesystem = check::filesystem(&file.filesystem.kind)?;
        let values = params.defaults_on(filesystem);
        let usual: Vec<Verdict> = known
            .iter()
            .filter(|known| known.applies(filesystem, &values, &values))
            .map(Known::verdict)
            .collect();
        let control = Changes::new(&file, &params, &usual, text)?;
        let (path, text) = (path.to_owned(), text.to_owned());
        Ok(Self { path, text, file, filesystem, params, defaults, known, control })
    }

    /// The file's own filesystem first: its messages are the ones that are most to the point.
    fn check(&self) -> Checked<()> {
        let others = FilesystemKind::ALL.into_iter().filter(|kind| *kind != self.filesystem);
        // What only btrfs has says so to whoever asks for another one.
        let others = others.filter(|kind| self.possible_on(*kind).is_ok());
        self.possible_on(self.filesystem)?;
        for kind in std::iter::once(self.filesystem).chain(others) {
            let values = self.params.defaults_on(kind);
            let mut reader = Reader::new(&self.text, &values);
            plan::plan(&self.file, Variant::Main, kind, &values, &mut reader)?;
            let mut used = reader.used();
            if let Some(changes) = &self.control {
                let values = changes.values(&values);
                let mut reader = Reader::new(&self.text, &values);
                let mut plan = plan::plan(&self.file, Variant::Control, kind, &values, &mut reader)?;
                changes.apply(&self.file, &mut plan, true)?;
                used.extend(reader.used());
            }
            self.params.all_used(&used)?;
        }
        Ok(())
    }

    /// Whether it makes sense on this filesystem: some of what a scenario may ask for only btrfs has.
    #[must_use]
    pub fn is_possible_on(&self, kind: FilesystemKind) -> bool {
        self.possible_on(kind).is_ok()
    }

    fn possible_on(&self, kind: FilesystemKind) -> Checked<()> {
        match plan::only_btrfs(&self.file) {
            Some(objection) if kind != FilesystemKind::Btrfs => Err(objection),
            _ => Ok(()),
        }
    }

    /// The scenario's name: `btrfs/fallocate-then-pwrite`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.file.name.get_ref()
    }

    /// What ought to be true, in one sentence.
    #[must_use]
    pub fn claim(&self) -> &str {
        self.file.claim.get_ref()
    }

    /// Where the claim or the report comes from.
    #[must_use]
    pub fn source(&self) -> &str {
        self.file.source.get_ref()
    }

    /// The filesystem that it is about, unless `--filesystem` says another.
    #[must_use]
    pub fn default_filesystem(&self) -> FilesystemKind {
        self.filesystem
    }

    /// Every parameter and its default, normalised (`66 blocks`), before any `[[override]]`.
    #[must_use]
    pub fn params(&self) -> &BTreeMap<String, String> {
        &self.defaults
    }

    /// The plans that `settings` ask for: one, or one for each value of a range; of several ranges their product, the
    /// last of them varying fastest. A parameter has its value from `settings`, else from the filesystem's
    /// `[[override]]`, else from `params`.
    ///
    /// The options of mkfs and mount in the file are for the file's own filesystem; plans on another have none.
    ///
    /// # Errors
    /// A setting names no parameter, or its value is not possible; or there would be more than 100 000 plans.
    pub fn plans(&self, settings: &Settings) -> Result<Vec<Plan>, ScenarioError> {
        self.each(settings, |kind, values, defaults| self.plan(kind, values, defaults))
    }

    /// The control of each plan in [`Self::plans`], in the same order; `None` where the scenario has none. What it changes goes before
    /// `settings`.
    ///
    /// # Errors
    /// As [`Self::plans`]; also where a value is not possible in the control alone.
    pub fn controls(&self, settings: &Settings) -> Result<Option<Vec<Plan>>, ScenarioError> {
        let Some(changes) = &self.control else { return Ok(None) };
        let control = |kind, values: &Values, defaults: &Values| {
            let known = self.known.iter().any(|known| known.applies(kind, values, defaults));
            let values = changes.values(values);
            let mut reader = Reader::new(&self.text, &values);
            let mut plan = plan::plan(&self.file, Variant::Control, kind, &values, &mut reader)?;
            changes.apply(&self.file, &mut plan, known).map(|()| plan)
        };
        self.each(settings, control).map(Some)
    }

    fn each(
        &self,
        settings: &Settings,
        plan: impl Fn(FilesystemKind, &Values, &Values) -> Checked<Plan>,
    ) -> Result<Vec<Plan>, ScenarioError> {
        let kind = settings.filesystem.unwrap_or(self.filesystem);
        let defaults = self.params.defaults_on(kind);
        let mut plans = Vec::new();
        let told =
            |objection: Objection| ScenarioError::new(objection, &self.path, &self.text, &settings.set);
        self.possible_on(kind).map_err(told)?;
        let done = self.params.each(kind, settings, |values| {
            let mut plan = plan(kind, values, &defaults)?;
            // A scenario does not do the steps of its control, nor the control those that it leaves out.
            plan.forget_missing_steps();
            plans.push(plan);
            Ok(())
        });
        done.map(|()| plans).map_err(told)
    }

    fn plan(&self, kind: FilesystemKind, values: &Values, defaults: &Values) -> Checked<Plan> {
        let mut reader = Reader::new(&self.text, values);
        let plan = plan::plan(&self.file, Variant::Main, kind, values, &mut reader)?;
        let known =
            self.known.iter().filter(|known| known.applies(kind, values, defaults)).map(Known::to_plan);
        let control = self.control.as_ref().map(|changes| changes.to_plan(&self.file));
        Ok(Plan { known: known.collect(), control, ..plan })
    }
}
