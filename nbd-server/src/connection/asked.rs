//! A request in whichever headers it came, as the rest of the server takes it.

use brim_device::Bytes;
use nbd_wire::{Answer, Command, CommandFlags, ErrorCode, ExtendedRequest, Headers, Request};

use super::ConnectionError;

/// One request without its payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) command: Command,
    pub(super) flags: CommandFlags,
    pub(super) answer: Answer,
    /// Bytes on the export; of a query for block status with a payload, of the payload.
    pub(super) length: Bytes,
    /// Bytes of its header in the input.
    pub(super) header: usize,
    /// Bytes of payload behind the header.
    pub(super) payload: usize,
    /// Whether the command and its flags are known.
    pub(super) checked: Result<(), ErrorCode>,
}

impl Asked {
    /// Reads the header at the front of `input`; `None` while it is not complete.
    pub(super) fn parse(headers: Headers, input: &[u8]) -> Result<Option<Self>, ConnectionError> {
        if headers == Headers::Extended {
            return Self::parse_extended(input);
        }
        let Some(request) = Request::parse(input)? else {
            return Ok(None);
        };
        let Request { command, flags, cookie, offset, length } = request;
        Ok(Some(Self {
            command,
            flags,
            answer: Answer { headers, cookie, offset },
            length: Bytes(u64::from(length)),
            header: Request::SIZE,
            payload: Bytes(u64::from(request.payload_length())).to_len().unwrap_or(usize::MAX),
            checked: request.check(headers),
        }))
    }

    fn parse_extended(input: &[u8]) -> Result<Option<Self>, ConnectionError> {
        let Some(request) = ExtendedRequest::parse(input)? else {
            return Ok(None);
        };
        let ExtendedRequest { command, flags, cookie, offset, length } = request;
        // "A server SHOULD initiate hard disconnect if a client sets the NBD_CMD_FLAG_PAYLOAD_LEN flag and uses a
        // length larger than a server's … maximum payload length (capped at 32 bits …)" (proto.md of
        // extension-ext-header, "Request message"). What 32 bits can say is drained, as with compact requests.
        let length_of_payload = request.payload_length();
        let payload = u32::try_from(length_of_payload)
            .ok()
            .and_then(|length| usize::try_from(length).ok())
            .ok_or(ConnectionError::PayloadTooLong { length: Bytes(length_of_payload) })?;
        Ok(Some(Self {
            command,
            flags,
            answer: Answer { headers: Headers::Extended, cookie, offset },
            length: Bytes(length),
            header: ExtendedRequest::SIZE,
            payload,
            checked: request.check(),
        }))
    }
}
