//! The client against servers that answer in their own order, wrongly, or not at all.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use brim_device::Bytes;
use nbd_server::client::{Client, Command, CommandError, ConnectError, Negotiated, Reply, negotiate};
use nbd_wire::{ClientHandshakeError, ErrorCode, Request, SimpleReply};
use proptest::prelude::*;

const LIMIT: Duration = Duration::from_secs(30);

type Answer = Result<Reply, CommandError>;

/// What a server says in the handshake for an export of 16 bytes that has flushes.
fn handshake() -> Vec<u8> {
    let greeting = b"NBDMAGICIHAVEOPT\x00\x03";
    let info = b"\x00\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\0\0\0\x03\0\0\0\x0c\0\0\0\0\0\0\0\0\0\x10\0\x05";
    let ack = b"\x00\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\0\0\0\x01\0\0\0\0";
    [&greeting[..], info, ack].concat()
}

/// A client in its transmission phase, and the other end of its socket.
fn pair() -> (Client, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&handshake()).unwrap();
    let client = Client::connect(ours, "x").unwrap();
    // Client flags, and an option of 16 bytes with name, count and one kind of information.
    theirs.read_exact(&mut [0; 4 + 16 + 4 + 1 + 2 + 2]).unwrap();
    (client, theirs)
}

fn read(client: &Client, len: u64) -> Receiver<Answer> {
    let (sender, answer) = mpsc::channel();
    let completion = Box::new(move |result| sender.send(result).unwrap_or_default());
    client.submit(Command::Read { offset: Bytes(0), len: Bytes(len) }, completion);
    answer
}

fn cookie(server: &mut UnixStream) -> u64 {
    let mut header = [0; Request::SIZE];
    server.read_exact(&mut header).unwrap();
    Request::parse(&header).unwrap().unwrap().cookie
}

fn reply(cookie: u64, error: Option<ErrorCode>, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    SimpleReply { cookie, error }.encode(&mut bytes);
    bytes.extend_from_slice(data);
    bytes
}

/// The answer, which must be the only one.
fn only(answer: &Receiver<Answer>) -> Answer {
    let result = answer.recv_timeout(LIMIT).unwrap();
    assert!(answer.recv_timeout(LIMIT).is_err(), "answered twice");
    result
}

#[test]
fn answers_may_come_in_any_order() {
    let (client, mut server) = pair();
    assert_eq!(client.info().size, Bytes(16));
    let answers = [read(&client, 3), read(&client, 4), read(&client, 5)];
    let cookies = answers.each_ref().map(|_| cookie(&mut server));
    let out_of_order = [
        reply(cookies[2], None, b"three"),
        reply(cookies[0], None, b"one"),
        reply(cookies[1], Some(ErrorCode::Enospc), b""),
    ];
    for byte in out_of_order.concat() {
        server.write_all(&[byte]).unwrap();
    }
    assert_eq!(only(&answers[0]).unwrap().data, b"one");
    assert_eq!(only(&answers[1]), Err(CommandError::Refused(ErrorCode::Enospc)));
    assert_eq!(only(&answers[2]).unwrap().data, b"three");
    assert_eq!(CommandError::Refused(ErrorCode::Enospc).errno(), 28);
    assert_eq!(CommandError::Lost.errno(), 5);
}

#[test]
fn a_server_that_breaks_the_protocol_loses_everything_in_flight() {
    type Wrong = fn(u64) -> Vec<u8>;
    let unknown_cookie: Wrong = |cookie| reply(cookie ^ 0xff00, None, b"data");
    let twice: Wrong = |cookie| [reply(cookie, None, b"data"), reply(cookie, None, b"data")].concat();
    let cut_data: Wrong = |cookie| reply(cookie, None, b"da");
    let cut_header: Wrong = |cookie| reply(cookie, None, b"")[..9].to_vec();
    let wrong_magic: Wrong = |_| vec![0; 16];
    for (wrong, first_is_answered) in
        [(unknown_cookie, false), (twice, true), (cut_data, false), (cut_header, false), (wrong_magic, false)]
    {
        let (client, mut server) = pair();
        let answers = [read(&client, 4), read(&client, 4)];
        let first = cookie(&mut server);
        server.write_all(&wrong(first)).unwrap();
        drop(server);
        assert_eq!(only(&answers[0]).is_ok(), first_is_answered);
        assert_eq!(only(&answers[1]), Err(CommandError::Lost));
        assert_eq!(only(&read(&client, 1)), Err(CommandError::Lost));
        assert_eq!(client.write(Bytes(0), &vec![0; 100_000]), Err(CommandError::Lost));
    }
}

/// A sender that waits for room in the socket hears of the end too.
#[test]
fn a_blocked_sender_is_freed_when_the_server_goes() {
    let (client, server) = pair();
    thread::scope(|scope| {
        let sender = scope.spawn(|| client.write(Bytes(0), &vec![1; 8 << 20]));
        drop(server);
        assert_eq!(sender.join().unwrap(), Err(CommandError::Lost));
    });
}

#[test]
fn a_command_longer_than_the_protocol_is_never_sent() {
    let (client, _server) = pair();
    let len = Bytes(1 << 32);
    assert_eq!(client.trim(Bytes(0), len), Err(CommandError::TooLong { len }));
    assert_eq!(client.write_zeroes(Bytes(0), len), Err(CommandError::TooLong { len }));
}

/// The last handle may go away inside a completion, which runs on the thread that the drop would wait for.
#[test]
fn a_completion_may_drop_the_client() {
    let (client, mut server) = pair();
    let slot = Arc::new(Mutex::new(None));
    let (sender, done) = mpsc::channel();
    let in_completion = Arc::clone(&slot);
    let completion = move |result: Answer| {
        drop::<Option<Client>>(in_completion.lock().unwrap().take());
        sender.send(result).unwrap();
    };
    client.submit(Command::Flush, Box::new(completion));
    *slot.lock().unwrap() = Some(client);
    let flush = cookie(&mut server);
    server.write_all(&reply(flush, None, b"")).unwrap();
    assert_eq!(done.recv_timeout(LIMIT).unwrap(), Ok(Reply::default()));
}

#[test]
fn what_is_no_server_is_not_connected_to() {
    let attempt = |said: &[u8]| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(said).unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        Client::connect(ours, "").unwrap_err()
    };
    assert!(matches!(attempt(b""), ConnectError::Closed));
    assert!(matches!(attempt(b"NBDMAGICIHAVEOPT\0\x03"), ConnectError::Closed));
    let greeting = attempt(b"HTTP/1.1 400 Bad Request\r\n");
    assert!(matches!(greeting, ConnectError::Handshake(ClientHandshakeError::Greeting)));
}

/// Another client goes on where the handshake ended: no byte of what follows is lost, and the server was asked for nothing
/// that would make its replies other than simple.
#[test]
fn a_negotiated_stream_is_at_its_first_request() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&handshake()).unwrap();
    let Negotiated { stream, info } = negotiate(ours, "x").unwrap();
    assert_eq!((info.size, info.flags.0, info.block_sizes), (16, 5, None));
    let mut asked = [0; 4 + 16 + 4 + 1 + 2 + 2];
    theirs.read_exact(&mut asked).unwrap();
    // Client flags, then `NBD_OPT_GO` alone.
    assert_eq!(asked[..16], *b"\0\0\0\x03IHAVEOPT\0\0\0\x07");
    theirs.write_all(b"next").unwrap();
    let mut stream = UnixStream::from(std::os::fd::OwnedFd::from(stream));
    stream.write_all(b"request").unwrap();
    let (mut said, mut read) = ([0; 4], [0; 7]);
    stream.read_exact(&mut said).unwrap();
    theirs.read_exact(&mut read).unwrap();
    assert_eq!((&said, &read), (b"next", b"request"));
}

#[test]
fn a_server_that_speaks_unasked_is_not_handed_over() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&[&handshake()[..], b"early"].concat()).unwrap();
    assert!(matches!(negotiate(ours, "x").unwrap_err(), ConnectError::TooMuch(5)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// For all that a server may say before it goes: every command in flight is completed exactly once.
    #[test]
    fn every_completion_is_called_once(
        lens in prop::collection::vec(0..50u64, 1..8),
        said in prop::collection::vec((0..10u64, prop::option::of(Just(ErrorCode::Eio)), 0..50usize), 0..8),
        cut in 0..400usize,
    ) {
        let (client, mut server) = pair();
        let answers: Vec<_> = lens.iter().map(|len| read(&client, *len)).collect();
        let bytes: Vec<u8> = said.iter().flat_map(|(cookie, error, len)| reply(*cookie, *error, &vec![0; *len])).collect();
        // The client may hang up on nonsense before it has all been said.
        let _hung_up = server.write_all(&bytes[..cut.min(bytes.len())]);
        drop(server);
        for answer in &answers {
            let _any = only(answer);
        }
    }
}
