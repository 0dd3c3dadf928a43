//! The exports of one server: disks by name, and how each is offered.

use std::sync::{Arc, Mutex};

use nbd_wire::{BlockSizes, ExportInfo, Exports, Found, MAX_NAME_LENGTH, TransmissionFlags};

use crate::disk::{CONTEXTS, Disk};
use crate::lock;

/// Why a disk cannot be exported under a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// Another disk has that name.
    #[error("an export named {name:?} is there already")]
    Exists {
        /// The name.
        name: String,
    },
    /// The protocol cannot carry the name.
    #[error("{length} bytes of export name are not a name (up to {MAX_NAME_LENGTH} bytes without NUL)")]
    Name {
        /// Bytes of the name.
        length: usize,
    },
}

/// How a disk is offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ExportOptions {
    /// Writes, trims and zeroes are refused with `EPERM`. The disk may still change by other exports of it.
    pub read_only: bool,
    /// Clients are told that it behaves like a rotational medium. It runs no slower for that.
    pub rotational: bool,
}

/// What every export can do. One store is behind all connections, so that a flush on any covers what was answered on
/// all, which is what `NBD_FLAG_CAN_MULTI_CONN` promises (proto.md, "Transmission flags").
const FLAGS: TransmissionFlags = TransmissionFlags(
    TransmissionFlags::HAS_FLAGS.0
        | TransmissionFlags::SEND_FLUSH.0
        | TransmissionFlags::SEND_FUA.0
        | TransmissionFlags::SEND_TRIM.0
        | TransmissionFlags::SEND_WRITE_ZEROES.0
        | TransmissionFlags::CAN_MULTI_CONN.0
        | TransmissionFlags::SEND_CACHE.0
        | TransmissionFlags::SEND_FAST_ZERO.0,
);

/// What a read-only export has no use for.
const CHANGES: TransmissionFlags = TransmissionFlags(
    TransmissionFlags::SEND_TRIM.0
        | TransmissionFlags::SEND_WRITE_ZEROES.0
        | TransmissionFlags::SEND_FAST_ZERO.0,
);

/// Any byte may be asked for; 32 MiB is what clients that do not ask for sizes keep to as well (proto.md, "Size
/// constraints").
const BLOCK_SIZES: BlockSizes = BlockSizes { minimum: 1, preferred: 4096, maximum: 32 << 20 };

/// A disk as one export offers it.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    pub(crate) disk: Disk,
    pub(crate) options: ExportOptions,
}

impl Export {
    fn info(&self) -> ExportInfo {
        let mut flags = FLAGS;
        if self.options.read_only {
            flags = TransmissionFlags(flags.0 & !CHANGES.0) | TransmissionFlags::READ_ONLY;
        }
        if self.options.rotational {
            flags = flags | TransmissionFlags::ROTATIONAL;
        }
        ExportInfo { size: self.disk.size().0, flags, block_sizes: Some(BLOCK_SIZES) }
    }
}

#[derive(Debug)]
struct Entry {
    name: String,
    export: Export,
}

/// The exports of one server, in the order they were added; the first is the default.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExportList(Arc<Mutex<Vec<Entry>>>);

impl ExportList {
    pub(crate) fn add(&self, name: &str, export: Export) -> Result<(), ExportError> {
        if name.len() > MAX_NAME_LENGTH || name.contains('\0') {
            return Err(ExportError::Name { length: name.len() });
        }
        let mut list = lock(&self.0);
        if list.iter().any(|entry| entry.name == name) {
            return Err(ExportError::Exists { name: name.to_owned() });
        }
        list.push(Entry { name: name.to_owned(), export });
        Ok(())
    }

    pub(crate) fn remove(&self, name: &str) -> Option<Disk> {
        let mut list = lock(&self.0);
        let index = list.iter().position(|entry| entry.name == name)?;
        Some(list.remove(index).export.disk)
    }
}

impl Exports for ExportList {
    type Export = Export;

    fn find(&self, name: &str) -> Option<Found<Export>> {
        let list = lock(&self.0);
        let named = list.iter().find(|entry| entry.name == name);
        let entry = named.or_else(|| list.first().filter(|_| name.is_empty()))?;
        let (name, export) = (entry.name.clone(), entry.export.clone());
        drop(list);
        let info = export.info();
        Some(Found { export, name, info })
    }

    fn names(&self) -> Vec<String> {
        lock(&self.0).iter().map(|entry| entry.name.clone()).collect()
    }

    fn contexts(&self) -> &[&str] {
        &CONTEXTS
    }
}
