//! The edges where servers differ: what research found nbdkit and QEMU to do, decided for ours, the same in every kind
//! of header.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

#[path = "common/chunked.rs"]
mod client;

use brim_device::Bytes;
use client::Chunked;
use nbd_server::{Disk, DiskOptions, Server};
use nbd_wire::{Command, CommandFlags, ErrorCode, Headers};

const SIZE: u64 = 128 << 20;
const MIB: u64 = 1 << 20;

/// Command, flags, offset, length, and what it comes to.
type Edge = (Command, u16, u64, u64, Option<ErrorCode>);

const EINVAL: Option<ErrorCode> = Some(ErrorCode::Einval);
const ENOSPC: Option<ErrorCode> = Some(ErrorCode::Enospc);
const FUA: u16 = CommandFlags::FUA.0;

const EDGES: [Edge; 34] = [
    // Beyond the end, straddling it, and where offset and length do not fit into 64 bits.
    (Command::Read, 0, SIZE, 512, EINVAL),
    (Command::Read, 0, SIZE - 511, 512, EINVAL),
    (Command::Read, 0, u64::MAX, 512, EINVAL),
    (Command::Trim, 0, SIZE, 512, EINVAL),
    (Command::Trim, 0, SIZE - 511, 512, EINVAL),
    (Command::Cache, 0, SIZE, 512, EINVAL),
    (Command::Cache, 0, SIZE - 511, 512, EINVAL),
    (Command::Write, 0, SIZE, 512, ENOSPC),
    (Command::Write, 0, SIZE - 511, 512, ENOSPC),
    (Command::Write, 0, u64::MAX - 511, 512, ENOSPC),
    (Command::WriteZeroes, 0, SIZE, 512, ENOSPC),
    (Command::WriteZeroes, 0, SIZE - 511, 512, ENOSPC),
    // Flags and commands nobody knows, also on a command with a payload.
    (Command::Read, 1 << 15, 0, 512, EINVAL),
    (Command::Write, 1 << 15, 0, 512, EINVAL),
    (Command::Flush, 1 << 15, 0, 0, EINVAL),
    (Command::Trim, CommandFlags::NO_HOLE.0, 0, 512, EINVAL),
    (Command::Write, CommandFlags::FAST_ZERO.0, 0, 512, EINVAL),
    (Command::Other(8), 0, 0, 512, EINVAL),
    (Command::Other(0xffff), 0, 0, 512, EINVAL),
    // Nothing at all, also at the very end.
    (Command::Read, 0, 0, 0, None),
    (Command::Read, 0, SIZE, 0, None),
    (Command::Read, 0, SIZE + 1, 0, EINVAL),
    (Command::Write, 0, 0, 0, None),
    (Command::Trim, 0, 0, 0, None),
    (Command::WriteZeroes, 0, SIZE, 0, None),
    // One byte at the end of a sector, and at the end of the disk.
    (Command::Read, 0, 511, 1, None),
    (Command::Write, 0, SIZE - 1, 1, None),
    // Long ones: all that clients may send, and more.
    (Command::Read, 0, 0, 64 * MIB, None),
    (Command::Write, 0, 0, 33 * MIB, None),
    (Command::Write, 0, 0, 65 * MIB, EINVAL),
    (Command::Cache, 0, 0, SIZE, None),
    (Command::WriteZeroes, CommandFlags::FAST_ZERO.0 | FUA, 0, SIZE, None),
    // FUA is for every command, and a flush's offset and length are nobody's.
    (Command::Read, FUA, 0, 512, None),
    (Command::Flush, FUA, 77, 7, None),
];

fn serve(write_cache: bool) -> Server {
    let server = Server::new();
    let disk = Disk::new_with(Bytes(SIZE), DiskOptions { write_cache, ..DiskOptions::default() }).unwrap();
    server.add_export("", disk).unwrap();
    server
}

#[test]
fn the_edge_table_without_cache() {
    the_edge_table(false);
}

#[test]
fn the_edge_table_with_cache() {
    the_edge_table(true);
}

fn the_edge_table(write_cache: bool) {
    for headers in [Headers::Simple, Headers::Structured, Headers::Extended] {
        let server = serve(write_cache);
        let mut client = Chunked::connect(&server, headers, &[]);
        for (command, flags, offset, length, code) in EDGES {
            let payload = command == Command::Write;
            let data = vec![1; if payload { usize::try_from(length).unwrap() } else { 0 }];
            let cookie = client.send(command, CommandFlags(flags), (offset, length), &data);
            let told = client.receive(cookie);
            assert_eq!(told.code(), code, "{headers:?}: {command:?} {flags:#x} of {length} at {offset}");
        }
        // All over one connection, which is still in step.
        assert_eq!(client.write(7, b"alive").error, None);
        assert_eq!(client.read(7, 5).data, b"alive");
    }
}

/// What depends on the headers: chunks and block status belong to clients that asked for them.
#[test]
fn edges_of_chunks() {
    for headers in [Headers::Simple, Headers::Structured, Headers::Extended] {
        let server = serve(false);
        let mut client = Chunked::connect(&server, headers, &[]);
        let simple = headers == Headers::Simple;
        let whole = client.ask(Command::Read, CommandFlags::DF, 0, 64 << 10);
        assert_eq!(whole.code(), if simple { EINVAL } else { None });
        let too_long = client.read(0, 64 * MIB + 1).code();
        assert_eq!(too_long, if simple { EINVAL } else { Some(ErrorCode::Eoverflow) });
        assert_eq!(client.ask(Command::BlockStatus, CommandFlags::NONE, 0, 512).code(), EINVAL);
    }
}
