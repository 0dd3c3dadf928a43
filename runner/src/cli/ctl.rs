//! The arguments of `brim ctl`.

use std::path::PathBuf;

use brim_device::control::{Pool, WhenFull};
use brim_device::fault::ErrorName;
use brim_device::{ByteRange, Nanos, Ratio};
use brim_trial::Bytes;
use clap::{Args, Subcommand, ValueEnum};

use super::{disk_size, message, seed, size};

#[derive(Debug, Args)]
pub(crate) struct Ctl {
    /// The control socket: what brim serve has as --control
    #[arg(long, value_name = "PATH")]
    pub(crate) control: PathBuf,
    /// The disk, by the name of its export; the first one if not given
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) export: Option<String>,
    /// Print the answers as the server sends them, one JSON object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// For how long to wait for requests that came before; 10 s if not given
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub(crate) settle: Option<Nanos>,
    #[command(subcommand)]
    pub(crate) command: CtlCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CtlCommand {
    /// Show the fault table: what each row is about, does, and has seen
    Faults,
    /// Add a row to the fault table, or take one out
    #[command(subcommand)]
    Fault(FaultCommand),
    /// Show the requests that wait at gates
    Held,
    /// Wait until requests wait at a gate
    Wait {
        /// The row that holds them
        gate: String,
        /// How many
        #[arg(default_value_t = 1)]
        count: usize,
        /// For how long
        #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
        limit: Nanos,
    },
    /// Let requests go that wait at a gate, which holds later ones as before
    Release {
        /// The row that holds them
        gate: String,
        /// Only the first so many
        #[arg(long, value_name = "N")]
        first: Option<usize>,
        /// Only those with these numbers, which held shows, in this order
        #[arg(long, value_name = "N", num_args = 1.., conflicts_with = "first")]
        id: Vec<u64>,
        /// Do not do them, and answer with this error: EIO, ENOSPC, EPERM, ENOMEM, EINVAL, EOVERFLOW, ENOTSUP, ESHUTDOWN
        #[arg(long, value_name = "ERRNO", value_parser = error_name)]
        error: Option<ErrorName>,
    },
    /// Open a gate until it is closed again, and let go what waits there
    Open {
        /// The row that holds
        #[arg(required_unless_present = "all")]
        gate: Option<String>,
        /// Every gate there is
        #[arg(long, conflicts_with = "gate")]
        all: bool,
    },
    /// Close a gate that was opened
    Close {
        /// The row that holds
        gate: String,
    },
    /// Cut the power: what was neither flushed nor written with FUA is lost
    PowerCut {
        /// How much of that survives nevertheless, by the sector
        #[arg(long, value_name = "PERCENT", value_parser = percent)]
        keep: Option<Ratio>,
        /// How much is half new and half old
        #[arg(long, value_name = "PERCENT", value_parser = percent)]
        torn: Option<Ratio>,
        /// What that is drawn from
        #[arg(long, default_value = "0", value_parser = seed)]
        seed: u64,
    },
    /// Give the disk another size; clients learn of it when they connect again
    Resize {
        /// The exact size, a multiple of 512 bytes: 2GiB, or a count of bytes
        #[arg(value_parser = disk_size)]
        size: Bytes,
    },
    /// Put less space behind the disk than its size, as a thin pool does
    Pool {
        /// So much; none is for all of its size
        #[arg(value_name = "SIZE|none", value_parser = pool_size)]
        size: PoolSize,
        /// What becomes of requests that need more
        #[arg(long, value_name = "WHAT", default_value = "error")]
        when_full: Full,
    },
    /// Keep the content under a name, and go back to it
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Offer the content of this moment as another disk
    Fork {
        /// The name of the new export
        name: String,
        /// The content of this snapshot instead
        #[arg(long, value_name = "SNAPSHOT")]
        of: Option<String>,
    },
    /// Show the exports
    Exports,
    /// Stop offering an export; connections that have it keep it
    RemoveExport {
        /// Its name
        name: String,
    },
    /// Show how the disk is and what was asked of it
    Stats {
        /// In the text format of Prometheus; of all exports unless one is named
        #[arg(long, conflicts_with = "json")]
        prometheus: bool,
    },
    /// Show the regions that rows can name
    Regions,
    /// Say which bytes a region is; without a range the filesystem on the disk is asked, where brim has mounted it
    Region {
        /// The name that rows have as `region`
        name: String,
        /// From a byte on and so long: 64KiB+4KiB
        #[arg(value_name = "OFFSET+LENGTH", value_parser = range)]
        ranges: Vec<ByteRange>,
        /// It has no byte
        #[arg(long, conflicts_with = "ranges")]
        empty: bool,
    },
    /// Let rows draw from this seed, from its beginning
    Seed {
        /// Decimal or 0x…
        #[arg(value_parser = seed)]
        seed: u64,
    },
    /// Put a mark into the write log
    Mark {
        /// Up to 479 bytes
        text: String,
    },
    /// Wait until the requests that came before are completed or held
    Settle,
    /// Send a line as it is, and print the answer: docs/control.md has the protocol
    Raw {
        /// Such as '{"do": "stats"}'
        #[arg(value_name = "JSON")]
        line: String,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum FaultCommand {
    /// Add a row behind those that are there
    Add {
        /// As in a scenario: 'name = "slow", when = { op = "write" }, then = { delay = "10 ms" }'; or @FILE with `[[fault]]`
        /// tables; or a row in JSON
        row: String,
    },
    /// Take a row out; what it holds is let go
    Remove {
        /// Its name
        name: String,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Keep the content of this moment
    Keep {
        /// Its name; what had it before is gone
        name: String,
    },
    /// Go back to a snapshot, which stays
    Restore {
        /// Its name
        name: String,
    },
    /// Forget a snapshot
    Forget {
        /// Its name
        name: String,
    },
    /// Show the names of the snapshots
    List,
}

/// The space behind a disk.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PoolSize {
    Limited(Bytes),
    Unlimited,
}

impl PoolSize {
    /// As the server has it.
    pub(crate) fn pool(self, when_full: Full) -> Option<Pool> {
        let when_full = match when_full {
            Full::Error => WhenFull::Error,
            Full::Hold => WhenFull::Hold,
        };
        match self {
            Self::Limited(limit) => Some(Pool { limit, when_full }),
            Self::Unlimited => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Full {
    /// They fail with ENOSPC
    Error,
    /// They wait at the gate named pool until there is space
    Hold,
}

fn duration(text: &str) -> Result<Nanos, String> {
    brim_scenario::duration(text).map_err(|error| message(&error))
}

fn pool_size(text: &str) -> Result<PoolSize, String> {
    if text == "none" { Ok(PoolSize::Unlimited) } else { disk_size(text).map(PoolSize::Limited) }
}

fn range(text: &str) -> Result<ByteRange, String> {
    let (offset, length) = text.split_once('+').ok_or("it takes OFFSET+LENGTH, as in 64KiB+4KiB")?;
    let place = |text: &str| text.trim().parse().map(Bytes).or_else(|_| size(text.trim()));
    Ok(ByteRange { offset: place(offset)?, length: place(length)? })
}

fn percent(text: &str) -> Result<Ratio, String> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let ratio =
        number.and_then(|number| Ratio::from_f64(number / 100.0)).filter(|ratio| *ratio <= Ratio::ONE);
    ratio.ok_or_else(|| "it takes a part of all, as in 50% or 0.5%".to_owned())
}

fn error_name(text: &str) -> Result<ErrorName, String> {
    let found = ErrorName::ALL.into_iter().find(|error| error.name().eq_ignore_ascii_case(text));
    found.ok_or_else(|| {
        let names = ErrorName::ALL.map(ErrorName::name);
        format!("NBD has these errors: {}", names.join(", "))
    })
}
