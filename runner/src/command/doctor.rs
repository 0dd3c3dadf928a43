//! `brim doctor`: what this machine can do, what works without the rest, and the one command that mends it.

mod guests;

use std::fs;

use crate::error::Exit;
use crate::{output, tool};

/// One thing that brim may want.
struct Check {
    name: &'static str,
    /// Found, and where or which; or why not.
    found: Result<String, String>,
    /// The rigs that cannot do without it.
    needed: &'static [&'static str],
    /// What it is for, and what works without it.
    without: &'static str,
    /// The one command that mends it.
    mend: &'static str,
}

const FUSE: &str = "host/fuse";
const NBD: &str = "host/nbd";
const UML: &str = "uml";
const RIGS: [&str; 3] = [FUSE, NBD, UML];

/// Looks at everything and says what is there.
pub(crate) fn doctor() -> Exit {
    let checks = checks();
    let style = output::style(&std::io::stdout());
    output::line(&format!("kernel {}", brim_agent::kernel_release()));
    for Check { name, found, needed, without, mend } in &checks {
        match found {
            Ok(what) => output::line(&format!("  {:<8} {name:<16} {what}", "there")),
            Err(why) => {
                let word = if needed.is_empty() { "missing".to_owned() } else { style.strong("missing") };
                let pad = " ".repeat("there   ".len() - "missing".len());
                output::line(&format!("  {word}{pad} {name:<16} {why}"));
                output::line(&format!("  {:<25} {without}", ""));
                output::line(&format!("  {:<25} mend: {mend}", ""));
            }
        }
    }
    let (here, missing): (Vec<_>, Vec<_>) = RIGS.iter().partition(|rig| lacks(&checks, rig).is_empty());
    let names = |rigs: &[&&str]| rigs.iter().map(|rig| **rig).collect::<Vec<_>>().join(", ");
    output::line(&format!("rigs here: {}", if here.is_empty() { "none".to_owned() } else { names(&here) }));
    for rig in &missing {
        output::line(&format!("not here: {rig}, for want of {}", lacks(&checks, rig).join(", ")));
    }
    if here.is_empty() { Exit::Rig } else { Exit::Expected }
}

/// What is missing for a rig.
fn lacks(checks: &[Check], rig: &str) -> Vec<&'static str> {
    let lacks = |check: &&Check| check.needed.contains(&rig) && check.found.is_err();
    checks.iter().filter(lacks).map(|check| check.name).collect()
}

fn checks() -> Vec<Check> {
    let mut checks = vec![
        Check {
            name: "root",
            found: root(),
            needed: &[FUSE, NBD],
            without: "without it nothing can be mounted on this kernel; guests, check, list, explain and serve work",
            mend: "sudo brim …",
        },
        Check {
            name: "FUSE",
            found: device("/dev/fuse"),
            needed: &[FUSE],
            without: "without it the rig host/fuse cannot give the kernel a disk; guests and serve work",
            mend: "modprobe fuse",
        },
        Check {
            name: "loop",
            found: device("/dev/loop-control"),
            needed: &[FUSE],
            without: "without it the rig host/fuse cannot give the kernel a disk; guests and serve work",
            mend: "modprobe loop",
        },
    ];
    checks.push(Check {
        name: "nbd",
        found: device("/dev/nbd0"),
        needed: &[NBD],
        without: "it is for the rig host/nbd; host/fuse and guests work without",
        mend: "modprobe nbd",
    });
    checks.extend(filesystems());
    checks.extend(evidence());
    checks.extend(guests::checks());
    checks.extend(later());
    checks
}

fn filesystems() -> [Check; 4] {
    let tool =
        |name, program, without, mend| Check { name, found: tool(program), needed: &[], without, mend };
    [
        Check {
            name: "btrfs",
            found: filesystem("btrfs"),
            needed: &[],
            without: "without it only scenarios on ext4 and xfs run on this kernel",
            mend: "modprobe btrfs",
        },
        tool(
            "btrfs-progs",
            "mkfs.btrfs",
            "without it only scenarios on ext4 and xfs run",
            "apt-get install btrfs-progs",
        ),
        tool("e2fsprogs", "mkfs.ext4", "without it --filesystem ext4 fails", "apt-get install e2fsprogs"),
        tool("xfsprogs", "mkfs.xfs", "without it --filesystem xfs fails", "apt-get install xfsprogs"),
    ]
}

fn evidence() -> [Check; 2] {
    [
        Check {
            name: "tracefs",
            found: tracefs(),
            needed: &[],
            without: "without it refused reservations are not seen, and data is told from metadata by the counters",
            mend: "a kernel with CONFIG_FTRACE and CONFIG_PERF_EVENTS (every distribution's has them)",
        },
        Check {
            name: "kernel log",
            found: fs::File::open("/dev/kmsg")
                .map(|_| "/dev/kmsg".to_owned())
                .map_err(|error| error.to_string()),
            needed: &[],
            without: "without it new kernel warnings are not part of the evidence",
            mend: "sysctl kernel.dmesg_restrict=0, or run as root",
        },
    ]
}

/// What the rigs of later releases want.
fn later() -> [Check; 2] {
    [
        Check {
            name: "KVM",
            found: device("/dev/kvm")
                .map(|path| format!("{path} (whether it runs a stock guest is not tried)")),
            needed: &[],
            without: "it is for the rigs qemu/*, which are not in this release; the others work without",
            mend: "modprobe kvm_intel || modprobe kvm_amd",
        },
        Check {
            name: "QEMU",
            found: tool("qemu-system-x86_64"),
            needed: &[],
            without: "it is for the rigs qemu/*, which are not in this release; the others work without",
            mend: "apt-get install qemu-system-x86",
        },
    ]
}

fn root() -> Result<String, String> {
    let user = rustix::process::geteuid();
    if user.is_root() { Ok("user 0".to_owned()) } else { Err(format!("user {}", user.as_raw())) }
}

fn device(path: &str) -> Result<String, String> {
    // Opening it is the only way to know: a container may show a device and still refuse it.
    let opened = fs::OpenOptions::new().read(true).write(true).open(path);
    opened.map(|_| path.to_owned()).map_err(|error| format!("{path}: {error}"))
}

fn filesystem(name: &str) -> Result<String, String> {
    let known = fs::read_to_string("/proc/filesystems").map_err(|error| error.to_string())?;
    let here = known.lines().any(|line| line.split_whitespace().last() == Some(name));
    let module = || module(name);
    if here || module() { Ok("in the kernel".to_owned()) } else { Err("not in this kernel".to_owned()) }
}

/// Whether the kernel can load the module when it is wanted.
fn module(name: &str) -> bool {
    let list = format!("/lib/modules/{}/modules.dep", brim_agent::kernel_release());
    let wanted = format!("/{name}.ko");
    fs::read_to_string(list).is_ok_and(|list| list.contains(&wanted))
}

fn tool(name: &str) -> Result<String, String> {
    let found = tool::find(name);
    found.map(|path| path.display().to_string()).ok_or_else(|| format!("no {name} in PATH"))
}

fn tracefs() -> Result<String, String> {
    if filesystem("tracefs").is_err() {
        return Err("this kernel has no tracefs".to_owned());
    }
    if !rustix::process::geteuid().is_root() {
        return Err("only root can try it".to_owned());
    }
    brim_agent::try_tickets()
        .map(|()| "tickets are recorded".to_owned())
        .map_err(|failure| failure.to_string())
}
