//! The arguments of `brim kernel`.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Kernel {
    /// Get kernels from the packages of Debian, by the apt of this machine and without root
    Add {
        /// Names, as brim kernel list shows them, or files as in configs/kernels/
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Look for newer packages where the kernel is here already
        #[arg(long)]
        update: bool,
        /// A file in apt's format with a mirror of Debian, instead of what this machine has
        #[arg(long, value_name = "FILE")]
        sources: Option<PathBuf>,
    },
    /// List the kernels that are here, and those that add can get
    List {
        /// Print JSON lines instead of text
        #[arg(long)]
        json: bool,
    },
    /// Remove kernels that add has brought
    Remove {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Say what a kernel is: where its image is, its release, its modules
    Show {
        /// A name, or the path of a bzImage, a vmlinux, or a Linux built with ARCH=um
        kernel: String,
        /// Its modules: the directory with modules.dep
        #[arg(long, value_name = "DIR")]
        modules: Option<PathBuf>,
        /// Show what is loaded for a module, in that order
        #[arg(long, value_name = "MODULE")]
        load: Vec<String>,
        /// Unpack a bzImage for PVH, and show where the vmlinux is
        #[arg(long)]
        vmlinux: bool,
    },
}
