//! Starting QEMU so that it inherits what it needs and never outlives brim.

#![expect(
    unsafe_code,
    reason = "a child that keeps some of its descriptors and dies with its parent is set up after fork"
)]

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::io::{Errno, FdFlags, fcntl_setfd};

struct Order {
    command: Command,
    started: Sender<io::Result<Child>>,
}

/// Starts `command`, which keeps `fds` under the numbers they have here; this process loses them. The kernel kills it when
/// this process ends.
///
/// "Parent" in `PR_SET_PDEATHSIG` is the thread that forked (prctl(2)), so one thread of brim's that never ends starts them
/// all: a machine may then be started on a thread that ends before it.
pub(super) fn spawn(mut command: Command, fds: Vec<OwnedFd>) -> io::Result<Child> {
    static LAUNCHER: OnceLock<Sender<Order>> = OnceLock::new();
    let parent = std::process::id();
    let set_up = move || {
        if !brim_agent::die_with_parent(parent)? {
            return Err(Errno::SRCH.into());
        }
        fds.iter().try_for_each(|fd| Ok(fcntl_setfd(fd, FdFlags::empty())?))
    };
    // SAFETY: between fork and exec it makes system calls on what was there before, and neither allocates nor locks.
    unsafe { command.pre_exec(set_up) };
    let gone = |_| io::Error::other("the thread that starts QEMU is gone");
    let launcher = LAUNCHER.get_or_init(|| {
        let (orders, taken) = channel();
        // Where there is no thread the order below finds nobody, which says so.
        let _thread = std::thread::Builder::new().name("launcher".to_owned()).spawn(move || launch(&taken));
        orders
    });
    let (started, child) = channel();
    launcher.send(Order { command, started }).map_err(|_| io::Error::other("no thread starts QEMU"))?;
    child.recv().map_err(gone)?
}

fn launch(orders: &Receiver<Order>) {
    while let Ok(Order { mut command, started }) = orders.recv() {
        // Whoever asked waits for the answer.
        let _ = started.send(command.spawn());
    }
}
