//! A blocking client of one TLS session, on any stream.

use std::io::{Read, Write};
use std::sync::Arc;

use nbd_wire::{ClientHandshake, ClientOutcome, Command, CommandFlags, Request, SimpleReply};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::certificates::Certificates;

/// What a client believes, and what it shows.
pub(crate) struct Trust<'a> {
    pub(crate) authority: &'a Certificates,
    pub(crate) identity: Option<&'a Certificates>,
    pub(crate) version: &'static SupportedProtocolVersion,
}

impl<'a> Trust<'a> {
    pub(crate) fn of(authority: &'a Certificates) -> Self {
        Self { authority, identity: None, version: &rustls::version::TLS13 }
    }

    fn connection(&self) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.authority.path("ca-cert.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_root_certificates(roots);
        let config = match self.identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let certificate = CertificateDer::from_pem_file(identity.path("client-cert.pem")).unwrap();
                let key = PrivateKeyDer::from_pem_file(identity.path("client-key.pem")).unwrap();
                config.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap()
    }
}

pub(crate) type Failure = Box<dyn std::error::Error>;

pub(crate) struct Secure<S: Read + Write> {
    pub(crate) tls: StreamOwned<ClientConnection, S>,
    cookie: u64,
}

/// Says all that comes before TLS.
pub(crate) fn ask_for_tls(mut stream: impl Read + Write) -> Result<ClientHandshake, Failure> {
    let mut handshake = ClientHandshake::new("")?.with_tls();
    let outcome = step(&mut handshake, &mut stream)?;
    assert_eq!(outcome, ClientOutcome::StartTls);
    Ok(handshake)
}

/// Goes on until the handshake has something to say, one byte at a time.
fn step(handshake: &mut ClientHandshake, stream: &mut (impl Read + Write)) -> Result<ClientOutcome, Failure> {
    let (mut input, mut output) = (Vec::new(), Vec::new());
    loop {
        let told = handshake.receive(&input, &mut output);
        stream.write_all(&output)?;
        stream.flush()?;
        output.clear();
        let (used, outcome) = told?;
        input.drain(..used);
        if outcome != ClientOutcome::More {
            return Ok(outcome);
        }
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        input.extend(byte);
    }
}

impl<S: Read + Write> Secure<S> {
    pub(crate) fn connect(mut stream: S, trust: &Trust<'_>) -> Result<Self, Failure> {
        let mut handshake = ask_for_tls(&mut stream)?;
        let mut tls = StreamOwned::new(trust.connection(), stream);
        if let Err(error) = step(&mut handshake, &mut tls) {
            // The server may have hung up while there was more to send to it. It has said why.
            while tls.conn.read_tls(&mut tls.sock).is_ok_and(|count| count > 0) {
                tls.conn.process_new_packets()?;
            }
            return Err(error);
        }
        Ok(Self { tls, cookie: 0 })
    }

    /// Sends a request and answers its cookie.
    pub(crate) fn send(&mut self, command: Command, offset: u64, length: u32, data: &[u8]) -> u64 {
        self.cookie += 1;
        let cookie = self.cookie;
        let mut bytes = Vec::new();
        Request { command, flags: CommandFlags::NONE, cookie, offset, length }.encode(&mut bytes);
        bytes.extend_from_slice(data);
        self.tls.write_all(&bytes).unwrap();
        self.tls.flush().unwrap();
        cookie
    }

    /// The next reply: its cookie, without error, and `length` bytes of data.
    pub(crate) fn receive(&mut self, length: u32) -> (u64, Vec<u8>) {
        let mut header = [0; SimpleReply::SIZE];
        self.tls.read_exact(&mut header).unwrap();
        let reply = SimpleReply::parse(&header).unwrap().unwrap();
        assert_eq!(reply.error, None);
        let mut data = vec![0; usize::try_from(length).unwrap()];
        self.tls.read_exact(&mut data).unwrap();
        (reply.cookie, data)
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        let cookie = self.send(Command::Write, offset, u32::try_from(data.len()).unwrap(), data);
        assert_eq!(self.receive(0).0, cookie);
    }

    pub(crate) fn read(&mut self, offset: u64, length: u32) -> Vec<u8> {
        let cookie = self.send(Command::Read, offset, length, &[]);
        let (told, data) = self.receive(length);
        assert_eq!(told, cookie);
        data
    }
}
