//! A disk that connections share: the store with its faults, its held requests and its statistics under one lock.

mod content;
mod execute;
mod held;
mod later;
mod stats;
mod status;

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use brim_device::fault::{Decision, Entry, FaultTable, Op, Request, Row, RowError};
use brim_device::{Bytes, Images, SizeError, Store};
use nbd_wire::Answer;

use crate::lock;
use crate::outbox::Outbox;
use crate::output::Output;
use crate::payload::Payload;
pub(crate) use execute::{PAYLOAD_MAX, Refusal};
pub use held::Held;
use held::{HeldRequest, now};
pub use stats::{Count, Stats};
pub(crate) use status::{CONTEXTS, StatusRequest};

/// A shared handle to one disk. Clones are the same disk; [`Disk::fork`] makes another.
#[derive(Clone, Debug)]
pub struct Disk {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told whenever a request is held.
    holding: Condvar,
}

#[derive(Debug)]
struct State {
    images: Images,
    faults: FaultTable,
    stats: Stats,
    /// In order of arrival.
    held: Vec<HeldRequest>,
    /// With a write cache: how much was changed since the last flush.
    unflushed: Bytes,
}

/// What a disk has beside its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DiskOptions {
    /// A volatile write cache: what is written is lost at a power cut unless it was flushed, or written with FUA. Without
    /// one, what was answered is durable.
    pub write_cache: bool,
}

/// A row of the fault table with what it has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The row.
    pub row: Row,
    /// Requests that its conditions on the operation matched.
    pub matches: u64,
    /// Requests that it did something to. Zero at the end of a run means that nothing was tested.
    pub firings: u64,
    /// Its gate was opened: it goes on counting and holds no more.
    pub open: bool,
}

/// One request as a connection hands it over, checked to be of a kind the table knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) request: Request,
    /// The payload of a write.
    pub(crate) data: Data<'a>,
    pub(crate) how: How,
}

/// The payload of a write.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Data<'a> {
    Bytes(&'a [u8]),
    Pages(&'a Payload),
}

impl<'a> Data<'a> {
    /// What is in one piece; payloads in pages are writes.
    pub(crate) const fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Pages(_) => &[],
        }
    }
}

/// How a request is to be done and answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    pub(crate) answer: Answer,
    /// What is read may come in several chunks.
    pub(crate) fragment: bool,
    /// The longest chunk of data, in bytes.
    pub(crate) chunk_max: u64,
    /// What is zeroed has to stay allocated.
    pub(crate) no_hole: bool,
    /// What is changed has to be durable before the answer.
    pub(crate) fua: bool,
}

impl Disk {
    /// An empty disk of an exact size.
    ///
    /// # Errors
    ///
    /// When the size is not a multiple of 512 bytes, or too large ([`Store::SIZE_MAX`]).
    pub fn new(size: Bytes) -> Result<Self, SizeError> {
        Store::new(size).map(Self::from_store)
    }

    /// As [`Disk::new`], with these options.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn new_with(size: Bytes, options: DiskOptions) -> Result<Self, SizeError> {
        Store::new(size).map(|store| Self::from_store_with(store, options))
    }

    /// A disk with the content of `store`, without faults.
    #[must_use]
    pub fn from_store(store: Store) -> Self {
        Self::from_store_with(store, DiskOptions::default())
    }

    /// As [`Disk::from_store`], with these options. All of `store` is durable.
    #[must_use]
    pub fn from_store_with(store: Store, options: DiskOptions) -> Self {
        Self::from_images(if options.write_cache {
            Images::write_back(store)
        } else {
            Images::write_through(store)
        })
    }

    fn from_images(images: Images) -> Self {
        let state = State {
            images,
            faults: FaultTable::new(),
            stats: Stats::default(),
            held: Vec::new(),
            unflushed: Bytes::ZERO,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), holding: Condvar::new() }) }
    }

    /// Another disk with the content of this moment, in constant time, also while this one serves. It has no faults,
    /// nothing held, and statistics of its own. With a write cache it has one too, in which the same is dirty: cutting its
    /// power shows what this disk would lose. `Disk::from_store(disk.snapshot())` is one on which everything is durable.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::from_images(lock(&self.shared.state).images.fork())
    }

    /// What was asked of this disk so far, held and failed requests included.
    #[must_use]
    pub fn stats(&self) -> Stats {
        lock(&self.shared.state).stats
    }

    /// Adds a row to the end of the fault table. It counts from here on.
    ///
    /// # Errors
    ///
    /// When its name is taken, or when it can never fire.
    pub fn add_fault(&self, row: Row) -> Result<(), RowError> {
        lock(&self.shared.state).faults.add(row)
    }

    /// The fault table in order, with its counts.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let fault = |entry: &Entry| Fault {
            row: entry.row.clone(),
            matches: entry.matches,
            firings: entry.firings,
            open: entry.open,
        };
        lock(&self.shared.state).faults.entries().iter().map(fault).collect()
    }

    /// The requests that wait at gates, in order of arrival. A request whose connection ends, by `NBD_CMD_DISC` too, is
    /// dropped without being executed.
    #[must_use]
    pub fn held(&self) -> Vec<Held> {
        let now = now();
        lock(&self.shared.state).held.iter().map(|held| held.describe(now)).collect()
    }

    /// Waits until at least `count` requests wait at the gate `name`, and answers how many do: fewer when `limit` is
    /// over first.
    #[must_use]
    pub fn wait_held(&self, name: &str, count: usize, limit: Duration) -> usize {
        let waiting = |state: &State| state.held.iter().filter(|held| held.gate == name).count();
        let result = self
            .shared
            .holding
            .wait_timeout_while(lock(&self.shared.state), limit, |state| waiting(state) < count);
        let (state, _timeout) = result.unwrap_or_else(PoisonError::into_inner);
        waiting(&state)
    }

    /// Opens the gate `name` for good: executes what waits there, in order of arrival, and has the replies sent by the
    /// connections that own them. When this returns, the requests are done; answers how many. Also a gate that holds
    /// nothing yet is open from here on. Zero when there is no such gate.
    #[must_use = "how many were released says whether the gate had caught anything"]
    pub fn open_gate(&self, name: &str) -> usize {
        let mut state = lock(&self.shared.state);
        state.faults.open(name);
        let released = state.release(|held| held.gate == name);
        drop(state);
        deliver(released)
    }

    /// Opens all gates there are, as [`Disk::open_gate`].
    #[must_use = "how many were released says whether a gate had caught anything"]
    pub fn open_all_gates(&self) -> usize {
        let mut state = lock(&self.shared.state);
        state.faults.open_all();
        let released = state.release(|_| true);
        drop(state);
        deliver(released)
    }

    /// Executes or holds one request. What is answered at once is appended to `output`; what is held is answered
    /// through `owner`, which is what `true` says.
    pub(crate) fn submit(&self, incoming: &Incoming<'_>, owner: &Arc<Outbox>, output: &mut Output) -> bool {
        let mut state = lock(&self.shared.state);
        state.stats.count(&incoming.request);
        // A request that cannot be done fails before any fault sees it: a gate holds only what would have an effect.
        if let Err(refusal) = execute::check(incoming, state.images.cached().size()) {
            drop(state);
            refusal.put(incoming.how.answer, output.bytes());
            return false;
        }
        if !state.faults.is_empty()
            && let Decision::Hold { row } = state.faults.decide(&incoming.request)
        {
            let gate =
                state.faults.entries().get(row).map(|entry| entry.row.name.clone()).unwrap_or_default();
            state.held.push(HeldRequest::new(gate, incoming, owner));
            drop(state);
            self.shared.holding.notify_all();
            return true;
        }
        let freed = state.execute(incoming, output);
        drop(state);
        later::let_go(freed);
        false
    }

    /// Prepares for requests at these offsets, which are about to be submitted.
    pub(crate) fn prefetch(&self, offsets: &[Bytes]) {
        lock(&self.shared.state).images.cached().prefetch(offsets);
    }

    /// Forgets what a connection that has ended still waits for.
    pub(crate) fn forget(&self, owner: &Arc<Outbox>) {
        let mut gone = Vec::new();
        let mut state = lock(&self.shared.state);
        gone.extend(state.held.extract_if(.., |held| Arc::ptr_eq(&held.owner, owner)));
        drop(state);
    }
}

impl State {
    /// Executes a request and appends its reply. What that frees, if it may be much, is still there in what this answers,
    /// for [`later::let_go`] once the lock is given back.
    fn execute(&mut self, incoming: &Incoming<'_>, output: &mut Output) -> Option<Images> {
        let freed = (self.may_free(incoming) >= later::FELT).then(|| self.images.fork());
        execute::run(&mut self.images, incoming, output);
        freed
    }

    /// At most how much a request is going to free.
    fn may_free(&mut self, incoming: &Incoming<'_>) -> Bytes {
        let Request { op, len, .. } = incoming.request;
        if self.images.has_cache() && matches!(op, Op::Write | Op::Trim | Op::Zeroes) {
            self.unflushed = Bytes(self.unflushed.0.saturating_add(len.0));
        }
        match op {
            Op::Trim => len,
            Op::Zeroes if !execute::keeps_blocks(incoming) => len,
            // The image that was durable goes, with all that was changed since.
            Op::Flush => std::mem::take(&mut self.unflushed),
            Op::Read | Op::Write | Op::Zeroes => Bytes::ZERO,
        }
    }

    /// Executes the held requests that `which` picks.
    fn release(&mut self, which: impl Fn(&HeldRequest) -> bool) -> Vec<Released> {
        let picked: Vec<HeldRequest> = self.held.extract_if(.., |held| which(held)).collect();
        let run = |held: HeldRequest| {
            let mut output = Output::default();
            let freed = self.execute(&held.incoming(), &mut output);
            Released { owner: held.owner, output, freed }
        };
        picked.into_iter().map(run).collect()
    }
}

/// A held request that was executed and is to be answered.
struct Released {
    owner: Arc<Outbox>,
    output: Output,
    freed: Option<Images>,
}

/// Hands the replies to their connections, after the lock is given back: they may be long.
fn deliver(released: Vec<Released>) -> usize {
    let count = released.len();
    for Released { owner, mut output, freed } in released {
        owner.post(&output.take());
        later::let_go(freed);
    }
    count
}
