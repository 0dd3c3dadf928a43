//! Which modules a kernel must load, and in which order: what modprobe knows, for guests that have no modprobe.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::error::KernelError;

/// What `depmod` wrote about the modules of one kernel. Names are with `_`, as the kernel has them.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// modules.dep: the file of each module, and the names of all that it needs.
    modules: BTreeMap<String, (PathBuf, Vec<String>)>,
    /// modules.softdep, `pre:` only: what is loaded before a module if it is there. What comes `post:` is not needed
    /// for the module to work, and a guest has use for nothing more.
    before: BTreeMap<String, Vec<String>>,
    /// modules.alias: other names of modules. Softdeps name algorithms, which several modules have.
    aliases: BTreeMap<String, Vec<String>>,
    /// modules.builtin.
    builtin: BTreeSet<String>,
}

/// One module to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) name: String,
    /// Below the directory of modules.
    pub(super) file: PathBuf,
    /// Whether what was asked for cannot do without it. The others speed it up, or need a processor that may not be
    /// there: what they fail with is no matter.
    pub(super) is_required: bool,
}

impl Index {
    /// Reads what is in `directory`.
    ///
    /// # Errors
    /// There is no modules.dep.
    pub(super) fn read(directory: &Path) -> Result<Self, KernelError> {
        let dep = fs::read_to_string(directory.join("modules.dep"))
            .map_err(|_| KernelError::NoIndex { path: directory.to_owned() })?;
        // The others are missing where there is nothing to say.
        let text = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
        Ok(Self::parse(&dep, &text("modules.softdep"), &text("modules.alias"), &text("modules.builtin")))
    }

    fn parse(dep: &str, softdep: &str, alias: &str, builtin: &str) -> Self {
        let mut index = Self::default();
        for (file, needs) in dep.lines().filter_map(|line| line.split_once(':')) {
            let needs = needs.split_whitespace().map(name_of).collect();
            index.modules.insert(name_of(file), (PathBuf::from(file), needs));
        }
        for line in softdep.lines() {
            let mut words = line.split_whitespace();
            let (Some("softdep"), Some(module)) = (words.next(), words.next()) else { continue };
            let before = words.skip_while(|word| *word != "pre:").skip(1).take_while(|word| *word != "post:");
            index.before.entry(plain(module)).or_default().extend(before.map(plain));
        }
        for line in alias.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ["alias", alias, module] = words[..] {
                // Patterns are for devices; nothing asks for one by its name.
                index.aliases.entry(plain(alias)).or_default().push(plain(module));
            }
        }
        index.builtin = builtin.lines().map(name_of).collect();
        index
    }

    /// What is to be loaded for `wanted`, in that order; what the kernel has built in is left out.
    ///
    /// # Errors
    /// The name that is neither a module nor built in.
    pub(super) fn order(&self, wanted: &[&str]) -> Result<Vec<Step>, String> {
        let mut order = Order { index: self, steps: Vec::new(), met: BTreeSet::new() };
        for word in wanted {
            let name = plain(word);
            let modules = self.named(&name);
            if modules.is_empty() && !self.builtin.contains(&name) {
                return Err((*word).to_owned());
            }
            for module in &modules {
                order.visit(module, true);
            }
        }
        Ok(order.steps)
    }

    /// The modules that have this name: one as its own, or else all that have it as an alias.
    fn named(&self, name: &str) -> Vec<String> {
        if self.modules.contains_key(name) {
            return vec![name.to_owned()];
        }
        let known = |module: &&String| self.modules.contains_key(*module);
        self.aliases.get(name).into_iter().flatten().filter(known).cloned().collect()
    }
}

struct Order<'a> {
    index: &'a Index,
    steps: Vec<Step>,
    met: BTreeSet<String>,
}

impl Order<'_> {
    /// Adds a module behind all that comes before it, as modprobe does (kmod, libkmod/libkmod-module.c,
    /// `__kmod_module_get_probe_list`).
    fn visit(&mut self, name: &str, is_required: bool) {
        let Some((file, needs)) = self.index.modules.get(name) else { return };
        if !self.met.insert(name.to_owned()) {
            if is_required {
                self.require(name);
            }
            return;
        }
        for before in self.index.before.get(name).into_iter().flatten() {
            self.index.named(before).iter().for_each(|module| self.visit(module, false));
        }
        // The last of them needs none of the others.
        needs.iter().rev().for_each(|need| self.visit(need, is_required));
        self.steps.push(Step { name: name.to_owned(), file: file.clone(), is_required });
    }

    /// A module that was only wished for is now needed, with all that it needs.
    fn require(&mut self, name: &str) {
        let needs = self.index.modules.get(name).map(|(_, needs)| &needs[..]).unwrap_or_default();
        for step in &mut self.steps {
            step.is_required |= step.name == name || needs.contains(&step.name);
        }
    }
}

/// The name of the module in a file: `kernel/fs/btrfs/btrfs.ko.xz` is `btrfs`.
fn name_of(file: &str) -> String {
    let file = file.trim().rsplit('/').next().unwrap_or_default();
    plain(file.split_once(".ko").map_or(file, |(name, _)| name))
}

fn plain(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    // As depmod writes them for 6.1, cut down.
    const DEP: &str = "\
kernel/arch/x86/crypto/crc32c-intel.ko:
kernel/crypto/crc32c_generic.ko:
kernel/lib/raid6/raid6_pq.ko:
kernel/crypto/xor.ko:
kernel/lib/libcrc32c.ko:
kernel/crypto/xxhash_generic.ko:
kernel/crypto/blake2b_generic.ko:
kernel/drivers/block/nbd.ko.xz:
kernel/fs/btrfs/btrfs.ko: kernel/crypto/blake2b_generic.ko kernel/crypto/xor.ko kernel/lib/raid6/raid6_pq.ko kernel/lib/libcrc32c.ko
kernel/a.ko: kernel/b.ko kernel/c.ko
kernel/b.ko: kernel/c.ko
kernel/c.ko:
";
    const SOFTDEP: &str = "\
# Soft dependencies extracted from modules themselves.
softdep libcrc32c pre: crc32c
softdep btrfs pre: blake2b-256 sha256 xxhash64 crc32c post: never
softdep c pre: a
";
    const ALIAS: &str = "\
alias crc32c crc32c_intel
alias crypto-crc32c crc32c_intel
alias crc32c crc32c_generic
alias xxhash64 xxhash_generic
alias blake2b-256 blake2b_generic
alias fs-btrfs btrfs
";
    const BUILTIN: &str = "kernel/drivers/virtio/virtio_pci.ko\nkernel/fs/ext4/ext4.ko\n";

    fn names(wanted: &[&str]) -> Vec<String> {
        let index = Index::parse(DEP, SOFTDEP, ALIAS, BUILTIN);
        let mark = |step: Step| step.name + if step.is_required { "" } else { "?" };
        index.order(wanted).unwrap().into_iter().map(mark).collect()
    }

    #[test]
    fn what_is_needed_or_wished_for_comes_first() {
        let btrfs = ["blake2b_generic", "xxhash_generic?", "crc32c_intel?", "crc32c_generic?", "libcrc32c"];
        assert_eq!(names(&["btrfs"]), [&btrfs[..], &["raid6_pq", "xor", "btrfs"]].concat());
        assert_eq!(names(&["nbd", "fs-btrfs"]).len(), 9);
        assert_eq!(names(&["crc32c-intel"]), ["crc32c_intel"]);
    }

    #[test]
    fn each_is_loaded_once_also_where_softdeps_go_round() {
        assert_eq!(names(&["a", "b", "a"]), ["c", "b", "a"]);
        assert_eq!(names(&["nbd", "nbd"]), ["nbd"]);
    }

    #[test]
    fn what_is_built_in_is_not_loaded_and_what_is_nowhere_is_named() {
        assert_eq!(names(&["virtio-pci", "ext4"]), Vec::<String>::new());
        let index = Index::parse(DEP, SOFTDEP, ALIAS, BUILTIN);
        assert_eq!(index.order(&["nbd", "ublk_drv"]), Err("ublk_drv".to_owned()));
    }

    #[test]
    fn the_file_of_a_module_is_kept_as_it_is_written() {
        let index = Index::parse(DEP, SOFTDEP, ALIAS, BUILTIN);
        let steps = index.order(&["nbd"]).unwrap();
        assert_eq!(steps[0].file, Path::new("kernel/drivers/block/nbd.ko.xz"));
    }
}
