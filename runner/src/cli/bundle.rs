//! `brim bundle`.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Bundle {
    /// Show what ran, what came of it, and what is in the bundle
    Show {
        /// A bundle: NAME.brim.tar.gz
        file: PathBuf,
    },
    /// Write a mail to a kernel list about it, which can go as it is
    Mail {
        /// A bundle: NAME.brim.tar.gz
        file: PathBuf,
    },
    /// Print the scenario in it, every parameter fixed
    Scenario {
        /// A bundle: NAME.brim.tar.gz
        file: PathBuf,
    },
}
