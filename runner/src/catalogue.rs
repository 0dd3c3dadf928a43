//! Scenario files by path, or by their name in the catalogue.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use brim_scenario::Scenario;

use crate::error::Error;

/// Where the catalogue is, from the root of the project.
pub(crate) const DIRECTORY: &str = "scenarios";

/// A scenario and where it was read.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The path as the user may type it again.
    pub(crate) path: PathBuf,
    /// The scenario.
    pub(crate) scenario: Scenario,
}

/// Reads the scenario that `word` names: a path, or a name like `btrfs/fallocate-then-pwrite`.
pub(crate) fn find(word: &str) -> Result<Entry, Error> {
    let path = Path::new(word);
    let named = Path::new(DIRECTORY).join(format!("{word}.toml"));
    read(if !path.exists() && named.exists() { &named } else { path })
}

/// Every scenario file under `directory`, in the order of their paths.
pub(crate) fn files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    collect(directory, &mut files).map_err(|source| Error::Read { path: directory.to_owned(), source })?;
    files.sort();
    Ok(files)
}

/// Reads one scenario file.
pub(crate) fn read(path: &Path) -> Result<Entry, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let scenario = Scenario::parse(&path.display().to_string(), &text)?;
    Ok(Entry { path: path.to_owned(), scenario })
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    Ok(())
}
