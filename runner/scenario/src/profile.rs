//! Device profiles: a kind of disk as rows of the fault table, and where its numbers come from.

use std::collections::BTreeMap;

use brim_device::fault::Row;
use brim_trial::Bytes;
use serde::Deserialize;
use toml::Spanned;

use crate::check;
use crate::error::{Checked, ScenarioError};
use crate::fault;
use crate::params::Values;
use crate::quantity::Dimension;
use crate::read::Reader;
use crate::schema::{Fault, Formula, Table, Text, shapes};
use crate::step;
use crate::syntax;

/// Reads a file that a profile names, relative to the profile; the error says why it cannot be read.
pub type Files<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// A kind of disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What it is called.
    pub name: String,
    /// What kind of disk it is, in one sentence.
    pub about: String,
    /// Where its numbers come from.
    pub source: String,
    /// Its exact size, where the kind has one.
    pub size: Option<Bytes>,
    /// It has a volatile write cache.
    pub write_cache: bool,
    /// It behaves like a rotational medium.
    pub rotational: bool,
    /// What it does to requests.
    pub faults: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileFile {
    #[serde(rename = "schema")]
    _schema: i64,
    name: Text,
    about: Text,
    source: Text,
    #[serde(default)]
    device: Table<Device>,
    #[serde(default, rename = "fault")]
    faults: Vec<Table<Fault>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Device {
    size: Option<Spanned<Formula>>,
    #[serde(default)]
    write_cache: bool,
    #[serde(default)]
    rotational: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Faults {
    #[serde(default, rename = "fault")]
    faults: Vec<Table<Fault>>,
}

shapes! {
    Device => "a table such as `{ write_cache = true }`",
}

impl Profile {
    /// Reads a profile from its text. `path` is for messages only; `files` reads what it names.
    ///
    /// # Errors
    /// There is a mistake in it, or a file that it names cannot be read.
    pub fn parse(path: &str, text: &str, files: Files<'_>) -> Result<Self, ScenarioError> {
        Self::read(text, files).map_err(|objection| ScenarioError::new(objection, path, text, &[]))
    }

    fn read(text: &str, files: Files<'_>) -> Checked<Self> {
        let file: ProfileFile = syntax::versioned(text)?;
        let values = Values::new();
        let mut reader = Reader::new(text, &values);
        let size = file.device.size.as_ref().map(|size| {
            let found = reader.constant(size, Dimension::Size, "size")?;
            step::check_disk_size(found.value, found.place, "size")?;
            Ok(Bytes(found.value))
        });
        Ok(Self {
            name: check::fixed(&file.name, "name")?,
            about: check::fixed(&file.about, "about")?,
            source: check::fixed(&file.source, "source")?,
            size: size.transpose()?,
            write_cache: file.device.write_cache,
            rotational: file.device.rotational,
            faults: fault::rows(&file.faults, files, &mut reader)?,
        })
    }
}

/// Reads `[[fault]]` tables and nothing else, in the words of a scenario. `path` is for messages only.
///
/// # Errors
/// There is a mistake in them.
pub fn faults(path: &str, text: &str, files: Files<'_>) -> Result<Vec<Row>, ScenarioError> {
    let read = || {
        let file: Faults = syntax::unversioned(text)?;
        let values = BTreeMap::new();
        fault::rows(&file.faults, files, &mut Reader::new(text, &values))
    };
    read().map_err(|objection| ScenarioError::new(objection, path, text, &[]))
}
