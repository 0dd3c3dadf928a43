//! What a guest boots into: this program as process 1, the tools of the filesystems with the libraries they need, and the
//! kernel's modules. It is written to memory, so that no file stays behind.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use brim_agent::guest::{MODULES, OPTIONAL};
use cpio::newc;
use rustix::fs::MemfdFlags;

use super::elf;
use super::init;
use crate::kernel::Module;
use crate::tool;

/// What mkfs and the checkers of the filesystems are called. What this machine lacks, its guests lack too.
const TOOLS: [&str; 6] = ["mkfs.btrfs", "btrfs", "mkfs.ext4", "e2fsck", "mkfs.xfs", "xfs_repair"];
/// What the tools read.
const FILES: [&str; 1] = ["/etc/mke2fs.conf"];
const DIRECTORIES: [&str; 7] = ["proc", "sys", "dev", "tmp", "mnt", "modules", "etc"];

// include/uapi/linux/stat.h, v6.12.
const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const DEVICE: u32 = 0o020_600;

/// Why there is no initramfs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitramfsError {
    /// A file that belongs into it.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        source: io::Error,
    },
    /// The dynamic linker did not say what a program needs.
    #[error("cannot find the libraries of {}: {why}", path.display())]
    Libraries {
        /// The program.
        path: PathBuf,
        /// What it said.
        why: String,
    },
    /// There is no memory for it.
    #[error("cannot write it to memory")]
    Write(#[from] io::Error),
}

/// An initramfs, in memory.
#[derive(Debug)]
pub(crate) struct Initramfs {
    file: File,
}

impl Initramfs {
    /// Puts one together, with these modules to be loaded in their order, and files of ours.
    pub(crate) fn build(modules: &[Module], files: &[(String, Vec<u8>)]) -> Result<Self, InitramfsError> {
        let file = File::from(
            rustix::fs::memfd_create("brim-initramfs", MemfdFlags::CLOEXEC).map_err(io::Error::from)?,
        );
        let mut archive = Archive { to: io::BufWriter::new(file), directories: BTreeSet::new(), inode: 0 };
        for directory in DIRECTORIES {
            archive.directory(Path::new(directory))?;
        }
        // Before devtmpfs is mounted a program must find these; the kernel opens the console for process 1.
        archive.device("dev/console", 5, 1)?;
        archive.device("dev/null", 1, 3)?;
        let ours = PathBuf::from("/proc/self/exe");
        let program = read(&ours)?;
        archive.program(Path::new(init::PATH), &elf::without_debug_information(&program))?;
        let mut needed = libraries(&ours)?;
        for tool in TOOLS.iter().filter_map(|name| tool::find(name)) {
            needed.extend(libraries(&tool)?);
            archive.program(&tool, &read(&tool)?)?;
        }
        for library in needed {
            archive.program(&library, &read(&library)?)?;
        }
        for path in FILES.map(Path::new).into_iter().filter(|path| path.exists()) {
            archive.program(path, &read(path)?)?;
        }
        for (index, module) in modules.iter().enumerate() {
            let kind = if module.is_required { "ko" } else { OPTIONAL };
            let path = format!("{MODULES}/{index:03}-{}.{kind}", module.name);
            archive.program(Path::new(&path), &module.elf)?;
        }
        for (path, content) in files {
            archive.program(Path::new(path), content)?;
        }
        let file = newc::trailer(archive.to)?.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Self { file })
    }

    /// Where a process of this user finds it, while this process has it.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, InitramfsError> {
    fs::read(path).map_err(|source| InitramfsError::Read { path: path.to_owned(), source })
}

/// The libraries that the dynamic linker would load for a program, and the linker itself.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>, InitramfsError> {
    let failed = |why: String| InitramfsError::Libraries { path: program.to_owned(), why };
    // It is a script that runs the program's own linker (ldd(1)); those we run it on are this machine's own.
    let program = fs::canonicalize(program).map_err(|error| failed(error.to_string()))?;
    let said = Command::new("ldd").arg(&program).stdin(Stdio::null()).output();
    let said = said.map_err(|error| failed(format!("ldd: {error}")))?;
    let text = String::from_utf8_lossy(&said.stdout);
    if !said.status.success() {
        let error = String::from_utf8_lossy(&said.stderr);
        // A static program needs none, and ldd takes that for a failure.
        let fixed = error.contains("not a dynamic executable") || text.contains("statically linked");
        return if fixed { Ok(BTreeSet::new()) } else { Err(failed(error.trim().to_owned())) };
    }
    listed(&text).map_err(failed)
}

/// The paths in lines like `libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn listed(text: &str) -> Result<BTreeSet<PathBuf>, String> {
    let mut paths = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        let found = line.split_once("=> ").map_or(line, |(_, found)| found);
        if found.starts_with("not found") {
            return Err(line.to_owned());
        }
        // The kernel itself brings linux-vdso.so.1, which is no file.
        if let Some(path) = found.split_whitespace().next().filter(|path| path.starts_with('/')) {
            paths.insert(PathBuf::from(path));
        }
    }
    Ok(paths)
}

/// A cpio archive in the format that the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst).
struct Archive {
    to: io::BufWriter<File>,
    directories: BTreeSet<PathBuf>,
    inode: u32,
}

impl Archive {
    fn entry(&mut self, name: &Path, mode: u32) -> newc::Builder {
        self.inode += 1;
        newc::Builder::new(&name.to_string_lossy()).ino(self.inode).mode(mode)
    }

    fn write(&mut self, entry: newc::Builder, content: &[u8]) -> io::Result<()> {
        let size = u32::try_from(content.len()).map_err(|_| io::Error::other("a file of more than 4 GiB"))?;
        let mut writer = entry.write(&mut self.to, size);
        writer.write_all(content)?;
        writer.finish().map(drop)
    }

    /// A directory, and those on the way to it.
    fn directory(&mut self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() || !self.directories.insert(path.to_owned()) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.directory(parent)?;
        }
        let entry = self.entry(path, DIRECTORY).nlink(2);
        self.write(entry, &[])
    }

    fn program(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        let name = path.strip_prefix("/").unwrap_or(path);
        if let Some(parent) = name.parent() {
            self.directory(parent)?;
        }
        let entry = self.entry(name, PROGRAM);
        self.write(entry, content)
    }

    fn device(&mut self, name: &str, major: u32, minor: u32) -> io::Result<()> {
        let entry = self.entry(Path::new(name), DEVICE).rdev_major(major).rdev_minor(minor);
        self.write(entry, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linker_is_understood() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f5)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f7)\n";
        let paths: Vec<PathBuf> = listed(text).unwrap().into_iter().collect();
        assert_eq!(
            paths,
            [Path::new("/lib/x86_64-linux-gnu/libz.so.1"), Path::new("/lib64/ld-linux-x86-64.so.2")]
        );
        assert_eq!(listed("\tlibodd.so => not found\n"), Err("libodd.so => not found".to_owned()));
    }

    #[test]
    fn what_is_packed_is_found_again() {
        let module = Module { name: "nbd".to_owned(), elf: b"module".to_vec(), is_required: true };
        let initramfs =
            Initramfs::build(&[module], &[("/disk-0.gz".to_owned(), b"packed".to_vec())]).unwrap();
        let mut archive = File::open(initramfs.path()).unwrap();
        let mut found = Vec::new();
        loop {
            let entry = newc::Reader::new(archive).unwrap();
            if entry.entry().is_trailer() {
                break;
            }
            let (name, mode, size) =
                (entry.entry().name().to_owned(), entry.entry().mode(), entry.entry().file_size());
            found.push((name, mode, size));
            archive = entry.finish().unwrap();
        }
        assert!(
            found.iter().any(|(name, mode, size)| name == "init" && *mode == PROGRAM && *size > 1_000_000)
        );
        assert!(found.contains(&("modules/000-nbd.ko".to_owned(), PROGRAM, 6)), "{found:?}");
        assert!(found.contains(&("disk-0.gz".to_owned(), PROGRAM, 6)), "{found:?}");
        assert!(found.contains(&("dev/null".to_owned(), DEVICE, 0)), "{found:?}");
        // A directory comes before what is in it.
        let place = |wanted: &str| found.iter().position(|(name, _, _)| name == wanted);
        assert!(place("modules") < place("modules/000-nbd.ko"));
    }
}
