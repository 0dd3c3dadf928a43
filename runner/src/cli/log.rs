//! The arguments of `brim log`.

use std::path::PathBuf;

use brim_device::log::Position;
use brim_trial::Bytes;
use clap::{Args, Subcommand};

use super::disk_size;

#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// Show every entry of a log, one a line
    Show {
        /// A log of brim, of the kernel's dm-log-writes, or of QEMU's blklogwrites
        file: PathBuf,
        /// Print JSON lines instead of text
        #[arg(long)]
        json: bool,
    },
    /// Do what a log has on a fresh disk, which is a new file
    Replay(Replay),
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// A log of brim, of the kernel's dm-log-writes, or of QEMU's blklogwrites
    pub(crate) file: PathBuf,
    /// The disk: a file that is not there yet
    #[arg(long, value_name = "NEW_FILE")]
    pub(crate) onto: PathBuf,
    /// Stop after this entry, counted from 0, or after the first one with this mark; `mark:12` is a mark of digits
    #[arg(long, value_name = "MARK|ENTRY")]
    pub(crate) to: Option<Position>,
    /// Begin with this entry instead of the first
    #[arg(long, value_name = "ENTRY", default_value_t = 0)]
    pub(crate) from: u64,
    /// The size of the disk; if not given it ends where the furthest entry does
    #[arg(long, value_parser = disk_size)]
    pub(crate) size: Option<Bytes>,
}
