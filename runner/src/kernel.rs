//! Kernels that a rig can boot: those that `brim kernel add` keeps, and any that a user has built.
//!
//! Nothing here runs a kernel, but to ask a User Mode Linux for its release once it is unpacked.

mod add;
mod apt;
mod bzimage;
mod error;
mod image;
mod interpreter;
mod libc;
mod modules;
mod recipe;
mod sources;
mod store;
mod unpack;
mod vmlinux;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use add::{Added, add};
pub(crate) use error::KernelError;
use image::Image;
pub(crate) use recipe::names;
pub(crate) use store::{Kept, Store};

/// What boots it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// User Mode Linux: a program, built with ARCH=um.
    Uml,
    /// A bzImage or vmlinux for a PC with an x86-64 processor.
    Pc,
}

impl Kind {
    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Uml => "uml",
            Self::Pc => "pc",
        }
    }
}

/// A kernel that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Its name, as `uml/6.12`, or the path that was given.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) image: PathBuf,
    /// As `utsname` has it: `6.12.101`.
    pub(crate) release: String,
    /// The directory with modules.dep and what it lists; none if everything is built in.
    pub(crate) modules: Option<PathBuf>,
}

/// A module to be loaded into a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// Its name, with `_`.
    pub(crate) name: String,
    /// The ELF file, not packed: what `init_module` takes.
    pub(crate) elf: Vec<u8>,
    /// Whether what was asked for cannot do without it. The others may fail to load: they are for processors that may
    /// not be there, as `crc32c_intel` (ENODEV).
    pub(crate) is_required: bool,
}

/// The kernel that runs brim, where kernels are named.
pub(crate) const RUNNING: &str = "running";

/// What a kernel is called; `None` is the running one.
pub(crate) fn name(kernel: Option<&Kernel>) -> &str {
    kernel.map_or(RUNNING, |kernel| kernel.name.as_str())
}

impl Kernel {
    /// Finds each kernel, `None` for the running one; that one alone where none is named.
    ///
    /// # Errors
    /// One is not here, or is no kernel.
    pub(crate) fn find_all(
        words: &[String],
        modules: Option<&Path>,
    ) -> Result<Vec<Option<Self>>, KernelError> {
        if words.is_empty() {
            return Ok(vec![None]);
        }
        words.iter().map(|word| (word != RUNNING).then(|| Self::find(word, modules)).transpose()).collect()
    }

    /// Finds a kernel by its name, or by the path of an image. `modules` is for images that have some, and goes before those
    /// that are kept with a name.
    ///
    /// # Errors
    /// It is not here, or is no kernel.
    pub(crate) fn find(word: &str, modules: Option<&Path>) -> Result<Self, KernelError> {
        if let Some(path) = modules.filter(|path| !path.join("modules.dep").is_file()) {
            return Err(KernelError::NoIndex { path: path.to_owned() });
        }
        let mut kernel = if Path::new(word).is_file() { Self::at(word)? } else { Self::kept(word)? };
        if let Some(path) = modules {
            kernel.modules = Some(path.to_owned());
        }
        Ok(kernel)
    }

    fn at(word: &str) -> Result<Self, KernelError> {
        let path = Path::new(word);
        let bytes = fs::read(path).map_err(KernelError::file("read", path))?;
        let image =
            Image::of(&bytes).map_err(|why| KernelError::NotAKernel { path: path.to_owned(), why })?;
        // A rig starts it from another directory.
        let image_path = std::path::absolute(path).map_err(KernelError::file("find", path))?;
        Ok(Self {
            name: word.to_owned(),
            kind: image.kind,
            modules: modules_beside(&image_path, &image.release),
            image: image_path,
            release: image.release,
        })
    }

    fn kept(word: &str) -> Result<Self, KernelError> {
        let unknown = || KernelError::Unknown { word: word.to_owned(), help: recipe::known() };
        if !recipe::is_name(word) {
            return Err(unknown());
        }
        let store = Store::open()?;
        let Some(kept) = store.kernel(word) else {
            let directory = store.directory(word);
            let not_added = KernelError::NotAdded { name: word.to_owned(), directory };
            return Err(if recipe::house(word).is_some() { not_added } else { unknown() });
        };
        libc::settle(&kept.image)?;
        Ok(Self {
            name: word.to_owned(),
            kind: kept.about.kind,
            image: kept.image,
            release: kept.about.release,
            modules: kept.modules,
        })
    }

    /// The modules to be loaded for `wanted`, each behind all that it needs; what is built in is left out. None if the
    /// kernel has no modules at all.
    ///
    /// # Errors
    /// A module is neither there nor built in, or cannot be read.
    pub(crate) fn modules(&self, wanted: &[&str]) -> Result<Vec<Module>, KernelError> {
        let Some(directory) = &self.modules else { return Ok(Vec::new()) };
        let missing = |module| KernelError::NoModule { kernel: self.name.clone(), module };
        let steps = modules::Index::read(directory)?.order(wanted).map_err(missing)?;
        let read = |step: modules::Step| {
            let path = directory.join(&step.file);
            let bytes = fs::read(&path).map_err(KernelError::file("read", &path))?;
            let damaged = |error: unpack::UnpackError| KernelError::Packed { path, why: error.to_string() };
            let elf = unpack::module(bytes).map_err(damaged)?;
            Ok(Module { name: step.name, elf, is_required: step.is_required })
        };
        steps.into_iter().map(read).collect()
    }

    /// Whether it has a module, or what is in it built in.
    pub(crate) fn has(&self, module: &str) -> bool {
        let Some(directory) = &self.modules else { return true };
        modules::Index::read(directory).is_ok_and(|index| index.order(&[module]).is_ok())
    }

    /// A vmlinux that QEMU can enter by PVH, which saves a guest the time to unpack itself. A bzImage is unpacked once.
    /// None if the kernel cannot be entered so, or is no kernel for a PC.
    ///
    /// # Errors
    /// It cannot be unpacked, or there is no room for it.
    pub(crate) fn vmlinux(&self) -> Result<Option<PathBuf>, KernelError> {
        match self.kind {
            Kind::Uml => Ok(None),
            Kind::Pc => vmlinux::of(&self.image),
        }
    }
}

/// The modules that came with an image: `modules` beside it, as brim keeps them, or where Debian's package has them for its
/// `/usr/bin/linux.uml`. Not those that the machine has for the same release: another build's do not fit.
fn modules_beside(image: &Path, release: &str) -> Option<PathBuf> {
    let directory = image.parent()?;
    let package = directory.parent().unwrap_or(directory).join("lib/uml/modules").join(release);
    [directory.join("modules"), package].into_iter().find(|path| path.join("modules.dep").is_file())
}
