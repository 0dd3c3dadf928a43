//! `brim report`: journals that are there, as text, JSON lines, `JUnit` or one HTML file. It runs nothing.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use brim_report::html::{self, Origin, Set};
use brim_report::{junit, verdict};
use brim_trial::{Event, JournalLine, SCHEMA};

use crate::bundle;
use crate::cli;
use crate::command::run::write_junit;
use crate::error::{Error, Exit};
use crate::output;

/// The journal that is read from standard input.
const STDIN: &str = "-";

/// Shows journals.
pub(crate) fn report(arguments: &cli::Report) -> Result<Exit, Error> {
    let mut events = Vec::new();
    for path in &arguments.journals {
        events.extend(read(path)?);
    }
    let sets = html::sets(&events);
    if sets.is_empty() {
        let named: Vec<String> = arguments.journals.iter().map(|path| path.display().to_string()).collect();
        return Err(Error::Usage {
            what: format!("there is no run in {}", named.join(", ")),
            help: "a journal is what `brim run … --json` prints: see docs/journal.md".to_owned(),
        });
    }
    if arguments.json {
        for set in &sets {
            output::json_line(&JournalLine::from(Event::Verdict(Box::new(set.verdict.clone()))));
        }
    } else if arguments.html.is_none() && arguments.junit.is_none() {
        text(&sets);
    }
    if let Some(path) = &arguments.junit {
        let case = |set: &Set<'_>| junit::Case::new(set.run.kernel.clone(), set.verdict.clone(), set.events);
        write_junit(path, &sets.iter().map(case).collect::<Vec<_>>())?;
    }
    if let Some(path) = &arguments.html {
        let journals = arguments.journals.iter().map(|path| path.display().to_string()).collect();
        write_html(path, &events, journals)?;
    }
    Ok(Exit::Expected)
}

/// Writes the page of what `events` say.
pub(super) fn write_html(path: &Path, events: &[Event], journals: Vec<String>) -> Result<(), Error> {
    let failed = |error: String| Error::Usage {
        what: format!("cannot write {}: {error}", path.display()),
        help: "name a file in a directory that is there".to_owned(),
    };
    let origin = Origin { brim: bundle::brim(), journals };
    let page = html::page(events, &origin).map_err(|error| failed(error.to_string()))?;
    fs::write(path, page).map_err(|error| failed(error.to_string()))
}

fn text(sets: &[Set<'_>]) {
    let style = output::style(&io::stdout());
    let mut last: Option<&Set<'_>> = None;
    let alone = |set: &Set<'_>| sets.iter().filter(|other| alike(set, other)).count() == 1;
    for set in sets {
        let claim = set.run.plan.as_ref().map_or("", |plan| plan.claim.as_str());
        if !last.is_some_and(|last| alike(last, set)) {
            output::line(&verdict::heading(&set.verdict, claim, style));
        }
        if alone(set) {
            output::line(&verdict::block(&set.verdict, set.events, style));
        } else {
            let swept: Vec<String> = swept(sets, set);
            output::line(&verdict::line(&set.verdict, &swept, style));
        }
        last = Some(set);
    }
}

/// Whether both are of one range.
fn alike(one: &Set<'_>, other: &Set<'_>) -> bool {
    let of = |set: &Set<'_>| (set.run.scenario.clone(), set.run.kernel.clone(), set.run.filesystem);
    of(one) == of(other)
}

/// The parameters whose value is not the same in all that are alike.
fn swept(sets: &[Set<'_>], set: &Set<'_>) -> Vec<String> {
    let differs = |name: &&String| {
        sets.iter()
            .filter(|other| alike(set, other))
            .any(|other| other.run.params.get(*name) != set.run.params.get(*name))
    };
    set.run.params.keys().filter(differs).cloned().collect()
}

/// The events of a journal, of a bundle, or of every journal below a directory.
fn read(path: &Path) -> Result<Vec<Event>, Error> {
    if path == Path::new(STDIN) {
        return lines(path, io::stdin().lock());
    }
    if path.is_dir() {
        let mut events = Vec::new();
        for file in journals(path).map_err(|source| Error::Journal { path: path.to_owned(), source })? {
            events.extend(read(&file)?);
        }
        return Ok(events);
    }
    if path.to_string_lossy().ends_with(brim_bundle::EXTENSION) {
        return Ok(bundle::open(path)?.events);
    }
    let file = File::open(path).map_err(|source| Error::Journal { path: path.to_owned(), source })?;
    lines(path, BufReader::new(file))
}

/// The journals below a directory, in the order of their names.
fn journals(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> =
        fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(journals(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "jsonl") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The last line may be cut short, where brim was killed: what stands before it counts.
fn lines(path: &Path, mut from: impl BufRead) -> Result<Vec<Event>, Error> {
    let mut text = String::new();
    from.read_to_string(&mut text).map_err(|source| Error::Journal { path: path.to_owned(), source })?;
    let mut events = Vec::new();
    let is_cut = !text.ends_with('\n');
    let count = text.lines().count();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str::<JournalLine>(line) {
            Ok(line) if line.schema == SCHEMA => events.push(line.event),
            Ok(line) => {
                return Err(not_one(
                    path,
                    index,
                    &format!("its schema is {}, and this brim reads {SCHEMA}", line.schema),
                ));
            }
            Err(_) if is_cut && index + 1 == count => {}
            Err(error) => return Err(not_one(path, index, &error.to_string())),
        }
    }
    Ok(events)
}

fn not_one(path: &Path, index: usize, why: &str) -> Error {
    Error::Usage {
        what: format!("line {} of {} is none of a journal: {why}", index + 1, path.display()),
        help: "a journal is what `brim run … --json` prints: see docs/journal.md".to_owned(),
    }
}
