//! Exact fill: leaves so many bytes free for data, and checks it against the filesystem's own counters.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use brim_trial::{Bytes, Counters, FilesystemKind};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::Failure;
use crate::failure::Trying;
use crate::filesystem::Mounted;

/// The file that takes the space.
const BALLAST: &str = ".brim-ballast";
/// The first step when all space is to be put into chunks.
const CHUNK_STEP: u64 = 16 << 20;
/// How often the ballast is put right before the state counts as out of reach.
const ROUNDS_MAX: u32 = 32;

/// Fills `mounted` until `wanted` bytes are free for data, or as near as it gets: the counters tell which.
pub(crate) fn fill(mounted: &Mounted, wanted: Bytes) -> Result<Counters, Failure> {
    if mounted.kind() == FilesystemKind::Btrfs {
        put_all_space_into_chunks(mounted)?;
    }
    let mut ballast = Ballast::open(mounted)?;
    // Bytes that the ballast cost beyond its own length, once that is known: extent maps, worst-case reservations.
    let mut overhead = 0;
    for _ in 0..ROUNDS_MAX {
        mounted.sync()?;
        let free = mounted.counters()?.data_free.0;
        match free.checked_sub(wanted.0) {
            Some(0) => break,
            // The first step leaves room for what the ballast will cost beside its length, the others feel their way.
            Some(excess) if ballast.length == 0 => ballast.grow(excess.saturating_sub(overhead))?,
            Some(excess) => ballast.grow(excess)?,
            None => {
                overhead += wanted.0 - free;
                ballast.restart(mounted)?;
            }
        }
    }
    mounted.sync()?;
    mounted.counters()
}

/// btrfs gives space to chunks as they are needed; afterwards all of it belongs to one, and what is free is exact.
fn put_all_space_into_chunks(mounted: &Mounted) -> Result<(), Failure> {
    let path = mounted.path().join(BALLAST);
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
    path: PathBuf,
    file: File,
    length: u64,
    /// The filesystem's block: nothing smaller can be taken.
    block: u64,
}

impl Ballast {
    fn open(mounted: &Mounted) -> Result<Self, Failure> {
        let path = mounted.path().join(BALLAST);
        let file = create(&path)?;
        Ok(Self { path, file, length: 0, block: mounted.block_size()? })
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

    /// Begins anew: a filesystem that frees whole extents only gives nothing back for a shorter ballast.
    fn restart(&mut self, mounted: &Mounted) -> Result<(), Failure> {
        std::fs::remove_file(&self.path).trying(|| format!("remove {}", self.path.display()))?;
        // An open file keeps its blocks: the old one is closed before the new one takes its place.
        self.file = File::open(mounted.path()).trying(|| "open the mount".to_owned())?;
        mounted.sync()?;
        mounted.sync()?;
        self.file = create(&self.path)?;
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
