//! The whole way, client to store, against a vector: many requests in flight, on several connections.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use brim_device::Bytes;
use brim_device::fault::{Row, Then, When};
use nbd_server::client::{Client, Command, CommandError, Reply};
use nbd_server::{Disk, Server};
use nbd_wire::ErrorCode;
use proptest::prelude::*;

/// Regions that no two requests in flight share, so that their order does not matter.
const REGION: u64 = 64 << 10;
const REGIONS: u64 = 16;
const LIMIT: Duration = Duration::from_secs(30);

fn serve(size: Bytes) -> (Server, Disk) {
    let (server, disk) = (Server::new(), Disk::new(size).unwrap());
    server.add_export("", disk.clone()).unwrap();
    (server, disk)
}

fn connect(server: &Server) -> Client {
    Client::connect(server.connect().unwrap(), "").unwrap()
}

fn as_len(value: u64) -> usize {
    usize::try_from(value).unwrap()
}

#[derive(Clone, Debug)]
struct Touch {
    start: u64,
    len: u64,
    /// 0 reads, 1 trims, 2 zeroes, above that writes bytes of this value.
    what: u8,
}

fn touch() -> impl Strategy<Value = Touch> {
    (0..REGION, 0..=REGION, prop_oneof![0..3u8, any::<u8>()]).prop_map(|(start, len, what)| Touch {
        start,
        len: len.min(REGION - start),
        what,
    })
}

type Answer = (usize, Result<Reply, CommandError>);

fn submit(client: &Client, index: usize, offset: Bytes, touch: &Touch, answers: &mpsc::Sender<Answer>) {
    let len = Bytes(touch.len);
    let data = vec![touch.what; as_len(touch.len)];
    let command = match touch.what {
        0 => Command::Read { offset, len },
        1 => Command::Trim { offset, len, fua: false },
        2 => Command::WriteZeroes { offset, len, fua: true, no_hole: touch.len.is_multiple_of(2) },
        _ => Command::Write { offset, data: &data, fua: touch.len.is_multiple_of(2) },
    };
    let answers = answers.clone();
    client.submit(command, Box::new(move |result| answers.send((index, result)).unwrap()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// For all rounds of requests in flight together on two connections: each is answered once, reads see the rounds
    /// before, and in the end the disk is what the vector is.
    #[test]
    fn the_server_is_a_vector(rounds in prop::collection::vec(prop::collection::vec(touch(), 16), 1..6)) {
        let (server, disk) = serve(Bytes(REGION * REGIONS));
        let clients = [connect(&server), connect(&server)];
        let mut model = vec![0; as_len(REGION * REGIONS)];
        for round in &rounds {
            let (sender, answers) = mpsc::channel();
            let mut at = 0;
            for (index, touch) in round.iter().enumerate() {
                submit(&clients[index % 2], index, Bytes(at + touch.start), touch, &sender);
                at += REGION;
            }
            for _ in round {
                let (index, result) = answers.recv_timeout(LIMIT).unwrap();
                let touch = &round[index];
                let start = index * as_len(REGION) + as_len(touch.start);
                let range = &mut model[start..][..as_len(touch.len)];
                let reply = result.unwrap();
                match touch.what {
                    0 => prop_assert_eq!(&reply.data[..], &*range),
                    1 | 2 => range.fill(0),
                    value => range.fill(value),
                }
            }
            drop(sender);
            prop_assert!(answers.recv().is_err(), "a request was answered twice");
        }
        let mut all = vec![1; model.len()];
        disk.snapshot().read(Bytes(0), &mut all).unwrap();
        prop_assert!(all == model, "the disk differs");
    }
}

/// Threads share one client; each sees its own writes.
#[test]
fn threads_share_a_client() {
    let (server, disk) = serve(Bytes(8 << 20));
    let client = connect(&server);
    thread::scope(|scope| {
        for index in 0..8u8 {
            let client = &client;
            scope.spawn(move || {
                for round in 0..50u64 {
                    let offset = Bytes((u64::from(index) << 20) + round * 4096);
                    let data = vec![index.wrapping_mul(7).wrapping_add(1); 4096];
                    client.write(offset, &data).unwrap();
                    assert_eq!(client.read(offset, Bytes(4096)).unwrap(), data);
                }
                client.flush().unwrap();
            });
        }
    });
    let stats = disk.stats();
    assert_eq!((stats.write.requests, stats.write.bytes), (400, Bytes(400 * 4096)));
    assert_eq!((stats.read.requests, stats.flush.requests), (400, 8));
    assert_eq!(disk.allocated(), Bytes(400 * 4096));
}

/// What does not fit into any buffer goes through: 32 MiB both ways and 64 MiB in, unaligned, among small requests.
#[test]
fn large_payloads_go_through() {
    let (server, disk) = serve(Bytes(80 << 20));
    let client = connect(&server);
    for (len, offset) in [(32 << 20, 511), (64 << 20, 4096), ((256 << 10) - 28, 1), ((256 << 10) - 27, 1)] {
        let data: Vec<u8> =
            (0..len).map(|at: u32| at.to_le_bytes()[usize::from(at.is_multiple_of(3))]).collect();
        client.write(Bytes(offset), &data).unwrap();
        client.flush().unwrap();
        assert!(client.read(Bytes(offset), Bytes(u64::from(len))).unwrap() == data, "{len} bytes differ");
    }
    assert!(disk.allocated() >= Bytes(64 << 20));
}

/// Longer than any that is served: an error, and the connection goes on in step.
#[test]
fn a_payload_that_is_too_long_is_refused_and_drained() {
    let (server, disk) = serve(Bytes(80 << 20));
    let client = connect(&server);
    let refused = Err(CommandError::Refused(ErrorCode::Einval));
    assert_eq!(client.write(Bytes(0), &vec![1; (64 << 20) + 1]), refused);
    assert_eq!(client.read(Bytes(0), Bytes((64 << 20) + 1)), refused.map(|()| Vec::new()));
    assert_eq!(client.read(Bytes(0), Bytes(3)), Ok(vec![0; 3]));
    assert_eq!(disk.allocated(), Bytes(0));
}

/// The edge table: what proto.md, "Request types", has for requests that leave the export.
#[test]
fn ranges_past_the_end() {
    let (server, disk) = serve(Bytes(132_096));
    let client = connect(&server);
    assert_eq!(client.info().size, Bytes(132_096));
    let (einval, enospc) =
        (CommandError::Refused(ErrorCode::Einval), CommandError::Refused(ErrorCode::Enospc));
    for offset in [Bytes(132_095), Bytes(132_096), Bytes(1 << 40), Bytes(u64::MAX)] {
        assert_eq!(client.read(offset, Bytes(2)), Err(einval));
        assert_eq!(client.trim(offset, Bytes(2)), Err(einval));
        assert_eq!(client.write(offset, &[1, 2]), Err(enospc));
        assert_eq!(client.write_zeroes(offset, Bytes(2)), Err(enospc));
    }
    assert_eq!(client.write(Bytes(4096), &vec![1; 300_000]), Err(enospc));
    assert_eq!(disk.allocated(), Bytes(0));
    assert_eq!(client.write(Bytes(132_095), &[1]), Ok(()));
    assert_eq!(client.read(Bytes(511), Bytes(1)), Ok(vec![0]));
    assert_eq!(client.read(Bytes(132_096), Bytes(0)), Ok(vec![]));
    assert_eq!(client.write(Bytes(0), &[]), Ok(()));
    disk.resize(Bytes(1 << 20)).unwrap();
    assert_eq!(client.write(Bytes(132_096), &[2]), Ok(()));
    disk.resize(Bytes(4096)).unwrap();
    assert_eq!(client.read(Bytes(132_096), Bytes(1)), Err(einval));
}

/// A client that asks for far more than it reads does not fill the server's memory, nor stop it.
#[test]
fn many_large_reads_in_flight() {
    let (server, _disk) = serve(Bytes(64 << 20));
    let client = connect(&server);
    let (sender, answers) = mpsc::channel();
    for index in 0..200 {
        let touch = Touch { start: 0, len: 1 << 20, what: 0 };
        submit(&client, index, Bytes(0), &touch, &sender);
    }
    for _ in 0..200 {
        let (_, result) = answers.recv_timeout(LIMIT).unwrap();
        assert_eq!(result.unwrap().data.len(), 1 << 20);
    }
}

/// A fork taken while the disk serves is its content of one moment, and its own from there on.
#[test]
fn forks_part_ways() {
    let (server, disk) = serve(Bytes(1 << 20));
    let client = connect(&server);
    client.write(Bytes(0), b"before").unwrap();
    let fork = disk.fork();
    server.add_export("fork", fork.clone()).unwrap();
    let other = Client::connect(server.connect().unwrap(), "fork").unwrap();
    client.write(Bytes(0), b"parent").unwrap();
    other.write(Bytes(8192), b"child").unwrap();
    assert_eq!(other.read(Bytes(0), Bytes(6)).unwrap(), b"before");
    assert_eq!(client.read(Bytes(8192), Bytes(5)).unwrap(), [0; 5]);
    assert_eq!((disk.stats().write.requests, fork.stats().write.requests), (2, 1));
}

/// For all moments a fork is taken at while the disk serves: it has every write that was answered before, and no write
/// without those that were answered before that write was sent.
#[test]
fn a_fork_while_serving_is_one_moment() {
    let (server, disk) = serve(Bytes(1 << 20));
    let client = connect(&server);
    let (first, second) = (Bytes(4096), Bytes(512 << 10));
    let counter = |fork: &Disk, offset| {
        let mut bytes = [0; 8];
        fork.snapshot().read(offset, &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    };
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for count in 1..2000u64 {
                client.write(first, &count.to_le_bytes()).unwrap();
                client.write(second, &count.to_le_bytes()).unwrap();
            }
        });
        let mut last = 0;
        while !writer.is_finished() {
            let fork = disk.fork();
            let (ahead, behind) = (counter(&fork, first), counter(&fork, second));
            assert!(ahead == behind || ahead == behind + 1, "{ahead} and {behind}");
            assert!(ahead >= last);
            last = ahead;
        }
    });
    assert_eq!(counter(&disk, second), 1999);
}

/// Resizing, forking and opening gates from outside disturb no connection.
#[test]
fn control_and_traffic_do_not_disturb_each_other() {
    let (server, disk) = serve(Bytes(4 << 20));
    let clients: Vec<Client> = (0..3).map(|_| connect(&server)).collect();
    thread::scope(|scope| {
        let workers: Vec<_> = clients
            .iter()
            .zip(0u64..)
            .map(|(client, index)| {
                scope.spawn(move || {
                    for round in 0..200u64 {
                        let offset = Bytes(index * 4096 + round * 16384);
                        for result in [client.write(offset, &[7; 6000]), client.trim(offset, Bytes(4096))] {
                            assert!(!matches!(result, Err(CommandError::Lost)), "{result:?}");
                        }
                        let read = client.read(Bytes(index * 4096), Bytes(300_000));
                        assert!(!matches!(read, Err(CommandError::Lost)));
                    }
                })
            })
            .collect();
        let mut round = 0u64;
        while !workers.iter().all(thread::ScopedJoinHandle::is_finished) {
            round += 1;
            let row = Row {
                name: format!("gate {round}"),
                when: When { op: None.into(), nth: Some(1 + round % 3), ..When::default() },
                then: Then::HOLD,
            };
            if round < 200 {
                disk.add_fault(row).unwrap();
            }
            disk.resize(Bytes((1 + round % 8) << 19)).unwrap();
            assert!(disk.fork().allocated() <= Bytes(4 << 20));
            let _released = disk.open_all_gates();
        }
    });
    assert!(disk.held().is_empty());
}
