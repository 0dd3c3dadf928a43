//! What a test needs of the machine.

use std::fs;
use std::path::Path;

/// One thing a test needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// User 0, FUSE and loop devices: the rig `host/fuse`.
    Rig,
    /// A filesystem in the kernel, and its mkfs.
    Filesystem(&'static str),
    /// A kernel at least as new.
    Kernel(u32, u32),
    /// Tracepoints, to tell data from metadata.
    Tracefs,
    /// A program.
    Tool(&'static str),
}

/// What every test of a scenario on btrfs needs.
pub(crate) const BTRFS: &[Need] = &[Need::Rig, Need::Filesystem("btrfs"), Need::Tracefs];

impl Need {
    /// What is missing, in words; `None` if it is there.
    pub(crate) fn missing(self) -> Option<String> {
        match self {
            Self::Rig => rig(),
            Self::Filesystem(name) => filesystem(name).or_else(|| tool(&format!("mkfs.{name}"))),
            Self::Kernel(major, minor) => kernel(major, minor),
            Self::Tracefs => filesystem("tracefs"),
            Self::Tool(name) => tool(name),
        }
    }
}

fn rig() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("root".to_owned());
    }
    ["/dev/fuse", "/dev/loop-control"]
        .into_iter()
        .find(|path| !Path::new(path).exists())
        .map(ToOwned::to_owned)
}

fn filesystem(name: &str) -> Option<String> {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let here = known.lines().any(|line| line.split_whitespace().last() == Some(name));
    (!here).then(|| format!("{name} in the kernel"))
}

fn kernel(major: u32, minor: u32) -> Option<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = release.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let running = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (running < (major, minor)).then(|| format!("kernel {major}.{minor} or newer"))
}

fn tool(name: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path
        .split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|directory| Path::new(directory).join(name).is_file());
    (!found).then(|| name.to_owned())
}
