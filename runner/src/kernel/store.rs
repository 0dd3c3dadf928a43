//! The kernels that are kept: a directory each, `NAME/kernel.json` beside the image.
//!
//! What has no kernel.json is no kernel. It is written last, so that an `add` that was killed leaves nothing that counts.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::Kind;
use super::error::KernelError;
use super::recipe;

/// The file that makes a directory a kernel.
pub(super) const ABOUT: &str = "kernel.json";

/// What is known of a kernel that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(super) schema: u32,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) release: String,
    /// The package that was asked for, and its version.
    pub(crate) package: String,
    pub(crate) version: String,
    /// The file, beside this one.
    pub(super) image: String,
    /// The directory, beside this one.
    pub(super) modules: Option<String>,
    /// The version of the C library that came with it, where this machine's is too old.
    pub(super) libc: Option<String>,
}

/// A kernel that is kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) about: About,
    pub(crate) image: PathBuf,
    pub(crate) modules: Option<PathBuf>,
}

/// Where kernels are kept.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

/// The right to change the store. Ends with the process, however that ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Store {
    /// `$BRIM_KERNELS`, or `brim/kernels` where this user's caches are. It need not be there.
    ///
    /// # Errors
    /// The environment says nothing of a place.
    pub(crate) fn open() -> Result<Self, KernelError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = variable("BRIM_KERNELS")
            .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("brim/kernels")))
            .or_else(|| variable("HOME").map(|home| home.join(".cache/brim/kernels")))
            .ok_or(KernelError::NoPlace)?;
        let root = std::path::absolute(&root).map_err(KernelError::file("find", &root))?;
        Ok(Self { root })
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where a kernel is, or would be.
    pub(super) fn directory(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The kernel with this name, if it is here.
    pub(crate) fn kernel(&self, name: &str) -> Option<Kept> {
        let directory = self.directory(name);
        let about: About = serde_json::from_slice(&fs::read(directory.join(ABOUT)).ok()?).ok()?;
        let image = directory.join(&about.image);
        let modules = about.modules.as_ref().map(|modules| directory.join(modules));
        image.is_file().then_some(Kept { about, image, modules })
    }

    /// All kernels that are here, in the order of their names.
    pub(crate) fn all(&self) -> Vec<Kept> {
        let mut names = Vec::new();
        for name in directories(&self.root) {
            names.extend(
                directories(&self.root.join(&name)).into_iter().map(|below| format!("{name}/{below}")),
            );
            names.push(name);
        }
        names.sort_by_key(|name| recipe::order(name));
        names.iter().filter_map(|name| self.kernel(name)).collect()
    }

    /// Takes a kernel away.
    ///
    /// # Errors
    /// It is not here, or cannot be removed.
    pub(crate) fn remove(&self, name: &str) -> Result<(), KernelError> {
        if !recipe::is_name(name) || self.kernel(name).is_none() {
            let help = match &self.all()[..] {
                [] => "there are none".to_owned(),
                all => {
                    let names: Vec<&str> = all.iter().map(|kept| kept.about.name.as_str()).collect();
                    format!("there are {}", names.join(", "))
                }
            };
            return Err(KernelError::NotKept { name: name.to_owned(), help });
        }
        let _lock = self.lock(|| {})?;
        self.discard(name)?;
        self.clear()
    }

    /// Waits until nobody else changes the store; calls `wait` if that may take a while.
    pub(super) fn lock(&self, wait: impl FnOnce()) -> Result<Lock, KernelError> {
        fs::create_dir_all(&self.root).map_err(KernelError::file("create", &self.root))?;
        let path = self.root.join(".lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(KernelError::file("write", &path))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            wait();
            flock(&file, FlockOperation::LockExclusive)
                .map_err(|errno| KernelError::file("lock", &path)(errno.into()))?;
        }
        Ok(Lock { _file: file })
    }

    /// A directory for what is not finished, empty. Whoever has the lock has it alone, and what a killed `add` left there
    /// is gone.
    pub(super) fn scratch(&self) -> Result<PathBuf, KernelError> {
        self.clear()?;
        let path = self.scratch_path();
        fs::create_dir(&path).map_err(KernelError::file("create", &path))?;
        Ok(path)
    }

    /// Removes what is not finished.
    pub(super) fn clear(&self) -> Result<(), KernelError> {
        let path = self.scratch_path();
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(KernelError::file("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Moves a finished directory to where its name is.
    pub(super) fn place(&self, directory: &Path, name: &str) -> Result<PathBuf, KernelError> {
        self.discard(name)?;
        let to = self.directory(name);
        let above = to.parent().unwrap_or(&self.root);
        fs::create_dir_all(above).map_err(KernelError::file("create", above))?;
        fs::rename(directory, &to).map_err(KernelError::file("write", &to))?;
        Ok(to)
    }

    /// Moves what has a name out of the way, all at once.
    fn discard(&self, name: &str) -> Result<(), KernelError> {
        let (from, scratch) = (self.directory(name), self.scratch_path());
        if !from.exists() {
            return Ok(());
        }
        fs::create_dir_all(&scratch).map_err(KernelError::file("create", &scratch))?;
        let to = tempfile::TempDir::new_in(&scratch).map_err(KernelError::file("write", &scratch))?;
        fs::rename(&from, to.path().join("old")).map_err(KernelError::file("remove", &from))
    }

    fn scratch_path(&self) -> PathBuf {
        self.root.join(".new")
    }
}

impl About {
    /// Makes `directory` a kernel.
    pub(super) fn write(&self, directory: &Path) -> Result<(), KernelError> {
        let path = directory.join(ABOUT);
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        text.and_then(|text| replace(&path, &text, 0o644, None)).map_err(KernelError::file("write", &path))
    }
}

/// Writes a file anew in one step, for everybody to read: who has the old one open goes on with it. `modified` is when it
/// says it was written.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32, modified: Option<SystemTime>) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(directory)?;
    let mut new = tempfile::NamedTempFile::new_in(directory)?;
    new.write_all(bytes)?;
    new.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    if let Some(time) = modified {
        new.as_file().set_modified(time)?;
    }
    // Its descriptor is closed first: the system runs no file that somebody may write.
    new.into_temp_path().persist(path).map_err(|error| error.error)
}

/// The names of the directories in one, but for hidden ones.
fn directories(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let name = |entry: fs::DirEntry| Some(entry.file_name().to_str()?.to_owned());
    entries
        .filter(|entry| entry.path().is_dir())
        .filter_map(name)
        .filter(|name| !name.starts_with('.'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(store: &Store, name: &str) -> About {
        let about = About {
            schema: 1,
            name: name.to_owned(),
            kind: Kind::Uml,
            release: "6.1.176".to_owned(),
            package: "user-mode-linux".to_owned(),
            version: "6.1um4".to_owned(),
            image: "linux.uml".to_owned(),
            modules: None,
            libc: None,
        };
        let new = store.scratch().unwrap().join("kernel");
        fs::create_dir(&new).unwrap();
        fs::write(new.join("linux.uml"), name).unwrap();
        store.place(&new, name).unwrap();
        about
    }

    #[test]
    fn a_directory_is_a_kernel_once_it_says_what_it_is() {
        let root = tempfile::tempdir().unwrap();
        let store = Store { root: root.path().join("below") };
        assert!(store.all().is_empty());
        let _lock = store.lock(|| {}).unwrap();
        let about = kernel(&store, "uml/6.1");
        assert!(store.all().is_empty() && store.kernel("uml/6.1").is_none());
        about.write(&store.directory("uml/6.1")).unwrap();
        assert_eq!(store.kernel("uml/6.1").unwrap().about, about);
        kernel(&store, "uml/6.12").write(&store.directory("uml/6.12")).unwrap();
        kernel(&store, "own").write(&store.directory("own")).unwrap();
        let names: Vec<String> = store.all().into_iter().map(|kept| kept.about.name).collect();
        assert_eq!(names, ["own", "uml/6.1", "uml/6.12"]);
    }

    #[test]
    fn one_that_is_removed_or_added_anew_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        let store = Store { root: root.path().to_owned() };
        kernel(&store, "uml/6.1").write(&store.directory("uml/6.1")).unwrap();
        fs::write(store.directory("uml/6.1").join("vmlinux"), "old").unwrap();
        kernel(&store, "uml/6.1").write(&store.directory("uml/6.1")).unwrap();
        assert!(!store.directory("uml/6.1").join("vmlinux").exists());
        store.remove("uml/6.1").unwrap();
        assert!(!store.directory("uml/6.1").exists() && !store.scratch_path().exists());
        assert!(store.remove("uml/6.1").is_err() && store.remove("../x").is_err());
    }

    #[test]
    fn only_one_changes_the_store_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let store = Store { root: root.path().to_owned() };
        let lock = store.lock(|| panic!("it is free")).unwrap();
        let (told, tells) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| store.lock(|| told.send(()).unwrap()).map(|_| ()));
            tells.recv().unwrap();
            assert!(!second.is_finished());
            drop(lock);
            second.join().unwrap().unwrap();
        });
    }
}
