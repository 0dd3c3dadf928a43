//! TLS: who gets in, who does not, and that what the server does is the same through it.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

#[path = "common/certificates.rs"]
mod certificates;
#[path = "common/secure.rs"]
mod secure;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use brim_device::Bytes;
use brim_device::fault::{Op, Row, Then, When};
use certificates::Certificates;
use nbd_server::client::{Client, ConnectError};
use nbd_server::{Disk, Server, Tls, TlsOptions};
use nbd_wire::{ClientHandshakeError, Command, OptionError};
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber, date_time_ymd};
use secure::{Secure, Trust, ask_for_tls};

const SIZE: u64 = 64 << 20;
const LIMIT: Duration = Duration::from_secs(30);
const REQUIRED: TlsOptions = TlsOptions { required: true, verify_peer: false };
const VERIFY: TlsOptions = TlsOptions { required: true, verify_peer: true };

fn serve(certificates: &Certificates, options: TlsOptions) -> (Server, Disk) {
    let tls = Tls::from_directory(certificates.directory(), options).unwrap();
    let (server, disk) = (Server::with_tls(tls), Disk::new(Bytes(SIZE)).unwrap());
    server.add_export("disk", disk.clone()).unwrap();
    (server, disk)
}

/// A stream that would rather fail than wait for ever.
fn stream(server: &Server) -> UnixStream {
    let stream = server.connect().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

#[expect(clippy::disallowed_methods, reason = "a limit on what should come at once")]
fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < LIMIT, "it did not happen");
        std::thread::yield_now();
    }
}

#[test]
fn data_goes_there_and_back_in_both_versions() {
    let certificates = Certificates::new();
    let (server, disk) = serve(&certificates, REQUIRED);
    for version in rustls::ALL_VERSIONS {
        let trust = Trust { version, ..Trust::of(&certificates) };
        let mut client = Secure::connect(stream(&server), &trust).unwrap();
        let data: Vec<u8> = (0..5_000_011_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        client.write(777, &data);
        assert!(client.read(777, 5_000_011) == data);
        assert_eq!(client.read(0, 32 << 20).len(), 32 << 20);
        client.send(Command::Disconnect, 0, 0, &[]);
        // The server closes TLS as well: what is read is an end, not an interruption.
        assert_eq!(client.tls.read(&mut [0]).unwrap(), 0);
    }
    assert_eq!(disk.stats().write.requests, 2);
    until(|| server.connection_count() == 0);
}

/// Far more is owed than the socket takes, to a client that sends all its requests before it reads.
#[test]
fn replies_wait_for_a_client_that_does_not_read() {
    let certificates = Certificates::new();
    let (server, disk) = serve(&certificates, REQUIRED);
    let mut client = Secure::connect(stream(&server), &Trust::of(&certificates)).unwrap();
    client.write(0, &vec![5; 1 << 20]);
    let cookies: Vec<u64> = (0..64).map(|_| client.send(Command::Read, 0, 1 << 20, &[])).collect();
    // The server has taken the requests as far as it does before the first reply is read.
    until(|| disk.stats().read.requests > 0);
    for cookie in cookies {
        assert!(client.receive(1 << 20) == (cookie, vec![5; 1 << 20]));
    }
}

#[test]
fn a_held_request_is_answered_out_of_order_and_goes_with_its_connection() {
    let certificates = Certificates::new();
    let (server, disk) = serve(&certificates, REQUIRED);
    let gate = |name: &str, nth| {
        let when = When { op: Some(Op::Write).into(), nth: Some(nth), ..When::default() };
        disk.add_fault(Row { name: name.to_owned(), when, then: Then::HOLD }).unwrap();
    };
    gate("commit", 1);
    let mut client = Secure::connect(stream(&server), &Trust::of(&certificates)).unwrap();
    let held = client.send(Command::Write, 0, 4, b"held");
    assert_eq!(disk.wait_held("commit", 1, LIMIT), 1);
    client.write(4096, b"other");
    assert_eq!(client.read(0, 4), [0; 4]);
    assert_eq!(disk.open_gate("commit"), 1);
    assert_eq!(client.receive(0).0, held);
    assert_eq!(client.read(0, 4), b"held");

    // Cut off, not closed: the end of the socket without the end of TLS.
    gate("lost", 1);
    client.send(Command::Write, 0, 4, b"lost");
    assert_eq!(disk.wait_held("lost", 1, LIMIT), 1);
    client.tls.sock.shutdown(std::net::Shutdown::Both).unwrap();
    until(|| server.connection_count() == 0);
    assert!(disk.held().is_empty());
}

#[test]
fn a_client_that_closes_tls_has_left() {
    let certificates = Certificates::new();
    let (server, _disk) = serve(&certificates, REQUIRED);
    let mut client = Secure::connect(stream(&server), &Trust::of(&certificates)).unwrap();
    client.write(0, b"data");
    // It keeps its socket open, and waits for the server's own goodbye.
    client.tls.conn.send_close_notify();
    client.tls.flush().unwrap();
    assert_eq!(client.tls.read(&mut [0]).unwrap(), 0);
    until(|| server.connection_count() == 0);
}

#[test]
fn policies_say_who_has_to_have_it() {
    let certificates = Certificates::new();
    let refused = |server: &Server| match Client::connect(stream(server), "").unwrap_err() {
        ConnectError::Handshake(ClientHandshakeError::Refused { error, .. }) => error,
        other => panic!("{other}"),
    };
    let (required, _disk) = serve(&certificates, REQUIRED);
    assert_eq!(refused(&required), OptionError::TlsRequired);
    let (optional, _disk) = serve(&certificates, TlsOptions::default());
    assert_eq!(Client::connect(stream(&optional), "").unwrap().read(Bytes(0), Bytes(1)).unwrap(), [0]);
    assert_eq!(Secure::connect(stream(&optional), &Trust::of(&certificates)).unwrap().read(0, 1), [0]);
    let off = Server::new();
    off.add_export("disk", Disk::new(Bytes(SIZE)).unwrap()).unwrap();
    let error = ask_for_tls(stream(&off)).unwrap_err().to_string();
    assert_eq!(error, OptionError::Policy.to_string());
}

/// Takes the client's certificate back.
fn revoke_client(certificates: &Certificates) {
    let now = date_time_ymd(2024, 1, 1);
    let revoked = RevokedCertParams {
        serial_number: SerialNumber::from(certificates::CLIENT_SERIAL),
        revocation_time: now,
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: now,
        next_update: date_time_ymd(4000, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&certificates.authority).unwrap().pem().unwrap();
    std::fs::write(certificates.path("ca-crl.pem"), list).unwrap();
}

#[test]
fn a_certificate_is_needed_where_peers_are_verified() {
    let (ours, theirs) = (Certificates::new(), Certificates::new());
    let (server, _disk) = serve(&ours, VERIFY);
    // In TLS 1.3 a client believes that it is in until it reads.
    let come = |server: &Server, identity| {
        for version in rustls::ALL_VERSIONS {
            Secure::connect(stream(server), &Trust { identity, version, ..Trust::of(&ours) })
                .map(|mut client| client.read(0, 1))?;
        }
        Ok::<_, secure::Failure>(())
    };
    let told = |identity| come(&server, identity).unwrap_err().to_string();
    assert!(told(None).contains("CertificateRequired"), "{}", told(None));
    // Whoever signed it calls itself by the same name.
    assert!(told(Some(&theirs)).contains("received fatal alert"), "{}", told(Some(&theirs)));
    come(&server, Some(&ours)).unwrap();
    // A certificate that was taken back, by a list that is read when the server starts.
    revoke_client(&ours);
    come(&server, Some(&ours)).unwrap();
    let (strict, _disk) = serve(&ours, VERIFY);
    let revoked = come(&strict, Some(&ours)).unwrap_err().to_string();
    assert!(revoked.contains("CertificateRevoked"), "{revoked}");
}

#[test]
fn a_client_that_does_not_believe_the_server_goes_away_alone() {
    let (ours, theirs) = (Certificates::new(), Certificates::new());
    let (server, _disk) = serve(&ours, REQUIRED);
    let error = Secure::connect(stream(&server), &Trust::of(&theirs)).err().unwrap().to_string();
    assert!(error.contains("invalid peer certificate"), "{error}");
    until(|| server.connection_count() == 0);
    assert_eq!(Secure::connect(stream(&server), &Trust::of(&ours)).unwrap().read(0, 1), [0]);
}

#[test]
fn what_is_no_handshake_ends_the_connection_and_no_other() {
    let certificates = Certificates::new();
    let (server, _disk) = serve(&certificates, REQUIRED);
    // One that never comes to the point, all the while.
    let slow = stream(&server);
    let _handshake = ask_for_tls(&slow).unwrap();
    (&slow).write_all(&[0x16, 0x03, 0x01]).unwrap();
    for garbage in [&b"IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0"[..], &[0; 600], &vec![0xff; 70_000], b""] {
        let mut stream = stream(&server);
        let _handshake = ask_for_tls(&stream).unwrap();
        // The server may have hung up before it has seen all.
        let _hung_up = stream.write_all(garbage);
        stream.shutdown(std::net::Shutdown::Write).unwrap_or_default();
        let mut said = Vec::new();
        let _reset = stream.read_to_end(&mut said);
        assert!(!said.windows(8).any(|window| window == 0x0003_e889_0455_65a9_u64.to_be_bytes()));
    }
    until(|| server.connection_count() == 1);
    assert_eq!(Secure::connect(stream(&server), &Trust::of(&certificates)).unwrap().read(0, 1), [0]);
    // A server that ends does not wait for it.
    server.shutdown();
    assert!((&slow).read_to_end(&mut Vec::new()).unwrap_or(0) < 20);
}

/// Somebody in between writes a request behind the client's `NBD_OPT_STARTTLS`: it must not be taken for one that came
/// through TLS.
#[test]
fn what_comes_in_the_clear_behind_starttls_ends_the_connection() {
    let certificates = Certificates::new();
    let (server, disk) = serve(&certificates, TlsOptions::default());
    let starttls = &b"IHAVEOPT\0\0\0\x05\0\0\0\0"[..];
    let go = &b"IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0"[..];
    for (first, then) in [([starttls, go].concat(), &b""[..]), (starttls.to_vec(), go)] {
        let mut stream = stream(&server);
        stream.read_exact(&mut [0; 18]).unwrap();
        stream.write_all(&[&[0, 0, 0, 3], &first[..]].concat()).unwrap();
        if !then.is_empty() {
            stream.read_exact(&mut [0; 20]).unwrap();
            stream.write_all(then).unwrap();
        }
        let mut said = Vec::new();
        let _reset = stream.read_to_end(&mut said);
        // An alert of TLS at most, and no answer to the option.
        assert!(said.len() < 20, "{said:?}");
    }
    until(|| server.connection_count() == 0);
    assert_eq!(disk.stats().read.requests, 0);
}

/// A stream on which every byte travels alone.
struct Trickle(UnixStream);

impl Read for Trickle {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let one = buf.len().min(1);
        self.0.read(&mut buf[..one])
    }
}

impl Write for Trickle {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(&data[..data.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn records_may_come_byte_by_byte() {
    let certificates = Certificates::new();
    let (server, _disk) = serve(&certificates, REQUIRED);
    let mut client = Secure::connect(Trickle(stream(&server)), &Trust::of(&certificates)).unwrap();
    client.write(1, &vec![9; 20_000]);
    assert_eq!(client.read(1, 20_000), vec![9; 20_000]);
}

#[test]
fn errors_name_the_file_that_is_wrong() {
    let told = |certificates: &Certificates, options| {
        let error = Tls::from_directory(certificates.directory(), options).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        let file = error.to_string().replace(&format!("{}/", certificates.directory().display()), "");
        (file, cause.unwrap_or_default())
    };
    for (file, what, options) in [
        ("server-cert.pem", "certificate", REQUIRED),
        ("server-key.pem", "private key", REQUIRED),
        ("ca-cert.pem", "certificate", VERIFY),
        ("ca-crl.pem", "revocation list", VERIFY),
    ] {
        let certificates = Certificates::new();
        std::fs::write(certificates.path(file), "no PEM\n").unwrap();
        assert_eq!(told(&certificates, options).0, format!("{file} has no {what} in PEM form"));
        std::fs::remove_file(certificates.path(file)).unwrap();
        if file != "ca-crl.pem" {
            let (error, cause) = told(&certificates, options);
            assert_eq!(error, format!("cannot read {file}"));
            assert!(cause.contains("No such file"), "{cause}");
        }
    }
    let (ours, theirs) = (Certificates::new(), Certificates::new());
    std::fs::copy(theirs.path("server-key.pem"), ours.path("server-key.pem")).unwrap();
    let (error, cause) = told(&ours, REQUIRED);
    assert_eq!(error, "server-key.pem cannot be used");
    assert!(cause.contains("keys may not be consistent"), "{cause}");
    let broken = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
    std::fs::write(theirs.path("server-cert.pem"), broken).unwrap();
    assert_eq!(told(&theirs, REQUIRED).0, "server-cert.pem is not sound PEM");
}
