//! `brim doctor`: what this machine can do, what works without the rest, and the one command that mends it.

use std::fs;

use crate::error::Exit;
use crate::kernel::Store;
use crate::{output, tool};

/// One thing that brim may want.
struct Check {
    name: &'static str,
    /// Found, and where or which; or why not.
    found: Result<String, String>,
    /// Whether `brim run` cannot do without it.
    needed: bool,
    /// What it is for, and what works without it.
    without: &'static str,
    /// The one command that mends it.
    mend: &'static str,
}

/// Looks at everything and says what is there.
pub(crate) fn doctor() -> Exit {
    let checks = checks();
    let style = output::style(&std::io::stdout());
    output::line(&format!("kernel {}", brim_agent::kernel_release()));
    for Check { name, found, needed, without, mend } in &checks {
        match found {
            Ok(what) => output::line(&format!("  {:<8} {name:<16} {what}", "there")),
            Err(why) => {
                let word = if *needed { style.strong("missing") } else { "missing".to_owned() };
                let pad = " ".repeat("there   ".len() - "missing".len());
                output::line(&format!("  {word}{pad} {name:<16} {why}"));
                output::line(&format!("  {:<25} {without}", ""));
                output::line(&format!("  {:<25} mend: {mend}", ""));
            }
        }
    }
    let missing: Vec<&str> = checks.iter().filter(|c| c.needed && c.found.is_err()).map(|c| c.name).collect();
    let there = |name: &str| checks.iter().any(|check| check.name == name && check.found.is_ok());
    let mut rigs = vec!["uml"];
    if missing.is_empty() {
        rigs.insert(0, "host/fuse");
    }
    if there("root") && there("nbd") {
        rigs.push("host/nbd");
    }
    if there("QEMU") {
        rigs.push("qemu/nbd");
    }
    output::line(&format!("rigs here: {} (those but host/* with a kernel: --kernel)", rigs.join(", ")));
    if missing.is_empty() {
        Exit::Expected
    } else {
        output::line(&format!("not here: host/fuse, for want of {}", missing.join(", ")));
        Exit::Rig
    }
}

fn checks() -> Vec<Check> {
    let mut checks = vec![
        Check {
            name: "root",
            found: root(),
            needed: true,
            without: "without it nothing can be mounted on this kernel; guests, check, list, explain and serve work",
            mend: "sudo brim …",
        },
        Check {
            name: "FUSE",
            found: device("/dev/fuse"),
            needed: true,
            without: "without it the rig host/fuse cannot give the kernel a disk; serve works",
            mend: "modprobe fuse",
        },
        Check {
            name: "loop",
            found: device("/dev/loop-control"),
            needed: true,
            without: "without it the rig host/fuse cannot give the kernel a disk; serve works",
            mend: "modprobe loop",
        },
    ];
    checks.extend(filesystems());
    checks.extend(evidence());
    checks.extend(guests());
    checks
}

fn filesystems() -> [Check; 4] {
    let tool =
        |name, program, needed, without, mend| Check { name, found: tool(program), needed, without, mend };
    [
        Check {
            name: "btrfs",
            found: filesystem("btrfs"),
            needed: false,
            without: "without it only scenarios on ext4 and xfs run",
            mend: "modprobe btrfs",
        },
        tool(
            "btrfs-progs",
            "mkfs.btrfs",
            false,
            "without it only scenarios on ext4 and xfs run",
            "apt-get install btrfs-progs",
        ),
        tool(
            "e2fsprogs",
            "mkfs.ext4",
            false,
            "without it --filesystem ext4 fails",
            "apt-get install e2fsprogs",
        ),
        tool("xfsprogs", "mkfs.xfs", false, "without it --filesystem xfs fails", "apt-get install xfsprogs"),
    ]
}

fn evidence() -> [Check; 2] {
    [
        Check {
            name: "tracefs",
            found: tracefs(),
            needed: false,
            without: "without it a verdict cannot tell data from metadata; the rest of the evidence is there",
            mend: "a kernel with CONFIG_FTRACE and CONFIG_PERF_EVENTS (every distribution's has them)",
        },
        Check {
            name: "kernel log",
            found: fs::File::open("/dev/kmsg")
                .map(|_| "/dev/kmsg".to_owned())
                .map_err(|error| error.to_string()),
            needed: false,
            without: "without it new kernel warnings are not part of the evidence",
            mend: "sysctl kernel.dmesg_restrict=0, or run as root",
        },
    ]
}

/// What the rigs want that bring a kernel, and the one with the kernel's own NBD client.
fn guests() -> [Check; 5] {
    [
        Check {
            name: "kernels",
            found: kernels(),
            needed: false,
            without: "without one a guest boots only a kernel that --kernel names by its path",
            mend: "brim kernel add uml/6.12",
        },
        Check {
            name: "apt",
            found: tool("apt-get").and_then(|_| tool("dpkg-deb")).map(|_| "it brings kernels".to_owned()),
            needed: false,
            without: "without it `brim kernel add` brings nothing; --kernel PATH works",
            mend: "copy the directory of kernels from a machine that has it",
        },
        Check {
            name: "QEMU",
            found: tool("qemu-system-x86_64"),
            needed: false,
            without: "without it the rig qemu/nbd boots no kernel for a PC; uml works",
            mend: "apt-get install qemu-system-x86",
        },
        Check {
            name: "KVM",
            found: device("/dev/kvm")
                .map(|path| format!("{path} (whether it runs a kernel is tried with that kernel)")),
            needed: false,
            without: "without it QEMU translates, and a guest takes some seconds to boot",
            mend: "modprobe kvm_intel || modprobe kvm_amd",
        },
        Check {
            name: "nbd",
            found: device("/dev/nbd0"),
            needed: false,
            without: "without it there is no rig host/nbd; host/fuse and guests work",
            mend: "modprobe nbd max_part=0",
        },
    ]
}

fn kernels() -> Result<String, String> {
    let store = Store::open().map_err(|error| error.to_string())?;
    let names: Vec<String> = store.all().into_iter().map(|kept| kept.about.name).collect();
    if names.is_empty() { Err("none is kept".to_owned()) } else { Ok(names.join(", ")) }
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
