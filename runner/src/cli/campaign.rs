//! The command line of `brim campaign`.

use std::path::PathBuf;

use brim_campaign::head::Shard;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Campaign {
    /// Run a campaign, or go on with it where it was
    Run(CampaignRun),
    /// Say how far a campaign is
    Status {
        /// Its directory
        directory: PathBuf,
    },
    /// Show what a campaign came to
    Report {
        /// Its directory
        directory: PathBuf,
        /// Print result.json, as of the trials that are there
        #[arg(long)]
        json: bool,
        /// Write the cells to this file too, in the XML of `JUnit`
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
        /// Write all of it to this file too, as one HTML page
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Make the first hit of each kind smaller: scenarios that stand alone, in DIR/shrunk
    Shrink {
        /// Its directory
        directory: PathBuf,
        /// Signatures, as `brim campaign report` shows them; all, if not given
        signatures: Vec<String>,
        /// How often each smaller scenario is tried
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        trials: u32,
        /// In how many of these trials it has to fail in the same way; in most of them if not given
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
        hits: Option<u32>,
    },
    /// Put the directories of shards together: what comes out is what one machine would have had
    Merge {
        /// The new directory
        out: PathBuf,
        /// The shards' directories
        #[arg(required = true)]
        parts: Vec<PathBuf>,
        /// Also where brim or a kernel was not the same for all
        #[arg(long)]
        anyway: bool,
    },
    /// Say whether two cells reproduce at different rates: Fisher's exact test
    Compare {
        /// The campaign's directory
        directory: PathBuf,
        /// A cell: the beginning of its ID, or values that it alone has, as kernel=uml/6.1,free="66 blocks"
        one: String,
        /// Another
        other: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CampaignRun {
    /// A campaign file, or the name of one of the house; what the directory was begun with, if not given
    pub(crate) campaign: Option<String>,
    /// Its directory, made where it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Run only this part of several, as 2/4; `brim campaign merge` puts all together
    #[arg(long, value_name = "I/N", value_parser = shard)]
    pub(crate) shard: Option<Shard>,
    /// How many trials at once, each on a rig of its own. If not given, as many as there are processors, or twice as many where no
    /// cell needs a guest
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) workers: Option<u16>,
    /// Show progress on the whole terminal
    #[arg(long)]
    pub(crate) tui: bool,
    /// Go on also where brim or a kernel is not what it was
    #[arg(long)]
    pub(crate) anyway: bool,
}

fn shard(text: &str) -> Result<Shard, String> {
    let parsed = text.split_once('/').and_then(|(index, count)| {
        let (index, count): (usize, usize) = (index.parse().ok()?, count.parse().ok()?);
        (1..=count).contains(&index).then_some(Shard { index, count })
    });
    parsed.ok_or_else(|| "a shard is a number of several, from 1: 2/4".to_owned())
}
