//! Exact fill: leaves so many bytes free for data, and checks it against the filesystem's own counters.

mod metadata;

use std::fs::{File, OpenOptions};
use std::path::Path;

use brim_trial::plan::Fill;
use brim_trial::{Bytes, Counters, FilesystemKind};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::Failure;
use crate::failure::Trying;
use crate::filesystem::Mounted;
use metadata::Trees;

/// The file that takes the space.
const BALLAST: &str = ".brim-ballast";
/// The one that takes all of it for a moment.
const CHUNKS: &str = ".brim-chunks";
/// The first step when all space is to be put into chunks.
const CHUNK_STEP: u64 = 16 << 20;
/// How often the ballast is put right before the state counts as out of reach.
const ROUNDS_MAX: u32 = 32;

/// Fills `mounted` until as much is free as is wanted, or as near as it gets: the counters tell which.
///
/// Everything that takes a new file comes first, while metadata is plentiful and chunks are still to be had. Then the data, for
/// which more metadata is wanted for a moment than may be left in the end; and then the last nodes of metadata.
pub(crate) fn fill(mounted: &Mounted, wanted: Fill) -> Result<Counters, Failure> {
    let mut ballast = Ballast::open(mounted)?;
    let shared = mounted.kind() == FilesystemKind::Btrfs && mounted.counters()?.metadata_free().is_none();
    let level = if shared { wanted.data_free } else { wanted.metadata_free };
    let mut trees = match level {
        Some(wanted) => Some(Trees::plant(mounted, wanted, shared)?),
        None => None,
    };
    if mounted.kind() == FilesystemKind::Btrfs {
        put_all_space_into_chunks(mounted)?;
    }
    if let Some(wanted) = wanted.data_free {
        // Where data and metadata share their space, the last blocks are taken as nodes.
        let rest = trees.as_ref().filter(|_| shared).map_or(0, Trees::last);
        ballast.take_all_but(mounted, Bytes(wanted.0 + rest))?;
    }
    if let Some(trees) = trees.as_mut() {
        trees.settle()?;
    }
    mounted.sync()?;
    mounted.counters()
}

/// btrfs gives space to chunks as they are needed; afterwards all of it belongs to one, and what is free is exact.
fn put_all_space_into_chunks(mounted: &Mounted) -> Result<(), Failure> {
    let path = mounted.path().join(CHUNKS);
    let file = create(&path)?;
    let (mut offset, mut step) = (0, CHUNK_STEP);
    let block = mounted.block_size()?;
    while step >= block {
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), offset, step) {
            Ok(()) => offset += step,
            Err(Errno::NOSPC) => step /= 2,
            Err(errno) => return Err(errno).trying(|| "fallocate to the last block".to_owned()),
        }
    }
    file.sync_all().trying(|| "fsync the ballast".to_owned())?;
    drop(file);
    std::fs::remove_file(&path).trying(|| format!("remove {}", path.display()))?;
    // The first commit frees the extents, the second what the first had pinned.
    mounted.sync()?;
    mounted.sync()
}

#[derive(Debug)]
struct Ballast {
    file: File,
    length: u64,
    /// The filesystem's block: nothing smaller can be taken.
    block: u64,
}

impl Ballast {
    fn open(mounted: &Mounted) -> Result<Self, Failure> {
        let file = create(&mounted.path().join(BALLAST))?;
        Ok(Self { file, length: 0, block: mounted.block_size()? })
    }

    /// Takes what is free but for `wanted`.
    fn take_all_but(&mut self, mounted: &Mounted, wanted: Bytes) -> Result<(), Failure> {
        // Bytes that the ballast cost beyond its own length, once that is known: extent maps, worst-case reservations.
        let mut overhead = 0;
        for _ in 0..ROUNDS_MAX {
            mounted.sync()?;
            let free = mounted.counters()?.data_free.0;
            match free.checked_sub(wanted.0) {
                Some(0) => break,
                // The first step leaves room for what the ballast will cost beside its length, the others feel their way.
                Some(excess) if self.length == 0 => self.grow(excess.saturating_sub(overhead))?,
                Some(excess) => self.grow(excess)?,
                None => {
                    overhead += wanted.0 - free;
                    self.restart(mounted)?;
                }
            }
        }
        Ok(())
    }

    /// Takes `bytes` more, or as many as there are.
    fn grow(&mut self, bytes: u64) -> Result<(), Failure> {
        let mut step = bytes / self.block * self.block;
        while step >= self.block {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), self.length, step) {
                Ok(()) => {
                    self.length += step;
                    return self.file.sync_all().trying(|| "fsync the ballast".to_owned());
                }
                Err(Errno::NOSPC) => step = step / 2 / self.block * self.block,
                Err(errno) => return Err(errno).trying(|| "fallocate the ballast".to_owned()),
            }
        }
        Ok(())
    }

    /// Begins anew: a filesystem that frees whole extents only gives nothing back for a ballast that is only shorter.
    fn restart(&mut self, mounted: &Mounted) -> Result<(), Failure> {
        self.file.set_len(0).trying(|| "empty the ballast".to_owned())?;
        mounted.sync()?;
        mounted.sync()?;
        self.length = 0;
        Ok(())
    }
}

fn create(path: &Path) -> Result<File, Failure> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .trying(|| format!("create {}", path.display()))
        .map_err(|failure| {
            failure.with_help("the filesystem has no room for one more file: give it a larger disk")
        })
}
