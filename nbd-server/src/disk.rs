//! A disk that connections share: the store with its faults, its held requests and its statistics under one lock.

mod clock;
mod content;
mod direct;
mod execute;
mod faults;
mod gates;
mod held;
mod later;
mod log;
mod parked;
mod pool;
mod stats;
mod status;
mod submit;

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};

use brim_device::control::{Pool, Stats};
use brim_device::fault::{FaultTable, Request};
use brim_device::{Bytes, Images, SizeError, Store};
use nbd_wire::Answer;

use crate::lock;
use crate::outbox::Outbox;
use crate::payload::Payload;
use clock::Clock;
pub(crate) use execute::{PAYLOAD_MAX, Refusal};
use held::HeldRequest;
use log::Log;
pub(crate) use parked::Parked;
pub(crate) use pool::GATE as POOL_GATE;
pub(crate) use status::{CONTEXTS, StatusRequest};
pub(crate) use submit::{End, Submitted, Watch};

/// A shared handle to one disk. Clones are the same disk; [`Disk::fork`] makes another.
#[derive(Clone, Debug)]
pub struct Disk {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    clock: Clock,
    /// Told whenever a request is held.
    holding: Condvar,
    /// Told whenever a delayed request is done.
    settled: Condvar,
}

#[derive(Debug)]
struct State {
    images: Images,
    faults: FaultTable,
    stats: Stats,
    /// Requests that were held or delayed so far.
    arrivals: u64,
    /// In order of arrival.
    held: Vec<HeldRequest>,
    /// By arrival: requests that wait for their time, and the connections that have them or are about to.
    delayed: BTreeMap<u64, Arc<Outbox>>,
    /// With a write cache: how much was changed since the last flush.
    unflushed: Bytes,
    pool: Option<Pool>,
    /// Requests that have needed more space than the pool had.
    without_space: u64,
    snapshots: BTreeMap<String, Images>,
    log: Option<Log>,
}

/// What a disk has beside its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DiskOptions {
    /// A volatile write cache: what is written is lost at a power cut unless it was flushed, or written with FUA. Without
    /// one, what was answered is durable.
    pub write_cache: bool,
    /// What the rows of the fault table draw from.
    pub seed: u64,
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

    /// The first so many bytes; of pages all, since what is written says how much of them it takes.
    fn prefix(self, len: Bytes) -> Self {
        match self {
            Self::Bytes(bytes) => Self::Bytes(&bytes[..len.to_len().unwrap_or(usize::MAX).min(bytes.len())]),
            Self::Pages(_) => self,
        }
    }

    /// A copy of it in one piece.
    fn to_vec(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.to_vec(),
            Self::Pages(payload) => payload.to_vec(),
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
        let images =
            if options.write_cache { Images::write_back(store) } else { Images::write_through(store) };
        Self::from_images(images, options.seed)
    }

    fn from_images(images: Images, seed: u64) -> Self {
        let state = State {
            images,
            faults: FaultTable::seeded(seed),
            stats: Stats::default(),
            arrivals: 0,
            held: Vec::new(),
            delayed: BTreeMap::new(),
            unflushed: Bytes::ZERO,
            pool: None,
            without_space: 0,
            snapshots: BTreeMap::new(),
            log: None,
        };
        let (holding, settled) = (Condvar::new(), Condvar::new());
        Self {
            shared: Arc::new(Shared { state: Mutex::new(state), clock: Clock::start(), holding, settled }),
        }
    }

    /// Another disk with the content of this moment, in constant time, also while this one serves. It has no faults,
    /// nothing held, and statistics of its own. With a write cache it has one too, in which the same is dirty: cutting its
    /// power shows what this disk would lose. `Disk::from_store(disk.snapshot())` is one on which everything is durable.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = lock(&self.shared.state);
        let (images, seed) = (state.images.fork(), state.faults.seed());
        drop(state);
        Self::from_images(images, seed)
    }
}
