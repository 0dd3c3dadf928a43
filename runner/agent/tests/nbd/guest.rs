//! Process 1 of the guest, and what its tests have in common.

use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use brim_agent::{NbdDevice, NbdSettings, modules};
use brim_device::Bytes;
use brim_device::fault::{Op, Row, Then, When};
use nbd_server::client::{self, Negotiated};
use nbd_server::{Disk, DiskOptions, ExportOptions, Server};
use rustix::fs::OFlags;
use rustix::mount::MountFlags;
use rustix::system::RebootCommand;

/// The first word of what process 1 is started with.
pub(crate) const INIT: &str = "in-guest";
/// The only word of a process that is to be killed while it has a device.
pub(crate) const KILLED: &str = "attach-and-wait";
/// For how many seconds the test of held requests holds one: by hand, as anything that the kernel does to it comes after 30.
pub(crate) const HOLD: &str = "BRIM_TEST_HOLD";
/// The last words of a test that did well.
pub(crate) const PASSED: &str = "guest: passed";
/// How long anything may take that should happen at once.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
pub(crate) const BLOCK: usize = 4096;

/// Runs one test, says what came of it, and switches the machine off.
pub(crate) fn init(module: &str, case: &str) -> ! {
    let run = || {
        prepare(Path::new(module));
        let (_, _, run) =
            crate::cases::ALL.iter().find(|(name, ..)| *name == case).expect("a case by that name");
        run();
    };
    if std::panic::catch_unwind(run).is_ok() {
        println!("{PASSED}");
    } else {
        tell_kernel_log();
    }
    rustix::system::reboot(RebootCommand::PowerOff).unwrap();
    unreachable!("the power is off")
}

fn prepare(module: &Path) {
    mount("proc", "/proc");
    mount("sysfs", "/sys");
    // Another nbd.ko than the running kernel's is refused.
    modules::load(module, "nbds_max=4 max_part=0").unwrap();
    modules::load(module, "nbds_max=4 max_part=0").expect("loading it again is no failure");
}

/// Shows the kernel's view of it.
fn tell_kernel_log() {
    let Ok(output) = Command::new("dmesg").output() else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    println!("{}", lines[lines.len().saturating_sub(30)..].join("\n"));
}

fn mount(kind: &str, path: &str) {
    rustix::mount::mount(kind, path, kind, MountFlags::empty(), None::<&CStr>).unwrap();
}

/// A disk and its server.
pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) disk: Disk,
}

impl Rig {
    /// A disk with a write cache.
    pub(crate) fn new(size: u64) -> Self {
        let options = DiskOptions { write_cache: true, ..DiskOptions::default() };
        let (server, disk) = (Server::new(), Disk::new_with(Bytes(size), options).unwrap());
        let export = ExportOptions { rotational: true, ..ExportOptions::default() };
        server.add_export_with("disk", disk.clone(), export).unwrap();
        Self { server, disk }
    }

    /// Has the kernel attach the disk.
    pub(crate) fn attach(&self) -> NbdDevice {
        self.attach_with(4096)
    }

    /// As [`Self::attach`], with blocks of this size.
    pub(crate) fn attach_with(&self, block_size: u32) -> NbdDevice {
        let Negotiated { stream, info } = client::negotiate(self.server.connect().unwrap(), "disk").unwrap();
        let settings = NbdSettings { size: Bytes(info.size), block_size, flags: info.flags.0 };
        NbdDevice::connect(stream, &settings).unwrap()
    }

    pub(crate) fn fault(&self, name: &str, op: Op, then: Then) {
        let when = When { op: Some(op).into(), ..When::default() };
        self.disk.add_fault(Row { name: name.to_owned(), when, then }).unwrap();
    }

    /// Waits until that many requests are held.
    pub(crate) fn wait_held(&self, gate: &str, count: usize) {
        assert_eq!(self.disk.wait_held(gate, count, LIMIT), count, "held at {gate}");
    }
}

/// Opens a device past the page cache, with more flags.
pub(crate) fn open(path: &str, flags: OFlags) -> File {
    let flags = (OFlags::DIRECT | flags).bits();
    OpenOptions::new().read(true).write(true).custom_flags(flags.try_into().unwrap()).open(path).unwrap()
}

/// Writes a block full of one byte.
pub(crate) fn write(file: &File, block: u64, byte: u8) -> io::Result<()> {
    let memory = vec![byte; 2 * BLOCK];
    let start = memory.as_ptr().align_offset(BLOCK);
    file.write_all_at(&memory[start..start + BLOCK], block * 4096)
}

/// Reads a block, which has to be full of one byte.
pub(crate) fn read(file: &File, block: u64) -> io::Result<u8> {
    let mut memory = vec![0; 2 * BLOCK];
    let start = memory.as_ptr().align_offset(BLOCK);
    let here = &mut memory[start..start + BLOCK];
    file.read_exact_at(here, block * 4096)?;
    assert!(here.iter().all(|byte| *byte == here[0]), "block {block} is torn");
    Ok(here[0])
}

/// Where this machine has a program, which is also where its guests have it.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/sbin", "/usr/bin"]
        .map(|place| Path::new(place).join(program))
        .into_iter()
        .find(|it| it.is_file())
}

/// Runs a program to its good end.
pub(crate) fn tool(program: &str, arguments: &[&str]) {
    let output = Command::new(find(program).unwrap()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

/// What /sys says of a device.
pub(crate) fn sysfs(device: &str, file: &str) -> Option<String> {
    fs::read_to_string(format!("/sys/block/{device}/{file}")).ok().map(|text| text.trim().to_owned())
}

/// As a process: attaches a disk, says so, and waits to be killed.
pub(crate) fn attach_and_wait() -> ! {
    let rig = Rig::new(1 << 20);
    let device = rig.attach();
    println!("{}", device.name());
    loop {
        std::thread::park();
    }
}
