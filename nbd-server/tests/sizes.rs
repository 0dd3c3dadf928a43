//! Block sizes that an export announces, and what becomes of requests that do not keep to them.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

#[path = "common/chunked.rs"]
mod client;

use brim_device::Bytes;
use client::Chunked;
use nbd_server::{BlockSizes, BlockSizesError, Disk, ExportError, ExportOptions, Server};
use nbd_wire::{Command, CommandFlags, ErrorCode, Headers};

const SIZE: u64 = 16 << 20;
const MIB: u64 = 1 << 20;
const SIZES: BlockSizes = BlockSizes { minimum: 4096, preferred: 65536, maximum: 1 << 20 };
const EINVAL: Code = Some(ErrorCode::Einval);
const ENOSPC: Code = Some(ErrorCode::Enospc);

fn serve(enforce_block_sizes: bool) -> (Server, Disk) {
    let (server, disk) = (Server::new(), Disk::new(Bytes(SIZE)).unwrap());
    let options = ExportOptions { block_sizes: SIZES, enforce_block_sizes, ..ExportOptions::default() };
    server.add_export_with("", disk.clone(), options).unwrap();
    (server, disk)
}

type Code = Option<ErrorCode>;
type Edge = (Command, u64, u64, Code, Code);

/// Command, offset, length, what it comes to where the sizes are enforced, and where not. The client has not asked for
/// the sizes, which makes no difference.
const EDGES: [Edge; 21] = [
    (Command::Read, 0, 4096, None, None),
    (Command::Read, 0, 0, None, None),
    (Command::Read, 4096, 512, EINVAL, None),
    (Command::Read, 512, 4096, EINVAL, None),
    (Command::Read, 0, 4095, EINVAL, None),
    (Command::Read, 0, MIB, None, None),
    (Command::Read, 0, MIB + 4096, EINVAL, None),
    (Command::Write, 4096, 4096, None, None),
    (Command::Write, 1, 4096, EINVAL, None),
    (Command::Write, 4096, 1, EINVAL, None),
    (Command::Write, 0, MIB, None, None),
    (Command::Write, 0, MIB + 4096, EINVAL, None),
    (Command::Trim, 4096, 4096, None, None),
    (Command::Trim, 512, 512, EINVAL, None),
    // Without a payload there is no maximum.
    (Command::Trim, 0, SIZE, None, None),
    (Command::WriteZeroes, 0, SIZE, None, None),
    (Command::WriteZeroes, 0, 4097, EINVAL, None),
    (Command::Cache, 0, SIZE, None, None),
    (Command::Cache, 7, 4096, EINVAL, None),
    // The end of the disk comes after the sizes.
    (Command::Write, SIZE, 4096, ENOSPC, ENOSPC),
    (Command::Write, SIZE - 512, 4096, EINVAL, ENOSPC),
];

#[test]
fn what_does_not_keep_to_the_sizes_is_refused_where_they_are_enforced() {
    for headers in [Headers::Simple, Headers::Structured, Headers::Extended] {
        let ((strict, disk), (lax, _disk)) = (serve(true), serve(false));
        let mut clients = [&strict, &lax].map(|server| Chunked::connect(server, headers, &[]));
        for (command, offset, length, enforced, not) in EDGES {
            for (client, code) in clients.iter_mut().zip([enforced, not]) {
                let told = if command == Command::Write {
                    client.write(offset, &vec![1; usize::try_from(length).unwrap()])
                } else {
                    client.ask(command, CommandFlags::NONE, offset, length)
                };
                assert_eq!(told.code(), code, "{headers:?}: {command:?} of {length} at {offset}");
            }
        }
        // A flush has no offset and no length, whatever is in their place.
        let flush = clients[0].ask(Command::Flush, CommandFlags::NONE, 77, 7);
        assert_eq!(flush.code(), None);
        // What is refused never came to the disk: no fault and no counter has seen it.
        assert_eq!(disk.stats().read.requests, 3);
    }
}

#[test]
fn block_status_keeps_to_the_minimum() {
    let (server, _disk) = serve(true);
    for headers in [Headers::Structured, Headers::Extended] {
        let mut client = Chunked::connect(&server, headers, &["base:allocation"]);
        for (offset, length, code) in
            [(0, SIZE, None), (4096, 4096, None), (512, 4096, EINVAL), (0, 512, EINVAL)]
        {
            let told = client.ask(Command::BlockStatus, CommandFlags::NONE, offset, length);
            assert_eq!(told.code(), code, "{headers:?}: {length} at {offset}");
        }
    }
}

#[test]
fn refusals_have_words() {
    let (server, _disk) = serve(true);
    let mut client = Chunked::connect(&server, Headers::Structured, &[]);
    let mut words = |offset, length| client.read(offset, length).error.unwrap().1;
    assert_eq!(words(1, 4096), "the request is not aligned to the minimum block size");
    assert_eq!(words(0, 2 * MIB), "the payload is longer than the maximum");
}

#[test]
fn sizes_that_no_client_could_keep_to_are_not_offered() {
    let add = |minimum, preferred, maximum| {
        let block_sizes = BlockSizes { minimum, preferred, maximum };
        let options = ExportOptions { block_sizes, ..ExportOptions::default() };
        Server::new().add_export_with("", Disk::new(Bytes(SIZE + 512)).unwrap(), options)
    };
    let wrong = |error| Err(ExportError::BlockSizes(error));
    assert_eq!(add(1, 512, 512), Ok(()));
    assert_eq!(add(512, 1 << 30, 1 << 30), Err(ExportError::Maximum { maximum: Bytes(1 << 30) }));
    assert_eq!(add(512, 4096, 64 << 20), Ok(()));
    assert_eq!(add(512, 4096, 5000), Ok(()));
    for minimum in [0, 3, 1 << 17] {
        assert_eq!(add(minimum, 1 << 20, 1 << 20), wrong(BlockSizesError::Minimum(minimum)));
    }
    for (minimum, preferred) in [(1, 256), (4096, 512), (1, 5000), (1, 0)] {
        assert_eq!(add(minimum, preferred, 1 << 20), wrong(BlockSizesError::Preferred(preferred)));
    }
    assert_eq!(add(512, 4096, 512), wrong(BlockSizesError::Maximum(512)));
    let (size, minimum) = (Bytes(SIZE + 512), Bytes(4096));
    assert_eq!(add(4096, 4096, 1 << 20), Err(ExportError::Uneven { size, minimum }));
}

/// proto.md, "Structured reply types": no chunk is longer than the maximum that is told, also where it is not enforced.
#[test]
fn no_chunk_is_longer_than_the_maximum() {
    for (headers, extents) in [(Headers::Structured, 64), (Headers::Extended, 32)] {
        let (server, disk) = (Server::new(), Disk::new(Bytes(SIZE)).unwrap());
        let block_sizes = BlockSizes { minimum: 1, preferred: 512, maximum: 512 };
        let options = ExportOptions { block_sizes, ..ExportOptions::default() };
        server.add_export_with("", disk, options).unwrap();
        let mut client = Chunked::connect(&server, headers, &["base:allocation"]);
        let data: Vec<u8> = (0..10_000u32).map(|at| at.to_le_bytes()[usize::from(at % 5 == 0)]).collect();
        assert_eq!(client.write(100, &data).code(), None);
        let read = client.read(100, 10_000);
        assert!(read.data == data);
        assert!(read.chunks >= 20, "{} chunks of 512 bytes for 10000", read.chunks);
        let whole = client.ask(Command::Read, CommandFlags::DF, 100, 512);
        assert_eq!((whole.code(), whole.chunks, &whole.data[..]), (None, 1, &data[..512]));
        let refused = client.ask(Command::Read, CommandFlags::DF, 100, 513);
        assert_eq!(refused.code(), Some(ErrorCode::Eoverflow));
        for block in 0..100 {
            assert_eq!(client.write(MIB + block * 8192, b"data").code(), None);
        }
        let told = client.ask(Command::BlockStatus, CommandFlags::NONE, MIB, MIB);
        assert_eq!(told.status.values().map(Vec::len).collect::<Vec<_>>(), [extents]);
    }
}
