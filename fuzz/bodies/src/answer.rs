//! Replies as a server writes them are what a client reads.

use nbd_wire::{Answer, ChunkHeader, Content, ErrorCode, Extent, Headers, ReplyHeader};

use crate::input::Input;

/// No more bytes than this are put into one answer where holes are written out.
const DATA_MAX: usize = 1 << 16;

/// An answer of any kind, taken apart again.
pub fn answer(data: &[u8]) {
    let mut input = Input::new(data);
    let headers = [Headers::Simple, Headers::Structured, Headers::Extended][usize::from(input.u8() % 3)];
    // A read stays below 2^63, as every disk does.
    let answer = Answer { headers, cookie: input.u64(), offset: input.u64() >> 2 };
    // Other replies may be there already.
    let before = input.take(3);
    let mut output = before.to_vec();
    let put: fn(Answer, &mut Input<'_>, &mut Vec<u8>) -> Vec<u8> = match input.u8() % 4 {
        0 => done,
        1 => error,
        2 => read,
        _ => status,
    };
    let data = put(answer, &mut input, &mut output);
    let rest = output.strip_prefix(before).unwrap();
    let (left, chunks) = replies(answer, rest);
    assert_eq!(left, data, "what is behind a simple reply");
    assert!(headers != Headers::Extended || chunks > 0);
}

/// Takes whole chunks off, checks what all have in common, and answers with what follows a simple reply, and the number
/// of chunks.
fn replies(answer: Answer, mut rest: &[u8]) -> (&[u8], usize) {
    let mut chunks = 0;
    loop {
        match ReplyHeader::parse(answer.headers, rest).unwrap().unwrap() {
            (ReplyHeader::Simple(simple), size) => {
                assert_eq!((simple.cookie, chunks), (answer.cookie, 0));
                return (&rest[size..], 0);
            }
            (ReplyHeader::Chunk(chunk), size) => {
                chunks += 1;
                let offset = if answer.headers == Headers::Extended { answer.offset } else { 0 };
                assert_eq!((chunk.cookie, chunk.offset), (answer.cookie, offset));
                rest = &rest[size + usize::try_from(chunk.length).unwrap()..];
                if chunk.done || rest.is_empty() {
                    return (rest, chunks);
                }
            }
        }
    }
}

/// The chunks of a reply, of which only the last is marked as such.
fn chunks(headers: Headers, mut rest: &[u8]) -> Vec<(ChunkHeader, &[u8])> {
    let mut chunks: Vec<(ChunkHeader, &[u8])> = Vec::new();
    while let Some((ReplyHeader::Chunk(chunk), size)) = ReplyHeader::parse(headers, rest).unwrap() {
        let (payload, behind) = rest[size..].split_at(usize::try_from(chunk.length).unwrap());
        assert!(chunks.last().is_none_or(|(last, _)| !last.done));
        chunks.push((chunk, payload));
        rest = behind;
    }
    assert!(rest.is_empty());
    chunks
}

fn done(answer: Answer, _: &mut Input<'_>, output: &mut Vec<u8>) -> Vec<u8> {
    answer.done(output);
    Vec::new()
}

fn error(answer: Answer, input: &mut Input<'_>, output: &mut Vec<u8>) -> Vec<u8> {
    let code = ErrorCode::ALL[usize::from(input.u8()) % ErrorCode::ALL.len()];
    let at = input.bool().then(|| input.u64());
    let text = String::from_utf8_lossy(input.rest());
    let message = &text[..boundary(&text, 4096)];
    let start = output.len();
    answer.error(code, message, at, output);
    if answer.headers != Headers::Simple {
        let chunks = chunks(answer.headers, &output[start..]);
        let [(chunk, payload)] = chunks.as_slice() else { panic!("{chunks:?}") };
        assert_eq!(chunk.content(payload), Some(Content::Error { error: code, message, offset: at }));
        assert!(chunk.done);
    }
    Vec::new()
}

/// The last boundary between characters that is not behind `most`.
fn boundary(text: &str, most: usize) -> usize {
    (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn read(answer: Answer, input: &mut Input<'_>, output: &mut Vec<u8>) -> Vec<u8> {
    let fragment = input.bool();
    let start = output.len();
    let mut reply = answer.read(fragment, output);
    // Runs of bytes: their value and length.
    let mut wanted: Vec<(u8, u64)> = Vec::new();
    let mut total = 0;
    while !input.is_empty() && total < DATA_MAX {
        if input.bool() {
            let (value, length) = (input.u8(), 1 + usize::from(input.u16() % 9000));
            reply.data(&vec![value; length]);
            wanted.push((value, u64::try_from(length).unwrap()));
            total += length;
        } else {
            let written_out = answer.headers == Headers::Simple || !fragment;
            let length =
                1 + if written_out { u64::from(input.u16() % 9000) } else { u64::from(input.u32() >> 1) };
            reply.hole(length);
            wanted.push((0, length));
            total += if written_out { usize::try_from(length).unwrap() } else { 1 };
        }
    }
    reply.finish();
    if answer.headers == Headers::Simple {
        return wanted
            .iter()
            .flat_map(|(value, length)| vec![*value; usize::try_from(*length).unwrap()])
            .collect();
    }
    let chunks = chunks(answer.headers, &output[start..]);
    assert!(fragment || chunks.len() == 1, "{} chunks for one", chunks.len());
    assert!(chunks.last().unwrap().0.done);
    let (mut at, mut told) = (answer.offset, Vec::new());
    for (chunk, payload) in chunks {
        let length = match chunk.content(payload).unwrap() {
            Content::None => 0,
            Content::Data { offset, data } => {
                assert_eq!(offset, at);
                let runs = data.chunk_by(|a, b| a == b);
                told.extend(runs.map(|run| (run[0], u64::try_from(run.len()).unwrap())));
                u64::try_from(data.len()).unwrap()
            }
            Content::Hole { offset, length } => {
                assert_eq!(offset, at);
                told.push((0, u64::from(length)));
                u64::from(length)
            }
            other => panic!("{other:?}"),
        };
        at += length;
    }
    assert_eq!(joined(&told), joined(&wanted));
    Vec::new()
}

/// Neighbours with the same value as one.
fn joined<V: Copy + PartialEq>(runs: &[(V, u64)]) -> Vec<(V, u64)> {
    let same = runs.chunk_by(|a, b| a.0 == b.0);
    same.map(|run| (run[0].0, run.iter().map(|(_, length)| length).sum())).collect()
}

fn status(answer: Answer, input: &mut Input<'_>, output: &mut Vec<u8>) -> Vec<u8> {
    if answer.headers == Headers::Simple {
        return done(answer, input, output);
    }
    let (context, last, start) = (input.u32(), input.bool(), output.len());
    let mut reply = answer.status(context, output);
    let mut wanted = Vec::new();
    // What a compact request can ask for has 32 bits in all.
    let mut left = if answer.headers == Headers::Extended { 1 << 62 } else { u64::from(u32::MAX) };
    while !input.is_empty() && left > 0 {
        let (length, flags) = (1 + input.u64() % left, input.u32() >> (input.u8() % 32));
        assert_eq!(reply.is_new(flags), wanted.last().is_none_or(|(same, _)| *same != flags));
        reply.extent(length, flags);
        wanted.push((flags, length));
        left -= length;
        assert_eq!(reply.count(), u32::try_from(joined(&wanted).len()).unwrap());
    }
    reply.finish(last);
    let chunks = chunks(answer.headers, &output[start..]);
    let [(chunk, payload)] = chunks.as_slice() else { panic!("{chunks:?}") };
    assert_eq!(chunk.done, last);
    let extents: Vec<Extent> = joined(&wanted)
        .into_iter()
        .map(|(flags, length)| Extent { length, flags: u64::from(flags) })
        .collect();
    let told = (!extents.is_empty()).then_some(Content::Status { context, extents });
    assert_eq!(chunk.content(payload), told);
    Vec::new()
}
