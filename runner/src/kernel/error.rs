//! Why there is no kernel, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use miette::Diagnostic;

/// Why a kernel cannot be had, or cannot be read.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum KernelError {
    /// The word names nothing.
    #[error("no kernel is called {word:?}, and it is no file")]
    #[diagnostic(help("{help}, or the path of a bzImage, a vmlinux, or a Linux built with ARCH=um"))]
    Unknown {
        /// The word.
        word: String,
        /// The names there are.
        help: String,
    },
    /// What is to be removed is not kept.
    #[error("no kernel {name:?} is kept here")]
    #[diagnostic(help("{help}"))]
    NotKept {
        /// The word.
        name: String,
        /// The names there are.
        help: String,
    },
    /// brim knows the name, and the kernel is not here.
    #[error("the kernel {name} is not here")]
    #[diagnostic(help(
        "`brim kernel add {name}` gets it where apt reaches its mirror; without a network, copy {} from where it was added, or give `--kernel` the path of a kernel",
        directory.display()
    ))]
    NotAdded {
        /// Its name.
        name: String,
        /// Where it would be.
        directory: PathBuf,
    },
    /// A file is no kernel.
    #[error("{} is no kernel that brim can boot: {why}", path.display())]
    #[diagnostic(help("give the path of a bzImage, a vmlinux for x86-64, or a Linux built with ARCH=um"))]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A kernel cannot be uncompressed.
    #[error("cannot unpack {}: {why}", path.display())]
    #[diagnostic(help("brim unpacks gzip, lz4, xz and zstd: is the file whole?"))]
    Packed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A directory of modules has no index.
    #[error("{} is no directory of modules: it has no modules.dep", path.display())]
    #[diagnostic(help(
        "give what `make INSTALL_MOD_PATH=DIR modules_install` makes, DIR/lib/modules/RELEASE; `depmod -b DIR RELEASE` writes modules.dep"
    ))]
    NoIndex {
        /// The directory.
        path: PathBuf,
    },
    /// A kernel has neither the module nor what it does built in.
    #[error("{kernel} has no module {module}, and has it not built in")]
    #[diagnostic(help("take a kernel that has it: docs/kernels.md lists what brim wants of one"))]
    NoModule {
        /// The kernel.
        kernel: String,
        /// The module.
        module: String,
    },
    /// A file with the description of a kernel is wrong.
    #[error("{file}: {why}")]
    #[diagnostic(help("docs/kernels.md shows such a file"))]
    Recipe {
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no place for kernels.
    #[error("no place to keep kernels in: neither BRIM_KERNELS nor XDG_CACHE_HOME nor HOME is set")]
    #[diagnostic(help("set BRIM_KERNELS to a directory"))]
    NoPlace,
    /// A program that unpacks packages is missing.
    #[error("{program} is not on this machine")]
    #[diagnostic(help("{help}"))]
    NoProgram {
        /// The program.
        program: &'static str,
        /// What to do without it.
        help: &'static str,
    },
    /// apt has no source that others could be derived from.
    #[error("{what}")]
    #[diagnostic(help(
        "name a file with a source of Debian in apt's format: `brim kernel add NAME --sources FILE`; or give `--kernel` the path of a kernel"
    ))]
    NoMirror {
        /// What was looked for.
        what: String,
    },
    /// A program failed.
    #[error("{what} failed: {said}")]
    #[diagnostic(help("{help}"))]
    Failed {
        /// What was done.
        what: String,
        /// The last that it said.
        said: String,
        /// What may mend it.
        help: String,
    },
    /// What was unpacked is not what the description of the kernel says.
    #[error("{name}: the packages have no {what}")]
    #[diagnostic(help(
        "the description of the kernel does not fit these packages: docs/kernels.md shows one"
    ))]
    NotInPackages {
        /// The kernel.
        name: String,
        /// What is not there.
        what: String,
    },
    /// A kernel was unpacked and does not start.
    #[error("{} does not start here: {why}", image.display())]
    #[diagnostic(help(
        "it is a program for Linux on x86-64; a newer `brim kernel add` may bring another build"
    ))]
    DoesNotStart {
        /// The kernel.
        image: PathBuf,
        /// What it said.
        why: String,
    },
    /// A file or directory.
    #[error("cannot {what} {}", path.display())]
    #[diagnostic(help("{}", file_help(source)))]
    File {
        /// What was to be done.
        what: &'static str,
        /// With which.
        path: PathBuf,
        source: io::Error,
    },
}

impl KernelError {
    /// Makes an error about `path` out of what the system said.
    pub(super) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }

    /// Whether what the user wrote is wrong, rather than what the machine has.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Unknown { .. }
                | Self::NotKept { .. }
                | Self::NotAKernel { .. }
                | Self::NoIndex { .. }
                | Self::Recipe { .. }
        )
    }
}

fn file_help(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "name a file that is there",
        io::ErrorKind::StorageFull => "kernels take up to 200 MiB each: BRIM_KERNELS names another place",
        _ => "BRIM_KERNELS names the directory that kernels are kept in; it must be yours to write",
    }
}
