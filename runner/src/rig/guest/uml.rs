//! User Mode Linux: a kernel that is a program of this user's. Its serial line is a socket, its console a pipe; it leaves no
//! file anywhere.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use brim_agent::guest::CHANNEL_KEY;
use rustix::process::{Pid, Signal};

use super::Needs;
use super::initramfs::Initramfs;
use super::machine::PATH;
use crate::kernel::Kernel;
use crate::rig::RigError;

/// What is kept of the console.
const CONSOLE_MAX: usize = 64 << 10;

/// A running kernel.
#[derive(Debug)]
pub(super) struct Uml {
    child: Child,
    console: Arc<Mutex<Vec<u8>>>,
    /// Ends when nothing can write to the console any more, and all of it is kept.
    reader: JoinHandle<()>,
}

impl Uml {
    /// Starts `kernel`, and gives the host's end of its serial line.
    pub(super) fn start(
        kernel: &Kernel,
        initramfs: &Initramfs,
        needs: Needs,
    ) -> Result<(Self, UnixStream), RigError> {
        let failed = |source| RigError::GuestStart { kernel: kernel.name.clone(), source };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let (console, output) = std::io::pipe().map_err(failed)?;
        let error = output.try_clone().map_err(failed)?;
        let child = Command::new("/proc/self/exe")
            .arg0("brim")
            .args(["__guard", &std::process::id().to_string(), "--"])
            .arg(&kernel.image)
            .args(words(initramfs, needs))
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(OwnedFd::from(output)))
            .stderr(Stdio::from(OwnedFd::from(error)))
            .spawn()
            .map_err(failed)?;
        let kept = Arc::new(Mutex::new(Vec::new()));
        let to_keep = Arc::clone(&kept);
        let reader = std::thread::Builder::new().name("console".to_owned());
        let reader = reader.spawn(move || keep(console, &to_keep)).map_err(failed)?;
        Ok((Self { child, console: kept, reader }, ours))
    }

    /// What the kernel printed last.
    pub(super) fn console(&self) -> String {
        let kept = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).into_owned()
    }

    /// Whether the kernel is gone, and its last words are here.
    pub(super) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) && self.reader.is_finished()
    }
}

impl Drop for Uml {
    fn drop(&mut self) {
        if let Some(guard) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ended_already = rustix::process::kill_process(guard, Signal::TERM);
        }
        let _status = self.child.wait();
    }
}

/// What the kernel is told (`linux --help`; `Documentation/virt/uml/user_mode_linux_howto_v2.rst`, v6.12).
fn words(initramfs: &Initramfs, needs: Needs) -> Vec<String> {
    let mut words = vec![
        format!("mem={}M", needs.memory.0 >> 20),
        format!("initrd={}", initramfs.path().display()),
        // Lines are null unless they are named: by themselves they would start a terminal on the user's screen.
        "con=null".to_owned(),
        "con0=null,fd:1".to_owned(),
        "ssl=null".to_owned(),
        "ssl1=fd:0".to_owned(),
        format!("{CHANNEL_KEY}=/dev/ttyS1"),
        // A directory for its management console would stay behind when it is killed; here it cannot make one.
        "uml_dir=/dev/null/".to_owned(),
        "quiet".to_owned(),
        "panic=-1".to_owned(),
        "cryptomgr.notests".to_owned(),
        PATH.to_owned(),
    ];
    if !needs.parity {
        words.push("initcall_blacklist=raid6_select_algo,raid6_init".to_owned());
    }
    words
}

fn keep(mut console: impl Read, kept: &Mutex<Vec<u8>>) {
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = console.read(&mut bytes) {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes.get(..length).unwrap_or_default());
        let more = kept.len().saturating_sub(CONSOLE_MAX);
        kept.drain(..more);
    }
}
