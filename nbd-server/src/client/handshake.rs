//! The handshake, for this crate's client and for others.

use nbd_wire::{ClientHandshake, ClientOutcome, ExportInfo};

use super::ConnectError;
use super::reader::Reader;
use crate::socket::Socket;

/// A stream whose next byte belongs to the transmission phase.
#[derive(Debug)]
pub struct Negotiated {
    /// The stream. Nothing that the server said on it was read ahead.
    pub stream: Socket,
    /// What the server told of the export.
    pub info: ExportInfo,
}

/// Makes the handshake for `export` as [`Client::connect`](super::Client::connect) does, and leaves the rest to another client
/// such as the kernel's. Replies will be simple ones, and headers compact: nothing else is asked for.
///
/// # Errors
///
/// When the server refuses, is no NBD server, hangs up, or says more than it was asked.
pub fn negotiate(stream: impl Into<Socket>, export: &str) -> Result<Negotiated, ConnectError> {
    let (stream, mut reader) = (stream.into(), Reader::new());
    let info = shake_hands(&stream, &mut reader, export)?;
    match reader.bytes().len() {
        0 => Ok(Negotiated { stream, info }),
        more => Err(ConnectError::TooMuch(more)),
    }
}

pub(super) fn shake_hands(
    socket: &Socket,
    reader: &mut Reader,
    export: &str,
) -> Result<ExportInfo, ConnectError> {
    let mut handshake = ClientHandshake::new(export)?;
    let mut output = Vec::new();
    loop {
        let step = handshake.receive(reader.bytes(), &mut output);
        socket.send_all(&output)?;
        output.clear();
        let (used, outcome) = step?;
        reader.consume(used);
        if let ClientOutcome::Transmission(negotiated) = outcome {
            return Ok(negotiated.info);
        }
        if reader.receive(socket)? == 0 {
            return Err(ConnectError::Closed);
        }
    }
}
