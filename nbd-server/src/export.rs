//! The exports of one server: disks by name, and how each is offered.

use std::sync::{Arc, Mutex};

use brim_device::Bytes;
use nbd_wire::{
    BlockSizes, BlockSizesError, CHUNK_DATA_MAX, Command, ExportInfo, Exports, Found, MAX_NAME_LENGTH,
    TransmissionFlags,
};

use crate::disk::{CONTEXTS, Disk, PAYLOAD_MAX};
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
    /// The protocol does not allow such block sizes.
    #[error(transparent)]
    BlockSizes(#[from] BlockSizesError),
    /// The server could not keep its word.
    #[error("payloads of {maximum} are more than the {PAYLOAD_MAX} that this server takes")]
    Maximum {
        /// The maximum that was to be announced.
        maximum: Bytes,
    },
    /// No client could reach the last bytes.
    #[error("the size of the disk, {size}, is not a multiple of the minimum block size, {minimum}")]
    Uneven {
        /// Size of the disk.
        size: Bytes,
        /// The minimum that was to be announced.
        minimum: Bytes,
    },
}

/// How a disk is offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ExportOptions {
    /// Writes, trims and zeroes are refused with `EPERM`. The disk may still change by other exports of it.
    pub read_only: bool,
    /// Clients are told that it behaves like a rotational medium. It runs no slower for that.
    pub rotational: bool,
    /// What clients are told that ask for it.
    pub block_sizes: BlockSizes,
    /// Requests that do not keep to the sizes are refused with `EINVAL`, whether or not the client asked for them.
    pub enforce_block_sizes: bool,
}

impl ExportOptions {
    pub(crate) fn check(&self, size: Bytes) -> Result<(), ExportError> {
        self.block_sizes.check()?;
        let maximum = Bytes(u64::from(self.block_sizes.maximum));
        if maximum > PAYLOAD_MAX {
            return Err(ExportError::Maximum { maximum });
        }
        let minimum = Bytes(u64::from(self.block_sizes.minimum));
        if !size.0.is_multiple_of(minimum.0) {
            return Err(ExportError::Uneven { size, minimum });
        }
        Ok(())
    }

    /// Why a request does not keep to sizes that are enforced. "When allowing clients that did not negotiate sizing via
    /// NBD, a server that enforces stricter size constraints than the defaults MUST cleanly error commands that fall
    /// outside the constraints" (proto.md, "Size constraints").
    pub(crate) fn misfit(&self, command: Command, offset: u64, length: u64) -> Option<&'static str> {
        let BlockSizes { minimum, maximum, .. } = self.block_sizes;
        if !self.enforce_block_sizes || command == Command::Flush {
            return None;
        }
        if (offset | length) & (u64::from(minimum) - 1) != 0 {
            return Some("the request is not aligned to the minimum block size");
        }
        let payload = matches!(command, Command::Read | Command::Write);
        (payload && length > u64::from(maximum)).then_some("the payload is longer than the maximum")
    }

    /// The longest chunk of a reply, but for its first few fields: "A server MUST NOT send a chunk where any variable-length
    /// portion of the chunk is larger than any advertised maximum payload size" (proto.md, "Structured reply types"), whether
    /// that is enforced or not.
    pub(crate) fn chunk_max(&self) -> u64 {
        u64::from(self.block_sizes.maximum).min(CHUNK_DATA_MAX)
    }
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
        ExportInfo { size: self.disk.size().0, flags, block_sizes: Some(self.options.block_sizes) }
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
        export.options.check(export.disk.size())?;
        let mut list = lock(&self.0);
        if list.iter().any(|entry| entry.name == name) {
            return Err(ExportError::Exists { name: name.to_owned() });
        }
        list.push(Entry { name: name.to_owned(), export });
        Ok(())
    }

    /// The export of that name, or the first one for `None`; with its name.
    pub(crate) fn get(&self, name: Option<&str>) -> Option<(String, Export)> {
        let list = lock(&self.0);
        let entry = match name {
            Some(name) => list.iter().find(|entry| entry.name == name),
            None => list.first(),
        }?;
        Some((entry.name.clone(), entry.export.clone()))
    }

    /// All exports with their names, in order.
    pub(crate) fn all(&self) -> Vec<(String, Export)> {
        lock(&self.0).iter().map(|entry| (entry.name.clone(), entry.export.clone())).collect()
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
