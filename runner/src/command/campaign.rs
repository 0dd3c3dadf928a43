//! `brim campaign`: many trials over what a file varies.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use brim_bundle::EXTENSION;
use brim_campaign::result::{CellEnded, Ended, Group};
use brim_campaign::{Campaign, CampaignResult, Head, Ledger, signature};
use brim_report::campaign as text;
use brim_report::html::{self, Origin};

use crate::bundle;
use crate::campaign::Shown;
use crate::campaign::{self, Orders, Text, directory};
use crate::cli;
use crate::error::{Error, Exit};
use crate::executor;
use crate::interrupt::Interrupt;
use crate::kernel::Kernel;
use crate::output;

/// Does what the subcommand says.
pub(crate) fn campaign(subcommand: &cli::Campaign) -> Result<Exit, Error> {
    match subcommand {
        cli::Campaign::Run(arguments) => run(arguments),
        cli::Campaign::Status { directory } => status(directory),
        cli::Campaign::Report { directory, json, junit, html } => {
            report(directory, *json, junit.as_deref(), html.as_deref())
        }
        cli::Campaign::Shrink { directory, signatures, trials, hits } => {
            shrink(directory, signatures, *trials, *hits)
        }
        cli::Campaign::Merge { out, parts, anyway } => merge(out, parts, *anyway),
        cli::Campaign::Compare { directory, one, other } => compare(directory, one, other),
    }
}

fn run(arguments: &cli::CampaignRun) -> Result<Exit, Error> {
    let interrupt =
        Interrupt::take_over().map_err(|source| Error::Process { what: "take signals over", source })?;
    let cli::CampaignRun { campaign: word, out, shard, workers, tui, anyway } = arguments;
    let Text { name, text } = word.as_ref().map_or_else(|| begun(out), |word| campaign::find(word))?;
    let shard = match (word, shard) {
        (None, None) => directory::load(out)?.0.shard,
        _ => *shard,
    };
    let campaign = Campaign::parse(&name, &text, &campaign::Here, shard)?;
    for cell in &campaign.head.cells {
        let kernel =
            (cell.setting.kernel != crate::kernel::RUNNING).then(|| Kernel::find(&cell.setting.kernel, None));
        executor::allow(&campaign.plan(cell)?, kernel.transpose()?.as_ref())?;
    }
    let orders = Orders {
        workers: workers.map_or_else(|| at_once(&campaign.head), usize::from),
        anyway: *anyway,
        shown: if *tui { Shown::Screen } else { Shown::Line },
    };
    let result = campaign::run(out, &campaign, &text, orders, &interrupt)?;
    show(out, &campaign.head, &result);
    output::line(&format!("\n  in {}: `brim campaign report {0}` shows this again", out.display()));
    Ok(exit(&result))
}

/// How many trials at once: one for each processor, and twice as many where no guest wants it for itself, since trials wait for
/// their disk half of the time.
fn at_once(head: &Head) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let is_here = head.cells.iter().all(|cell| cell.setting.kernel == crate::kernel::RUNNING);
    if is_here { 2 * processors } else { processors }
}

/// The campaign file that a directory was begun with.
fn begun(out: &Path) -> Result<Text, Error> {
    let path = out.join("campaign.toml");
    let text = fs::read_to_string(&path).map_err(|_| Error::Usage {
        what: format!("{} has no campaign to go on with", out.display()),
        help: "name a campaign file, or one of the house, before `--out`".to_owned(),
    })?;
    Ok(Text { name: path.display().to_string(), text })
}

fn show(path: &Path, head: &Head, result: &CampaignResult) {
    let bundle = |group: &Group| {
        let hits = path.join("hits").join(signature::directory(&group.signature));
        let first = hits.join(format!("{}-{}{EXTENSION}", group.first.cell, group.first.number));
        // Which trials of a kind are kept is for their order of arrival, and the first by its cell may not be among them.
        let file = Some(first).filter(|first| first.exists()).or_else(|| directory::first_bundle(&hits));
        file.map(|file| file.display().to_string())
    };
    for line in text::lines(head, result, &bundle, output::style(&std::io::stdout())) {
        output::line(&line);
    }
}

fn status(path: &Path) -> Result<Exit, Error> {
    let (head, records, seen) = directory::load(path)?;
    let mut ledger = Ledger::new(&head);
    for record in &records {
        ledger.record(record);
    }
    let (done, all, left) = ledger.left();
    let (trials, hits, inconclusive) = ledger.counts();
    let state = match (ledger.is_done(), directory::is_in_use(path)) {
        (true, _) => "done",
        (false, true) => "running",
        (false, false) => "not running: `brim campaign run` with it goes on",
    };
    let shard =
        head.shard.map_or_else(String::new, |shard| format!(", shard {} of {}", shard.index, shard.count));
    output::line(&format!("{}{shard}: {state}", head.name));
    output::line(&format!(
        "  {done} of {all} cells, {trials} trials, at most {left} left; {hits} hits, {inconclusive} inconclusive"
    ));
    for time in directory::times(path) {
        let directory::Time { seconds, trials, workers, .. } = time;
        let rate = if seconds > 0.0 { campaign::as_float(trials) / seconds } else { 0.0 };
        output::line(&format!(
            "  a run of {seconds:.1} s on {workers} workers: {trials} trials, {rate:.1} a second"
        ));
    }
    for (name, kernel) in &seen.kernels {
        output::line(&format!("  kernel {name}: {} on {}", kernel.release, kernel.rig));
    }
    Ok(Exit::Expected)
}

/// What the trials that are there come to, whatever has been written down of it.
fn result_of(path: &Path) -> Result<(Head, CampaignResult), Error> {
    let (head, records, seen) = directory::load(path)?;
    let mut ledger = Ledger::new(&head);
    for record in &records {
        ledger.record(record);
    }
    let kernels = seen.kernels.iter().map(|(name, kernel)| (name.clone(), kernel.release.clone())).collect();
    let time_is_up = directory::ended_by_time(path);
    let result = ledger.result(kernels, time_is_up);
    Ok((head, result))
}

fn report(path: &Path, json: bool, junit: Option<&Path>, html: Option<&Path>) -> Result<Exit, Error> {
    let (head, result) = result_of(path)?;
    let failed = |file: &Path, error: String| Error::Usage {
        what: format!("cannot write {}: {error}", file.display()),
        help: "name a file in a directory that is there".to_owned(),
    };
    if let Some(file) = junit {
        let report = text::junit(&head, &result).map_err(|error| failed(file, error.to_string()))?;
        fs::write(file, report).map_err(|error| failed(file, error.to_string()))?;
    }
    if let Some(file) = html {
        let (_, records, _) = directory::load(path)?;
        let kept = directory::kept(path, &records)?;
        let origin = Origin { brim: bundle::brim(), journals: vec![path.display().to_string()] };
        let page = html::campaign(&head, &result, &kept, &origin)
            .map_err(|error| failed(file, error.to_string()))?;
        fs::write(file, page).map_err(|error| failed(file, error.to_string()))?;
    }
    if json {
        output::line(String::from_utf8_lossy(&directory::json(&result)).trim_end());
    } else if html.is_none() && junit.is_none() {
        show(path, &head, &result);
    }
    Ok(exit(&result))
}

/// Shrinks the bundle of the first hit of each kind.
fn shrink(path: &Path, wanted: &[String], trials: u32, hits: Option<u32>) -> Result<Exit, Error> {
    let (_, result) = result_of(path)?;
    let (_, records, _) = directory::load(path)?;
    let kept = directory::kept(path, &records)?;
    let groups: Vec<&Group> = result
        .groups
        .iter()
        .filter(|group| group.reproduced && (wanted.is_empty() || wanted.contains(&group.signature)))
        .collect();
    let unknown = wanted.iter().find(|wanted| groups.iter().all(|group| group.signature != **wanted));
    if let Some(unknown) = unknown {
        let known: Vec<&str> = result.groups.iter().map(|group| group.signature.as_str()).collect();
        return Err(Error::Usage {
            what: format!("no hit of {} has the signature {unknown:?}", path.display()),
            help: format!("there are: {}", known.join(", ")),
        });
    }
    let target = path.join("shrunk");
    fs::create_dir_all(&target).map_err(|error| Error::Usage {
        what: format!("cannot make {}: {error}", target.display()),
        help: "name a campaign's directory that is writable".to_owned(),
    })?;
    for group in groups {
        let bundle = kept.iter().find_map(|kept| {
            kept.bundle.as_ref().filter(|_| kept.reproduced && kept.signature == group.signature)
        });
        let bundle = bundle.ok_or_else(|| Error::Usage {
            what: format!("no bundle of {} is in {}", group.signature, path.display()),
            help: "a campaign that another brim began has journals alone; shrink the scenario: `brim shrink`"
                .to_owned(),
        })?;
        let out = target.join(signature::directory(&group.signature) + ".toml");
        let arguments = cli::Shrink::of_bundle(bundle.clone(), trials, hits, out);
        super::shrink::run(&arguments)?;
    }
    Ok(Exit::Expected)
}

fn merge(out: &Path, parts: &[PathBuf], anyway: bool) -> Result<Exit, Error> {
    let result = campaign::merge(out, parts, anyway)?;
    let (head, ..) = directory::load(out)?;
    show(out, &head, &result);
    Ok(exit(&result))
}

fn compare(path: &Path, one: &str, other: &str) -> Result<Exit, Error> {
    let (_, result) = result_of(path)?;
    let find = |word: &str| {
        let found: Vec<_> = result.cells.iter().filter(|cell| text::is_named(cell, word)).collect();
        match found.as_slice() {
            [cell] => Ok(*cell),
            cells => {
                let shown: Vec<String> = cells.iter().take(5).map(|cell| cell.cell.id.to_string()).collect();
                Err(Error::Usage {
                    what: match cells.len() {
                        0 => format!("no cell that was tried is called {word:?}"),
                        count => format!("{count} cells are called {word:?}: {}…", shown.join(", ")),
                    },
                    help: "a cell is named by the beginning of its ID, or by values that it alone has: kernel=uml/6.1,free=\"66 blocks\""
                        .to_owned(),
                })
            }
        }
    };
    let (one, other) = (find(one)?, find(other)?);
    for line in text::compare(one, other) {
        output::line(&line);
    }
    Ok(Exit::Expected)
}

/// As `brim run`: not as known goes before a failure of the rig, and that before what says nothing.
fn exit(result: &CampaignResult) -> Exit {
    let cells = || result.cells.iter();
    if cells().any(|cell| cell.as_known == Some(false) && cell.trials > cell.inconclusive) {
        Exit::Unexpected
    } else if cells().any(|cell| cell.ended == CellEnded::Failed) {
        Exit::Rig
    } else if result.ended == Ended::Unfinished || cells().any(|cell| cell.trials == cell.inconclusive) {
        Exit::Inconclusive
    } else {
        Exit::Expected
    }
}
