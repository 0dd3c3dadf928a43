//! A kernel to test with, and a guest that answers.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Cursor, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use brim_trial::Bytes;
use cpio::newc::{Builder, ModeFileType};
use tempfile::TempDir;

use crate::rig::qemu::{Boot, Ending, Machine};

/// How long a guest may take to anything before that is a hang.
const LIMIT: Duration = Duration::from_secs(60);
/// The modules that a guest here wants, each after those it needs. Newer kernels have most of them built in.
const MODULES: [&str; 9] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_console",
    "virtio_blk",
    "pvpanic",
    "pvpanic-mmio",
];

/// A kernel to boot.
#[derive(Debug)]
pub(super) struct Pc {
    pub(super) boot: Boot,
    _directory: TempDir,
}

impl Pc {
    /// The one that the environment names.
    pub(super) fn here() -> Self {
        let kernel = std::env::var_os("BRIM_TEST_PC_KERNEL").map(PathBuf::from);
        let kernel = kernel.expect("BRIM_TEST_PC_KERNEL names a kernel for a PC, as …/boot/vmlinuz-VERSION");
        let directory = tempfile::tempdir().unwrap();
        let init = directory.path().join("init");
        compile(&init);
        let initramfs = directory.path().join("initramfs");
        archive(&initramfs, &init, &modules(&kernel));
        let boot = Boot { kernel, initramfs, command_line: String::new(), memory: Bytes(256 << 20) };
        Self { boot, _directory: directory }
    }

    /// A guest that is ready.
    pub(super) fn boot(&self) -> Guest {
        self.boot_with(None)
    }

    pub(super) fn boot_with(&self, drive: Option<UnixStream>) -> Guest {
        let mut guest = guest_of(Machine::start(&self.boot, drive).unwrap());
        let ready = guest.hear();
        assert_eq!(ready, "ready", "{:?}\n{}", guest.machine.ended(), guest.machine.console());
        guest
    }
}

/// A machine in which the tests' own process 1 runs.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) machine: Machine,
    lines: BufReader<UnixStream>,
}

pub(super) fn guest_of(machine: Machine) -> Guest {
    let channel = machine.channel().try_clone().unwrap();
    channel.set_read_timeout(Some(LIMIT)).unwrap();
    Guest { machine, lines: BufReader::new(channel) }
}

impl Guest {
    pub(super) fn say(&mut self, line: &str) {
        writeln!(self.lines.get_mut(), "{line}").unwrap();
    }

    /// The next line, or nothing where the guest has ended.
    pub(super) fn hear(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(super) fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.hear()
    }
}

/// Waits for the end.
pub(super) fn ended(machine: &mut Machine) -> Ending {
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(ending) = machine.ended() {
            return ending;
        }
        assert!(Instant::now() < until, "the guest does not end:\n{}", machine.console());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn compile(init: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/init.rs");
    let status = Command::new("rustc")
        .args(["--edition", "2024", "-O", "-C", "strip=symbols", "-C", "target-feature=+crt-static"])
        .args(["--target", "x86_64-unknown-linux-gnu", "-o"])
        .args([init, source.as_path()])
        .status();
    assert!(status.unwrap().success(), "rustc makes the guest's process 1");
}

/// The modules beside `…/boot/vmlinuz-VERSION`, as the package of a kernel is unpacked, or beside `…/vmlinuz`, as brim keeps it.
fn modules(kernel: &Path) -> Vec<PathBuf> {
    let name = kernel.file_name().unwrap().to_str().unwrap();
    let version = name.split_once('-').map_or(name, |(_, version)| version);
    let root = kernel.parent().and_then(Path::parent).unwrap();
    let trees = ["lib/modules", "usr/lib/modules"].map(|tree| root.join(tree).join(version).join("kernel"));
    let kept = kernel.with_file_name("modules").join("kernel");
    let tree =
        trees.iter().chain([&kept]).find(|tree| tree.is_dir()).expect("the kernel's modules are beside it");
    let mut found = Vec::new();
    files(tree, &mut found);
    let of = |name: &str| {
        let is =
            |path: &&PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{name}.ko"));
        found.iter().find(is).cloned()
    };
    MODULES.iter().filter_map(|name| of(name)).collect()
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

fn archive(to: &Path, init: &Path, modules: &[PathBuf]) {
    let directory = |name: &str| Builder::new(name).mode(0o755).set_mode_file_type(ModeFileType::Directory);
    let file = |name: &str| Builder::new(name).mode(0o755).set_mode_file_type(ModeFileType::Regular);
    let nothing = || Cursor::new(Vec::new());
    let content = |path: &Path| Cursor::new(fs::read(path).unwrap());
    let mut entries: Vec<_> =
        ["dev", "modules"].map(|name| (directory(name), nothing())).into_iter().collect();
    // Without it the kernel gives process 1 no standard output.
    let console = Builder::new("dev/console").mode(0o600).set_mode_file_type(ModeFileType::Char);
    entries.push((console.rdev_major(5).rdev_minor(1), nothing()));
    entries.push((file("init"), content(init)));
    for (index, module) in modules.iter().enumerate() {
        let name = module.file_name().unwrap().to_str().unwrap();
        entries.push((file(&format!("modules/{index}-{name}")), content(module)));
    }
    cpio::write_cpio(entries.into_iter(), File::create(to).unwrap()).unwrap();
}
