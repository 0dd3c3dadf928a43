//! What steps want of the disk, which is the executor's: each asks and waits, and several may wait at once.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use brim_trial::ByteRange;

use crate::Failure;
use crate::failure::Trying;
use crate::protocol::{self, Answer, Ask, Message};

/// The questions that are open.
#[derive(Debug)]
pub(crate) struct Asks {
    channel: Arc<Mutex<UnixStream>>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    waiting: BTreeMap<u64, Sender<Result<Answer, String>>>,
}

impl Asks {
    /// Of the executor at the other end of `channel`.
    pub(crate) fn over(channel: Arc<Mutex<UnixStream>>) -> Self {
        Self { channel, open: Mutex::default() }
    }

    /// Asks, and waits for the answer. `Err` inside is why the executor could not do it.
    pub(crate) fn ask(&self, ask: Ask) -> Result<Result<Answer, String>, Failure> {
        let (sender, answered) = mpsc::channel();
        let id = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.next += 1;
            let id = open.next;
            open.waiting.insert(id, sender);
            id
        };
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        protocol::send(&channel, &Message::Ask { id, ask }).trying(|| "ask the executor".to_owned())?;
        drop(channel);
        answered.recv().map_err(|_| Failure::new("ask the executor", "it is gone"))
    }

    /// The bytes of a range as a disk has them, which is no request to it.
    pub(crate) fn peek(&self, disk: &str, range: ByteRange) -> Result<Vec<u8>, Failure> {
        let failed = |why: String| Failure::new(format!("read the disk `{disk}`"), why);
        match self.ask(Ask::Peek { device: disk.to_owned(), range })?.map_err(failed)? {
            Answer::Bytes(bytes) => protocol::from_hex(&bytes),
            _ => None,
        }
        .ok_or_else(|| failed("the executor has answered something else".to_owned()))
    }

    /// Hands an answer to the one who waits for it.
    pub(crate) fn answer(&self, id: u64, answer: Result<Answer, String>) {
        let waiting = self.open.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&id);
        // Whoever asked waits, and goes away with the process alone.
        let _ = waiting.map(|sender| sender.send(answer));
    }
}
