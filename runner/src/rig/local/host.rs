//! What orders to a disk want of the kernel that has it, while a program runs there. The thread that has the agent does it; the
//! threads of the control socket wait for it.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use brim_agent::protocol::Aside;
use brim_trial::{ByteRange, Bytes};
use nbd_server::control::Host;

/// How long an order waits for the kernel: a region may have to be read from a slow disk.
const LIMIT: Duration = Duration::from_secs(20);

/// What came of it.
pub(super) type Told = Result<Vec<ByteRange>, String>;

/// Something that was asked, and who waits for it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) aside: Aside,
    pub(super) answer: Sender<Told>,
}

/// The asking side.
#[derive(Debug)]
pub(super) struct Asking(Mutex<Sender<Asked>>);

/// Both sides.
pub(super) fn pair() -> (Asking, Receiver<Asked>) {
    let (sender, receiver) = mpsc::channel();
    (Asking(Mutex::new(sender)), receiver)
}

impl Asking {
    fn ask(&self, aside: Aside) -> Told {
        let (answer, told) = mpsc::channel();
        let asked = Asked { aside, answer };
        let over = || "no program runs at the mount any more".to_owned();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).send(asked).map_err(|_| over())?;
        match told.recv_timeout(LIMIT) {
            Ok(told) => told,
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(over()),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("no answer within {} s", LIMIT.as_secs())),
        }
    }
}

impl Host for Asking {
    fn resized(&self, size: Bytes) -> Result<(), String> {
        self.ask(Aside::Size { size }).map(drop)
    }

    fn region(&self, name: &str) -> Result<Vec<ByteRange>, String> {
        self.ask(Aside::Region { name: name.to_owned() })
    }
}
