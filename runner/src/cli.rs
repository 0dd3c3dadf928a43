//! The command line.

mod bundle;
mod campaign;
mod ctl;
mod kernel;
mod log;
mod serve;

use std::path::PathBuf;

use brim_trial::{Bytes, FilesystemKind};
use clap::{Args, Parser, Subcommand};

use crate::rig::RigName;
pub(crate) use bundle::Bundle;
pub(crate) use campaign::{Campaign, CampaignRun};
pub(crate) use ctl::{Ctl, CtlCommand, FaultCommand, SnapshotCommand};
pub(crate) use kernel::Kernel;
pub(crate) use log::{Log, Replay};
pub(crate) use serve::{BlockSizePolicy, Export, Serve, TlsMode};

/// Fills a filesystem to the brim, holds the disk still, and shows what breaks.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run scenarios: prepare, try, judge, show
    Run(Run),
    /// Run many trials over what a file varies: a map, a rate, a threshold
    #[command(subcommand)]
    Campaign(Campaign),
    /// Run a scenario on several kernels and show what differs: a patch and its base, two releases
    Compare(Compare),
    /// Run any program in a filesystem that is exactly so full, and show what the kernel did to it
    Exec(Exec),
    /// Like exec, with your shell
    Shell(Brim),
    /// Serve empty disks of exact size by NBD
    Serve(Serve),
    /// Change and watch a disk that brim serve serves, while it serves
    Ctl(Ctl),
    /// Show what a write log has, or replay it
    #[command(subcommand)]
    Log(Log),
    /// Show journals again: as text, or as one HTML file
    Report(Report),
    /// Make a scenario that fails smaller, while it fails in the same way
    Shrink(Shrink),
    /// Show what a bundle has, or write the mail about it
    #[command(subcommand)]
    Bundle(Bundle),
    /// Get, list and show kernels for guests
    #[command(subcommand)]
    Kernel(Kernel),
    /// Check scenario files without running them
    Check {
        /// Scenario files, or names from the catalogue
        #[arg(required = true)]
        scenarios: Vec<String>,
    },
    /// List the scenarios of the catalogue
    List {
        /// As the page docs/catalogue.md: claim, source, control, and what is known on which kernel
        #[arg(long)]
        markdown: bool,
        /// List the scenario files under this directory instead
        directory: Option<PathBuf>,
    },
    /// Say in words what a scenario does
    Explain {
        /// A scenario file, or a name from the catalogue
        scenario: String,
        #[command(flatten)]
        settings: Parameters,
    },
    /// Say what this machine can do, and the one command that mends what it cannot
    Doctor,
    /// The agent: started by brim itself
    #[command(name = "__agent", hide = true)]
    Agent { parent: u32 },
    /// The process around a guest: started by brim itself
    #[command(name = "__guard", hide = true)]
    Guard {
        parent: u32,
        #[arg(last = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// The first process around a program: started by the agent
    #[command(name = "__supervise", hide = true)]
    Supervise {
        parent: u32,
        #[arg(last = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// What thaws a frozen filesystem when the agent is gone: started by the agent
    #[command(name = "__thaw", hide = true)]
    Thaw { parent: u32 },
    /// Process 1 around a program: started by the first process
    #[command(name = "__init", hide = true)]
    Init {
        parent: u32,
        #[arg(last = true)]
        command: Vec<std::ffi::OsString>,
    },
}

/// What settles a plan.
#[derive(Clone, Debug, Args)]
pub(crate) struct Parameters {
    /// Give a parameter another value, or each value of a range: free="65 blocks", free="60..140 blocks"
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub(crate) set: Vec<(String, String)>,
    /// Use another filesystem: btrfs, ext4, xfs
    #[arg(long)]
    pub(crate) filesystem: Option<FilesystemKind>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Scenario files, names from the catalogue, or patterns of such names: 'btrfs/*'. Several end in a table
    #[arg(required_unless_present = "bundle")]
    pub(crate) scenarios: Vec<String>,
    /// Run the control of each scenario too, the smallest change that makes its verdict another: does it flip?
    #[arg(long, conflicts_with = "git_bisect")]
    pub(crate) control: bool,
    #[command(flatten)]
    pub(crate) parameters: Parameters,
    /// How often each set of parameters is tried
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) trials: u32,
    /// Leave this fault out, with the steps that arm it, wait for it or release it: does the verdict depend on it?
    #[arg(long, value_name = "FAULT")]
    pub(crate) without_fault: Vec<String>,
    /// Arguments of mkfs instead of the scenario's own: --mkfs='--nodesize 4096'
    #[arg(long, value_name = "WORDS", value_parser = words, allow_hyphen_values = true)]
    pub(crate) mkfs: Option<Words>,
    /// Mount options instead of the scenario's own, as mount -o takes them
    #[arg(long, value_name = "OPTIONS")]
    pub(crate) mount: Option<String>,
    /// What kind of disk it is during the phases: a profile by its name, or a file as in configs/devices/. Its size is the scenario's
    #[arg(long, value_name = "PROFILE")]
    pub(crate) config: Option<String>,
    #[command(flatten)]
    pub(crate) rig: Rig,
    /// The kernel to run it on, once for each: a name of `brim kernel list`, a file, or `running`, which it is if not given
    #[arg(long, value_name = "KERNEL")]
    pub(crate) kernel: Vec<String>,
    /// The modules of a kernel that is a file: a directory with modules.dep; none if everything is built in
    #[arg(long, value_name = "DIR", requires = "kernel")]
    pub(crate) modules: Option<PathBuf>,
    /// With scenarios: put each set of parameters into a bundle that somebody else can rerun, in this directory, or in this one
    /// NAME.brim.tar.gz. Without scenarios: run that bundle again, on the disk that is in it
    #[arg(long, value_name = "DIR|FILE")]
    pub(crate) bundle: Option<PathBuf>,
    /// Write the verdicts to this file too, in the XML of `JUnit`
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Write what changes the disk, from the prepared state on, to a new file in the format of dm-log-writes, of all trials one
    /// after the other: see brim log. On rigs whose disk is on this side of the kernel
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Write one HTML file with the timeline, the map, the evidence: see brim report
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Exit as `git bisect run` wants it: 1 where it is reproduced, 0 where it is not, 125 where nothing can be said, 128 to
    /// stop it where the scenario or the kernel is none
    #[arg(long)]
    pub(crate) git_bisect: bool,
    /// Print the journal as JSON lines instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Journals (what `brim run --json` printed; `-` is standard input), bundles, or directories with journals
    #[arg(required = true, value_name = "JOURNAL")]
    pub(crate) journals: Vec<PathBuf>,
    /// Write one HTML file with the timeline, the map, the evidence
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write the verdicts to this file, in the XML of `JUnit`
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Print the verdicts as JSON lines instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Shrink {
    /// A scenario file, a name from the catalogue, or a bundle
    pub(crate) scenario: String,
    #[command(flatten)]
    pub(crate) parameters: Parameters,
    /// How often each smaller one is tried
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) trials: u32,
    /// In how many of these trials it has to fail in the same way; in most of them if not given
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) hits: Option<u32>,
    #[command(flatten)]
    pub(crate) rig: Rig,
    /// The kernel to try it on: a name of `brim kernel list`, a file, or `running`; that of the bundle, or the running one, if not given
    #[arg(long, value_name = "KERNEL")]
    pub(crate) kernel: Option<String>,
    /// Where the scenario that is left is written
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

impl Shrink {
    /// That of a bundle, as it ran.
    pub(crate) fn of_bundle(bundle: String, trials: u32, hits: Option<u32>, out: PathBuf) -> Self {
        Self {
            scenario: bundle,
            parameters: Parameters { set: Vec::new(), filesystem: None },
            trials,
            hits,
            rig: Rig { rig: RigName::Auto, seed: None },
            kernel: None,
            out,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// A scenario file, or a name from the catalogue
    pub(crate) scenario: String,
    #[command(flatten)]
    pub(crate) parameters: Parameters,
    /// A kernel, as `brim run --kernel` has it; `running` is the running one
    #[arg(long, value_name = "KERNEL", required = true)]
    pub(crate) kernel: Vec<String>,
    /// How often it is tried on each
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) trials: u32,
    /// The seed of everything drawn, decimal or 0x…
    #[arg(long, default_value = "1", value_parser = seed)]
    pub(crate) seed: u64,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Rig {
    /// Where the kernel runs and how it gets the disk
    #[arg(long, default_value = "auto", value_name = "RIG")]
    pub(crate) rig: RigName,
    /// The seed of everything drawn, decimal or 0x…; 1, or that of the bundle, if not given
    #[arg(long, value_parser = seed)]
    pub(crate) seed: Option<u64>,
}

/// What everything is drawn from where nobody says.
pub(crate) const SEED: u64 = 1;

/// A filesystem at the brim.
#[derive(Clone, Debug, Args)]
pub(crate) struct Brim {
    /// The exact size of the disk: 128MiB, or a count of bytes
    #[arg(long, default_value = "128MiB", value_parser = disk_size)]
    pub(crate) size: Bytes,
    /// Leave exactly so much free for data: "66 blocks", 264KiB; empty if not given
    #[arg(long, value_parser = size)]
    pub(crate) data_free: Option<Bytes>,
    /// The filesystem: btrfs, ext4, xfs
    #[arg(long, default_value = "btrfs")]
    pub(crate) filesystem: FilesystemKind,
    /// What kind of disk it is: a profile by its name, or a file as in configs/devices/. Its size is --size, and it is a fast one until the program runs
    #[arg(long, value_name = "PROFILE")]
    pub(crate) config: Option<String>,
    /// A fault in force while the program runs, in the words of a scenario: 'name = "slow", when = {}, then = { delay = "1 ms" }'
    #[arg(long, value_name = "ROW")]
    pub(crate) fault: Vec<String>,
    /// Take orders for the disk on a UNIX socket at this path, while the program runs: see brim ctl
    #[arg(long, value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,
    /// Write what changes the disk, mkfs included, to a new file in the format of dm-log-writes: see brim log
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// What the dice of faults are thrown from
    #[arg(long, default_value_t = 1, value_name = "SEED")]
    pub(crate) seed: u64,
    /// Where the kernel runs and how it gets the disk
    #[arg(long, default_value = "auto", value_name = "RIG")]
    pub(crate) rig: RigName,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) brim: Brim,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}

/// Words that stand together in one argument.
#[derive(Clone, Debug)]
pub(crate) struct Words(pub(crate) Vec<String>);

fn words(text: &str) -> Result<Words, String> {
    shlex::split(text).map(Words).ok_or_else(|| "a quotation mark has no other".to_owned())
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
        None => Err("it takes NAME=VALUE, as in free=\"65 blocks\"".to_owned()),
    }
}

/// A plain number is a size in bytes here, as every other NBD server takes it.
fn disk_size(text: &str) -> Result<Bytes, String> {
    text.parse().map(Bytes).or_else(|_| size(text))
}

fn size(text: &str) -> Result<Bytes, String> {
    brim_scenario::size(text).map_err(|error| message(&error))
}

/// An error with its help, in one line.
fn message(error: &brim_scenario::ScenarioError) -> String {
    match miette::Diagnostic::help(error) {
        Some(help) => format!("{error}: {help}"),
        None => error.to_string(),
    }
}

fn seed(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "a seed is a number of 64 bits, decimal or 0x…".to_owned())
}
