//! One running machine.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use brim_trial::Bytes;
use rustix::fs::{MemfdFlags, memfd_create};

use super::arguments::{self, Beginning, Hardware, Inherited};
use super::ending::Seen;
use super::qmp::{Event, Qmp, QmpError};
use super::tail::Tail;
use super::{Accelerator, Ending, MachineError, launch};

/// How long a guest that has panicked may still print before that counts as its end. Its reset mostly comes first.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What to boot.
#[derive(Clone, Debug)]
pub(crate) struct Boot {
    /// A bzImage, or an ELF vmlinux with a PVH note, which boots sooner: nothing is unpacked in the guest.
    pub(crate) kernel: PathBuf,
    /// A cpio archive, raw or packed as the kernel can unpack it.
    pub(crate) initramfs: PathBuf,
    /// What the kernel is told beyond what every guest's is; where the two disagree this is what counts.
    pub(crate) command_line: String,
    /// The guest's memory: whole MiB.
    pub(crate) memory: Bytes,
}

/// A guest that runs, or has ended. It goes away with this value, and with this process.
#[derive(Debug)]
pub(crate) struct Machine {
    child: Child,
    pub(super) qmp: Qmp,
    channel: UnixStream,
    console: Tail,
    /// What QEMU itself says.
    words: Tail,
    /// What the guest's memory is kept in.
    pub(super) memory: File,
    pub(super) hardware: Hardware,
    seen: Seen,
    panic_seen: Option<Instant>,
    ending: Option<Ending>,
}

impl Machine {
    /// Boots a guest, which runs when this returns. With KVM if that runs this kernel here, which is found out once. The first
    /// export of the NBD server at the other end of `drive` becomes its virtio-blk disk.
    ///
    /// # Errors
    /// QEMU is not there, does not start, or does not take the kernel or the disk.
    pub(crate) fn start(boot: &Boot, drive: Option<UnixStream>) -> Result<Self, MachineError> {
        check(&boot.kernel)?;
        let accelerator = Accelerator::find(&boot.kernel);
        let hardware = Hardware { accelerator, memory: boot.memory, drive: drive.is_some() };
        let Boot { kernel, initramfs, command_line, .. } = boot;
        let beginning = Beginning::Boot { kernel, initramfs: Some(initramfs), command_line };
        Self::boot(hardware, &beginning, drive)
    }

    /// Boots on memory of its own.
    pub(super) fn boot(
        hardware: Hardware,
        beginning: &Beginning<'_>,
        drive: Option<UnixStream>,
    ) -> Result<Self, MachineError> {
        let what = "the guest's memory";
        let memory = memfd_create("brim guest", MemfdFlags::CLOEXEC);
        let memory = File::from(memory.map_err(|errno| set_up(what)(errno.into()))?);
        memory.set_len(hardware.memory.0).map_err(set_up(what))?;
        Self::launch(hardware, memory, beginning, drive)
    }

    /// Starts QEMU and waits for its greeting.
    pub(super) fn launch(
        hardware: Hardware,
        memory: File,
        beginning: &Beginning<'_>,
        drive: Option<UnixStream>,
    ) -> Result<Self, MachineError> {
        let (qmp, qmp_far) = pair()?;
        let (console, console_far) = pair()?;
        let (channel, channel_far) = pair()?;
        let memory_far = memory.as_fd().try_clone_to_owned().map_err(set_up("the guest's memory"))?;
        let inherited = Inherited {
            qmp: qmp_far.as_raw_fd(),
            console: console_far.as_raw_fd(),
            channel: channel_far.as_raw_fd(),
            memory: memory_far.as_raw_fd(),
            drive: drive.as_ref().map(AsRawFd::as_raw_fd),
        };
        let mut command = Command::new(arguments::PROGRAM);
        command.args(arguments::arguments(&hardware, &inherited, beginning));
        // In a group of its own: a Ctrl-C at the terminal is for brim.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        let mut fds = vec![qmp_far, console_far, channel_far, memory_far];
        fds.extend(drive.map(OwnedFd::from));
        let child = launch::spawn(command, fds);
        let mut child =
            child.map_err(|source| MachineError::Start { program: arguments::PROGRAM, source })?;
        match Self::greet(&mut child, qmp, console) {
            Ok((qmp, console, words)) => {
                let (seen, panic_seen, ending) = (Seen::default(), None, None);
                Ok(Self { child, qmp, channel, console, words, memory, hardware, seen, panic_seen, ending })
            }
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    fn greet(
        child: &mut Child,
        qmp: UnixStream,
        console: UnixStream,
    ) -> Result<(Qmp, Tail, Tail), MachineError> {
        let reader = set_up("a thread that reads what QEMU says");
        let words: Box<dyn Read + Send> = match child.stderr.take() {
            Some(stderr) => Box::new(stderr),
            None => Box::new(io::empty()),
        };
        let mut words = Tail::of(words).map_err(&reader)?;
        let console = Tail::of(console).map_err(&reader)?;
        match Qmp::greet(qmp) {
            Ok(qmp) => Ok((qmp, console, words)),
            Err(QmpError::Gone) => {
                end(child);
                words.finish();
                Err(MachineError::Refused { words: words.text().trim().to_owned() })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Both ways to the guest's virtio-serial port `brim.agent`. It ends when the guest does.
    pub(crate) fn channel(&self) -> &UnixStream {
        &self.channel
    }

    /// The last 64 KiB of what the guest's kernel has printed.
    pub(crate) fn console(&self) -> String {
        self.console.text()
    }

    /// What runs the guest's processor.
    #[cfg(test)]
    pub(crate) fn accelerator(&self) -> Accelerator {
        self.hardware.accelerator
    }

    /// QEMU's process.
    #[cfg(test)]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the guest ended, where it has. After the end the console is complete.
    pub(crate) fn ended(&mut self) -> Option<Ending> {
        if self.ending.is_none() {
            self.ending = self.look();
        }
        self.ending.clone()
    }

    fn look(&mut self) -> Option<Ending> {
        // Looked at first: what QEMU told before it ended is then there to be read.
        let status = self.child.try_wait().ok().flatten();
        // An error here is QEMU's end.
        while let Ok(Some(event)) = self.qmp.event(Duration::ZERO) {
            self.seen.note(&event);
        }
        if let Some(status) = status {
            self.console.finish();
            self.words.finish();
            return Some(self.seen.after(status, &self.console.text(), &self.words.text()));
        }
        let console = self.console.text();
        if self.seen.panicked(&console) {
            let since = *self.panic_seen.get_or_insert_with(Instant::now);
            if since.elapsed() < LAST_WORDS {
                return None;
            }
        }
        self.seen.standing(&console, &self.words.text())
    }

    /// Takes in an event that came while something else was waited for.
    pub(super) fn note(&mut self, event: &Event) {
        self.seen.note(event);
    }

    /// What an error of QMP's means, now that it is known whether QEMU has ended.
    pub(super) fn blame(&mut self, error: QmpError) -> MachineError {
        if !matches!(error, QmpError::Gone) {
            return error.into();
        }
        end(&mut self.child);
        self.words.finish();
        MachineError::Refused { words: self.words.text().trim().to_owned() }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Kills QEMU, where it has not ended, and waits.
fn end(child: &mut Child) {
    // It may have ended by itself; there is nothing else that could fail.
    let _ = child.kill();
    let _ = child.wait();
}

/// Ours, and what QEMU inherits.
fn pair() -> Result<(UnixStream, OwnedFd), MachineError> {
    let (ours, theirs) = UnixStream::pair().map_err(set_up("a channel to QEMU"))?;
    Ok((ours, theirs.into()))
}

pub(super) fn set_up(what: &'static str) -> impl Fn(io::Error) -> MachineError {
    move |source| MachineError::SetUp { what, source }
}

/// Whether the file is a kernel that QEMU can boot. QEMU takes whatever else it is given for something to be jumped into.
fn check(path: &Path) -> Result<(), MachineError> {
    let failed = |source| MachineError::Kernel { path: path.to_owned(), source };
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(0x206).read_to_end(&mut start)).map_err(failed)?;
    // Documentation/arch/x86/boot.rst, v6.12, "The Real-Mode Kernel Header": `header` is at 0x202.
    let bzimage = start.get(0x202..) == Some(b"HdrS");
    if bzimage || start.starts_with(b"\x7fELF") {
        return Ok(());
    }
    Err(MachineError::NotAKernel { path: path.to_owned() })
}
