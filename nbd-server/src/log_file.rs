//! A write log in a file, kept while a disk is served.
//!
//! One thread writes what others hand to it. They wait only when more than [`WAITING_MAX`] is on its way. The superblock
//! counts what is there after every flush, FUA write and mark, and whenever the thread has nothing left to do, so that
//! the log of a server that was killed can be read up to that. A host that loses its power may lose all of it: only
//! [`LogFile::finish`] waits for the file's own disk.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use brim_device::Bytes;
use brim_device::log::{Record, Stretch, What, superblock};

use crate::lock;

/// Data that may wait to be written. One record that is longer may wait alone.
const WAITING_MAX: Bytes = Bytes(64 << 20);

/// What a record counts beside its data: its place in the queue, and a sector of header.
const RECORD_COST: u64 = 1024;

/// Zeroes from this on become a hole in the file.
const HOLE_MIN: Bytes = Bytes(64 << 10);

/// Bytes that are written at once.
const BUFFER_LEN: usize = 1 << 20;

/// A log that is being written.
///
/// Dropping it also writes all that was handed over, but nobody is told if that fails.
#[derive(Debug)]
pub struct LogFile {
    shared: Arc<Shared>,
    /// `None` once it was waited for.
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is a record, or there will be no more.
    work: Condvar,
    /// Records were taken, or writing failed.
    room: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<Record>,
    /// What they cost.
    waiting: u64,
    /// No more will come.
    is_closed: bool,
    /// Why the thread stopped.
    failure: Option<(io::ErrorKind, String)>,
}

impl LogFile {
    /// A new file with a log that has no entry yet.
    ///
    /// # Errors
    ///
    /// When the file cannot be created, or is there already.
    pub fn create(path: &Path) -> io::Result<Self> {
        // A hole reads as zeroes only in a file that was empty before.
        Self::start(Writer::new(File::options().write(true).create_new(true).open(path)?)?)
    }

    fn start(writer: Writer) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        let thread =
            thread::Builder::new().name("write log".to_owned()).spawn(move || write_all(&theirs, writer))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Hands a record over, which becomes the next entry. It waits while too much is on its way.
    ///
    /// # Errors
    ///
    /// When writing failed, at this record or at one before it. The log ends there, and says so by its count.
    pub fn append(&self, record: Record) -> io::Result<()> {
        let cost = cost(&record);
        let mut queue = lock(&self.shared.queue);
        while queue.failure.is_none() && queue.waiting > 0 && queue.waiting + cost > WAITING_MAX.0 {
            queue = wait(&self.shared.room, queue);
        }
        if let Some((kind, what)) = &queue.failure {
            return Err(io::Error::new(*kind, what.clone()));
        }
        queue.waiting += cost;
        queue.records.push_back(record);
        drop(queue);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Writes all that was handed over, counts it, and waits until the file's disk has it.
    ///
    /// # Errors
    ///
    /// The first one of all that was written.
    pub fn finish(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        lock(&self.shared.queue).is_closed = true;
        self.shared.work.notify_one();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the thread that writes the log has panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        // Who wants to know has called `finish`.
        let _unheard = self.end();
    }
}

fn cost(record: &Record) -> u64 {
    record.data().memory().0 + RECORD_COST
}

fn wait<'a>(condvar: &Condvar, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
    condvar.wait(queue).unwrap_or_else(PoisonError::into_inner)
}

/// The thread: until there is nothing more to come, or an error.
fn write_all(shared: &Shared, mut writer: Writer) -> io::Result<()> {
    let result = write_queue(shared, &mut writer);
    if let Err(error) = &result {
        let mut queue = lock(&shared.queue);
        queue.failure = Some((error.kind(), error.to_string()));
        queue.records.clear();
        queue.waiting = 0;
        drop(queue);
        shared.room.notify_all();
    }
    result
}

fn write_queue(shared: &Shared, writer: &mut Writer) -> io::Result<()> {
    loop {
        let mut queue = lock(&shared.queue);
        if queue.records.is_empty() && writer.is_behind {
            drop(queue);
            writer.count()?;
            continue;
        }
        while queue.records.is_empty() && !queue.is_closed {
            queue = wait(&shared.work, queue);
        }
        let Some(record) = queue.records.pop_front() else {
            drop(queue);
            return writer.file.get_ref().sync_all();
        };
        drop(queue);
        writer.write(&record)?;
        lock(&shared.queue).waiting -= cost(&record);
        shared.room.notify_all();
    }
}

/// The file, at its end.
#[derive(Debug)]
struct Writer {
    file: BufWriter<File>,
    /// Where the next entry goes.
    end: u64,
    /// Entries that were written.
    entries: u64,
    /// Whether the superblock counts less.
    is_behind: bool,
}

impl Writer {
    fn new(mut file: File) -> io::Result<Self> {
        let start = superblock(0);
        file.write_all(&start)?;
        let end = Bytes::of_len(start.len()).0;
        Ok(Self { file: BufWriter::with_capacity(BUFFER_LEN, file), end, entries: 0, is_behind: false })
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        record.encode(|stretch| self.write_stretch(stretch))?;
        self.entries += 1;
        self.is_behind = true;
        let entry = record.entry();
        if entry.flags.flush || entry.flags.fua || matches!(entry.what, What::Mark(_)) {
            self.count()?;
        }
        Ok(())
    }

    fn write_stretch(&mut self, stretch: Stretch<'_>) -> io::Result<()> {
        let len = stretch.len();
        match stretch {
            Stretch::Bytes(bytes) => self.file.write_all(bytes)?,
            Stretch::Zeroes(_) if len < HOLE_MIN => {
                io::copy(&mut io::repeat(0).take(len.0), &mut self.file)?;
            }
            Stretch::Zeroes(_) => {
                self.file.seek(SeekFrom::Start(self.end + len.0))?;
            }
        }
        self.end += len.0;
        Ok(())
    }

    /// Has the superblock count all that was written, which is in the file by then.
    fn count(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let file = self.file.get_ref();
        // A hole at the end is no part of the file yet.
        if file.metadata()?.len() < self.end {
            file.set_len(self.end)?;
        }
        file.write_all_at(&superblock(self.entries), 0)?;
        self.is_behind = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use brim_device::Store;
    use brim_device::log::{Flags, Mark};

    use super::*;

    /// Nobody waits for ever for a log that cannot be written, and everybody is told.
    #[test]
    fn a_failure_is_told_at_every_append_and_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, []).unwrap();
        // Open for reading only: every write fails with EBADF.
        let file = BufWriter::with_capacity(BUFFER_LEN, File::open(&path).unwrap());
        let log = LogFile::start(Writer { file, end: 512, entries: 0, is_behind: false }).unwrap();
        let mut store = Store::new(Bytes(64 << 20)).unwrap();
        store.write(Bytes::ZERO, &vec![1; 60 << 20]).unwrap();
        let record = Record::written(&store, Bytes::ZERO, Bytes(60 << 20), Flags::NONE).unwrap().remove(0);
        let error = loop {
            if let Err(error) = log.append(record.clone()) {
                break error;
            }
        };
        assert!(error.to_string().contains("Bad file descriptor"), "{error}");
        assert!(log.append(Record::mark(Mark::new("late").unwrap())).is_err());
        assert_eq!(log.finish().unwrap_err().raw_os_error(), Some(9));
        assert!(std::fs::read(&path).unwrap().is_empty());
    }
}
