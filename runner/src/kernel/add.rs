//! Getting a kernel from the packages of Debian, and making it one that boots from where it is kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::{self, Apt, Package};
use super::error::KernelError;
use super::image::Image;
use super::recipe::{self, Recipe};
use super::store::{About, Kept, Store};
use super::{Kind, libc};

/// What came of an `add`.
#[derive(Debug)]
pub(crate) enum Added {
    /// It is here now.
    New(Kept),
    /// It was here.
    Already(Kept),
}

/// Gets the kernel that `word` names: a name of the house, or the path of a recipe. `sources` is a file in apt's format to
/// be used instead of this machine's; `update` looks for a newer one where there is one already. `note` is told what goes on.
///
/// # Errors
/// What is missing on this machine, or what went wrong with packages.
pub(crate) fn add(
    word: &str,
    sources: Option<&Path>,
    update: bool,
    note: &dyn Fn(&str),
) -> Result<Added, KernelError> {
    let (name, recipe) = recipe::find(word)?;
    let store = Store::open()?;
    let present = |store: &Store| store.kernel(&name).filter(|_| !update).map(Added::Already);
    if let Some(already) = present(&store) {
        return Ok(already);
    }
    let _lock = store.lock(|| note(&format!("{name}: waiting for another `brim kernel add`")))?;
    // Whoever had the lock may have brought it.
    if let Some(already) = present(&store) {
        return Ok(already);
    }
    let job = Job { scratch: store.scratch()?, store, name, recipe, sources, note };
    let added = job.run();
    // What failed leaves nothing; what cannot be cleared away is cleared by the next.
    let _ = job.store.clear();
    added
}

struct Job<'a> {
    store: Store,
    scratch: PathBuf,
    name: String,
    recipe: Recipe,
    sources: Option<&'a Path>,
    note: &'a dyn Fn(&str),
}

impl Job<'_> {
    fn run(&self) -> Result<Added, KernelError> {
        let suites = &self.recipe.suites;
        self.note(&format!("reading the lists of {}", suites.join(", ")));
        let apt = Apt::update(&self.scratch.join("apt"), self.sources, &recipe::releases(), suites)?;
        let packages = apt.find(&self.recipe.package)?;
        if let Some(unread) = &apt.unread {
            self.note(&format!("not every list could be read, there may be a newer one: {unread}"));
        }
        let version = packages.first().map(|package| package.version.clone()).unwrap_or_default();
        if let Some(kept) = self.store.kernel(&self.name).filter(|kept| kept.about.version == version) {
            return Ok(Added::Already(kept));
        }
        let tree = self.unpack(&apt, with_content(&packages), "tree")?;
        let new = self.scratch.join("kernel");
        fs::create_dir(&new).map_err(KernelError::file("create", &new))?;
        // It may lie among the modules, which are moved as a whole.
        let image = self.take_image(&tree, &new)?;
        let modules = self.take_modules(&tree, &new)?;
        let release = self.release(&image)?;
        let libc = if self.recipe.kind == Kind::Uml { self.libc(&apt, &image)? } else { None };
        let about = About {
            schema: 1,
            name: self.name.clone(),
            kind: self.recipe.kind,
            release,
            package: self.recipe.package.clone(),
            version,
            image: file_name(&image),
            modules: modules.as_deref().map(file_name),
            libc,
        };
        self.finish(&new, &about)
    }

    /// Moves it to its name, where the path of its linker is settled, and says what it is.
    fn finish(&self, new: &Path, about: &About) -> Result<Added, KernelError> {
        let directory = self.store.place(new, &self.name)?;
        if self.recipe.kind == Kind::Uml {
            let image = directory.join(&about.image);
            libc::settle(&image)?;
            libc::start(&image)?;
        }
        about.write(&directory)?;
        let what = || KernelError::NotInPackages { name: self.name.clone(), what: "image".to_owned() };
        self.store.kernel(&self.name).map(Added::New).ok_or_else(what)
    }

    fn unpack(&self, apt: &Apt, packages: &[Package], name: &str) -> Result<PathBuf, KernelError> {
        let mib = packages.iter().map(|package| package.size).sum::<u64>().div_ceil(1 << 20);
        if let Some(first) = packages.first() {
            self.note(&format!("downloading {} {} ({mib} MiB)", first.name, first.version));
        }
        apt.unpack(packages, name)
    }

    fn take_image(&self, tree: &Path, new: &Path) -> Result<PathBuf, KernelError> {
        let from = self.matching(tree, &self.recipe.image, Path::is_file)?;
        // Its version is in kernel.json.
        let name = match self.recipe.kind {
            Kind::Uml => "linux.uml",
            Kind::Pc => "vmlinuz",
        };
        let to = new.join(name);
        fs::rename(&from, &to).map_err(KernelError::file("move", &from))?;
        Ok(to)
    }

    /// Packages come without the index of modules: whoever installs them runs depmod.
    fn take_modules(&self, tree: &Path, new: &Path) -> Result<Option<PathBuf>, KernelError> {
        if self.recipe.modules.is_empty() {
            return Ok(None);
        }
        let from = self.matching(tree, &self.recipe.modules, Path::is_dir)?;
        let (base, release) = (self.scratch.join("depmod"), file_name(&from));
        let (lib, usr) = (base.join("lib/modules"), base.join("usr"));
        let made = fs::create_dir_all(&lib).and_then(|()| fs::create_dir_all(&usr));
        // depmod has been built for either place.
        made.and_then(|()| std::os::unix::fs::symlink("../lib", usr.join("lib")))
            .map_err(KernelError::file("create", &base))?;
        let indexed = lib.join(&release);
        fs::rename(&from, &indexed).map_err(KernelError::file("move", &from))?;
        let mut depmod = Command::new("depmod");
        let help = "`apt-get install kmod` brings it";
        let output = apt::run(depmod.arg("-b").arg(&base).arg(&release), "depmod", help)?;
        if !output.status.success() || !indexed.join("modules.dep").is_file() {
            let help = "is there room?".to_owned();
            return Err(apt::failed(&format!("depmod for {release}"), &output, help));
        }
        let to = new.join("modules");
        fs::rename(&indexed, &to).map_err(KernelError::file("move", &indexed))?;
        Ok(Some(to))
    }

    fn release(&self, image: &Path) -> Result<String, KernelError> {
        let bytes = fs::read(image).map_err(KernelError::file("read", image))?;
        let what = |what: String| KernelError::NotInPackages { name: self.name.clone(), what };
        match Image::of(&bytes) {
            Ok(image) if image.kind == self.recipe.kind => Ok(image.release),
            Ok(_) => Err(what(format!("kernel of kind {:?}", self.recipe.kind.word()))),
            Err(why) => Err(what(format!("kernel: {why}"))),
        }
    }

    /// Brings the C library of the same suite where the kernel does not start with this machine's, and says which.
    fn libc(&self, apt: &Apt, image: &Path) -> Result<Option<String>, KernelError> {
        if libc::start(image).is_ok() {
            return Ok(None);
        }
        let packages = apt.find("libc6")?;
        let tree = self.unpack(apt, &packages, "libc")?;
        libc::take(&tree, image.parent().unwrap_or(&self.scratch))?;
        Ok(packages.first().map(|package| package.version.clone()))
    }

    /// The first of some patterns that something in `tree` matches.
    fn matching(
        &self,
        tree: &Path,
        patterns: &[String],
        is_right: impl Fn(&Path) -> bool,
    ) -> Result<PathBuf, KernelError> {
        let found = patterns.iter().flat_map(|pattern| matches(tree, pattern)).find(|path| is_right(path));
        let what = || KernelError::NotInPackages { name: self.name.clone(), what: patterns.join(" or ") };
        found.ok_or_else(what)
    }

    fn note(&self, what: &str) {
        (self.note)(&format!("{}: {what}", self.name));
    }
}

/// A package that has parts is there to name them: it is not worth a download that may fail.
fn with_content(packages: &[Package]) -> &[Package] {
    match packages {
        [_, parts @ ..] if !parts.is_empty() => parts,
        _ => packages,
    }
}

/// What is below `root` and matches a path in which a name may have one `*`.
fn matches(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    for part in pattern.split('/') {
        let below = |path: &PathBuf| -> Vec<PathBuf> {
            let Some((start, end)) = part.split_once('*') else { return vec![path.join(part)] };
            let names =
                fs::read_dir(path).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
            let fits = |path: &PathBuf| {
                let name = file_name(path);
                name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
            };
            names.filter(fits).collect()
        };
        found = found.iter().flat_map(below).collect();
    }
    found.sort();
    found
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_for_one_name() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir_all(path("usr/lib/modules/7.2.1")).unwrap();
        fs::create_dir_all(path("boot")).unwrap();
        for name in ["boot/vmlinuz-6.1", "boot/config-6.1", "usr/lib/modules/7.2.1/vmlinuz"] {
            fs::write(path(name), "").unwrap();
        }
        assert_eq!(matches(root.path(), "boot/vmlinuz-*"), [path("boot/vmlinuz-6.1")]);
        assert_eq!(
            matches(root.path(), "usr/lib/modules/*/vmlinuz"),
            [path("usr/lib/modules/7.2.1/vmlinuz")]
        );
        assert!(matches(root.path(), "lib/modules/*").is_empty());
        assert!(matches(root.path(), "boot/vmlinuz-6.1*1").is_empty());
    }
}
