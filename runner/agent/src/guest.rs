//! What process 1 of a guest does before there is anything to do: the kernel's filesystems, its modules, the channel to
//! the host.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::MountFlags;
use rustix::system::RebootCommand;
use rustix::termios::OptionalActions;

use crate::Failure;
use crate::failure::Trying;
use crate::{modules, sys};

/// Where the modules of the initramfs are, in the order of their names.
pub const MODULES: &str = "/modules";
/// The extension of those whose failure does not matter: they are for processors that may not be there.
pub const OPTIONAL: &str = "optional";
/// The key on the kernel's command line that names the channel: a device, or the name of a port of virtio-serial.
pub const CHANNEL_KEY: &str = "brim.channel";
/// How long a device may take to appear.
const APPEAR_LIMIT: Duration = Duration::from_secs(10);
const APPEAR_TICK: Duration = Duration::from_millis(1);

/// Whether this is a guest of brim's, and nobody else's kernel.
#[must_use]
pub fn is_here() -> bool {
    std::fs::read_to_string("/proc/cmdline").is_ok_and(|line| channel_name(&line).is_some())
}

fn channel_name(line: &str) -> Option<&str> {
    line.split_whitespace().find_map(|word| word.strip_prefix(CHANNEL_KEY)?.strip_prefix('='))
}

/// Mounts what a process expects to find and loads the modules there are.
///
/// # Errors
/// A mount failed, or the kernel refused a module.
pub fn set_up() -> Result<(), Failure> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    for (kind, place) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp")] {
        rustix::mount::mount("none", place, kind, flags, None)
            .trying(|| format!("mount {kind} on {place}"))?;
    }
    let what = || format!("read {MODULES}");
    let entries: io::Result<Vec<PathBuf>> =
        Path::new(MODULES).read_dir().trying(what)?.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = entries.trying(what)?;
    paths.sort();
    for path in paths {
        let loaded = modules::load(&path, parameters(&path));
        if path.extension().is_none_or(|extension| extension != OPTIONAL) {
            loaded?;
        }
    }
    Ok(())
}

/// What a module is told.
fn parameters(path: &Path) -> &'static str {
    if path.to_string_lossy().ends_with("nbd.ko") { "nbds_max=16 max_part=0" } else { "" }
}

/// The channel that the kernel's command line names.
///
/// # Errors
/// It names none, or there is no such device.
pub fn channel() -> Result<UnixStream, Failure> {
    let what = || "open the channel to the host".to_owned();
    let line = std::fs::read_to_string("/proc/cmdline").trying(what)?;
    let named = channel_name(&line)
        .ok_or_else(|| Failure::new(what(), format!("the kernel was not told {CHANNEL_KEY}")))?;
    let path = appearing(named)?;
    let device = OpenOptions::new().read(true).write(true).open(&path).trying(what)?;
    // A port of virtio-serial is no terminal; a serial line is one, and must pass every byte on as it is.
    if let Ok(mut settings) = rustix::termios::tcgetattr(&device) {
        settings.make_raw();
        rustix::termios::tcsetattr(&device, OptionalActions::Now, &settings).trying(what)?;
    }
    bridge(device).trying(what)
}

/// The path of a device by its own, or of the port of virtio-serial that has this name, once it is there.
fn appearing(named: &str) -> Result<PathBuf, Failure> {
    let until = Instant::now() + APPEAR_LIMIT;
    loop {
        let path = if named.starts_with('/') { Some(PathBuf::from(named)) } else { port(named) };
        if let Some(path) = path.filter(|path| path.exists()) {
            return Ok(path);
        }
        if Instant::now() >= until {
            return Err(Failure::new("open the channel to the host", format!("{named} does not appear")));
        }
        std::thread::sleep(APPEAR_TICK);
    }
}

/// The device of a port (Documentation/ABI/testing/sysfs-class-virtio-ports: its name is in the file `name`).
fn port(named: &str) -> Option<PathBuf> {
    let mut ports = Path::new("/sys/class/virtio-ports").read_dir().ok()?.filter_map(Result::ok);
    let is_it =
        |path: &Path| std::fs::read_to_string(path.join("name")).is_ok_and(|name| name.trim() == named);
    let port = ports.find(|port| is_it(&port.path()))?;
    Some(Path::new("/dev").join(port.file_name()))
}

/// A socket in front of a device, with the timeouts and the end that the device does not have.
fn bridge(device: File) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut from_device = device.try_clone()?;
    let (mut to_socket, mut from_socket, mut to_device) = (theirs.try_clone()?, theirs, device);
    std::thread::Builder::new().name("from the host".to_owned()).spawn(move || {
        let _ended = io::copy(&mut from_device, &mut to_socket);
        let _told = to_socket.shutdown(std::net::Shutdown::Write);
    })?;
    std::thread::Builder::new().name("to the host".to_owned()).spawn(move || {
        let _ended = io::copy(&mut from_socket, &mut to_device);
    })?;
    Ok(ours)
}

/// Gives the kernel's random numbers a start: a guest has nothing to gather one from, and mkfs would wait for it.
///
/// # Errors
/// The kernel refuses it.
pub fn add_entropy(seed: &[u8; 32]) -> Result<(), Failure> {
    let device =
        OpenOptions::new().write(true).open("/dev/random").trying(|| "open /dev/random".to_owned())?;
    sys::add_entropy(&device, seed).trying(|| "add to the entropy".to_owned())
}

/// Ends the guest.
pub fn power_off() {
    // Nothing is mounted that has to be kept. A kernel that cannot power off halts, and the host kills it.
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
}
