//! Listening, names, and connections whose clients do not behave.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

use brim_device::Bytes;
use nbd_server::client::{Client, ConnectError};
use nbd_server::{Disk, ExportError, ListenError, Server};
use nbd_wire::{
    ClientHandshakeError, Command, CommandFlags, ErrorCode, OptionError, Request, SimpleReply,
    TransmissionFlags,
};

fn server() -> (Server, Disk) {
    let (server, disk) = (Server::new(), Disk::new(Bytes(1 << 20)).unwrap());
    server.add_export("disk", disk.clone()).unwrap();
    (server, disk)
}

/// A connection in its transmission phase, by the old `NBD_OPT_EXPORT_NAME` without zeroes.
fn raw(server: &Server) -> UnixStream {
    let mut stream = server.connect().unwrap();
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting).unwrap();
    stream.write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\x04disk").unwrap();
    let mut told = [0; 10];
    stream.read_exact(&mut told).unwrap();
    assert_eq!(told, [0, 0, 0, 0, 0, 0x10, 0, 0, 0x0d, 0x6d]);
    stream
}

fn request(command: Command, flags: u16, cookie: u64, length: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    Request { command, flags: CommandFlags(flags), cookie, offset: 0, length }.encode(&mut bytes);
    bytes
}

fn reply(stream: &mut UnixStream) -> SimpleReply {
    let mut bytes = [0; SimpleReply::SIZE];
    stream.read_exact(&mut bytes).unwrap();
    SimpleReply::parse(&bytes).unwrap().unwrap()
}

#[test]
fn both_families_reach_the_same_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _disk) = server();
    let tcp = server.listen_tcp(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let unix = server.listen_unix(dir.path().join("nbd.sock")).unwrap();
    assert_eq!((unix.local_addr(), tcp.path()), (None, None));
    let one = Client::connect(TcpStream::connect(tcp.local_addr().unwrap()).unwrap(), "disk").unwrap();
    let two = Client::connect(UnixStream::connect(unix.path().unwrap()).unwrap(), "").unwrap();
    one.write(Bytes(9), b"seen").unwrap();
    assert_eq!(two.read(Bytes(9), Bytes(4)).unwrap(), b"seen");
    assert!(two.info().flags.contains(TransmissionFlags::CAN_MULTI_CONN | TransmissionFlags::SEND_FUA));
    drop(unix);
    assert!(!dir.path().join("nbd.sock").exists());
    assert_eq!(two.read(Bytes(9), Bytes(4)).unwrap(), b"seen");
    drop(server);
    assert!(two.flush().is_err() && one.flush().is_err());
    assert!(TcpStream::connect(tcp.local_addr().unwrap()).is_err());
}

#[test]
fn only_a_stale_socket_makes_way() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _disk) = server();
    let path = dir.path().join("nbd.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let listener = server.listen_unix(&path).unwrap();
    assert!(matches!(server.listen_unix(&path), Err(ListenError::InUse { .. })));
    drop(listener);
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(server.listen_unix(&path), Err(ListenError::NotASocket { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    let nowhere = dir.path().join("no/such/dir");
    assert!(matches!(server.listen_unix(nowhere), Err(ListenError::Unix { .. })));
}

#[test]
fn names_are_unique_and_the_first_is_the_default() {
    let (server, first) = server();
    let second = Disk::new(Bytes(512)).unwrap();
    let taken = server.add_export("disk", second.clone()).unwrap_err();
    assert_eq!(taken, ExportError::Exists { name: "disk".to_owned() });
    assert_eq!(server.add_export("a\0", second.clone()).unwrap_err(), ExportError::Name { length: 2 });
    server.add_export("second", second).unwrap();
    let size = |name| Client::connect(server.connect().unwrap(), name).map(|client| client.info().size);
    assert_eq!(size("").unwrap(), first.size());
    assert_eq!(size("second").unwrap(), Bytes(512));
    let unknown = size("third").unwrap_err();
    let refused = ClientHandshakeError::Refused { error: OptionError::UnknownExport, message: String::new() };
    assert!(matches!(unknown, ConnectError::Handshake(error) if error == refused));
    assert!(server.remove_export("disk").is_some());
    assert!(server.remove_export("disk").is_none());
    assert_eq!(size("").unwrap(), Bytes(512));
}

#[test]
fn unknown_commands_and_flags_are_answered_in_step() {
    let (server, _disk) = server();
    let mut stream = raw(&server);
    let batch = [
        request(Command::Other(99), 0, 1, 7),
        request(Command::Cache, 1 << 4, 2, 4096),
        request(Command::Read, 1 << 9, 3, 4),
        request(Command::Write, 1 << 9, 4, 5),
        b"12345".to_vec(),
        request(Command::WriteZeroes, CommandFlags::FAST_ZERO.0 | CommandFlags::NO_HOLE.0, 5, 512),
        request(Command::Flush, CommandFlags::FUA.0, 6, 0),
    ];
    stream.write_all(&batch.concat()).unwrap();
    for cookie in 1..=4 {
        assert_eq!(reply(&mut stream), SimpleReply { cookie, error: Some(ErrorCode::Einval) });
    }
    for cookie in 5..=6 {
        assert_eq!(reply(&mut stream), SimpleReply { cookie, error: None });
    }
}

/// Requests that arrive byte by byte are the requests that were sent.
#[test]
fn requests_may_arrive_in_pieces() {
    let (server, disk) = server();
    let mut stream = raw(&server);
    for byte in [request(Command::Write, 0, 1, 3), b"abc".to_vec(), request(Command::Read, 0, 2, 3)].concat()
    {
        stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(reply(&mut stream), SimpleReply { cookie: 1, error: None });
    assert_eq!(reply(&mut stream), SimpleReply { cookie: 2, error: None });
    let mut data = [0; 3];
    stream.read_exact(&mut data).unwrap();
    assert_eq!((&data, disk.stats().write.requests), (b"abc", 1));
}

#[test]
fn a_goodbye_and_a_wrong_magic_both_end_the_connection() {
    let (server, _disk) = server();
    let mut leaving = raw(&server);
    let last = [request(Command::Flush, 0, 1, 0), request(Command::Disconnect, 0, 2, 0)];
    leaving.write_all(&last.concat()).unwrap();
    assert_eq!(reply(&mut leaving), SimpleReply { cookie: 1, error: None });
    assert_eq!(leaving.read(&mut [0; 9]).unwrap(), 0);
    let mut broken = raw(&server);
    broken.write_all(&[0; 28]).unwrap();
    assert_eq!(broken.read(&mut [0; 9]).unwrap_or(0), 0);
}

/// A client that neither reads nor leaves cannot keep the server from ending.
#[test]
fn shutdown_does_not_wait_for_a_client_that_does_not_read() {
    let (server, _disk) = server();
    let mut stream = raw(&server);
    let reads: Vec<u8> = (0..64).flat_map(|cookie| request(Command::Read, 0, cookie, 1 << 20)).collect();
    stream.write_all(&reads).unwrap();
    let idle = server.connect().unwrap();
    server.shutdown();
    drop((stream, idle));
}
