//! Messages of the transmission phase: whatever parses is encoded to the same bytes, and no prefix of a message is one.

use nbd_wire::{
    ChunkHeader, ChunkType, Command, CommandFlags, Content, ErrorCode, ExtendedRequest, Headers, ReplyHeader,
    Request, SimpleReply, StatusQuery,
};

use crate::input::Input;

const ALL_HEADERS: [Headers; 3] = [Headers::Simple, Headers::Structured, Headers::Extended];

/// For all prefixes of a header that is whole: nothing is said of them yet.
fn prefixes_are_incomplete<T, E>(header: &[u8], parse: impl Fn(&[u8]) -> Result<Option<T>, E>) {
    for cut in 0..header.len() {
        assert!(matches!(parse(&header[..cut]), Ok(None)), "{cut} bytes of {} are a header", header.len());
    }
}

/// A compact request from the wire, and one from its fields.
pub fn request(data: &[u8]) {
    match Request::parse(data) {
        Ok(None) => assert!(data.len() < Request::SIZE),
        Err(error) => assert_ne!(error.found.to_be_bytes(), [0x25, 0x60, 0x95, 0x13]),
        Ok(Some(request)) => {
            let (mut again, header) = (Vec::new(), &data[..Request::SIZE]);
            request.encode(&mut again);
            assert_eq!(again, header);
            prefixes_are_incomplete(header, Request::parse);
        }
    }
    let mut input = Input::new(data);
    let request = Request {
        flags: CommandFlags(input.u16()),
        command: Command::from_value(input.u16()),
        cookie: input.u64(),
        offset: input.u64(),
        length: input.u32(),
    };
    let mut bytes = Vec::new();
    request.encode(&mut bytes);
    assert_eq!(Request::parse(&bytes), Ok(Some(request)));
    let payload = if request.command == Command::Write { request.length } else { 0 };
    assert_eq!(request.payload_length(), payload);
    for headers in ALL_HEADERS {
        let known = request.check(headers).is_ok();
        assert!(!known || !matches!(request.command, Command::Other(_)));
        assert!(!known || request.command == Command::Disconnect || request.flags.0 < 1 << 5);
    }
}

/// An extended request from the wire, and one from its fields.
pub fn extended_request(data: &[u8]) {
    match ExtendedRequest::parse(data) {
        Ok(None) => assert!(data.len() < ExtendedRequest::SIZE),
        Err(error) => assert_ne!(error.found.to_be_bytes(), [0x21, 0xe4, 0x1c, 0x71]),
        Ok(Some(request)) => {
            let (mut again, header) = (Vec::new(), &data[..ExtendedRequest::SIZE]);
            request.encode(&mut again);
            assert_eq!(again, header);
            prefixes_are_incomplete(header, ExtendedRequest::parse);
        }
    }
    let mut input = Input::new(data);
    let request = ExtendedRequest {
        flags: CommandFlags(input.u16()),
        command: Command::from_value(input.u16()),
        cookie: input.u64(),
        offset: input.u64(),
        length: input.u64(),
    };
    let mut bytes = Vec::new();
    request.encode(&mut bytes);
    assert_eq!(ExtendedRequest::parse(&bytes), Ok(Some(request)));
    assert!([0, request.length].contains(&request.payload_length()));
    let known = request.check().is_ok();
    assert!(!known || !matches!(request.command, Command::Other(_)));
}

/// A simple reply from the wire, and one from its fields.
pub fn simple_reply(data: &[u8]) {
    match SimpleReply::parse(data) {
        Ok(None) => assert!(data.len() < SimpleReply::SIZE),
        Err(error) => assert_ne!(error.found.to_be_bytes(), [0x67, 0x44, 0x66, 0x98]),
        Ok(Some(reply)) => {
            let (mut again, header) = (Vec::new(), &data[..SimpleReply::SIZE]);
            reply.encode(&mut again);
            // An error nobody defined is taken as another one.
            assert_eq!((&again[..4], &again[8..]), (&header[..4], &header[8..]));
            assert!(again == header || reply.error == Some(ErrorCode::Einval));
            prefixes_are_incomplete(header, SimpleReply::parse);
        }
    }
    let mut input = Input::new(data);
    let (cookie, error) = (input.u64(), input.u32());
    let error = Some(error).filter(|error| *error != 0).map(ErrorCode::from_value);
    let (mut bytes, reply) = (Vec::new(), SimpleReply { cookie, error });
    reply.encode(&mut bytes);
    assert_eq!(SimpleReply::parse(&bytes), Ok(Some(reply)));
}

/// A stream of replies as a client receives it, in any of the three headers: headers, and what chunks say.
pub fn reply(data: &[u8]) {
    let mut input = Input::new(data);
    let headers = ALL_HEADERS[usize::from(input.u8() % 3)];
    let mut stream = input.rest();
    while let Ok(Some((header, size))) = ReplyHeader::parse(headers, stream) {
        let (bytes, rest) = stream.split_at(size);
        prefixes_are_incomplete(bytes, |bytes| ReplyHeader::parse(headers, bytes));
        let mut again = Vec::new();
        match header {
            ReplyHeader::Simple(simple) => simple.encode(&mut again),
            ReplyHeader::Chunk(chunk) => chunk.encode(headers, &mut again),
        }
        assert_eq!(ReplyHeader::parse(headers, &again), Ok(Some((header, size))));
        stream = rest;
        if let ReplyHeader::Chunk(chunk) = header {
            let length = usize::try_from(chunk.length).unwrap_or(usize::MAX).min(rest.len());
            let (payload, rest) = rest.split_at(length);
            content(&chunk, payload);
            stream = rest;
        }
    }
}

fn content(chunk: &ChunkHeader, payload: &[u8]) {
    let Some(content) = chunk.content(payload) else {
        return;
    };
    let again = encode(chunk.chunk_type, &content);
    assert_eq!(chunk.content(&again), Some(content.clone()));
    match content {
        // Fields of a later protocol may follow.
        Content::Error { .. } => assert!(again.len() <= payload.len()),
        _ => assert_eq!(again, payload),
    }
}

/// A content as its payload: there is nothing in `nbd-wire` that could, but for whole answers.
fn encode(chunk_type: ChunkType, content: &Content<'_>) -> Vec<u8> {
    match content {
        Content::None => Vec::new(),
        Content::Data { offset, data } => [&offset.to_be_bytes()[..], data].concat(),
        Content::Hole { offset, length } => [&offset.to_be_bytes()[..], &length.to_be_bytes()].concat(),
        Content::Status { context, extents } => {
            let mut bytes = context.to_be_bytes().to_vec();
            if chunk_type == ChunkType::BlockStatusExt {
                bytes.extend(u32::try_from(extents.len()).unwrap().to_be_bytes());
            }
            for extent in extents {
                for value in [extent.length, extent.flags] {
                    let bytes_of_it = value.to_be_bytes();
                    let short = chunk_type == ChunkType::BlockStatus;
                    bytes.extend_from_slice(if short { &bytes_of_it[4..] } else { &bytes_of_it });
                }
            }
            bytes
        }
        Content::Error { error, message, offset } => {
            let length = u16::try_from(message.len()).unwrap();
            let head = [&error.value().to_be_bytes()[..], &length.to_be_bytes(), message.as_bytes()];
            let mut bytes = head.concat();
            bytes.extend(offset.iter().flat_map(|offset| offset.to_be_bytes()));
            bytes
        }
    }
}

/// The payload of a query for block status.
pub fn status_query(data: &[u8]) {
    let parsed = StatusQuery::parse(data);
    assert_eq!(parsed.is_some(), data.len() >= 8 && data.len().is_multiple_of(4));
    if let Some(query) = parsed {
        let mut again = Vec::new();
        query.encode(&mut again);
        assert_eq!(again, data);
    }
}
