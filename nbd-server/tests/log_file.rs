//! The log of a live server: what was handed over is in the file, whatever its size, and a file that is not whole says so.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use brim_device::log::{Flags, Mark, Position, Record, WriteLog};
use brim_device::{Bytes, Store};
use nbd_server::LogFile;

const SIZE: Bytes = Bytes(256 << 20);

fn content(store: &Store) -> Vec<u8> {
    let mut all = vec![0xee; usize::try_from(store.size().0).unwrap()];
    store.read(Bytes::ZERO, &mut all).unwrap();
    all
}

fn write(store: &mut Store, offset: u64, data: &[u8], flags: Flags) -> Vec<Record> {
    store.write(Bytes(offset), data).unwrap();
    Record::written(store, Bytes(offset), Bytes::of_len(data.len()), flags).unwrap()
}

fn append(log: &LogFile, records: Vec<Record>) {
    for record in records {
        log.append(record).unwrap();
    }
}

fn replayed(path: &Path, to: &Position) -> (u64, Vec<u8>) {
    let mut store = Store::new(SIZE).unwrap();
    let count = WriteLog::decode(&fs::read(path).unwrap()).unwrap().replay(&mut store, to).unwrap();
    (count, content(&store))
}

#[test]
fn the_file_replays_to_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = LogFile::create(&path).unwrap();
    let mut store = Store::new(SIZE).unwrap();
    append(&log, write(&mut store, 4096, &[1; 8192], Flags::FUA));
    append(&log, write(&mut store, 100, &[2; 700], Flags::NONE));
    append(&log, vec![Record::mark(Mark::new("here").unwrap())]);
    let here = content(&store);
    // More than may wait at once, in records that are shorter and longer than that.
    for (number, len) in [(3_u8, 48 << 20), (4, 80 << 20), (5, 1 << 20), (6, 64 << 20)] {
        append(&log, write(&mut store, 8192 * u64::from(number), &vec![number; len], Flags::NONE));
    }
    store.trim(Bytes(20 << 20), Bytes(10 << 20)).unwrap();
    append(&log, Record::discarded(&store, Bytes(20 << 20), Bytes(10 << 20), Flags::NONE).unwrap());
    store.zero(Bytes::ZERO, Bytes(4096)).unwrap();
    append(&log, Record::zeroed(&store, Bytes::ZERO, Bytes(4096), Flags::NONE).unwrap());
    log.finish().unwrap();
    assert_eq!(replayed(&path, &Position::Mark(Mark::new("here").unwrap())), (3, here));
    let (count, end) = replayed(&path, &Position::End);
    assert!(count == 9 && end == content(&store), "{count} entries");
}

/// Zeroes are in the log as a write of them, and take no space: neither between other entries nor at its end.
#[test]
fn long_zeroes_are_holes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = LogFile::create(&path).unwrap();
    let mut store = Store::new(SIZE).unwrap();
    append(&log, write(&mut store, 0, &[1; 4096], Flags::NONE));
    for offset in [0, 100 << 20] {
        store.zero(Bytes(offset), Bytes(100 << 20)).unwrap();
        append(&log, Record::zeroed(&store, Bytes(offset), Bytes(100 << 20), Flags::NONE).unwrap());
    }
    log.finish().unwrap();
    let file = fs::metadata(&path).unwrap();
    assert_eq!(file.len(), 512 * 4 + 4096 + (200 << 20));
    assert!(file.blocks() * 512 < 1 << 20, "{} sectors", file.blocks());
    assert_eq!(replayed(&path, &Position::End), (3, content(&store)));
}

/// Without an end, as after a kill: what was handed over is counted as soon as the thread has got to it.
#[test]
fn what_was_written_is_counted_without_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = LogFile::create(&path).unwrap();
    assert!(WriteLog::decode(&fs::read(&path).unwrap()).unwrap().is_empty());
    let mut store = Store::new(SIZE).unwrap();
    for number in 1..4 {
        append(&log, write(&mut store, 0, &[7; 512], Flags::NONE));
        while WriteLog::decode(&fs::read(&path).unwrap()).unwrap().len() < number {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_log_that_cannot_be_written_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    fs::write(&path, "somebody's").unwrap();
    assert_eq!(LogFile::create(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"somebody's");
    assert_eq!(LogFile::create(Path::new("/no/such/place")).unwrap_err().kind(), ErrorKind::NotFound);
}
