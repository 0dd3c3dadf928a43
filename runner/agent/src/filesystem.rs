//! What brim knows of each filesystem: how to make it, and which of its counters say what is free.

mod btrfs;
mod ext4;
mod xfs;

use std::ffi::CString;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use brim_trial::event::Said;
use brim_trial::plan::Filesystem;
use brim_trial::{Bytes, Counters, FilesystemKind};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::Failure;
use crate::device::Device;
use crate::devices::Devices;
use crate::failure::Trying;
use crate::sys;

/// How much of what a checker says is kept: the first mistakes tell, the rest follows from them.
const LINES_MAX: usize = 100;

/// A mounted filesystem.
#[derive(Debug)]
pub(crate) struct Mounted {
    place: Place,
    root: File,
    /// Where the kernel shows its counters.
    sysfs: std::path::PathBuf,
    /// The fsid in btrfs' tracepoints.
    fsid: Option<[u8; 16]>,
}

/// What is mounted, and where.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    filesystem: Filesystem,
    devices: Arc<Devices>,
    path: std::path::PathBuf,
}

/// Makes `filesystem` on `devices`.
pub(crate) fn make(filesystem: &Filesystem, devices: &[&str]) -> Result<(), Failure> {
    let (program, arguments) = match filesystem.kind {
        FilesystemKind::Btrfs => btrfs::MKFS,
        FilesystemKind::Ext4 => ext4::MKFS,
        FilesystemKind::Xfs => xfs::MKFS,
    };
    let what = || format!("{program} on {}", devices.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .args(&filesystem.mkfs)
        .args(devices)
        .stdin(Stdio::null())
        .output()
        .trying(what)
        .map_err(|failure| failure.with_help(format!("apt-get install {}", package(filesystem.kind))))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // Some mkfs explain all their options where one is wrong.
    let said = said.lines().map(str::trim).take_while(|line| !line.starts_with("Usage"));
    let said = said.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    let failure = Failure::new(what(), format!("{}: {said}", output.status));
    Err(failure.refused().with_help("ask for another size of the disk, or other options of mkfs"))
}

/// The Debian package with the tools of `kind`.
fn package(kind: FilesystemKind) -> &'static str {
    match kind {
        FilesystemKind::Btrfs => "btrfs-progs",
        FilesystemKind::Ext4 => "e2fsprogs",
        FilesystemKind::Xfs => "xfsprogs",
    }
}

impl Mounted {
    /// Mounts what is on `devices` at `path`, which is made for it.
    pub(crate) fn mount(
        filesystem: &Filesystem,
        devices: &Arc<Devices>,
        path: &Path,
    ) -> Result<Self, Failure> {
        let (filesystem, devices, path) = (filesystem.clone(), Arc::clone(devices), path.to_owned());
        Place { filesystem, devices, path }.mount()
    }

    /// Has the mount take these options over; what the kernel says to that.
    pub(crate) fn remount(&self, options: &[String]) -> Result<Result<(), Errno>, Failure> {
        let (flags, rest) = flags(options);
        let what = || format!("remount {}", self.path().display());
        let rest = CString::new(rest).map_err(|_| Failure::new(what(), "a mount option has a nul byte"))?;
        Ok(rustix::mount::mount_remount(self.path(), FLAGS | flags, rest.as_c_str()))
    }

    /// How large the nodes of btrfs' trees are.
    pub(crate) fn node_size(&self) -> Result<u64, Failure> {
        sys::btrfs::node_size(&self.root).trying(|| "ask btrfs for the size of its nodes".to_owned())
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> FilesystemKind {
        self.place.filesystem.kind
    }

    /// Its root directory.
    pub(crate) fn root(&self) -> &File {
        &self.root
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.place.path
    }

    /// The fsid in btrfs' tracepoints.
    pub(crate) fn fsid(&self) -> Option<[u8; 16]> {
        self.fsid
    }

    /// Where btrfs shows its counters.
    pub(crate) fn sysfs_of_btrfs(&self) -> Option<&Path> {
        (self.kind() == FilesystemKind::Btrfs).then_some(self.sysfs.as_path())
    }

    /// Its own counters, now.
    pub(crate) fn counters(&self) -> Result<Counters, Failure> {
        match self.kind() {
            FilesystemKind::Btrfs => btrfs::counters(&self.sysfs),
            FilesystemKind::Ext4 => ext4::counters(&self.root, &self.sysfs),
            FilesystemKind::Xfs => xfs::counters(&self.root),
        }
    }

    /// The size of its blocks, in bytes.
    pub(crate) fn block_size(&self) -> Result<u64, Failure> {
        rustix::fs::fstatvfs(&self.root).map(|stat| stat.f_frsize).trying(|| "statvfs the mount".to_owned())
    }

    /// Whether the kernel lets nobody write to it.
    pub(crate) fn read_only(&self) -> Result<bool, Failure> {
        let stat = rustix::fs::fstatvfs(&self.root).trying(|| "statvfs the mount".to_owned())?;
        Ok(stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
    }

    /// Writes everything back.
    pub(crate) fn sync(&self) -> Result<(), Failure> {
        rustix::fs::syncfs(&self.root).trying(|| "syncfs the mount".to_owned())
    }

    /// Unmounts it, and says what it takes to mount it again.
    pub(crate) fn unmount(self) -> Result<Place, Failure> {
        let Self { root, place, .. } = self;
        drop(root);
        let path = &place.path;
        rustix::mount::unmount(path, UnmountFlags::empty())
            .trying(|| format!("unmount {}", path.display()))?;
        Ok(place)
    }
}

impl Place {
    /// Has these mount options from here on.
    pub(crate) fn set_options(&mut self, options: &[String]) {
        self.filesystem.mount = options.to_vec();
    }

    /// The device that names the filesystem to mount(2) and to its tools. Of several disks btrfs is shown all first, as it puts
    /// together what it has seen.
    fn source(&self) -> Result<Arc<Device>, Failure> {
        let devices = self.devices.here();
        let first = || devices.first().cloned();
        let none = || Failure::new(format!("find the {}", self.filesystem.kind), "no disk is attached");
        if devices.len() < 2 || self.filesystem.kind != FilesystemKind::Btrfs {
            return first().ok_or_else(none);
        }
        let mut member = None;
        for device in &devices {
            if device.show_to_btrfs()? {
                member = member.or_else(|| Some(Arc::clone(device)));
            }
        }
        member.or_else(first).ok_or_else(none)
    }

    /// Mounts it.
    pub(crate) fn mount(self) -> Result<Mounted, Failure> {
        let device = self.source()?;
        let device = device.path();
        let Self { filesystem, path, .. } = &self;
        let kind = filesystem.kind;
        let what = || format!("mount {kind} on {device}");
        if !path.is_dir() {
            std::fs::create_dir(path).trying(what)?;
        }
        let (flags, options) = flags(&filesystem.mount);
        let options =
            CString::new(options).map_err(|_| Failure::new(what(), "a mount option has a nul byte"))?;
        let mounted = rustix::mount::mount(device, path, kind.name(), FLAGS | flags, options.as_c_str());
        if mounted == Err(Errno::INVAL) && !filesystem.mount.is_empty() {
            let failure = Failure::new(
                what(),
                format!("the kernel refuses the options `{}`", filesystem.mount.join(",")),
            );
            return Err(failure.refused().with_help("the kernel log says which: `dmesg | tail`"));
        }
        mounted.trying(what)?;
        self.clone().look_at().inspect_err(|_| {
            // The first failure is the one worth telling.
            let _ = rustix::mount::unmount(path, UnmountFlags::empty());
        })
    }

    fn look_at(self) -> Result<Mounted, Failure> {
        let root = File::open(&self.path).trying(|| format!("open {}", self.path.display()))?;
        let kind = self.filesystem.kind;
        let fsid = match kind {
            FilesystemKind::Btrfs => Some(btrfs::fsid(&root)?),
            FilesystemKind::Ext4 | FilesystemKind::Xfs => None,
        };
        let sysfs = match fsid {
            Some(fsid) => btrfs::sysfs(fsid),
            None => Path::new("/sys/fs").join(kind.name()).join(self.source()?.name()),
        };
        Ok(Mounted { place: self, root, sysfs, fsid })
    }

    /// Looks for mistakes on the device, which nothing has mounted; what the checker said, where it found any.
    pub(crate) fn check(&self) -> Result<Option<Said>, Failure> {
        let (program, arguments) = match self.filesystem.kind {
            FilesystemKind::Btrfs => btrfs::CHECK,
            FilesystemKind::Ext4 => ext4::CHECK,
            FilesystemKind::Xfs => xfs::CHECK,
        };
        let device = self.source()?;
        let output = Command::new(program)
            .args(arguments)
            .arg(device.path())
            .stdin(Stdio::null())
            .output()
            .trying(|| format!("{program} on {}", device.path()))
            .map_err(|failure| {
                failure.with_help(format!("apt-get install {}", package(self.filesystem.kind)))
            })?;
        if output.status.success() {
            return Ok(None);
        }
        let lines = [output.stdout, output.stderr].concat();
        let lines = String::from_utf8_lossy(&lines);
        let lines = lines.lines().map(str::trim_end).filter(|line| !line.is_empty());
        Ok(Some(Said {
            // The shell's convention for a program that a signal ended has no number to tell here.
            exit: output.status.code().unwrap_or(-1),
            lines: lines.take(LINES_MAX).map(ToOwned::to_owned).collect(),
        }))
    }
}

/// What every mount of ours has.
const FLAGS: MountFlags = MountFlags::NODEV.union(MountFlags::NOSUID);

/// Mount options as flags of mount(2) and as the words that are left for the filesystem.
fn flags(options: &[String]) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut rest: Vec<&str> = Vec::new();
    for word in options.iter().flat_map(|option| option.split(',')) {
        match word {
            "ro" => flags |= MountFlags::RDONLY,
            "rw" => flags -= MountFlags::RDONLY,
            "noatime" => flags |= MountFlags::NOATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "strictatime" => flags |= MountFlags::STRICTATIME,
            "lazytime" => flags |= MountFlags::LAZYTIME,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "dirsync" => flags |= MountFlags::DIRSYNC,
            _ => rest.push(word),
        }
    }
    (flags, rest.join(","))
}

/// The numbers in the files of `directory` that `wanted` names, each as `PREFIX.NAME`.
fn read_numbers(directory: &Path, prefix: &str, wanted: &[&str]) -> Result<Vec<(String, Bytes)>, Failure> {
    let mut numbers = Vec::new();
    for name in wanted {
        let path = directory.join(name);
        let what = || format!("read {}", path.display());
        let text = match read(&path) {
            Ok(text) => text,
            // Counters come and go with kernel releases: one that is not there is not part of the sum.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).trying(what),
        };
        let number = text
            .trim()
            .parse()
            .map_err(|_| Failure::new(what(), format!("`{}` is no number", text.trim())))?;
        let short = name.trim_start_matches("bytes_").trim_end_matches("_bytes");
        numbers.push((format!("{prefix}.{short}"), Bytes(number)));
    }
    Ok(numbers)
}

/// A file of sysfs, which gives all it has at once.
fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = [0; 64];
    let length = File::open(path)?.read(&mut text)?;
    Ok(String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned())
}

/// What statvfs(3) says: free bytes, bytes free to users without privileges, all bytes.
fn statvfs(root: &File) -> Result<(Bytes, Bytes, Bytes), Failure> {
    let stat = rustix::fs::fstatvfs(root).trying(|| "statvfs the mount".to_owned())?;
    let bytes = |blocks: u64| Bytes(blocks.saturating_mul(stat.f_frsize));
    Ok((bytes(stat.f_bfree), bytes(stat.f_bavail), bytes(stat.f_blocks)))
}
