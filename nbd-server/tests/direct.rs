//! Commands without a connection: they do and say what a connection does and says, or nothing.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

#[path = "common/start.rs"]
mod common;

use brim_device::fault::{Latency, Op, Row, Then, When};
use brim_device::{Bytes, Nanos};
use common::start;
use nbd_server::client::{Client, Command};
use nbd_server::{Disk, Server};
use proptest::prelude::*;

const SIZE: u64 = 1 << 20;

fn client(disk: &Disk) -> (Server, Client) {
    let server = Server::new();
    server.add_export("disk", disk.clone()).unwrap();
    let client = Client::connect(server.connect().unwrap(), "disk").unwrap();
    (server, client)
}

/// What to do, without borrowed data.
#[derive(Clone, Debug)]
struct Order {
    kind: u8,
    offset: u64,
    len: u64,
    byte: u8,
    fua: bool,
}

impl Order {
    fn command<'a>(&self, data: &'a [u8]) -> Command<'a> {
        let (offset, len, fua) = (Bytes(self.offset), Bytes(self.len), self.fua);
        match self.kind {
            0 => Command::Read { offset, len },
            1 => Command::Write { offset, data, fua },
            2 => Command::Flush,
            3 => Command::Trim { offset, len, fua },
            _ => Command::WriteZeroes { offset, len, fua, no_hole: self.byte > 127 },
        }
    }
}

fn orders() -> impl Strategy<Value = Vec<Order>> {
    let order = (0u8..5, 0..SIZE + 8192, 0u64..200_000, any::<u8>(), any::<bool>())
        .prop_map(|(kind, offset, len, byte, fua)| Order { kind, offset, len, byte, fua });
    prop::collection::vec(order, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// For all commands: done directly they leave the same disk, durable and not, and answer the same as over a connection; what is
    /// wrong is left to the connection.
    #[test]
    fn both_ways_are_the_same(orders in orders(), write_cache in any::<bool>()) {
        let options = nbd_server::DiskOptions { write_cache, seed: 1 };
        let disks = [(); 2].map(|()| Disk::new_with(Bytes(SIZE), options).unwrap());
        let (_server, client) = client(&disks[1]);
        for order in &orders {
            let data = vec![order.byte; usize::try_from(order.len).unwrap()];
            let over = start(&client, order.command(&data)).recv().unwrap();
            match disks[0].direct(&order.command(&data)) {
                Some(reply) => prop_assert_eq!(Ok(reply), over),
                None => prop_assert!(over.is_err(), "{:?} was not done directly, and is right: {:?}", order, over),
            }
        }
        let content = |disk: &Disk| {
            let mut all = [vec![0; 1 << 20], vec![0; 1 << 20]];
            disk.snapshot().read(Bytes(0), &mut all[0]).unwrap();
            disk.durable().read(Bytes(0), &mut all[1]).unwrap();
            all
        };
        prop_assert!(content(&disks[0]) == content(&disks[1]));
        let [direct, over] = disks.each_ref().map(Disk::stats);
        for op in [Op::Read, Op::Write, Op::Flush, Op::Trim, Op::Zeroes] {
            // The connection counts what it refuses, too.
            prop_assert!(direct.of(op).requests <= over.of(op).requests);
        }
    }
}

#[test]
fn what_may_have_to_wait_or_fail_is_left_to_a_connection() {
    let disk = Disk::new(Bytes(SIZE)).unwrap();
    let write = Command::Write { offset: Bytes(0), data: &[1; 4096], fua: false };
    assert!(disk.direct(&write).is_some());
    let slow = Then::Delay(Latency::Fixed(Nanos(1)).into());
    let row = Row { name: "slow".to_owned(), when: When::default(), then: slow };
    disk.add_fault(row).unwrap();
    assert!(disk.direct(&write).is_none() && disk.direct(&Command::Flush).is_none());
    disk.remove_fault("slow").unwrap();
    assert!(disk.direct(&write).is_some());
}
