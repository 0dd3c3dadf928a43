//! Chunked replies and extended requests against bytes written down from proto.md, and round trips.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

use nbd_wire::{
    Answer, BadReplyMagic, BadRequestMagic, ChunkHeader, ChunkType, Command, CommandFlags, Content,
    ErrorCode, ExtendedRequest, Extent, Headers, ReplyHeader, SimpleReply, StatusQuery,
};
use proptest::prelude::*;

const CHUNKED: [Headers; 2] = [Headers::Structured, Headers::Extended];
const COOKIE: [u8; 8] = [0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 7];

fn answer(headers: Headers, offset: u64) -> Answer {
    Answer { headers, cookie: u64::from_be_bytes(COOKIE), offset }
}

/// A structured chunk as it is written down in proto.md, "Structured reply chunk message".
fn structured(flags: u8, chunk_type: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let [high, low] = chunk_type.to_be_bytes();
    [&[0x66, 0x8e, 0x33, 0xef, 0, flags, high, low][..], &COOKIE, &length, payload].concat()
}

/// An extended chunk as it is written down in proto.md of extension-ext-header, "Extended reply chunk message".
fn extended(flags: u8, chunk_type: u16, offset: u64, payload: &[u8]) -> Vec<u8> {
    let length = u64::try_from(payload.len()).unwrap().to_be_bytes();
    let [high, low] = chunk_type.to_be_bytes();
    let head = [0x6e, 0x8a, 0x27, 0x8c, 0, flags, high, low];
    [&head[..], &COOKIE, &offset.to_be_bytes(), &length, payload].concat()
}

fn be(value: u64) -> [u8; 8] {
    value.to_be_bytes()
}

/// Takes a stream of replies apart, after cutting it at every length.
fn replies(headers: Headers, bytes: &[u8]) -> Vec<(ReplyHeader, Vec<u8>)> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (header, size) = ReplyHeader::parse(headers, rest).unwrap().unwrap();
        for cut in 0..size {
            assert_eq!(ReplyHeader::parse(headers, &rest[..cut]), Ok(None), "cut at {cut}");
        }
        let length = match header {
            ReplyHeader::Simple(_) => 0,
            ReplyHeader::Chunk(chunk) => usize::try_from(chunk.length).unwrap(),
        };
        let payload = &rest[size..][..length];
        if let ReplyHeader::Chunk(chunk) = header {
            assert!(chunk.content(payload).is_some(), "{chunk:?}");
        }
        found.push((header, payload.to_vec()));
        rest = &rest[size + length..];
    }
    found
}

#[test]
fn a_read_is_answered_in_chunks_as_written_down() {
    let write = |headers| {
        let mut output = Vec::new();
        let mut read = answer(headers, 0x1000).read(true, &mut output);
        read.data(b"ab");
        read.data(b"cd");
        read.hole(100);
        read.hole(0x1000);
        read.data(b"e");
        read.finish();
        output
    };
    let data = [&be(0x1000)[..], b"abcd"].concat();
    let hole = [&be(0x1004)[..], &[0, 0, 0x10, 100]].concat();
    let last = [&be(0x2068)[..], b"e"].concat();
    let expected = [structured(0, 1, &data), structured(0, 2, &hole), structured(1, 1, &last)].concat();
    assert_eq!(write(Headers::Structured), expected);
    let told = |flags, chunk_type, payload: &[u8]| extended(flags, chunk_type, 0x1000, payload);
    assert_eq!(write(Headers::Extended), [told(0, 1, &data), told(0, 2, &hole), told(1, 1, &last)].concat());
    let simple = write(Headers::Simple);
    assert_eq!(simple.len(), 16 + 4 + 100 + 0x1000 + 1);
    assert_eq!(SimpleReply::parse(&simple).unwrap().unwrap().error, None);
    for headers in CHUNKED {
        replies(headers, &write(headers));
    }
}

#[test]
fn an_unfragmented_read_has_one_content_chunk() {
    for (pieces, chunk_type, data) in [
        (&["", "ab", ""][..], 1, &b"\0\0\0ab\0\0\0"[..]),
        (&["ab"], 1, b"ab"),
        (&["", ""], 2, &[]),
        (&["a", "", "b"], 1, b"a\0\0\0b"),
    ] {
        let mut output = Vec::new();
        let mut read = answer(Headers::Structured, 5).read(false, &mut output);
        for piece in pieces {
            if piece.is_empty() { read.hole(3) } else { read.data(piece.as_bytes()) }
        }
        read.finish();
        let content = if chunk_type == 1 { data } else { &[0, 0, 0, 6] };
        assert_eq!(output, structured(1, chunk_type, &[&be(5)[..], content].concat()));
    }
}

#[test]
fn a_read_of_nothing_ends() {
    let mut output = b"before".to_vec();
    answer(Headers::Structured, 5).read(true, &mut output).finish();
    assert_eq!(output, [&b"before"[..], &structured(1, 0, &[])].concat());
    output.clear();
}

#[test]
fn errors_and_successes_in_every_kind_of_header() {
    let write = |headers, at| {
        let mut output = Vec::new();
        answer(headers, 3).error(ErrorCode::Enospc, "full", at, &mut output);
        answer(headers, 3).done(&mut output);
        output
    };
    let simple = |error: u8| [&[0x67, 0x44, 0x66, 0x98, 0, 0, 0, error][..], &COOKIE].concat();
    let payload = [&[0, 0, 0, 28, 0, 4][..], b"full"].concat();
    let with_offset = [&payload[..], &be(4096)].concat();
    assert_eq!(write(Headers::Simple, Some(4096)), [simple(28), simple(0)].concat());
    let expected = [structured(1, 0x8001, &payload), simple(0)].concat();
    assert_eq!(write(Headers::Structured, None), expected);
    let expected = [extended(1, 0x8002, 3, &with_offset), extended(1, 0, 3, &[])].concat();
    assert_eq!(write(Headers::Extended, Some(4096)), expected);
    for headers in CHUNKED {
        let told = replies(headers, &write(headers, Some(4096)));
        let ReplyHeader::Chunk(chunk) = told[0].0 else { panic!("{told:?}") };
        let error = Content::Error { error: ErrorCode::Enospc, message: "full", offset: Some(4096) };
        assert_eq!(chunk.content(&told[0].1), Some(error));
    }
}

#[test]
fn block_status_as_written_down() {
    let write = |headers| {
        let mut output = Vec::new();
        let mut status = answer(headers, 0).status(9, &mut output);
        for (length, flags) in [(1, 3), (4096, 3), (5, 0)] {
            assert_eq!(status.is_new(flags), length != 4096);
            status.extent(length, flags);
        }
        assert_eq!(status.count(), 2);
        status.finish(true);
        output
    };
    let compact = [0, 0, 0, 9, 0, 0, 0x10, 1, 0, 0, 0, 3, 0, 0, 0, 5, 0, 0, 0, 0];
    assert_eq!(write(Headers::Structured), structured(1, 5, &compact));
    let wide = [&[0, 0, 0, 9, 0, 0, 0, 2][..], &be(4097), &be(3), &be(5), &be(0)].concat();
    assert_eq!(write(Headers::Extended), extended(1, 6, 0, &wide));
    for headers in CHUNKED {
        let told = replies(headers, &write(headers));
        let ReplyHeader::Chunk(chunk) = told[0].0 else { panic!("{told:?}") };
        let extents = vec![Extent { length: 4097, flags: 3 }, Extent { length: 5, flags: 0 }];
        assert_eq!(chunk.content(&told[0].1), Some(Content::Status { context: 9, extents }));
    }
}

#[test]
fn payloads_that_are_not_what_their_type_has_say_nothing() {
    let content = |chunk_type, payload: &[u8]| {
        let header = ChunkHeader { done: true, chunk_type, cookie: 0, offset: 0, length: 0 };
        header.content(payload).is_some()
    };
    assert!(!content(ChunkType::None, b"x"));
    assert!(!content(ChunkType::OffsetData, &be(1)));
    assert!(!content(ChunkType::OffsetHole, &[0; 12]));
    assert!(!content(ChunkType::BlockStatus, &[0; 4]));
    assert!(!content(ChunkType::BlockStatus, &[1; 13]));
    assert!(!content(ChunkType::BlockStatusExt, &[1; 24]));
    assert!(!content(ChunkType::Error, &[0; 6]));
    assert!(!content(ChunkType::Error, &[0, 0, 0, 5, 0, 1]));
    assert!(!content(ChunkType::ErrorOffset, &[0, 0, 0, 5, 0, 0]));
    assert!(!content(ChunkType::Other(77), &[]));
    // "If the client receives an unknown type with bit 15 set, it MUST consider the current reply as errored."
    assert!(content(ChunkType::Other(0x8077), &[0, 0, 0, 5, 0, 0, 1, 2, 3]));
}

#[test]
fn a_connection_has_its_own_magics_only() {
    let (chunk, wide) = (structured(1, 0, &[]), extended(1, 0, 0, &[]));
    let found = |bytes: &[u8]| BadReplyMagic { found: u32::from_be_bytes(*bytes.first_chunk().unwrap()) };
    assert_eq!(ReplyHeader::parse(Headers::Simple, &chunk), Err(found(&chunk)));
    assert_eq!(ReplyHeader::parse(Headers::Structured, &wide), Err(found(&wide)));
    assert_eq!(ReplyHeader::parse(Headers::Extended, &chunk), Err(found(&chunk)));
    let mut simple = Vec::new();
    SimpleReply { cookie: 1, error: None }.encode(&mut simple);
    assert!(matches!(ReplyHeader::parse(Headers::Structured, &simple), Ok(Some((_, 16)))));
    assert_eq!(ReplyHeader::parse(Headers::Extended, &simple), Err(found(&simple)));
}

const EXTENDED_WRITE: [u8; 32] = [
    0x21, 0xe4, 0x1c, 0x71, // magic
    0, 0x21, // FUA, PAYLOAD_LEN
    0, 1, // write
    0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 7, // cookie
    0, 0, 0, 0, 0, 0, 0x10, 0, // offset
    0, 0, 0, 0, 0, 0, 2, 0, // length
];

#[test]
fn an_extended_write_is_read_as_written_down() {
    let request = ExtendedRequest {
        command: Command::Write,
        flags: CommandFlags::FUA | CommandFlags::PAYLOAD_LEN,
        cookie: u64::from_be_bytes(COOKIE),
        offset: 4096,
        length: 512,
    };
    assert_eq!(ExtendedRequest::parse(&EXTENDED_WRITE), Ok(Some(request)));
    assert_eq!(request.payload_length(), 512);
    for cut in 0..EXTENDED_WRITE.len() {
        assert_eq!(ExtendedRequest::parse(&EXTENDED_WRITE[..cut]), Ok(None), "cut at {cut}");
    }
    assert_eq!(ExtendedRequest::parse(&[0; 32]), Err(BadRequestMagic { found: 0 }));
}

/// A payload belongs to a write always, to block status perhaps, and to nothing else.
#[test]
fn payloads_and_flags_of_extended_requests() {
    let check =
        |command, flags| ExtendedRequest { command, flags, cookie: 0, offset: 0, length: 1 }.check().is_ok();
    let payload = CommandFlags::PAYLOAD_LEN;
    assert!(check(Command::Write, payload) && check(Command::Write, CommandFlags::NONE));
    let (command, flags) = (Command::Write, CommandFlags::NONE);
    let bare = ExtendedRequest { command, flags, cookie: 0, offset: 0, length: 9 };
    assert_eq!(bare.payload_length(), 9, "as QEMU sends it");
    assert!(check(Command::BlockStatus, CommandFlags::REQ_ONE));
    assert!(check(Command::BlockStatus, payload | CommandFlags::REQ_ONE));
    assert!(check(Command::Read, CommandFlags::DF) && !check(Command::Write, payload | CommandFlags::DF));
    for command in [Command::Read, Command::Flush, Command::Trim, Command::WriteZeroes, Command::Other(99)] {
        assert!(!check(command, payload), "{command:?}");
    }
}

fn any_headers() -> impl Strategy<Value = Headers> {
    prop::sample::select(&CHUNKED[..])
}

proptest! {
    /// For all extended requests and status queries: what is encoded is what is parsed.
    #[test]
    fn extended_requests_make_the_round_trip(
        flags: u16, command: u16, cookie: u64, offset: u64, length: u64,
        contexts in prop::collection::vec(any::<u32>(), 0..5), tail in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let command = Command::from_value(command);
        let request = ExtendedRequest { command, flags: CommandFlags(flags), cookie, offset, length };
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        prop_assert_eq!(bytes.len(), ExtendedRequest::SIZE);
        bytes.extend(&tail);
        prop_assert_eq!(ExtendedRequest::parse(&bytes), Ok(Some(request)));
        let query = StatusQuery { length, contexts };
        let mut bytes = Vec::new();
        query.encode(&mut bytes);
        prop_assert_eq!(StatusQuery::parse(&bytes), Some(query));
        bytes.extend(&tail);
        prop_assert_eq!(StatusQuery::parse(&bytes).is_some(), tail.is_empty());
    }

    /// For all chunk headers: what is encoded is what is parsed.
    #[test]
    fn chunk_headers_make_the_round_trip(
        headers in any_headers(), done: bool, chunk_type: u16, cookie: u64, offset: u64, length: u32,
    ) {
        let offset = if headers == Headers::Extended { offset } else { 0 };
        let chunk_type = ChunkType::from_value(chunk_type);
        let header = ChunkHeader { done, chunk_type, cookie, offset, length: u64::from(length) };
        let mut bytes = Vec::new();
        header.encode(headers, &mut bytes);
        prop_assert_eq!(bytes.len(), ChunkHeader::size(headers));
        let parsed = ReplyHeader::parse(headers, &bytes);
        prop_assert_eq!(parsed, Ok(Some((ReplyHeader::Chunk(header), bytes.len()))));
    }

    /// For all runs of data and holes: the chunks cover the read in order, without overlap, and say what was put in;
    /// the last is the only one that is done.
    #[test]
    fn reads_make_the_round_trip(
        headers in any_headers(), fragment: bool, offset in 0u64..1 << 60,
        pieces in prop::collection::vec((any::<bool>(), 1usize..70), 0..12),
    ) {
        let mut output = Vec::new();
        let mut expected = Vec::new();
        let mut read = answer(headers, offset).read(fragment, &mut output);
        for (index, (data, len)) in pieces.iter().enumerate() {
            if *data {
                let bytes = vec![u8::try_from(index).unwrap() + 1; *len];
                read.data(&bytes);
                expected.extend(bytes);
            } else {
                read.hole(u64::try_from(*len).unwrap());
                expected.resize(expected.len() + len, 0);
            }
        }
        read.finish();
        let told = replies(headers, &output);
        prop_assert!(fragment || told.len() == 1);
        let mut seen = Vec::new();
        for (index, (header, payload)) in told.iter().enumerate() {
            let ReplyHeader::Chunk(chunk) = header else { panic!("{header:?}") };
            prop_assert_eq!(chunk.done, index + 1 == told.len());
            let at = offset + u64::try_from(seen.len()).unwrap();
            match chunk.content(payload).unwrap() {
                Content::Data { offset, data } => {
                    prop_assert_eq!(offset, at);
                    seen.extend(data);
                }
                Content::Hole { offset, length } => {
                    prop_assert_eq!(offset, at);
                    seen.resize(seen.len() + usize::try_from(length).unwrap(), 0);
                }
                other => prop_assert!(matches!(other, Content::None) && pieces.is_empty()),
            }
        }
        prop_assert_eq!(seen, expected);
    }

    /// For all bytes: parsing does not panic.
    #[test]
    fn arbitrary_bytes_never_panic(
        headers in prop::sample::select(vec![Headers::Simple, Headers::Structured, Headers::Extended]),
        mut bytes in prop::collection::vec(any::<u8>(), 0..64), magic in 0usize..4,
        chunk_type in prop_oneof![0u16..9, 0x8000u16..0x8005, any::<u16>()],
    ) {
        let magics: [&[u8]; 3] = [&[0x66, 0x8e, 0x33, 0xef], &[0x6e, 0x8a, 0x27, 0x8c], &EXTENDED_WRITE[..4]];
        if let (Some(magic), Some(front)) = (magics.get(magic), bytes.get_mut(..4)) {
            front.copy_from_slice(magic);
        }
        let _reply = ReplyHeader::parse(headers, &bytes);
        let _request = ExtendedRequest::parse(&bytes);
        let _query = StatusQuery::parse(&bytes);
        let chunk_type = ChunkType::from_value(chunk_type);
        let header = ChunkHeader { done: true, chunk_type, cookie: 0, offset: 0, length: 0 };
        let _content = header.content(&bytes);
    }
}
