//! What was found out about KVM, in a file of the user's cache, for as long as this host does not boot again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Accelerator;

/// What is known, and where it is kept.
#[derive(Debug)]
pub(super) struct Memory {
    file: PathBuf,
    boot: String,
}

impl Memory {
    /// The one of this user, where there is a place for it.
    pub(super) fn of_this_boot() -> Option<Self> {
        // XDG Base Directory Specification 0.8: relative paths are to be ignored.
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Self { file: cache.join("brim/accelerators.json"), boot: boot.trim().to_owned() })
    }

    /// What was found out about `kernel`.
    pub(super) fn recall(&self, kernel: &Path) -> Option<Accelerator> {
        let known = self.known();
        let name = known.get(&identity(kernel).ok()?)?;
        [Accelerator::Kvm, Accelerator::Tcg].into_iter().find(|accelerator| accelerator.name() == name)
    }

    /// Keeps what was found out. Where it cannot be kept, it is found out again.
    pub(super) fn keep(&self, kernel: &Path, found: Accelerator) {
        let _ = self.write(kernel, found);
    }

    fn write(&self, kernel: &Path, found: Accelerator) -> io::Result<()> {
        let mut known = self.known();
        known.insert(identity(kernel)?, found.name().to_owned());
        if let Some(directory) = self.file.parent() {
            fs::create_dir_all(directory)?;
        }
        // Whoever reads it meanwhile reads the old one. Of two that write at once, one finds out again later.
        let new = self.file.with_extension(format!("{}.new", std::process::id()));
        fs::write(&new, json!({ "boot": self.boot, "kernels": known }).to_string())?;
        fs::rename(&new, &self.file).inspect_err(|_| drop(fs::remove_file(&new)))
    }

    /// What is known since the host booted.
    fn known(&self) -> BTreeMap<String, String> {
        let read = || -> Option<BTreeMap<String, String>> {
            let mut kept: Value = serde_json::from_slice(&fs::read(&self.file).ok()?).ok()?;
            let of_this_boot = kept.get("boot")?.as_str()? == self.boot;
            serde_json::from_value(kept.get_mut("kernels")?.take()).ok().filter(|_| of_this_boot)
        };
        read().unwrap_or_default()
    }
}

/// A kernel, which is another one once its file was written anew.
fn identity(kernel: &Path) -> io::Result<String> {
    let path = fs::canonicalize(kernel)?;
    let file = fs::metadata(&path)?;
    Ok(format!("{} {} {}.{:09}", path.display(), file.size(), file.mtime(), file.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_of_one_kernel_and_one_boot() {
        let directory = tempfile::tempdir().unwrap();
        let of =
            |boot: &str| Memory { file: directory.path().join("cache/known.json"), boot: boot.to_owned() };
        let kernels = ["one", "other"].map(|name| directory.path().join(name));
        for kernel in &kernels {
            fs::write(kernel, "a kernel").unwrap();
        }
        let [one, other] = &kernels;
        let memory = of("this boot");
        assert_eq!(memory.recall(one), None);
        memory.keep(one, Accelerator::Kvm);
        memory.keep(other, Accelerator::Tcg);
        assert_eq!(memory.recall(one), Some(Accelerator::Kvm));
        assert_eq!(memory.recall(other), Some(Accelerator::Tcg));
        assert_eq!(of("the next").recall(one), None);
        fs::write(one, "a newer kernel").unwrap();
        assert_eq!(memory.recall(one), None);
        assert_eq!(memory.recall(other), Some(Accelerator::Tcg));
        fs::write(&memory.file, "{").unwrap();
        assert_eq!(memory.recall(other), None);
        memory.keep(other, Accelerator::Kvm);
        assert_eq!(memory.recall(other), Some(Accelerator::Kvm));
    }
}
