//! What a step may leave behind that is not the filesystem's: programs that run, a frozen filesystem, a swap area. It is put right
//! when the step passes its limit, before an unmount and at the end of a trial.
//!
//! A thread that waits for a frozen filesystem cannot be killed, and while it waits neither its process nor its mounts go
//! away. So a process of its own thaws it when this one is killed: it outlives this one by a blink.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::Failure;
use crate::failure::Trying;
use crate::sys;
use crate::watch;

/// How often the guard of a frozen filesystem looks whether its parent lives.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// What is to be put right.
#[derive(Debug, Default)]
pub(crate) struct Rescue {
    /// The program that each thread waits for.
    programs: Mutex<BTreeMap<u32, OwnedFd>>,
    frozen: Mutex<Option<Frozen>>,
    swaps: Mutex<Vec<String>>,
}

/// A frozen filesystem.
#[derive(Debug)]
struct Frozen {
    root: File,
    guard: Guard,
}

/// The process that thaws a filesystem when this one is gone.
#[derive(Debug)]
struct Guard {
    process: Child,
    line: PipeWriter,
}

impl Rescue {
    /// The calling thread waits for a program, until what this gives is dropped.
    pub(crate) fn program(&self, pid: u32) -> io::Result<Program<'_>> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::Errno::SRCH)?;
        let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        lock(&self.programs).insert(watch::this_thread(), handle);
        Ok(Program(self))
    }

    /// Freezes the filesystem with this root.
    pub(crate) fn freeze(&self, root: &File) -> Result<io::Result<()>, Failure> {
        let what = || "guard the frozen filesystem".to_owned();
        let root = root.try_clone().trying(what)?;
        // Before it is frozen: from then on somebody has to be there to thaw it.
        let guard = Guard::start(&root).trying(what)?;
        let frozen = sys::freeze(&root);
        match frozen {
            Ok(()) => *lock(&self.frozen) = Some(Frozen { root, guard }),
            Err(_) => guard.end(),
        }
        Ok(frozen)
    }

    /// Thaws the filesystem, and says how that went; as an `EINVAL` where it is not frozen.
    pub(crate) fn thaw(&self) -> io::Result<()> {
        let Some(Frozen { root, guard }) = lock(&self.frozen).take() else { return Err(io::Errno::INVAL) };
        let thawed = sys::thaw(&root);
        drop(root);
        guard.end();
        thawed
    }

    /// The kernel swaps to the file at `path`.
    pub(crate) fn swap(&self, path: &str) -> io::Result<()> {
        sys::swapon(path)?;
        lock(&self.swaps).push(path.to_owned());
        Ok(())
    }

    /// The kernel swaps to the file at `path` no longer.
    pub(crate) fn swap_no_more(&self, path: &str) -> io::Result<()> {
        sys::swapoff(path)?;
        lock(&self.swaps).retain(|other| other != path);
        Ok(())
    }

    /// Puts right what keeps a mount busy, or frozen.
    pub(crate) fn free_the_mount(&self) {
        let _it_was_not_frozen = self.thaw();
        for path in std::mem::take(&mut *lock(&self.swaps)) {
            // What cannot be had back from it keeps the mount busy, and that is told.
            let _ = sys::swapoff(&path);
        }
    }

    /// Puts right what keeps a step from its end: kills programs, and thaws.
    pub(crate) fn end_steps(self: &Arc<Self>) {
        for handle in lock(&self.programs).values() {
            // It may have ended by itself.
            let _ = rustix::process::pidfd_send_signal(handle, Signal::KILL);
        }
        // Whoever holds the superblock may hold this up, and the caller has others to look after.
        let rescue = Arc::clone(self);
        std::thread::spawn(move || rescue.thaw());
    }
}

/// The time that a thread waits for a program.
#[derive(Debug)]
pub(crate) struct Program<'a>(&'a Rescue);

impl Drop for Program<'_> {
    fn drop(&mut self) {
        lock(&self.0.programs).remove(&watch::this_thread());
    }
}

impl Guard {
    fn start(root: &File) -> std::io::Result<Self> {
        let (theirs, line) = std::io::pipe()?;
        let process = Command::new("/proc/self/exe")
            .arg0("brim")
            .args(["__thaw", &std::process::id().to_string()])
            .stdin(theirs)
            .stdout(root.try_clone()?)
            .stderr(Stdio::null())
            // What is said to the terminal's processes is not said to it.
            .process_group(0)
            .spawn()?;
        Ok(Self { process, line })
    }

    /// Ends it, and waits until it is gone: it has the mount open.
    fn end(mut self) {
        // Where it is gone already, so is what it has open.
        let _ = self.line.write_all(b"e");
        let _ = self.process.wait();
    }
}

/// The guard's process: standard output is the root of a frozen filesystem, which is thawed when the agent `parent` is gone, or is
/// about to be and cannot. Ends without that when it is told so on standard input.
pub fn thaw_when_gone(parent: u32) {
    let input = std::io::stdin();
    loop {
        let mut fds = [PollFd::new(&input, PollFlags::IN)];
        let told = rustix::event::poll(&mut fds, Some(&TICK));
        if told == Err(io::Errno::INTR) || (told == Ok(0) && lives(parent)) {
            continue;
        }
        let mut word = [0];
        if told != Ok(0) && io::read(&input, &mut word) == Ok(1) {
            return;
        }
        // It has been thawed by somebody else, or it has been now.
        let _ = sys::thaw(std::io::stdout());
        return;
    }
}

/// Whether the first thread of a process lives. Where others wait for a frozen filesystem the process outlives it.
fn lives(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // `PID (NAME) STATE …`, and a name may have any bytes (proc_pid_stat(5)).
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
