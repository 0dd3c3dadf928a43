//! The commands in flight, by cookie. Whoever takes one out calls its completion, so that it is called once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use super::{CommandError, Completion};
use crate::lock;

pub(super) struct InFlight {
    /// Bytes of data that follow a reply without error.
    pub(super) read_len: usize,
    pub(super) completion: Completion,
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").field("read_len", &self.read_len).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct List {
    commands: BTreeMap<u64, InFlight>,
    next_cookie: u64,
    lost: bool,
}

#[derive(Debug, Default)]
pub(super) struct Pending(Mutex<List>);

impl Pending {
    /// Adds a command and names its cookie; on a lost connection completes it with that and answers `None`.
    pub(super) fn add(&self, command: InFlight) -> Option<u64> {
        let mut list = lock(&self.0);
        if list.lost {
            drop(list);
            (command.completion)(Err(CommandError::Lost));
            return None;
        }
        let cookie = list.next_cookie;
        list.next_cookie = cookie.wrapping_add(1);
        list.commands.insert(cookie, command);
        Some(cookie)
    }

    pub(super) fn take(&self, cookie: u64) -> Option<InFlight> {
        lock(&self.0).commands.remove(&cookie)
    }

    /// Completes all with [`CommandError::Lost`], and every later one as it comes.
    pub(super) fn lose(&self) {
        let commands = {
            let mut list = lock(&self.0);
            list.lost = true;
            std::mem::take(&mut list.commands)
        };
        for command in commands.into_values() {
            (command.completion)(Err(CommandError::Lost));
        }
    }
}
