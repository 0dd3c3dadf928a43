//! Any bytes as a write log.

use brim_device::log::{Decoder, Position, Record, Stretch, What, WriteLog, entries, superblock};
use brim_device::{Bytes, Store};

/// The disk that logs are replayed onto; most entries of most inputs do not fit.
const SIZE: Bytes = Bytes(1 << 20);

/// Bytes are a log or an error; what was read of it says the same when it is written and read again, and is replayed or
/// refused.
pub fn log(data: &[u8]) {
    let Ok(read) = entries(data) else {
        return;
    };
    let mut store = Store::new(SIZE).unwrap();
    let mut end = Decoder::START_LEN;
    for entry in read {
        let Ok((entry, data)) = entry else { break };
        // No input makes more of itself than it is.
        end += data.len();
        let record = Record::with_data(entry.clone(), data);
        let again = reread(&record);
        let read_again: Vec<_> = entries(&again).unwrap().map(Result::unwrap).collect();
        let is_cut = matches!(&entry.what, What::Mark(mark) if mark.text().len() > 479);
        assert!(is_cut || read_again == [(entry.clone(), data)], "{entry:?} became {read_again:?}");
        let is_inside = entry.end() <= SIZE;
        assert_eq!(record.apply(&mut store).is_ok(), is_inside, "{entry:?}");
    }
    assert!(end <= data.len());
    if let Ok(log) = WriteLog::decode(data) {
        let mut fresh = Store::new(SIZE).unwrap();
        if log.replay(&mut fresh, &Position::End).is_ok() {
            assert_eq!(content(&fresh), content(&store));
        }
    }
}

/// A log with this entry alone.
fn reread(record: &Record) -> Vec<u8> {
    let mut bytes = superblock(1).to_vec();
    let encoded = record.encode(|stretch| {
        let Stretch::Bytes(more) = stretch else {
            return Err(stretch.len());
        };
        bytes.extend_from_slice(more);
        Ok(())
    });
    // Only records of a disk have zeroes without their bytes.
    encoded.unwrap();
    bytes
}

fn content(store: &Store) -> Vec<u8> {
    let mut all = vec![0; SIZE.to_len().unwrap()];
    store.read(Bytes::ZERO, &mut all).unwrap();
    all
}
