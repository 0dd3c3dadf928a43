//! Puts the directories of shards together: the same trials, so the same result, byte for byte, as one machine's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use brim_campaign::{CampaignResult, Head, Ledger, TrialRecord, signature};
use brim_trial::Verdict;

use super::directory::{self, Directory, Seen};
use crate::error::Error;

/// Merges `parts` into the new directory `out`.
///
/// # Errors
/// They are not of one campaign, or were run by different brims or kernels and `anyway` is not said.
pub(crate) fn merge(out: &Path, parts: &[PathBuf], anyway: bool) -> Result<CampaignResult, Error> {
    if out.join("campaign.json").exists() {
        return Err(Error::Usage {
            what: format!("{} has a campaign already", out.display()),
            help: "name a new directory".to_owned(),
        });
    }
    let mut loaded = Vec::new();
    for part in parts {
        loaded.push((part, directory::load(part)?));
    }
    let Some((first, (whole, _, seen))) = loaded.first() else {
        return Err(Error::Usage {
            what: "nothing to merge".to_owned(),
            help: "name the shards' directories".to_owned(),
        });
    };
    let head = Head { shard: None, ..whole.clone() };
    let mut seen: Seen = seen.clone();
    for (part, (other, _, theirs)) in &loaded {
        if other.hash != head.hash {
            return Err(Error::Usage {
                what: format!("{} and {} are of different campaigns", first.display(), part.display()),
                help: "the campaign file and the scenarios have to be the same on all machines".to_owned(),
            });
        }
        if let Some(what) = seen.differs(theirs).filter(|_| !anyway) {
            return Err(Error::Usage {
                what: format!(
                    "{} and {} were run by different things: {what}",
                    first.display(),
                    part.display()
                ),
                help: "their trials are not of one kind; add `--anyway` if the difference does not matter"
                    .to_owned(),
            });
        }
        for (name, kernel) in &theirs.kernels {
            seen.kernels.entry(name.clone()).or_insert_with(|| kernel.clone());
        }
    }
    // In canonical order, and each once: a shard may have been run twice.
    let order: BTreeMap<_, _> =
        head.cells.iter().enumerate().map(|(index, cell)| (&cell.id, index)).collect();
    let mut trials: BTreeMap<(usize, u32), (TrialRecord, &Path)> = BTreeMap::new();
    for (part, (_, records, _)) in &loaded {
        for record in records {
            if let Some(index) = order.get(&record.cell) {
                trials.entry((*index, record.number)).or_insert_with(|| (record.clone(), part.as_path()));
            }
        }
    }
    let text = fs::read_to_string(first.join("campaign.toml")).unwrap_or_default();
    let (mut merged, _) = Directory::open(out, &head, &text)?;
    merged.see(seen)?;
    let mut ledger = Ledger::new(&head);
    for (record, part) in trials.values() {
        ledger.record(record);
        let journal = journal(part, record);
        merged.append(record, &journal)?;
        merged.take_bundle(record, part)?;
    }
    merged.sync();
    let kernels =
        merged.seen().kernels.iter().map(|(name, kernel)| (name.clone(), kernel.release.clone())).collect();
    let time_is_up = parts.iter().any(|part| directory::ended_by_time(part));
    let result = ledger.result(kernels, time_is_up);
    merged.write_result(&result)?;
    Ok(result)
}

/// The journal of a trial, where its shard has kept it; nothing of one that was not kept.
fn journal(part: &Path, record: &TrialRecord) -> Vec<brim_trial::Event> {
    let kind = if record.verdict == Some(Verdict::Reproduced) { "hits" } else { "inconclusive" };
    let signature = record.signature.as_deref().unwrap_or("none");
    let path = part
        .join(kind)
        .join(signature::directory(signature))
        .join(format!("{}-{}.jsonl", record.cell, record.number));
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str::<brim_trial::JournalLine>(line).ok())
        .map(|line| line.event)
        .collect()
}
