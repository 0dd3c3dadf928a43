//! A campaign's directory: what is written, and what is read again after a kill. Its format is in docs/campaigns.md.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use brim_bundle::EXTENSION;
use brim_campaign::result::Ended;
use brim_campaign::{CampaignResult, Head, TrialRecord, record, signature};
use brim_report::html::Kept;
use brim_trial::{Event, JournalLine, Verdict};
use object::Object;
use rustix::fs::FlockOperation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// What ran a campaign.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// brim's version and, where it has one, the ID of its build.
    pub(crate) brim: String,
    /// Each kernel that had a trial, by the name that the campaign has for it.
    pub(crate) kernels: BTreeMap<String, SeenKernel>,
}

/// A kernel that had a trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeenKernel {
    /// As `utsname` has it.
    pub(crate) release: String,
    /// The rig.
    pub(crate) rig: String,
}

/// How long a run took so far: the last line with its `began` counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Time {
    /// When it began, in milliseconds since 1970.
    pub(crate) began: u64,
    /// How long it has been at work.
    pub(crate) seconds: f64,
    /// How many trials ended in it.
    pub(crate) trials: u64,
    /// On how many workers.
    pub(crate) workers: usize,
}

/// A directory that is ours until it is dropped.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    _lock: File,
    trials: File,
    /// How many journals are kept, by directory and signature.
    kept: BTreeMap<PathBuf, usize>,
    keep: usize,
    seen: Seen,
}

impl Seen {
    /// This brim, without kernels.
    pub(crate) fn here() -> Self {
        let program = fs::read("/proc/self/exe").unwrap_or_default();
        let build = object::File::parse(program.as_slice())
            .ok()
            .and_then(|file| file.build_id().ok().flatten().map(<[u8]>::to_vec));
        let build = build.map(|id| id.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}")));
        let version = env!("CARGO_PKG_VERSION");
        let brim = build.map_or_else(|| version.to_owned(), |build| format!("{version} {build}"));
        Self { brim, kernels: BTreeMap::new() }
    }

    /// What is not the same, in words; nothing where all that both have seen is.
    pub(crate) fn differs(&self, other: &Self) -> Option<String> {
        if self.brim != other.brim {
            return Some(format!("brim was {}, and is {} now", self.brim, other.brim));
        }
        self.kernels.iter().find_map(|(name, kernel)| {
            let now = other.kernels.get(name)?;
            (now != kernel).then(|| {
                format!(
                    "the kernel {name} was {} on {}, and is {} on {} now",
                    kernel.release, kernel.rig, now.release, now.rig
                )
            })
        })
    }
}

impl Directory {
    /// Opens the directory of a campaign that was begun, or begins it; gives the trials that are there.
    ///
    /// # Errors
    /// It cannot be written, is in use, is of another campaign, or is damaged.
    pub(crate) fn open(path: &Path, head: &Head, text: &str) -> Result<(Self, Vec<TrialRecord>), Error> {
        let failed = |what: &str, source: &io::Error| unusable(path, what, source);
        fs::create_dir_all(path).map_err(|source| failed("cannot be made", &source))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock"));
        let lock = lock.map_err(|source| failed("cannot be written", &source))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| Error::Usage {
            what: format!("{} is in use: another brim runs this campaign", path.display()),
            help: "`brim campaign status` shows how far it is; give this run another `--out`".to_owned(),
        })?;
        if let Some(begun) = read::<Head>(path, "campaign.json")? {
            same(path, &begun, head, text)?;
        } else {
            replace(path, "campaign.toml", text.as_bytes())?;
            replace(path, "campaign.json", &json(head))?;
        }
        let seen = read::<Seen>(path, "machine.json")?.unwrap_or_default();
        let records = trials(path, true)?;
        let trials = OpenOptions::new().create(true).append(true).open(path.join("trials.jsonl"));
        let trials = trials.map_err(|source| failed("cannot be written", &source))?;
        let mut kept = BTreeMap::new();
        for kind in ["hits", "inconclusive"] {
            for signature in fs::read_dir(path.join(kind)).into_iter().flatten().flatten() {
                kept.insert(signature.path(), journals(&signature.path()).len());
            }
        }
        let keep = usize::try_from(head.keep).unwrap_or(usize::MAX);
        Ok((Self { path: path.to_owned(), _lock: lock, trials, kept, keep, seen }, records))
    }

    /// What has run the campaign so far.
    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// This is what runs it now.
    pub(crate) fn see(&mut self, seen: Seen) -> Result<(), Error> {
        if self.seen != seen {
            self.seen = seen;
            replace(&self.path, "machine.json", &json(&self.seen))?;
        }
        Ok(())
    }

    /// Keeps a trial that ended: its journal first, where it is one of those whose journal is kept, and then its line, in one
    /// write, so that a kill leaves it whole or not at all.
    pub(crate) fn append(&mut self, record: &TrialRecord, journal: &[Event]) -> Result<(), Error> {
        let is_kept = match record.verdict {
            Some(Verdict::Reproduced | Verdict::Inconclusive) => true,
            Some(Verdict::NotReproduced) | None => false,
        };
        if is_kept && !journal.is_empty() {
            self.keep_journal(record, journal)?;
        }
        let mut line = serde_json::to_vec(record).unwrap_or_default();
        line.push(b'\n');
        self.trials.write_all(&line).map_err(|source| unusable(&self.path, "cannot be written", &source))
    }

    /// Whether the journal of this trial would be kept, and with it the bundle of a hit.
    pub(crate) fn wants(&self, record: &TrialRecord) -> bool {
        let (directory, name) = place(record);
        let directory = self.path.join(directory);
        let kept = self.kept.get(&directory).copied().unwrap_or_default();
        kept < self.keep || directory.join(format!("{name}.jsonl")).exists()
    }

    /// Where the bundle of a hit goes; its directory is made.
    pub(crate) fn bundle(&self, record: &TrialRecord) -> Result<PathBuf, Error> {
        let (directory, name) = place(record);
        let directory = self.path.join(directory);
        let made = fs::create_dir_all(&directory);
        made.map_err(|source| unusable(&self.path, "cannot be written", &source))?;
        Ok(directory.join(name + EXTENSION))
    }

    /// Takes the bundle of a trial over from another directory, where that has one and the trial's journal is kept here.
    pub(crate) fn take_bundle(&self, record: &TrialRecord, from: &Path) -> Result<(), Error> {
        let (directory, name) = place(record);
        let theirs = from.join(&directory).join(name.clone() + EXTENSION);
        let ours = self.path.join(&directory);
        if !theirs.exists() || !ours.join(format!("{name}.jsonl")).exists() {
            return Ok(());
        }
        let new = ours.join(format!(".{name}.new"));
        let taken = fs::copy(&theirs, &new).and_then(|_| fs::rename(&new, ours.join(name + EXTENSION)));
        taken.map_err(|source| unusable(&self.path, "cannot be written", &source))
    }

    fn keep_journal(&mut self, record: &TrialRecord, journal: &[Event]) -> Result<(), Error> {
        let (directory, name) = place(record);
        let bundle = self.path.join(&directory).join(name.clone() + EXTENSION);
        let (directory, name) = (self.path.join(directory), format!("{name}.jsonl"));
        let kept = self.kept.entry(directory.clone()).or_default();
        // A kill between the journal and the line leaves a journal that is written once more.
        let again = directory.join(&name).exists();
        if *kept >= self.keep && !again {
            // Others came first while this one was packed.
            return match fs::remove_file(bundle) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    Err(unusable(&self.path, "cannot be written", &source))
                }
                _ => Ok(()),
            };
        }
        *kept += usize::from(!again);
        fs::create_dir_all(&directory)
            .map_err(|source| unusable(&self.path, "cannot be written", &source))?;
        let mut lines = Vec::new();
        for event in journal {
            lines.extend(serde_json::to_vec(&JournalLine::from(event.clone())).unwrap_or_default());
            lines.push(b'\n');
        }
        replace(&directory, &name, &lines)
    }

    /// Has what was appended outlive the machine, too.
    pub(crate) fn sync(&self) {
        // A filesystem that cannot sync has the lines all the same, as long as the machine is up.
        let _ = self.trials.sync_data();
    }

    /// Writes what the campaign came to.
    pub(crate) fn write_result(&self, result: &CampaignResult) -> Result<(), Error> {
        replace(&self.path, "result.json", &json(result))
    }

    /// Adds to how long runs took.
    pub(crate) fn add_time(&self, time: &Time) -> Result<(), Error> {
        let file = OpenOptions::new().create(true).append(true).open(self.path.join("times.jsonl"));
        let mut line = serde_json::to_vec(time).unwrap_or_default();
        line.push(b'\n');
        let written = file.and_then(|mut file| file.write_all(&line));
        written.map_err(|source| unusable(&self.path, "cannot be written", &source))
    }

    /// How long runs took so far, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        times(&self.path).iter().map(|time| time.seconds).sum()
    }
}

/// A campaign's directory, to be read: its head, its trials, and what ran it.
///
/// # Errors
/// It is none, or is damaged.
pub(crate) fn load(path: &Path) -> Result<(Head, Vec<TrialRecord>, Seen), Error> {
    let head = read::<Head>(path, "campaign.json")?.ok_or_else(|| Error::Usage {
        what: format!("{} is no directory of a campaign", path.display()),
        help: "name what `brim campaign run … --out` was given".to_owned(),
    })?;
    Ok((head, trials(path, false)?, read(path, "machine.json")?.unwrap_or_default()))
}

/// The trials whose journals are kept, in order of their names, each with its bundle.
///
/// # Errors
/// A journal cannot be read.
pub(crate) fn kept(path: &Path, records: &[TrialRecord]) -> Result<Vec<Kept>, Error> {
    let mut kept = Vec::new();
    for record in records {
        let (directory, name) = place(record);
        let file = path.join(&directory).join(format!("{name}.jsonl"));
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(Error::Journal { path: file, source }),
        };
        let lines = text.lines().filter_map(|line| serde_json::from_str::<JournalLine>(line).ok());
        let bundle = path.join(&directory).join(name + EXTENSION);
        kept.push(Kept {
            cell: record.cell.to_string(),
            number: record.number,
            signature: record.signature.clone().unwrap_or_default(),
            reproduced: record.verdict == Some(Verdict::Reproduced),
            events: lines.map(|line| line.event).collect(),
            bundle: bundle.exists().then(|| bundle.display().to_string()),
        });
    }
    Ok(kept)
}

/// The directory of a trial whose journal is kept, in that of its campaign, and what its files are called.
fn place(record: &TrialRecord) -> (PathBuf, String) {
    let kind = if record.verdict == Some(Verdict::Reproduced) { "hits" } else { "inconclusive" };
    let signature = record.signature.as_deref().unwrap_or("none");
    (Path::new(kind).join(signature::directory(signature)), format!("{}-{}", record.cell, record.number))
}

/// How long each run took.
pub(crate) fn times(path: &Path) -> Vec<Time> {
    let text = fs::read_to_string(path.join("times.jsonl")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Time>(line).ok());
    let last: BTreeMap<u64, Time> = lines.map(|time| (time.began, time)).collect();
    last.into_values().collect()
}

/// Whether the limit in time has ended it.
pub(crate) fn ended_by_time(path: &Path) -> bool {
    matches!(read::<CampaignResult>(path, "result.json"), Ok(Some(result)) if result.ended == Ended::Time)
}

/// Whether a run is at work on it.
pub(crate) fn is_in_use(path: &Path) -> bool {
    let Ok(lock) = File::open(path.join("lock")) else { return false };
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_err()
}

/// The journals that are in a directory of a signature, in order.
pub(crate) fn journals(directory: &Path) -> Vec<PathBuf> {
    ending_in(directory, ".jsonl")
}

/// The first of the bundles there, by its name.
pub(crate) fn first_bundle(directory: &Path) -> Option<PathBuf> {
    ending_in(directory, EXTENSION).into_iter().next()
}

fn ending_in(directory: &Path, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = entries.filter(|path| path.to_string_lossy().ends_with(end)).collect();
    paths.sort();
    paths
}

/// The trials; with `cut`, what is left of one under way is taken off the file.
fn trials(path: &Path, cut: bool) -> Result<Vec<TrialRecord>, Error> {
    let file = path.join("trials.jsonl");
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(unusable(path, "cannot be read", &source)),
    };
    let (records, whole) = record::parse(&text).map_err(|damaged| Error::Usage {
        what: format!("{}: {damaged}", path.display()),
        help: "take the line out if you know what it was; brim drops only what a kill can leave, a last line without its end"
            .to_owned(),
    })?;
    if cut && whole < text.len() {
        let length = u64::try_from(whole).unwrap_or(u64::MAX);
        let cut = OpenOptions::new().write(true).open(&file).and_then(|file| file.set_len(length));
        cut.map_err(|source| unusable(path, "cannot be written", &source))?;
    }
    Ok(records)
}

fn same(path: &Path, begun: &Head, head: &Head, text: &str) -> Result<(), Error> {
    let what = if begun.hash != head.hash {
        match fs::read_to_string(path.join("campaign.toml")) {
            Ok(file) if file == text => "a scenario or a profile that it names has changed since".to_owned(),
            _ => format!("of another campaign file: {:?} as it was then", begun.name),
        }
    } else if begun.shard != head.shard {
        "of another shard".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::Usage {
        what: format!("{} has trials of another campaign: {what}", path.display()),
        help: "its trials and new ones would not be of one kind: begin again with another `--out`".to_owned(),
    })
}

pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    text
}

/// Writes a file so that it is there whole or as it was.
fn replace(directory: &Path, name: &str, content: &[u8]) -> Result<(), Error> {
    let (path, new) = (directory.join(name), directory.join(format!(".{name}.new")));
    let written = fs::write(&new, content).and_then(|()| fs::rename(&new, &path));
    written.map_err(|source| unusable(directory, "cannot be written", &source))
}

fn read<T: DeserializeOwned>(directory: &Path, name: &str) -> Result<Option<T>, Error> {
    let text = match fs::read(directory.join(name)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(unusable(directory, "cannot be read", &source)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| Error::Usage {
        what: format!("{} is damaged, or of another brim: {error}", directory.join(name).display()),
        help: "run the campaign with the brim that began it, or begin again with another `--out`".to_owned(),
    })
}

fn unusable(path: &Path, what: &str, source: &io::Error) -> Error {
    Error::Usage {
        what: format!("{} {what}: {source}", path.display()),
        help: "name a directory that is writable and has room".to_owned(),
    }
}
