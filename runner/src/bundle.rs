//! Bundles as files: what goes into one, what it is called, and what is read of one.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use brim_bundle::{Bundle, EXTENSION, Limits, Manifest, ReadError, SCHEMA, Tool};
use brim_device::Store;
use brim_report::mail::{self, Told};
use brim_scenario::{Scenario, Settings};
use brim_trial::event::VerdictEvent;
use brim_trial::{Bytes, Event, FilesystemKind, JournalLine, Plan};

use crate::error::Error;
use crate::executor::Kept;
use crate::rig::workbench::Image;
use crate::tool;

/// This brim, as bundles and reports name it.
pub(crate) fn brim() -> String {
    let version = env!("CARGO_PKG_VERSION");
    option_env!("BRIM_COMMIT").map_or_else(|| version.to_owned(), |commit| format!("{version} ({commit})"))
}

/// A run that is to be put into a bundle.
pub(crate) struct Ran<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) verdict: &'a VerdictEvent,
    pub(crate) events: &'a [Event],
    pub(crate) kept: Kept,
    /// What the kernel is called.
    pub(crate) kernel: &'a str,
}

/// A bundle that was read, with its plan.
pub(crate) struct Opened {
    pub(crate) bundle: Bundle,
    pub(crate) plan: Plan,
    pub(crate) events: Vec<Event>,
    /// What its trials begin with.
    pub(crate) image: Image,
    /// What its file is called, without its extension.
    pub(crate) name: String,
}

impl Opened {
    /// As it is told to people.
    pub(crate) fn told<'a>(&'a self, tools: &'a [(String, String)]) -> Told<'a> {
        let Manifest { verdict, trial, brim, .. } = &self.bundle.manifest;
        Told { name: &self.name, plan: &self.plan, verdict, events: &self.events, trial: *trial, tools, brim }
    }
}

/// Reads the bundle at `path`.
pub(crate) fn open(path: &Path) -> Result<Opened, Error> {
    let refused = |error: ReadError| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Error::Usage {
            what: format!("{} is no bundle: {error}{cause}", path.display()),
            help: format!("a bundle is a whole NAME{EXTENSION} that `brim run --bundle` has written"),
        }
    };
    let file =
        File::open(path).map_err(|source| Error::Bundle { what: "read", path: path.to_owned(), source })?;
    let bundle = brim_bundle::read(BufReader::new(file), Limits::default()).map_err(refused)?;
    let name = format!("{}:scenario.toml", path.display());
    let plans = Scenario::parse(&name, &bundle.scenario)?.plans(&Settings::default())?;
    let sizes = |plan: &Plan| plan.devices.iter().map(|device| device.size).collect::<Vec<_>>();
    let of_disks: Vec<Bytes> = bundle.before.iter().map(Store::size).collect();
    let plan = plans.into_iter().next().filter(|plan| sizes(plan) == of_disks);
    let plan = plan.ok_or_else(|| Error::Usage {
        what: format!("the disks in {} are not those that its scenario says", path.display()),
        help: "a scenario that was changed does not go with the disk of another; run it without the bundle"
            .to_owned(),
    })?;
    let written = serde_json::from_str(&bundle.written).map_err(|error| Error::Usage {
        what: format!("what {} says was written cannot be read: {error}", path.display()),
        help: format!("a bundle is a whole NAME{EXTENSION} that `brim run --bundle` has written"),
    })?;
    let events = bundle.events();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.strip_suffix(EXTENSION).map(ToOwned::to_owned).unwrap_or(name);
    let image = Image { disks: bundle.before.iter().map(Store::fork).collect(), written };
    Ok(Opened { bundle, plan, events, image, name })
}

/// Where bundles go.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// The only one.
    File(PathBuf),
    /// One for each set of parameters.
    Directory(PathBuf),
}

impl Target {
    /// What `path` means for so many bundles. A directory is made.
    pub(crate) fn new(path: &Path, count: usize) -> Result<Self, Error> {
        if path.to_string_lossy().ends_with(EXTENSION) {
            if count == 1 {
                return Ok(Self::File(path.to_owned()));
            }
            return Err(Error::Usage {
                what: format!("{count} sets of parameters do not go into the one bundle {}", path.display()),
                help: "name a directory: it gets a bundle for each".to_owned(),
            });
        }
        match fs::create_dir_all(path) {
            Ok(()) => Ok(Self::Directory(path.to_owned())),
            Err(source) => Err(Error::Bundle { what: "make the directory", path: path.to_owned(), source }),
        }
    }

    /// Writes the bundle of a run, and says where. `sets` tells it from others: what was swept, and the kernel.
    pub(crate) fn write(&self, ran: Ran<'_>, sets: &[String]) -> Result<PathBuf, Error> {
        let path = match self {
            Self::File(path) => path.clone(),
            Self::Directory(directory) => {
                let words: Vec<&str> = std::iter::once(ran.plan.scenario.as_str())
                    .chain(sets.iter().map(String::as_str))
                    .collect();
                directory.join(plain(&words.join("-")) + EXTENSION)
            }
        };
        save(ran, &path)?;
        Ok(path)
    }
}

/// Writes the bundle of a run at `path`.
pub(crate) fn save(ran: Ran<'_>, path: &Path) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bundle = of(ran, name.strip_suffix(EXTENSION).unwrap_or(&name))?;
    let failed = |source| Error::Bundle { what: "write", path: path.to_owned(), source };
    write(&bundle, &name, path).map_err(failed)
}

/// Whole or not at all: whoever sees the file sees a bundle.
fn write(bundle: &Bundle, name: &str, path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let permissions = fs::Permissions::from_mode(0o644);
    let mut file = tempfile::Builder::new().permissions(permissions).tempfile_in(directory)?;
    let mut buffered = BufWriter::new(file.as_file_mut());
    brim_bundle::write(bundle, name, &mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    file.persist(path).map(drop).map_err(|error| error.error)
}

fn of(ran: Ran<'_>, name: &str) -> Result<Bundle, Error> {
    let Ran { plan, verdict, events, kept, kernel } = ran;
    let Kept { before, mut after } = kept;
    let stands = |event: &Event| match event {
        Event::TrialVerdict(trial) if trial.verdict == verdict.verdict => Some(trial.trial),
        _ => None,
    };
    let trial = events.iter().find_map(stands).unwrap_or(1);
    let (mut after, mut left_out) = (after.remove(&verdict.verdict).unwrap_or_default(), Vec::new());
    if after.is_empty() {
        left_out
            .push("disk-after.img: the disk went with the guest that it was in, or no trial ran".to_owned());
    }
    if allocated(&after) > Limits::default().disk {
        left_out.push(format!("disk-after.img: more than {} of it were written", Limits::default().disk));
        after.clear();
    }
    fits(&before.disks)?;
    let written = serde_json::to_string(&before.written).unwrap_or_default();
    let params = plan.params.iter().map(|(name, value)| format!("{name} = {value}"));
    let comment: Vec<String> =
        std::iter::once(format!("As it ran on {}, with seed {:#x}, in:", verdict.kernel, verdict.seed))
            .chain(std::iter::once(verdict.command.clone()))
            .chain(params)
            .collect();
    let scenario = brim_scenario::print(plan, &comment.join("\n")).map_err(|error| Error::Usage {
        what: format!("the scenario cannot be put into a bundle: {error}"),
        help: "run it without --bundle".to_owned(),
    })?;
    let brim = brim();
    let tools = tools(plan.filesystem.kind);
    let told = Told { name, plan, verdict, events, trial, tools: &tools, brim: &brim };
    let lines = |lines: Vec<String>| lines.into_iter().map(|line| line + "\n").collect::<Vec<_>>().concat();
    Ok(Bundle {
        readme: mail::readme(told, &left_out),
        kernel_log: lines(mail::kernel_log(events, trial)),
        tickets: lines(mail::tickets(events, trial)),
        scenario,
        journal: journal(events),
        written,
        before: before.disks,
        after,
        manifest: Manifest {
            schema: SCHEMA,
            tools: tools.into_iter().map(|(name, version)| Tool { name, version }).collect(),
            brim,
            kernel: kernel.to_owned(),
            trial,
            verdict: verdict.clone(),
            left_out,
        },
    })
}

/// What of disks takes memory.
fn allocated(disks: &[Store]) -> Bytes {
    Bytes(disks.iter().map(|disk| disk.allocated().0).sum())
}

/// What is written has to be readable.
fn fits(disks: &[Store]) -> Result<(), Error> {
    let limit = Limits::default().disk;
    if allocated(disks) <= limit {
        return Ok(());
    }
    Err(Error::Usage {
        what: format!("{} of the prepared disks were written, and a bundle takes {limit}", allocated(disks)),
        help: "run it without --bundle".to_owned(),
    })
}

fn journal(events: &[Event]) -> String {
    let line = |event: &Event| serde_json::to_string(&JournalLine::from(event.clone()));
    // Maps with keys that are not text would be left out; no event has one.
    events.iter().filter_map(|event| line(event).ok()).map(|line| line + "\n").collect::<Vec<_>>().concat()
}

/// The programs that make and check a filesystem, and what they say of themselves.
fn tools(kind: FilesystemKind) -> Vec<(String, String)> {
    let (name, flag) = match kind {
        FilesystemKind::Btrfs => ("mkfs.btrfs", "--version"),
        FilesystemKind::Ext4 => ("mkfs.ext4", "-V"),
        FilesystemKind::Xfs => ("mkfs.xfs", "-V"),
    };
    let said = tool::find(name)
        .and_then(|path| Command::new(path).arg(flag).stdin(Stdio::null()).output().ok())
        .map(|said| if said.stdout.is_empty() { said.stderr } else { said.stdout });
    let said =
        said.map(|said| String::from_utf8_lossy(&said).lines().next().unwrap_or_default().trim().to_owned());
    said.map(|version| (name.to_owned(), version)).into_iter().collect()
}

/// A name that no shell and no filesystem takes for something else.
fn plain(text: &str) -> String {
    let mut name = String::new();
    for letter in text.chars() {
        if letter.is_ascii_alphanumeric() || letter == '.' || letter == '_' {
            name.push(letter);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() { "bundle".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_plain() {
        for (text, name) in [
            ("btrfs/x-free=66 blocks", "btrfs-x-free-66-blocks"),
            ("../../etc/passwd", "etc-passwd"),
            ("$(rm -rf /)", "rm-rf"),
            ("..", "bundle"),
        ] {
            assert_eq!(plain(text), name);
        }
    }
}
