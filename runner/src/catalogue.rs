//! Scenario files by path, or by their name in the catalogue, which is part of the binary.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use brim_scenario::Scenario;
use include_dir::{Dir, DirEntry, include_dir};

use crate::error::Error;

static CATALOGUE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../scenarios");

/// A scenario and where it was read.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The path or the name as the user may type it again.
    pub(crate) word: String,
    /// The scenario.
    pub(crate) scenario: Scenario,
}

/// Reads the scenario that `word` names: a path, or a name like `btrfs/fallocate-then-pwrite`.
pub(crate) fn find(word: &str) -> Result<Entry, Error> {
    let path = Path::new(word);
    match CATALOGUE.get_file(format!("{word}.toml")) {
        Some(file) if !path.exists() => parse(word, file.contents_utf8().unwrap_or_default()),
        _ => read(path),
    }
}

/// Reads the scenarios that `word` names: one, or all of the catalogue whose names are like a pattern such as `btrfs/*`.
pub(crate) fn find_all(word: &str) -> Result<Vec<Entry>, Error> {
    if !word.contains(['*', '?', '[']) || Path::new(word).exists() {
        return find(word).map(|entry| vec![entry]);
    }
    let pattern = glob::Pattern::new(word).map_err(|error| Error::Usage {
        what: format!("`{word}` is no pattern: {error}"),
        help: "write it as for a shell: 'btrfs/*', '*/power-cut-*'".to_owned(),
    })?;
    let like =
        |entry: &Result<Entry, Error>| entry.as_ref().map_or(true, |entry| pattern.matches(&entry.word));
    let entries = all().into_iter().filter(like).collect::<Result<Vec<Entry>, Error>>()?;
    if entries.is_empty() {
        return Err(Error::Usage {
            what: format!("no scenario of the catalogue is called like `{word}`"),
            help: "`brim list` has their names".to_owned(),
        });
    }
    Ok(entries)
}

/// Every scenario of the catalogue, in the order of their names.
pub(crate) fn all() -> Vec<Result<Entry, Error>> {
    let mut files = Vec::new();
    walk(&CATALOGUE, &mut files);
    files.sort_by_key(|file| file.path().with_extension(""));
    let name = |path: &Path| path.with_extension("").display().to_string();
    files.iter().map(|file| parse(&name(file.path()), file.contents_utf8().unwrap_or_default())).collect()
}

/// The names of the scenarios of the catalogue, in order.
pub(crate) fn names() -> Vec<String> {
    let mut files = Vec::new();
    walk(&CATALOGUE, &mut files);
    let mut names: Vec<String> =
        files.iter().map(|file| file.path().with_extension("").display().to_string()).collect();
    names.sort();
    names
}

/// Every scenario file under `directory`, in the order of their paths.
pub(crate) fn files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    collect(directory, &mut files).map_err(|source| Error::Read { path: directory.to_owned(), source })?;
    files.sort_by_key(|path| path.with_extension(""));
    Ok(files)
}

/// Reads one scenario file.
pub(crate) fn read(path: &Path) -> Result<Entry, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    parse(&path.display().to_string(), &text)
}

fn parse(word: &str, text: &str) -> Result<Entry, Error> {
    let scenario = Scenario::parse(word, text)?;
    Ok(Entry { word: word.to_owned(), scenario })
}

fn walk<'a>(directory: &'a Dir<'_>, files: &mut Vec<&'a include_dir::File<'a>>) {
    for entry in directory.entries() {
        match entry {
            DirEntry::Dir(directory) => walk(directory, files),
            DirEntry::File(file) => files.push(file),
        }
    }
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
