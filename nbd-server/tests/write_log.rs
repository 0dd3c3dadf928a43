//! The log of a disk replays onto a fresh one, bit for bit, whatever was done to it.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

use brim_device::fault::{Flip, Op, Row, Then, When};
use brim_device::log::{Mark, Position, WriteLog};
use brim_device::{Bytes, Ratio, Store, Survival};
use nbd_server::client::Client;
use nbd_server::{Disk, DiskOptions, LogFile, Server};
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

fn bytes(store: &Store) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(store.size().0).unwrap()];
    store.read(Bytes(0), &mut bytes).unwrap();
    bytes
}

fn served(disk: &Disk) -> (Server, Client) {
    let server = Server::new();
    server.add_export("", disk.clone()).unwrap();
    let client = Client::connect(server.connect().unwrap(), "").unwrap();
    (server, client)
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, usize, u8),
    Zero(u64, u64),
    Trim(u64, u64),
    Flush,
    Read(u64),
    PowerCut,
    PartlyCut(u64),
    Keep,
    Restore,
    Resize(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..MIB;
    let len = 1..90_000u64;
    prop_oneof![
        6 => (at.clone(), 1..90_000usize, any::<u8>()).prop_map(|(at, len, byte)| Step::Write(at, len, byte)),
        2 => (at.clone(), len.clone()).prop_map(|(at, len)| Step::Zero(at, len)),
        2 => (at.clone(), len).prop_map(|(at, len)| Step::Trim(at, len)),
        2 => Just(Step::Flush),
        1 => at.prop_map(Step::Read),
        1 => Just(Step::PowerCut),
        1 => any::<u64>().prop_map(Step::PartlyCut),
        1 => Just(Step::Keep),
        1 => Just(Step::Restore),
        1 => (1024..2048u64).prop_map(|sectors| Step::Resize(sectors * 512)),
    ]
}

fn faults() -> Vec<Row> {
    let row = |name: &str, op: Op, then| {
        let when = When { op: op.into(), probability: Ratio::from_f64(0.2), ..When::default() };
        Row { name: name.to_owned(), when, then }
    };
    vec![
        row("lost", Op::Write, Then::Drop),
        row("torn", Op::Write, Then::Torn { sectors: None }),
        row("astray", Op::Write, Then::Misdirect { by: Bytes(1536) }),
        row("flipped", Op::Write, Then::Flip(Flip { bits: 2, at_rest: false })),
        row("rotten", Op::Read, Then::Flip(Flip { bits: 2, at_rest: true })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// For all that is done to a disk, by its clients, by faults, by power cuts and by other sizes: the log says it.
    #[test]
    fn a_log_replays_bit_for_bit(steps in prop::collection::vec(step(), 1..40), seed in any::<u64>(), faulty in any::<bool>()) {
        let disk = Disk::new_with(Bytes(MIB), DiskOptions { write_cache: true, seed }).unwrap();
        let (_server, client) = served(&disk);
        disk.start_log();
        if faulty {
            for row in faults() {
                disk.add_fault(row).unwrap();
            }
        }
        for step in steps {
            // What ends past a disk that is smaller now is refused, and changes nothing.
            let _refused = match step {
                Step::Write(at, len, byte) => client.write(Bytes(at), &vec![byte; len]).is_ok(),
                Step::Zero(at, len) => client.write_zeroes(Bytes(at), Bytes(len)).is_ok(),
                Step::Trim(at, len) => client.trim(Bytes(at), Bytes(len)).is_ok(),
                Step::Flush => client.flush().is_ok(),
                Step::Read(at) => client.read(Bytes(at), Bytes(4096)).is_ok(),
                Step::PowerCut => disk.power_cut() > Bytes::ZERO,
                Step::PartlyCut(seed) => {
                    let half = Ratio::from_f64(0.4).unwrap();
                    disk.power_cut_partly(Survival { kept: half, torn: half }, seed).kept > 0
                }
                Step::Keep => {
                    disk.keep_snapshot("kept");
                    true
                }
                Step::Restore => disk.restore_snapshot("kept"),
                Step::Resize(size) => disk.resize(Bytes(size)).is_ok(),
            };
        }
        let log = disk.log().unwrap();
        let mut fresh = Store::new(Bytes(2 * MIB)).unwrap();
        log.replay(&mut fresh, &Position::End).unwrap();
        fresh.resize(disk.size()).unwrap();
        prop_assert!(bytes(&fresh) == bytes(&disk.snapshot()));
        let mut file = Vec::new();
        log.encode(|stretch| match stretch {
            brim_device::log::Stretch::Bytes(bytes) => file.extend_from_slice(bytes),
            brim_device::log::Stretch::Zeroes(len) => file.resize(file.len() + usize::try_from(len.0).unwrap(), 0),
        });
        let mut again = Store::new(Bytes(2 * MIB)).unwrap();
        WriteLog::decode(&file).unwrap().replay(&mut again, &Position::End).unwrap();
        again.resize(disk.size()).unwrap();
        prop_assert!(bytes(&again) == bytes(&disk.snapshot()));
    }
}

#[test]
fn a_disk_forks_at_any_entry() {
    let disk = Disk::new(Bytes(MIB)).unwrap();
    let (_server, client) = served(&disk);
    client.write(Bytes(0), b"before").unwrap();
    assert!(!disk.mark(Mark::new("nowhere").unwrap()));
    assert!(disk.fork_at(&Position::End).unwrap().is_none());
    disk.start_log();
    client.write(Bytes(0), b"first.").unwrap();
    assert!(disk.mark(Mark::new("after the first").unwrap()));
    client.write(Bytes(0), b"second").unwrap();
    let shows = |position: &str| {
        let fork = disk.fork_at(&position.parse().unwrap()).unwrap().unwrap();
        String::from_utf8(bytes(&fork.snapshot())[..6].to_vec()).unwrap()
    };
    assert_eq!(
        (shows("0"), shows("after the first"), shows("2")),
        ("first.".into(), "first.".into(), "second".into())
    );
    assert!(disk.fork_at(&"nobody's mark".parse().unwrap()).is_err());
    let log = disk.stop_log().unwrap().unwrap();
    assert_eq!(log.len(), 3);
    assert!(disk.log().is_none() && disk.stop_log().unwrap().is_none());
}

#[test]
fn a_log_in_a_file_is_all_there_once_it_is_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let disk = Disk::new(Bytes(MIB)).unwrap();
    let (_server, client) = served(&disk);
    disk.start_log_to(LogFile::create(&path).unwrap());
    for at in 0..100u64 {
        client.write(Bytes(at * 4096), &[u8::try_from(at).unwrap(); 5000]).unwrap();
    }
    assert!(disk.mark(Mark::new("the end").unwrap()));
    disk.stop_log().unwrap();
    let log = WriteLog::decode(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(log.len(), 101);
    let mut fresh = Store::new(Bytes(MIB)).unwrap();
    log.replay(&mut fresh, &"the end".parse().unwrap()).unwrap();
    assert!(bytes(&fresh) == bytes(&disk.snapshot()));
}
