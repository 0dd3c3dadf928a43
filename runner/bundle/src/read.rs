//! Bytes to a bundle. They may come from anybody: what is not a bundle is one error, and what is too large stops at a limit.

use std::collections::BTreeMap;
use std::io::{self, Read};

use brim_device::{Bytes, Store};
use brim_trial::{Event, JournalLine};
use flate2::read::GzDecoder;
use serde::Deserialize;
use tar::{Archive, Entry, EntryType};

use crate::{Bundle, Manifest, SCHEMA, image, member};

/// How much of a bundle is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of each text, and of the journal.
    pub text: Bytes,
    /// Of each disk: what of it is not zero.
    pub disk: Bytes,
}

impl Default for Limits {
    /// 64 MiB of text, and 4 GiB of a disk, which is in memory as long as it is used.
    fn default() -> Self {
        Self { text: Bytes(64 << 20), disk: Bytes(4 << 30) }
    }
}

/// Why bytes are not a bundle.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is no archive, or is cut short, or could not be read.
    #[error("it is not a whole tar archive packed with gzip")]
    Archive(#[from] io::Error),
    /// It was written by another brim.
    #[error("its schema is {found}, and this brim reads {SCHEMA}")]
    Schema {
        /// What it says.
        found: u32,
    },
    /// Something in it belongs into no bundle.
    #[error("{name:?} in it {why}")]
    Member {
        /// The name that it has there.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something is not in it.
    #[error("it has no {name}")]
    Missing {
        /// What.
        name: &'static str,
    },
}

/// The members that are not there yet, or are.
#[derive(Default)]
struct Found {
    texts: BTreeMap<&'static str, String>,
    /// By place, and whether it is as a trial left it.
    disks: BTreeMap<(bool, usize), Store>,
}

const TEXTS: [&str; 7] = [
    member::README,
    member::MANIFEST,
    member::SCENARIO,
    member::JOURNAL,
    member::KERNEL_LOG,
    member::TICKETS,
    member::WRITTEN,
];
/// Disks of one bundle: as many as a kernel in a guest has nbd devices.
const DISKS_MAX: usize = 16;

/// Reads a bundle.
///
/// # Errors
/// It is none, or past a limit; the error says what of it.
pub fn read(from: impl Read, limits: Limits) -> Result<Bundle, ReadError> {
    let mut archive = Archive::new(GzDecoder::new(from));
    let mut found = Found::default();
    let mut directory: Option<String> = None;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let sparse = sparse(&mut entry)?;
        let path = match &sparse {
            Some(sparse) => sparse.name.clone(),
            None => String::from_utf8_lossy(&entry.path_bytes()).into_owned(),
        };
        let wrong = |why: &str| ReadError::Member { name: shown(&path), why: why.to_owned() };
        if entry.header().entry_type() != EntryType::Regular {
            return Err(wrong("is no plain file"));
        }
        let Some((parent, name)) = path.split_once('/') else { return Err(wrong("lies in no directory")) };
        if parent != directory.get_or_insert_with(|| parent.to_owned()) || parent == ".." || parent.is_empty()
        {
            return Err(wrong("lies beside the others"));
        }
        if let Some(text) = TEXTS.into_iter().find(|known| *known == name) {
            let content = content(&mut entry, limits.text).map_err(|why| whole(why, &path))?;
            let content = String::from_utf8(content).map_err(|_| wrong("is no text"))?;
            if found.texts.insert(text, content).is_some() {
                return Err(wrong("is there twice"));
            }
        } else if let Some(disk) = disk(name) {
            let sparse = sparse.ok_or_else(|| wrong("is no sparse file"))?;
            if Bytes(entry.size()) > limits.disk {
                return Err(whole(Partial::TooLong(limits.disk), &path));
            }
            let store = image::decode(&mut entry, sparse.size)?.ok_or_else(|| wrong("is no disk"))?;
            if found.disks.insert(disk, store).is_some() {
                return Err(wrong("is there twice"));
            }
        } else {
            return Err(wrong("belongs into no bundle"));
        }
    }
    // The end of the archive is not the end of what is packed: its checksum is behind it.
    io::copy(&mut archive.into_inner().take(MORE_MAX), &mut io::sink())?;
    found.bundle()
}

/// What may follow an archive: it is padded to what a tape had once.
const MORE_MAX: u64 = 1 << 20;

/// What the extensions of an entry say of a sparse file.
struct Sparse {
    name: String,
    size: Bytes,
}

fn sparse(entry: &mut Entry<'_, impl Read>) -> io::Result<Option<Sparse>> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(None) };
    let mut values = BTreeMap::new();
    for extension in extensions {
        let extension = extension?;
        let (Ok(key), Ok(value)) = (extension.key(), extension.value()) else { return Ok(None) };
        values.insert(key.to_owned(), value.to_owned());
    }
    let number = |key: &str| values.get(key).and_then(|value| value.parse::<u64>().ok());
    let version = (number("GNU.sparse.major"), number("GNU.sparse.minor"));
    let (Some(name), Some(size), (Some(1), Some(0))) =
        (values.get("GNU.sparse.name"), number("GNU.sparse.realsize"), version)
    else {
        return Ok(None);
    };
    Ok(Some(Sparse { name: name.clone(), size: Bytes(size) }))
}

/// Why the content of a member could not be had.
enum Partial {
    Io(io::Error),
    TooLong(Bytes),
}

fn content(entry: &mut Entry<'_, impl Read>, limit: Bytes) -> Result<Vec<u8>, Partial> {
    let said = Bytes(entry.size());
    if said > limit {
        return Err(Partial::TooLong(limit));
    }
    // What an entry says of its length is not believed before it has come.
    let mut content = Vec::new();
    entry.take(limit.0).read_to_end(&mut content).map_err(Partial::Io)?;
    if Bytes::of_len(content.len()) == said {
        Ok(content)
    } else {
        Err(Partial::Io(io::ErrorKind::UnexpectedEof.into()))
    }
}

fn whole(partial: Partial, path: &str) -> ReadError {
    match partial {
        Partial::Io(error) => ReadError::Archive(error),
        Partial::TooLong(limit) => {
            ReadError::Member { name: shown(path), why: format!("is larger than {limit}") }
        }
    }
}

/// A name from an archive as somebody may see it on a terminal.
fn shown(path: &str) -> String {
    path.chars().take(100).collect()
}

/// Which disk a member is: whether as a trial left it, and its place.
fn disk(name: &str) -> Option<(bool, usize)> {
    let places = (0..DISKS_MAX).flat_map(|index| [(false, index), (true, index)]);
    places.into_iter().find(|(is_after, index)| member::image(*index, *is_after) == name)
}

impl Found {
    /// The disks from the first on, if there are no gaps between them.
    fn disks(&mut self, is_after: bool) -> Vec<Store> {
        (0..).map_while(|index| self.disks.remove(&(is_after, index))).collect()
    }

    fn bundle(mut self) -> Result<Bundle, ReadError> {
        let mut text = |name: &'static str| self.texts.remove(name).ok_or(ReadError::Missing { name });
        let manifest = manifest(&text(member::MANIFEST)?)?;
        let journal = text(member::JOURNAL)?;
        events(&journal).map_err(|why| ReadError::Member { name: member::JOURNAL.to_owned(), why })?;
        let (readme, scenario) = (text(member::README)?, text(member::SCENARIO)?);
        let (kernel_log, tickets) = (text(member::KERNEL_LOG)?, text(member::TICKETS)?);
        let written = text(member::WRITTEN)?;
        let (before, after) = (self.disks(false), self.disks(true));
        if before.is_empty() || !(after.is_empty() || after.len() == before.len()) || !self.disks.is_empty() {
            return Err(ReadError::Missing { name: member::BEFORE });
        }
        Ok(Bundle { manifest, readme, scenario, journal, kernel_log, tickets, written, before, after })
    }
}

fn manifest(text: &str) -> Result<Manifest, ReadError> {
    #[derive(Deserialize)]
    struct Versioned {
        schema: u32,
    }
    let wrong = |error: serde_json::Error| ReadError::Member {
        name: member::MANIFEST.to_owned(),
        why: error.to_string(),
    };
    let Versioned { schema } = serde_json::from_str(text).map_err(wrong)?;
    if schema != SCHEMA {
        return Err(ReadError::Schema { found: schema });
    }
    serde_json::from_str(text).map_err(wrong)
}

impl Bundle {
    /// The events of its journal.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        events(&self.journal).unwrap_or_default()
    }
}

fn events(journal: &str) -> Result<Vec<Event>, String> {
    let line = |(index, line): (usize, &str)| {
        let line: Result<JournalLine, _> = serde_json::from_str(line);
        line.map(|line| line.event)
            .map_err(|error| format!("has a line {} that is none of a journal: {error}", index + 1))
    };
    journal.lines().enumerate().map(line).collect()
}
