//! QEMU's command line.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use brim_trial::Bytes;

use super::Accelerator;

pub(super) const PROGRAM: &str = "qemu-system-x86_64";

/// What every kernel is told before its own words. The console and the end after a panic are what [`super::Ending`] is seen
/// by; the rest is time saved at boot, of which `tsc=reliable` and `no_timer_check` skip measuring an emulated clock.
const WORDS: &str =
    "console=ttyS0 panic=-1 quiet mitigations=off tsc=reliable no_timer_check cryptomgr.notests";

/// What a machine is made of, the same before and after a save.
#[derive(Clone, Debug)]
pub(super) struct Hardware {
    pub(super) accelerator: Accelerator,
    pub(super) memory: Bytes,
    /// It has a disk.
    pub(super) drive: bool,
}

/// What a machine begins with.
#[derive(Debug)]
pub(super) enum Beginning<'a> {
    /// A kernel.
    Boot { kernel: &'a Path, initramfs: Option<&'a Path>, command_line: &'a str },
    /// A state that comes later, over QMP, on memory that is there already and stays as it is.
    State,
}

/// The numbers of the descriptors that QEMU inherits.
#[derive(Debug)]
pub(super) struct Inherited {
    pub(super) qmp: RawFd,
    pub(super) console: RawFd,
    pub(super) channel: RawFd,
    pub(super) memory: RawFd,
    pub(super) drive: Option<RawFd>,
}

/// All arguments, the program's name aside.
pub(super) fn arguments(
    hardware: &Hardware,
    inherited: &Inherited,
    beginning: &Beginning<'_>,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |option: &str, value: &str| arguments.extend([option.into(), value.into()]);
    add("-name", "brim");
    add("-machine", "q35,memory-backend=memory");
    add("-accel", hardware.accelerator.name());
    add("-cpu", hardware.accelerator.cpu());
    add("-smp", "1");
    add("-display", "none");
    // A guest that resets itself is over. One that panics goes on to its reset, so that all its last words get out.
    add("-action", "reboot=shutdown,panic=none");
    if let Some(firmware) = qboot() {
        add("-bios", firmware);
    }
    memory(&mut add, hardware.memory, inherited.memory, matches!(beginning, Beginning::Boot { .. }));
    let mut socket = |id: &str, fd: RawFd| add("-chardev", &format!("socket,id={id},fd={fd}"));
    socket("qmp", inherited.qmp);
    socket("console", inherited.console);
    socket("channel", inherited.channel);
    add("-mon", "chardev=qmp,mode=control");
    add("-serial", "chardev:console");
    add("-device", "virtio-serial-pci,max_ports=2");
    add("-device", "virtserialport,chardev=channel,name=brim.agent");
    add("-device", "pvpanic");
    if let Some(fd) = inherited.drive {
        drive(&mut add, fd);
    }
    arguments.extend(["-nodefaults".into(), "-no-user-config".into()]);
    begin(&mut arguments, beginning);
    arguments
}

/// The guest's memory is a file of ours, shared while the machine boots, so that a save has nothing to write. A machine that
/// begins with a state maps the file of the saved one, takes from it what it reads and keeps what it writes to itself.
fn memory(add: &mut impl FnMut(&str, &str), size: Bytes, fd: RawFd, shared: bool) {
    let share = if shared { "on" } else { "off" };
    let file = format!("mem-path=/proc/self/fd/{fd},share={share}");
    add("-object", &format!("memory-backend-file,id=memory,size={},{file}", size.0));
    add("-m", &format!("size={}B", size.0));
}

/// virtio-blk on QEMU's NBD client. Without `report` an error pauses the machine instead of reaching the guest; a cache that
/// is direct, and for the guest one that wants flushes, leaves order and durability to the guest and the server.
fn drive(add: &mut impl FnMut(&str, &str), fd: RawFd) {
    let server = format!("server.type=fd,server.str={fd}");
    add("-blockdev", &format!("driver=nbd,node-name=disk,{server},discard=unmap,cache.direct=on"));
    add("-device", "virtio-blk-pci,drive=disk,write-cache=on,werror=report,rerror=report");
}

fn begin(arguments: &mut Vec<OsString>, beginning: &Beginning<'_>) {
    match beginning {
        Beginning::Boot { kernel, initramfs, command_line } => {
            arguments.extend(["-kernel".into(), kernel.into()]);
            if let Some(initramfs) = initramfs {
                arguments.extend(["-initrd".into(), initramfs.into()]);
            }
            arguments.extend(["-append".into(), format!("{WORDS} {command_line}").into()]);
        }
        Beginning::State => arguments.extend(["-incoming".into(), "defer".into()]),
    }
}

/// The small firmware, which boots an ELF and a bzImage 0.3 s sooner than `SeaBIOS`; QEMU takes the latter where it is missing.
fn qboot() -> Option<&'static str> {
    let directories = ["/usr/share/qemu", "/usr/local/share/qemu", "/usr/share/qboot"];
    let there = directories.iter().any(|directory| PathBuf::from(directory).join("qboot.rom").exists());
    there.then_some("qboot.rom")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(drive: bool, beginning: &Beginning<'_>) -> String {
        let hardware = Hardware { accelerator: Accelerator::Tcg, memory: Bytes(256 << 20), drive };
        let drive = drive.then_some(14);
        let inherited = Inherited { qmp: 10, console: 11, channel: 12, memory: 13, drive };
        let arguments = arguments(&hardware, &inherited, beginning);
        arguments.iter().map(|argument| argument.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    fn boot() -> Beginning<'static> {
        let (kernel, initramfs) = (Path::new("/boot/a,b"), Path::new("/tmp/initramfs"));
        Beginning::Boot { kernel, initramfs: Some(initramfs), command_line: "quiet loglevel=7" }
    }

    #[test]
    fn a_boot_shares_its_memory_and_lets_the_caller_have_the_last_word() {
        let line = line(false, &boot());
        assert!(
            line.contains("-kernel /boot/a,b -initrd /tmp/initramfs -append console=ttyS0 panic=-1 "),
            "{line}"
        );
        assert!(line.ends_with(" quiet loglevel=7"), "{line}");
        assert!(
            line.contains("size=268435456,mem-path=/proc/self/fd/13,share=on -m size=268435456B"),
            "{line}"
        );
        assert!(line.contains("-accel tcg -cpu max,-cx16 "), "{line}");
        assert!(!line.contains("-incoming") && !line.contains("disk"), "{line}");
    }

    #[test]
    fn a_resumed_machine_has_no_kernel_and_writes_to_no_memory_but_its_own() {
        let line = line(false, &Beginning::State);
        assert!(line.contains(",share=off ") && line.ends_with("-incoming defer"), "{line}");
        assert!(!line.contains("-kernel") && !line.contains("-append"), "{line}");
    }

    /// The same devices before and after, or the state does not fit.
    #[test]
    fn the_hardware_is_the_same_before_and_after_a_save() {
        let hardware = |line: String| {
            let kept = line.replace("share=on", "share=off").replace("-incoming defer", "");
            kept.split(" -kernel ").next().unwrap().trim().to_owned()
        };
        assert_eq!(hardware(line(true, &boot())), hardware(line(true, &Beginning::State)));
    }

    #[test]
    fn a_disk_reports_its_errors_and_flushes_to_its_server() {
        let line = line(true, &boot());
        assert!(line.contains("server.type=fd,server.str=14,discard=unmap,cache.direct=on"), "{line}");
        assert!(line.contains("write-cache=on,werror=report,rerror=report"), "{line}");
    }
}
