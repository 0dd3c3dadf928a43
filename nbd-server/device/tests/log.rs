//! The write log: bytes as the kernel has them, what is read from any bytes, and disks that come back from their logs.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

use brim_device::log::{
    Decoder, Entry, EntryFault, Flags, LogError, Mark, MarkError, Position, Record, ReplayError, Stretch,
    What, WriteLog, entries, superblock,
};
use brim_device::{AccessError, Bytes, Store};
use proptest::prelude::*;

const SIZE: u64 = 40 * 4096 + 512;

fn as_len(value: u64) -> usize {
    usize::try_from(value).unwrap()
}

fn content(store: &Store) -> Vec<u8> {
    let mut all = vec![0xee; as_len(store.size().0)];
    store.read(Bytes::ZERO, &mut all).unwrap();
    all
}

fn push(bytes: &mut Vec<u8>, stretch: Stretch<'_>) {
    match stretch {
        Stretch::Bytes(more) => bytes.extend_from_slice(more),
        Stretch::Zeroes(len) => bytes.resize(bytes.len() + as_len(len.0), 0),
    }
}

fn encoded(log: &WriteLog) -> Vec<u8> {
    let mut bytes = Vec::new();
    log.encode(|stretch| push(&mut bytes, stretch));
    bytes
}

fn mark(text: &str) -> Mark {
    Mark::new(text).unwrap()
}

fn range(record: &Record) -> (u64, u64) {
    match record.entry().what {
        What::Write { offset, len } | What::Discard { offset, len } => (offset.0, len.0),
        What::Flush | What::Mark(_) => (0, 0),
    }
}

/// The words of `struct log_write_super` and `struct log_write_entry` in drivers/md/dm-log-writes.c, v6.1, written down by
/// hand: little-endian, a sector each, and the text of a mark inside the sector.
#[test]
fn the_bytes_are_those_of_the_kernel() {
    let mut store = Store::new(Bytes(1 << 20)).unwrap();
    let mut log = WriteLog::new();
    store.write(Bytes(0x1000), &[0xab; 1024]).unwrap();
    let fua = Flags { metadata: true, ..Flags::FUA };
    for record in Record::written(&store, Bytes(0x1000), Bytes(1024), fua).unwrap() {
        log.push(record);
    }
    log.push(Record::flush());
    log.mark(mark("fsync"));
    store.trim(Bytes(0x2000), Bytes(0x4000)).unwrap();
    for record in Record::discarded(&store, Bytes(0x2000), Bytes(0x4000), Flags::NONE).unwrap() {
        log.push(record);
    }
    let bytes = encoded(&log);

    let mut expected = vec![0; 512 * 7];
    let mut put = |at: usize, bytes: &[u8]| expected[at..][..bytes.len()].copy_from_slice(bytes);
    // WRITE_LOG_MAGIC 0x6a736677736872, WRITE_LOG_VERSION 1, nr_entries 4, sectorsize 512.
    put(0, &[0x72, 0x68, 0x73, 0x77, 0x66, 0x73, 0x6a, 0x00]);
    put(8, &[1, 0, 0, 0, 0, 0, 0, 0]);
    put(16, &[4, 0, 0, 0, 0, 0, 0, 0]);
    put(24, &[0x00, 0x02, 0, 0]);
    // Sector 8, 2 sectors, LOG_FUA_FLAG 1 << 1 | LOG_METADATA_FLAG 1 << 4, data_len 0; then the data.
    put(512, &[8, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0x12]);
    put(1024, &[0xab; 1024]);
    // LOG_FLUSH_FLAG 1 << 0.
    put(2048 + 16, &[0x01]);
    // LOG_MARK_FLAG 1 << 3, data_len 5, the text.
    put(2560 + 16, &[0x08, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
    put(2560 + 32, b"fsync");
    // Sector 16, 32 sectors, LOG_DISCARD_FLAG 1 << 2, and no data.
    put(3072, &[0x10, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0x04]);
    assert_eq!(bytes, expected);
    assert_eq!(superblock(4), expected[..512]);
}

#[test]
fn marks_are_short_strings_of_c() {
    assert_eq!(Mark::LEN_MAX, Bytes(479));
    assert!(Mark::new(&"x".repeat(479)).is_ok() && Mark::new("").is_ok());
    assert_eq!(Mark::new(&"x".repeat(480)), Err(MarkError::TooLong { len: Bytes(480) }));
    assert_eq!(Mark::new("a\0b"), Err(MarkError::Zero { index: 1 }));
}

#[test]
fn positions_are_entries_or_marks() {
    for (text, position) in [
        ("12", Position::Entry(12)),
        ("mark:12", Position::Mark(mark("12"))),
        ("before-fsync", Position::Mark(mark("before-fsync"))),
        ("+5", Position::Mark(mark("+5"))),
        ("99999999999999999999", Position::Mark(mark("99999999999999999999"))),
    ] {
        assert_eq!(text.parse(), Ok(position), "{text}");
    }
}

/// What is wrong is said with the entry and the byte.
#[test]
fn errors_name_the_place() {
    let mut log = WriteLog::new();
    let store = Store::new(Bytes(1 << 20)).unwrap();
    log.mark(mark("start"));
    log.push(Record::written(&store, Bytes::ZERO, Bytes(4096), Flags::NONE).unwrap().remove(0));
    log.push(Record::flush());
    let whole = encoded(&log);
    let error_of = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        WriteLog::decode(&bytes).unwrap_err()
    };
    let fault_of = |change: &dyn Fn(&mut Vec<u8>)| match error_of(change) {
        LogError::Entry { entry, at, fault } => (entry, at.0, fault),
        other => panic!("{other}"),
    };
    assert_eq!(error_of(&|bytes| bytes.truncate(27)), LogError::TooShort { len: Bytes(27) });
    assert_eq!(error_of(&|bytes| bytes[6] = 0), LogError::Magic { found: 0x7366_7773_6872 });
    assert_eq!(error_of(&|bytes| bytes[8] = 2), LogError::Version { found: 2 });
    for (sector, found) in
        [([0, 0, 0, 0], 0), ([0, 1, 0, 0], 256), ([0, 3, 0, 0], 768), ([0, 0, 0, 1], 1 << 24)]
    {
        let error = error_of(&|bytes| bytes[24..28].copy_from_slice(&sector));
        assert_eq!(error, LogError::Sector { found });
    }
    let (first, second, third) = (512, 1024, 1024 + 512 + 4096);
    assert_eq!(fault_of(&|bytes| bytes[first + 16] = 0x28), (0, 512, EntryFault::Flags { flags: 0x28 }));
    assert_eq!(fault_of(&|bytes| bytes[first + 16] = 0x09), (0, 512, EntryFault::Flags { flags: 9 }));
    assert_eq!(fault_of(&|bytes| bytes[first + 8] = 1), (0, 512, EntryFault::MarkedSectors { sectors: 1 }));
    let too_long = EntryFault::Mark { len: 481, most: 480 };
    assert_eq!(fault_of(&|bytes| bytes[first + 24..][..2].copy_from_slice(&[0xe1, 1])), (0, 512, too_long));
    assert_eq!(fault_of(&|bytes| bytes[second + 32] = 1), (1, 1024, EntryFault::Padding));
    let past = EntryFault::Range { sector: 1 << 55, sectors: 8 };
    assert_eq!(fault_of(&|bytes| bytes[second + 6] = 0x80), (1, 1024, past));
    assert_eq!(fault_of(&|bytes| bytes[third + 16] = 0), (2, 5632, EntryFault::Empty));
    let cut = EntryFault::Cut { end: Bytes(5632), len: Bytes(5631) };
    assert_eq!(fault_of(&|bytes| bytes.truncate(5631)), (1, 1024, cut));
    let error = error_of(&|bytes| bytes.truncate(5631)).to_string();
    assert_eq!(error, "entry 1 at byte 1024 of the log: it ends at byte 5632, but the log at byte 5631");
}

/// A log is what its superblock counts, also where more lies behind: a server that was killed leaves that.
#[test]
fn entries_that_are_not_counted_are_not_there() {
    let mut log = WriteLog::new();
    for text in ["a", "b", "c"] {
        log.mark(mark(text));
    }
    let mut bytes = encoded(&log);
    bytes[16] = 2;
    bytes[512 * 3 + 16] = 0xff;
    assert_eq!(WriteLog::decode(&bytes).unwrap().len(), 2);
}

/// The kernel makes logs with the sectors of the disk below it, and QEMU with those that it is told.
#[test]
fn sectors_may_be_larger() {
    let mut bytes = vec![0; 4096 * 5];
    bytes[..512].copy_from_slice(&superblock(2));
    bytes[24..28].copy_from_slice(&4096_u32.to_le_bytes());
    bytes[4096..][..17].copy_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes[8192..16384].fill(7);
    bytes[16384 + 16] = 8;
    bytes[16384 + 24..][..2].copy_from_slice(&600_u16.to_le_bytes());
    bytes[16384 + 32..][..600].fill(b'm');
    let log = WriteLog::decode(&bytes).unwrap();
    let mut store = Store::new(Bytes(20480)).unwrap();
    assert_eq!(log.replay(&mut store, &Position::End), Ok(2));
    assert_eq!(content(&store)[12288..], [7; 8192]);
    assert!(content(&store)[..12288].iter().all(|byte| *byte == 0));
    // In sectors of 512 bytes the mark is as long as they have room for.
    let again = WriteLog::decode(&encoded(&log)).unwrap();
    assert_eq!(again.get(1).unwrap().entry().what, What::Mark(mark(&"m".repeat(479))));
}

#[test]
fn the_disk_comes_back_at_every_position() {
    let mut store = Store::new(Bytes(SIZE)).unwrap();
    let mut log = WriteLog::new();
    store.write(Bytes(4096), &[1; 4096]).unwrap();
    log.push(Record::written(&store, Bytes(4096), Bytes(4096), Flags::FUA).unwrap().remove(0));
    log.mark(mark("one"));
    let one = store.fork();
    let fork = log.fork();
    store.write(Bytes(4096), &[2; 512]).unwrap();
    log.push(Record::written(&store, Bytes(4096), Bytes(512), Flags::NONE).unwrap().remove(0));
    log.mark(mark("one"));

    let at = |log: &WriteLog, position: &Position| {
        let mut fresh = Store::new(Bytes(SIZE)).unwrap();
        let count = log.replay(&mut fresh, position).unwrap();
        (count, content(&fresh))
    };
    assert_eq!(at(&log, &Position::End), (4, content(&store)));
    assert_eq!(at(&log, &Position::Mark(mark("one"))), (2, content(&one)));
    assert_eq!(at(&log, &Position::Entry(2)), (3, content(&store)));
    assert_eq!(at(&log, &Position::Entry(0)), (1, content(&one)));
    assert_eq!(at(&fork, &Position::End), (2, content(&one)));

    let mut fresh = Store::new(Bytes(SIZE)).unwrap();
    let no_entry = ReplayError::NoEntry { entry: 4, count: 4 };
    assert_eq!(log.replay(&mut fresh, &Position::Entry(4)), Err(no_entry));
    let no_mark = ReplayError::NoMark { mark: mark("two") };
    assert_eq!(log.replay(&mut fresh, &Position::Mark(mark("two"))), Err(no_mark));
    assert_eq!(content(&fresh), vec![0; as_len(SIZE)]);
    let mut small = Store::new(Bytes(4096)).unwrap();
    let error = log.replay(&mut small, &Position::End).unwrap_err();
    assert!(matches!(error, ReplayError::Access { entry: 0, source: AccessError::PastEnd { .. } }));
}

/// Whole pages are the disk's own: what the log keeps of a long write is no copy.
#[test]
fn whole_pages_are_shared() {
    let mut store = Store::new(Bytes(1 << 20)).unwrap();
    store.write(Bytes(512), &[5; 8192 + 512]).unwrap();
    let record = Record::written(&store, Bytes(512), Bytes(8704), Flags::NONE).unwrap().remove(0);
    let mut addresses = Vec::new();
    store
        .visit(Bytes::ZERO, Bytes(16384), |piece| {
            if let brim_device::Piece::Data(page, _) = piece {
                addresses.push(page.as_ptr());
            }
        })
        .unwrap();
    let kept: Vec<_> = record
        .data()
        .stretches()
        .filter_map(|stretch| match stretch {
            Stretch::Bytes(bytes) if bytes.len() == 4096 => Some(bytes.as_ptr()),
            _ => None,
        })
        .collect();
    assert_eq!(kept, addresses[1..2]);
    assert_eq!(record.data().memory(), Bytes(8704));
    // It stays as it was.
    let mut fresh = Store::new(Bytes(1 << 20)).unwrap();
    let before = content(&store);
    store.write(Bytes::ZERO, &[9; 16384]).unwrap();
    record.apply(&mut fresh).unwrap();
    assert_eq!(content(&fresh), before);
}

/// Long ranges take no data and few entries: what replay-log does with each stays within its limits.
#[test]
fn long_zeroes_and_discards_stay_small() {
    let store = Store::new(Bytes(4 << 40)).unwrap();
    let zeroed = |len| Record::zeroed(&store, Bytes::ZERO, Bytes(len), Flags::FUA).unwrap();
    let pieces = zeroed(1 << 30);
    assert_eq!(pieces.len(), 8);
    assert!(pieces.iter().all(|record| matches!(record.entry().what, What::Write { .. })));
    assert!(
        pieces
            .iter()
            .all(|record| record.data().memory() == Bytes::ZERO && record.entry().flags == Flags::FUA)
    );
    assert_eq!(range(&pieces[7]), (7 << 27, 1 << 27));
    let past = zeroed((1 << 30) + 512);
    assert_eq!(past.len(), 9);
    assert!(past.iter().all(|record| matches!(record.entry().what, What::Discard { .. })));
    let discarded = |len| Record::discarded(&store, Bytes::ZERO, Bytes(len), Flags::NONE).unwrap();
    assert_eq!(discarded(1 << 40).len(), 8192);
    assert_eq!(discarded(4 << 40).len(), 1);
    let flush = Flags { flush: true, ..Flags::FUA };
    let flushes: Vec<bool> = Record::discarded(&store, Bytes::ZERO, Bytes(1 << 28), flush)
        .unwrap()
        .iter()
        .map(|record| record.entry().flags.flush)
        .collect();
    assert_eq!(flushes, [true, false]);
    assert!(Record::zeroed(&store, Bytes(4 << 40), Bytes(1), Flags::NONE).is_err());
    assert!(zeroed(0).is_empty() && discarded(0).is_empty());
}

/// A log of thousands of entries has them all, and a fork of it goes its own way.
#[test]
fn forks_of_a_long_log_are_apart() {
    let mut log = WriteLog::new();
    for number in 0..2500 {
        log.mark(mark(&number.to_string()));
    }
    let mut fork = log.fork();
    log.mark(mark("parent"));
    fork.mark(mark("child"));
    assert_eq!((log.len(), fork.len(), log.iter().count()), (2501, 2501, 2501));
    for (log, text) in [(&log, "parent"), (&fork, "child")] {
        assert_eq!(log.get(2500).unwrap().entry().what, What::Mark(mark(text)));
        assert_eq!(log.get(1024).unwrap().entry().what, What::Mark(mark("1024")));
        assert!(log.get(2501).is_none());
        assert_eq!(log.count_to(&Position::Mark(mark(text))), Ok(2501));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write { offset: u64, len: u64, seed: u8 },
    Clear { offset: u64, len: u64, is_trim: bool },
    Flush,
    Mark,
}

fn step() -> impl Strategy<Value = Step> {
    let range = (0..SIZE, 0..20_000_u64, any::<bool>()).prop_map(|(offset, len, is_aligned)| {
        let unit = if is_aligned { 4096 } else { 1 };
        let (offset, len) = (offset / unit * unit, len / unit * unit);
        (offset, len.min(SIZE - offset))
    });
    prop_oneof![
        4 => (range.clone(), any::<u8>()).prop_map(|((offset, len), seed)| Step::Write { offset, len, seed }),
        2 => (range, any::<bool>()).prop_map(|((offset, len), is_trim)| Step::Clear { offset, len, is_trim }),
        1 => Just(Step::Flush),
        1 => Just(Step::Mark),
    ]
}

fn take(store: &mut Store, step: &Step, flags: Flags) -> Vec<Record> {
    match step {
        Step::Write { offset, len, seed } => {
            let data: Vec<u8> = (0..*len).map(|at| seed.wrapping_add(at.to_le_bytes()[0])).collect();
            store.write(Bytes(*offset), &data).unwrap();
            Record::written(store, Bytes(*offset), Bytes(*len), flags).unwrap()
        }
        Step::Clear { offset, len, is_trim } => {
            store.zero(Bytes(*offset), Bytes(*len)).unwrap();
            let records = if *is_trim { Record::discarded } else { Record::zeroed };
            records(store, Bytes(*offset), Bytes(*len), flags).unwrap()
        }
        Step::Flush => vec![Record::flush()],
        Step::Mark => vec![Record::mark(mark("here"))],
    }
}

fn flags() -> impl Strategy<Value = Flags> {
    any::<(bool, bool, bool)>().prop_map(|(flush, fua, metadata)| Flags { flush, fua, metadata })
}

proptest! {
    /// For all changes of a disk, aligned or not: its log gives, at every entry that ends a change, what the disk then
    /// was; and so does the log that went through its bytes.
    #[test]
    fn a_replay_is_the_disk(steps in prop::collection::vec((step(), flags()), 1..12)) {
        let mut store = Store::new(Bytes(SIZE)).unwrap();
        let mut log = WriteLog::new();
        let mut moments = Vec::new();
        for (step, flags) in &steps {
            for record in take(&mut store, step, *flags) {
                log.push(record);
            }
            moments.push((log.len(), content(&store)));
        }
        let read = WriteLog::decode(&encoded(&log)).unwrap();
        prop_assert_eq!(read.len(), log.len());
        for (one, other) in log.iter().zip(read.iter()) {
            prop_assert_eq!(one.entry(), other.entry());
        }
        for log in [&log, &read] {
            for (count, content_then) in &moments {
                let mut fresh = Store::new(Bytes(SIZE)).unwrap();
                if let Some(last) = count.checked_sub(1) {
                    prop_assert_eq!(log.replay(&mut fresh, &Position::Entry(last)), Ok(*count));
                }
                prop_assert!(content(&fresh) == *content_then, "after {} entries", count);
            }
        }
    }

    /// For all logs cut at any length: what is counted and whole is read, and the entry that is cut is named.
    #[test]
    fn cuts_at_every_length_are_errors(steps in prop::collection::vec((step(), flags()), 1..4), spread in 0..97_usize) {
        let mut store = Store::new(Bytes(SIZE)).unwrap();
        let mut log = WriteLog::new();
        for (step, flags) in &steps {
            for record in take(&mut store, step, *flags) {
                log.push(record);
            }
        }
        let bytes = encoded(&log);
        let mut ends = Vec::new();
        let mut decoder = Decoder::new(&bytes, Bytes::of_len(bytes.len())).unwrap();
        while !decoder.is_done() {
            decoder.entry(&bytes[as_len(decoder.at().0)..]).unwrap();
            ends.push(as_len(decoder.at().0));
        }
        prop_assert_eq!(*ends.last().unwrap_or(&512), bytes.len());
        // Every length up to the first entry and around each sector, and some of the others.
        let around = |len: &usize| len % 512 < 2 || len % 512 > 510 || *len < 700 || len % 97 == spread;
        for len in (0..bytes.len()).filter(around) {
            let whole = ends.iter().filter(|end| **end <= len).count();
            match entries(&bytes[..len]) {
                Err(error) => {
                    prop_assert!(len < Decoder::START_LEN);
                    prop_assert_eq!(error, LogError::TooShort { len: Bytes::of_len(len) });
                }
                Ok(_) if log.is_empty() => {}
                Ok(entries) => {
                    let read: Vec<_> = entries.collect();
                    let (last, before) = read.split_last().unwrap();
                    prop_assert_eq!(before.len(), whole);
                    prop_assert!(before.iter().all(Result::is_ok));
                    let at_entry = u64::try_from(whole).unwrap();
                    let is_cut = matches!(last, Err(LogError::Entry { entry, fault: EntryFault::Cut { .. }, .. }) if *entry == at_entry);
                    prop_assert!(is_cut, "{:?} at {}", last, len);
                }
            }
        }
    }

    /// For all bytes behind a superblock: there is an end and no panic, and what is read says the same when it is written
    /// and read again.
    #[test]
    fn any_bytes_are_entries_or_an_error(
        count in any::<u64>(),
        words in prop::collection::vec((0..64_u64, 0..4_u64, 0..40_u64, 0..600_u64, any::<u8>()), 0..12),
        noise in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut bytes = superblock(count).to_vec();
        for (sector, sectors, flags, len, byte) in words {
            let mut header = [0; 512];
            for (place, word) in header.chunks_exact_mut(8).zip([sector, sectors, flags, len]) {
                place.copy_from_slice(&word.to_le_bytes());
            }
            if flags & 8 != 0 {
                header[32..].fill(byte);
            }
            bytes.extend(header);
            bytes.extend(vec![byte; as_len(sectors) * 512]);
        }
        bytes.extend(noise);
        for entry in entries(&bytes).unwrap() {
            let Ok((entry, data)) = entry else { break };
            let mut again = superblock(1).to_vec();
            Record::with_data(entry.clone(), data).encode(|stretch| {
                push(&mut again, stretch);
                Ok::<(), ()>(())
            }).unwrap();
            let read: Vec<(Entry, &[u8])> = entries(&again).unwrap().map(Result::unwrap).collect();
            // A mark that fills its sector to the end is cut for the zero that the tools look for.
            let is_cut = matches!(&entry.what, What::Mark(mark) if mark.text().len() > 479);
            prop_assert!(is_cut || read == [(entry, data)]);
        }
    }

    /// For all bytes whatsoever there is no panic.
    #[test]
    fn noise_is_an_error(noise in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(entries(&noise).is_err());
    }
}
