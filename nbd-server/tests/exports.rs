//! What an export offers, and its options.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

#[path = "common/chunked.rs"]
mod client;

use brim_device::Bytes;
use client::Chunked;
use nbd_server::client::{Client, Command as ClientCommand, CommandError};
use nbd_server::{Disk, ExportOptions, Server};
use nbd_wire::{Command, CommandFlags, ErrorCode, Headers, TransmissionFlags};

const SIZE: u64 = 128 << 20;

fn serve(options: ExportOptions) -> (Server, Disk) {
    let (server, disk) = (Server::new(), Disk::new(Bytes(SIZE)).unwrap());
    server.add_export_with("disk", disk.clone(), options).unwrap();
    (server, disk)
}

#[test]
fn a_read_only_export_refuses_every_change_and_nothing_else() {
    let (server, disk) = serve(ExportOptions { read_only: true, ..ExportOptions::default() });
    server.add_export("writable", disk.clone()).unwrap();
    let writable = Client::connect(server.connect().unwrap(), "writable").unwrap();
    writable.write(Bytes(4096), b"data").unwrap();
    let client = Client::connect(server.connect().unwrap(), "disk").unwrap();
    let flags = client.info().flags;
    assert!(flags.contains(TransmissionFlags::READ_ONLY | TransmissionFlags::SEND_FLUSH));
    for change in [TransmissionFlags::SEND_TRIM, TransmissionFlags::SEND_WRITE_ZEROES] {
        assert!(!flags.contains(change) && writable.info().flags.contains(change));
    }
    let refused = CommandError::Refused(ErrorCode::Eperm);
    assert_eq!(client.write(Bytes(0), b"x"), Err(refused));
    assert_eq!(client.write(Bytes(0), &vec![1; 1 << 20]), Err(refused));
    assert_eq!(client.trim(Bytes(0), Bytes(SIZE)), Err(refused));
    assert_eq!(client.write_zeroes(Bytes(0), Bytes(SIZE)), Err(refused));
    assert_eq!(client.flush(), Ok(()));
    assert_eq!(client.read(Bytes(4096), Bytes(4)).unwrap(), b"data");
    assert_eq!(disk.stats().write.requests, 1);
    let mut chunked = Chunked::connect(&server, Headers::Structured, &["base:allocation"]);
    let told = chunked.write(0, b"x").error.unwrap();
    assert_eq!(told, (ErrorCode::Eperm, "the export is read-only".to_owned(), None));
    assert_eq!(chunked.ask(Command::BlockStatus, CommandFlags::NONE, 0, 4096).error, None);
}

#[test]
fn a_rotational_export_says_so() {
    let (server, _disk) = serve(ExportOptions { rotational: true, ..ExportOptions::default() });
    let client = Client::connect(server.connect().unwrap(), "").unwrap();
    assert!(client.info().flags.contains(TransmissionFlags::ROTATIONAL));
    assert_eq!(client.write(Bytes(0), b"x"), Ok(()));
}

#[test]
fn caching_does_nothing_within_the_disk() {
    let (server, disk) = serve(ExportOptions::default());
    for headers in [Headers::Simple, Headers::Structured, Headers::Extended] {
        let mut client = Chunked::connect(&server, headers, &[]);
        assert_eq!(client.flags & TransmissionFlags::SEND_CACHE.0, TransmissionFlags::SEND_CACHE.0);
        for (offset, length, code) in [
            (0, SIZE, None),
            (SIZE, 0, None),
            (SIZE - 1, 2, Some(ErrorCode::Einval)),
            (u64::MAX, 2, Some(ErrorCode::Einval)),
        ] {
            let told = client.ask(Command::Cache, CommandFlags::NONE, offset, length);
            assert_eq!(told.code(), code, "{length} at {offset}");
        }
        let flagged = client.ask(Command::Cache, CommandFlags::FAST_ZERO, 0, 1);
        assert_eq!(flagged.code(), Some(ErrorCode::Einval));
    }
    assert_eq!(disk.allocated(), Bytes(0));
}

/// Zeroing is always fast, and leaves blocks behind where the client asks for that.
#[test]
fn zeroes_with_and_without_holes() {
    let (server, disk) = serve(ExportOptions::default());
    let mut client = Chunked::connect(&server, Headers::Structured, &[]);
    let zero = |client: &mut Chunked, flags, offset, length| {
        client.ask(Command::WriteZeroes, flags, offset, length).error
    };
    assert_eq!(client.write(0, &[7; 3 * 4096]).error, None);
    let (fast, no_hole) = (CommandFlags::FAST_ZERO, CommandFlags::NO_HOLE);
    assert_eq!(zero(&mut client, fast, 0, 4096), None);
    assert_eq!(disk.allocated(), Bytes(2 * 4096));
    assert_eq!(zero(&mut client, fast | no_hole, 5000, (1 << 20) - 5000), None);
    assert_eq!(disk.allocated(), Bytes((1 << 20) - 4096));
    let read = client.read(0, 1 << 20);
    assert!(read.data[..4096].iter().chain(&read.data[5000..]).all(|byte| *byte == 0));
    assert_eq!(read.data[4096..5000], [7; 904]);
    // Longer than any payload: done by freeing.
    assert_eq!(zero(&mut client, fast | no_hole, 0, SIZE), None);
    assert_eq!(disk.allocated(), Bytes(0));
    let (code, _, at) = zero(&mut client, no_hole, SIZE - 4096, 8192).unwrap();
    assert_eq!((code, at, disk.allocated()), (ErrorCode::Enospc, Some(SIZE), Bytes(0)));
    let own = Client::connect(server.connect().unwrap(), "").unwrap();
    let (sender, answer) = std::sync::mpsc::channel();
    let command =
        ClientCommand::WriteZeroes { offset: Bytes(512), len: Bytes(512), fua: true, no_hole: true };
    own.submit(command, Box::new(move |result| sender.send(result).unwrap()));
    assert!(answer.recv().unwrap().is_ok());
    assert_eq!(disk.allocated(), Bytes(4096));
}
