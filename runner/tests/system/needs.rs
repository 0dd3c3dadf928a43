//! What a test needs of the machine.

use std::fs;
use std::path::Path;
use std::process::Command;

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
    /// User Mode Linux as Debian packages it, with its modules, and what makes a btrfs for it.
    Uml,
    /// A program.
    Tool(&'static str),
    /// A kernel that `brim kernel add` has brought, into the directory that `BRIM_KERNELS` names.
    KeptKernel(&'static str),
    /// A mirror of Debian within the reach of apt. Looked for when the test runs, as it takes a second.
    Mirror,
}

/// The kernel of Debian's package.
pub(crate) const LINUX_UML: &str = "/usr/bin/linux.uml";

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
            Self::Uml => uml().or_else(|| tool("mkfs.btrfs")),
            Self::Tool(name) => tool(name),
            Self::KeptKernel(name) => kept_kernel(name),
            Self::Mirror => mirror(),
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

fn uml() -> Option<String> {
    let output = Command::new(LINUX_UML).arg("--version").output();
    let Ok(output) = output else { return Some(format!("{LINUX_UML} (Debian: user-mode-linux)")) };
    let release = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let index = format!("/usr/lib/uml/modules/{release}/modules.dep");
    (!Path::new(&index).is_file()).then_some(index)
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

fn kept_kernel(name: &str) -> Option<String> {
    let is_kept = |kernels: std::ffi::OsString| Path::new(&kernels).join(name).is_dir();
    let is_here = std::env::var_os("BRIM_KERNELS").is_some_and(is_kept);
    (!is_here).then(|| format!("{name} in the directory that BRIM_KERNELS names"))
}

/// Fetches the smallest file of the mirror that this machine's apt has for a release of Debian.
fn mirror() -> Option<String> {
    let format = ["indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"];
    let said = Command::new("apt-get").args(format).output().map(|output| output.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    let releases = ["bullseye", "bookworm", "trixie", "forky", "sid", "stable", "testing", "unstable"];
    let missing = || "a mirror of Debian within the reach of apt".to_owned();
    let mut sources = said.lines().filter_map(|line| line.split_once(' '));
    let Some((uri, release)) = sources.find(|(_, release)| releases.contains(release)) else {
        return Some(missing());
    };
    let directory = tempfile::tempdir().unwrap();
    let helper = Command::new("/usr/lib/apt/apt-helper")
        .args(["-q", "-o", "Acquire::Retries=0", "download-file", &format!("{uri}dists/{release}/Release")])
        .arg(directory.path().join("Release"))
        .output();
    let is_there = helper.is_ok_and(|output| output.status.success());
    (!is_there).then(missing)
}

fn tool(name: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path
        .split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|directory| Path::new(directory).join(name).is_file());
    (!found).then(|| name.to_owned())
}
