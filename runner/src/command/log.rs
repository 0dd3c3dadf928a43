//! `brim log`: write logs shown and replayed, those of the kernel and of QEMU as well as brim's own.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use brim_device::Store;
use brim_device::log::{Decoder, Entry, LogError, Position, ReplayError, What};
use brim_trial::Bytes;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use serde_json::json;

use crate::cli::Replay;
use crate::error::{Error, Exit};
use crate::output;

/// The schema of the JSON lines.
const SCHEMA: u32 = 1;

/// How much data is in memory at once.
const CHUNK_LEN: usize = 1 << 20;

static ZEROES: [u8; CHUNK_LEN] = [0; CHUNK_LEN];

/// Shows every entry.
pub(crate) fn show(path: &Path, as_json: bool) -> Result<Exit, Error> {
    let mut log = LogReader::open(path)?;
    loop {
        let number = log.decoder.number();
        let Some(entry) = log.entry()? else {
            return Ok(Exit::Expected);
        };
        output::line(&if as_json { in_json(number, &entry) } else { in_words(number, &entry) });
    }
}

/// Does on a fresh disk what a log has.
pub(crate) fn replay(arguments: &Replay) -> Result<Exit, Error> {
    let log = LogReader::open(&arguments.file)?;
    let (range, size) = plan(&log, arguments)?;
    let (path, count) = (&arguments.onto, log.decoder.count());
    let disk =
        File::options().write(true).create_new(true).open(path).map_err(|error| not_created(path, &error))?;
    let last = range.end.saturating_sub(1);
    let told = format!(
        "entries {} to {last} of {count} replayed onto {}, a disk of {size}",
        range.start,
        path.display()
    );
    if let Err(error) = write_disk(log, &disk, size, range) {
        // Half a disk looks like a whole one. It was created here, just now.
        let _stays = std::fs::remove_file(path);
        return Err(error);
    }
    output::line(&told);
    Ok(Exit::Expected)
}

/// Which entries are replayed, and onto how large a disk.
fn plan(log: &LogReader, arguments: &Replay) -> Result<(Range<u64>, Bytes), Error> {
    let to = arguments.to.as_ref().unwrap_or(&Position::End);
    let scan = Scan::of(log.try_clone()?, to, arguments.from..u64::MAX)?;
    let entry_help = "`brim log show FILE` shows the entries and marks that there are";
    let end = scan.to.map_err(|error| log.wrong(&error, entry_help))?;
    if arguments.from >= end && arguments.from > 0 {
        let what =
            format!("entry {} is not before the end of the replay, which is {end} entries", arguments.from);
        return Err(Error::Usage { what, help: entry_help.to_owned() });
    }
    let size = arguments.size.unwrap_or(scan.furthest.1);
    if size == Bytes::ZERO {
        let help = "give the disk a size, as in --size 1GiB".to_owned();
        return Err(Error::Usage { what: format!("{} changes nothing", log.path.display()), help });
    }
    Store::new(size).map_err(|error| Error::Usage {
        what: error.to_string(),
        help: "a size is a multiple of 512 bytes, as in --size 1GiB".to_owned(),
    })?;
    let (entry, furthest) = if arguments.to.is_some() { scan.furthest_to } else { scan.furthest };
    if furthest > size {
        let what = format!("entry {entry} ends at byte {}, past a disk of {size}", furthest.0);
        let help = format!("leave --size away, or give at least {}", furthest.0);
        return Err(Error::Usage { what, help });
    }
    Ok((arguments.from..end, size))
}

/// What all headers of a log say together.
struct Scan {
    /// How many entries there are up to the position.
    to: Result<u64, ReplayError>,
    /// The entry that ends last on the disk, and where; of all entries.
    furthest: (u64, Bytes),
    /// The same of those that are replayed.
    furthest_to: (u64, Bytes),
}

impl Scan {
    fn of(mut log: LogReader, to: &Position, replayed: Range<u64>) -> Result<Self, Error> {
        let (mut furthest, mut furthest_to, mut mark_end) = ((0, Bytes::ZERO), (0, Bytes::ZERO), None);
        loop {
            let number = log.decoder.number();
            let Some(entry) = log.entry()? else { break };
            let end = (number, entry.end());
            let is_later = |than: (u64, Bytes)| end.1 > than.1;
            if is_later(furthest) {
                furthest = end;
            }
            let is_past = match to {
                Position::End => false,
                Position::Entry(last) => number > *last,
                Position::Mark(_) => mark_end.is_some(),
            };
            if !is_past && replayed.contains(&number) && is_later(furthest_to) {
                furthest_to = end;
            }
            if let (Position::Mark(wanted), What::Mark(mark), None) = (to, &entry.what, mark_end) {
                mark_end = (wanted == mark).then_some(number + 1);
            }
        }
        let count = log.decoder.count();
        let to = match to {
            Position::End => Ok(count),
            Position::Entry(entry) if *entry < count => Ok(entry + 1),
            Position::Entry(entry) => Err(ReplayError::NoEntry { entry: *entry, count }),
            Position::Mark(mark) => mark_end.ok_or_else(|| ReplayError::NoMark { mark: mark.clone() }),
        };
        Ok(Self { to, furthest, furthest_to })
    }
}

fn write_disk(mut log: LogReader, disk: &File, size: Bytes, range: Range<u64>) -> Result<(), Error> {
    let failed = |source| Error::Process { what: "write the disk", source };
    disk.set_len(size.0).map_err(failed)?;
    while log.decoder.number() < range.end {
        let is_wanted = range.contains(&log.decoder.number());
        let Some(entry) = log.entry()?.filter(|_| is_wanted) else { continue };
        match entry.what {
            What::Write { offset, len } => {
                log.data(len, |at, data| write_at(disk, offset.0 + at, data).map_err(failed))?;
            }
            What::Discard { offset, len } => zero_at(disk, offset.0, len.0).map_err(failed)?,
            What::Flush | What::Mark(_) => {}
        }
    }
    disk.sync_all().map_err(failed)
}

/// Zeroes become a hole, so that a log of sparse writes gives a sparse file.
fn write_at(disk: &File, offset: u64, data: &[u8]) -> io::Result<()> {
    if data == &ZEROES[..data.len()] && data.len() == CHUNK_LEN {
        return zero_at(disk, offset, Bytes::of_len(data.len()).0);
    }
    disk.write_all_at(data, offset)
}

fn zero_at(disk: &File, offset: u64, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    match fallocate(disk, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP) => {
            let mut at = 0;
            while at < len {
                let here = Bytes((len - at).min(Bytes::of_len(CHUNK_LEN).0));
                disk.write_all_at(&ZEROES[..here.to_len().unwrap_or(CHUNK_LEN)], offset + at)?;
                at += here.0;
            }
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}

fn not_created(path: &Path, error: &io::Error) -> Error {
    let help = if error.kind() == io::ErrorKind::AlreadyExists {
        "brim writes to no disk and no file that it has not created: name a file that is not there yet"
    } else {
        "name a new file in a directory that can be written to"
    };
    Error::Usage { what: format!("cannot create {}: {error}", path.display()), help: help.to_owned() }
}

/// A log in a file, front to back.
struct LogReader {
    path: PathBuf,
    file: File,
    decoder: Decoder,
    header: Vec<u8>,
}

impl LogReader {
    fn open(path: &Path) -> Result<Self, Error> {
        let read = |error: io::Error| Error::Usage {
            what: format!("cannot read {}: {error}", path.display()),
            help: "name a write log: a file, or the device that dm-log-writes writes to".to_owned(),
        };
        let mut file = File::open(path).map_err(read)?;
        // A device has no length among its metadata.
        let len = file.seek(SeekFrom::End(0)).map(Bytes).map_err(read)?;
        let mut start = vec![0; Decoder::START_LEN.min(len.to_len().unwrap_or(usize::MAX))];
        file.read_exact_at(&mut start, 0).map_err(read)?;
        let decoder = Decoder::new(&start, len).map_err(|error| not_a_log(path, &error))?;
        let header = vec![0; decoder.sector().to_len().unwrap_or_default()];
        Ok(Self { path: path.to_owned(), file, decoder, header })
    }

    /// Another reader of the same log, at the same place.
    fn try_clone(&self) -> Result<Self, Error> {
        let file = self.file.try_clone().map_err(|error| self.unreadable(&error))?;
        Ok(Self { path: self.path.clone(), file, decoder: self.decoder.clone(), header: self.header.clone() })
    }

    /// The next entry.
    fn entry(&mut self) -> Result<Option<Entry>, Error> {
        if self.decoder.is_done() {
            return Ok(None);
        }
        let header = match self.file.read_exact_at(&mut self.header, self.decoder.at().0) {
            Ok(()) => &self.header[..],
            // The decoder knows how long the log is, and says where it ends.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => &[],
            Err(error) => return Err(self.unreadable(&error)),
        };
        self.decoder.entry(header).map(Some).map_err(|error| not_a_log(&self.path, &error))
    }

    /// Lends the data of the last entry, which has `len` of it, with where it is in that data.
    fn data(&self, len: Bytes, mut lend: impl FnMut(u64, &[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let mut chunk = vec![0; CHUNK_LEN.min(len.to_len().unwrap_or(CHUNK_LEN))];
        let (start, mut at) = (self.decoder.at().0 - len.0, 0);
        while at < len.0 {
            let here = Bytes(len.0 - at).to_len().unwrap_or(CHUNK_LEN).min(CHUNK_LEN);
            let read = self.file.read_exact_at(&mut chunk[..here], start + at);
            read.map_err(|error| self.unreadable(&error))?;
            lend(at, &chunk[..here])?;
            at += Bytes::of_len(here).0;
        }
        Ok(())
    }

    fn wrong(&self, error: &ReplayError, help: &str) -> Error {
        Error::Usage { what: format!("{}: {error}", self.path.display()), help: help.to_owned() }
    }

    fn unreadable(&self, error: &io::Error) -> Error {
        let what = format!("cannot read {} at byte {}: {error}", self.path.display(), self.decoder.at().0);
        Error::Usage { what, help: "is somebody else changing the log?".to_owned() }
    }
}

fn not_a_log(path: &Path, error: &LogError) -> Error {
    let help = match error {
        LogError::Entry { entry: 0, .. } => "nothing of this log can be replayed",
        LogError::Entry { .. } => "what is before that entry can be seen by `brim log show`",
        _ => "a log is what brim, the kernel's dm-log-writes or QEMU's blklogwrites writes",
    };
    Error::Usage { what: format!("{}: {error}", path.display()), help: help.to_owned() }
}

/// What an entry is called, its range, and its mark.
fn parts(entry: &Entry) -> (&'static str, Option<(Bytes, Bytes)>, Option<String>) {
    match &entry.what {
        What::Write { offset, len } => ("write", Some((*offset, *len)), None),
        What::Discard { offset, len } => ("discard", Some((*offset, *len)), None),
        What::Flush => ("flush", None, None),
        What::Mark(mark) => ("mark", None, Some(mark.text().into_owned())),
    }
}

fn in_words(number: u64, entry: &Entry) -> String {
    let (op, range, mark) = parts(entry);
    let flags: Vec<&str> = entry.flags.names().collect();
    let flags = if flags.is_empty() { "-".to_owned() } else { flags.join(",") };
    let (offset, len) =
        range.map_or_else(Default::default, |(offset, len)| (offset.0.to_string(), len.0.to_string()));
    // Quoted, so that no mark plays tricks on a terminal.
    let mark = mark.map(|mark| format!("{mark:?}")).unwrap_or_default();
    format!("{number:>8} {op:<8} {flags:<10} {offset:>16} {len:>12} {mark}").trim_end().to_owned()
}

fn in_json(number: u64, entry: &Entry) -> String {
    let (op, range, mark) = parts(entry);
    let flags: Vec<&str> = entry.flags.names().collect();
    let mut line = json!({ "schema": SCHEMA, "entry": number, "op": op, "flags": flags });
    if let Some((offset, len)) = range {
        line["offset"] = offset.0.into();
        line["length"] = len.0.into();
    }
    if let Some(mark) = mark {
        line["mark"] = mark.into();
    }
    line.to_string()
}
