//! Both halves of the handshake: the same from bytes in pieces as from all at once, and what another reading of the
//! same bytes has come to.

use nbd_wire::{
    BlockSizes, ClientHandshake, ClientHandshakeError, ClientOutcome, ExportInfo, Exports, Found,
    MAX_OPTION_LENGTH, Outcome, ServerHandshake, ServerHandshakeError, TransmissionFlags,
};

use crate::input::{Input, pieces};
use crate::options::{
    CONTEXTS, GREETING, INFO, OPT_EXPORT_NAME, OPT_GO, REP_ACK, REP_ERROR, REP_INFO, REP_META_CONTEXT, Told,
    Two, context_request, info_request, options, put_option, put_reply, told,
};

/// What came of an input: the answers, how it ended, and how much of it was used where it did not fail.
#[derive(Debug, PartialEq)]
struct Run<T, E> {
    output: Vec<u8>,
    result: Result<(T, usize), E>,
}

type Served = Run<Outcome<u8>, ServerHandshakeError>;
type Asked = Run<ClientOutcome, ClientHandshakeError>;

/// Feeds pieces as a connection does: what was not used is there again with the next one.
fn feed<T, E>(
    pieces: &[&[u8]],
    goes_on: impl Fn(&T) -> bool,
    mut receive: impl FnMut(&[u8], &mut Vec<u8>) -> Result<(usize, T), E>,
) -> Run<T, E> {
    let (mut output, mut waiting, mut used) = (Vec::new(), Vec::new(), 0);
    for (index, piece) in pieces.iter().enumerate() {
        waiting.extend_from_slice(piece);
        match receive(&waiting, &mut output) {
            Err(error) => return Run { output, result: Err(error) },
            Ok((count, outcome)) => {
                used += count;
                if !goes_on(&outcome) || index + 1 == pieces.len() {
                    return Run { output, result: Ok((outcome, used)) };
                }
                waiting.drain(..count);
            }
        }
    }
    unreachable!("there is always a last piece")
}

fn serve(pieces: &[&[u8]]) -> Served {
    let mut handshake = ServerHandshake::new();
    feed(
        pieces,
        |outcome| *outcome == Outcome::More,
        |input, output| {
            let step = handshake.receive(input, &Two, output);
            if let Ok((used, Outcome::More)) = step {
                // The buffer that a server needs is bounded.
                assert!(input.len() - used < 16 + usize::try_from(MAX_OPTION_LENGTH).unwrap());
            }
            step
        },
    )
}

fn ask(name: &str, pieces: &[&[u8]]) -> Option<Asked> {
    let mut handshake = ClientHandshake::new(name).ok()?;
    Some(feed(
        pieces,
        |outcome| *outcome == ClientOutcome::More,
        |input, output| handshake.receive(input, output),
    ))
}

/// The server's half, fed anything.
pub fn server_handshake(data: &[u8]) {
    let mut input = Input::new(data);
    let cuts = input.cuts();
    served(input.rest(), &cuts);
}

/// The server's half, fed whole options of any payload.
pub fn server_options(data: &[u8]) {
    let mut input = Input::new(data);
    let cuts = input.cuts();
    let mut stream = vec![0, 0, 0, input.u8() & 3];
    while !input.is_empty() {
        let number = u32::from(input.u8() % 14);
        let payload = match input.u8() % 4 {
            0 => input.take(0),
            1 => {
                let count = usize::from(input.u16());
                input.take(count)
            }
            _ => {
                let count = usize::from(input.u8());
                input.take(count)
            }
        };
        put_option(&mut stream, number, payload);
    }
    served(&stream, &cuts);
}

fn served(stream: &[u8], cuts: &[usize]) {
    let whole = serve(&[stream]);
    assert_eq!(serve(&pieces(stream, cuts)), whole, "cut at {cuts:?}");
    let (told, behind) = told(&whole.output);
    let asked = match &whole.result {
        Ok((_, used)) => options(&stream[..*used]),
        Err(_) => options(stream),
    };
    let mut old_way = false;
    if let Ok((outcome, used)) = &whole.result {
        match outcome {
            Outcome::More => assert!(options(stream).len() == asked.len() && *used <= stream.len()),
            Outcome::StartTls => panic!("TLS where there is none"),
            Outcome::Aborted => assert_eq!(asked.last().map(|(number, _)| *number), Some(2)),
            Outcome::Transmission(found, terms) => {
                let (number, _) = asked.last().unwrap();
                old_way = *number == OPT_EXPORT_NAME;
                assert!(old_way || *number == OPT_GO);
                assert!(terms.contexts.is_sorted() && terms.contexts.len() <= CONTEXTS.len());
                assert!(found.info.flags.contains(INFO.flags));
            }
        }
    }
    // Without NBD_FLAG_C_NO_ZEROES, 124 zeroes follow size and flags.
    let behind_wanted: &[usize] = if old_way { &[10, 134] } else { &[0] };
    assert!(behind_wanted.contains(&behind.len()), "{} bytes are no reply", behind.len());
    // Every option that is not the old way in gets one last reply, in order.
    let finals: Vec<u32> = told.iter().filter(|told| told.is_final()).map(|told| told.option).collect();
    let due: Vec<u32> =
        asked.iter().map(|(number, _)| *number).take(asked.len() - usize::from(old_way)).collect();
    match whole.result {
        Ok(_) => assert_eq!(finals, due),
        Err(_) => assert!(due.starts_with(&finals), "{finals:?} of {due:?}"),
    }
    each_option(&asked, &told);
}

/// For all options: the reply is the one that another parser expects.
fn each_option(asked: &[(u32, &[u8])], told: &[Told<'_>]) {
    let mut told = told.split_inclusive(Told::is_final);
    let mut chunks = false;
    for ((number, payload), replies) in asked.iter().zip(&mut told) {
        let (last, before) = replies.split_last().unwrap();
        assert!(replies.iter().all(|reply| reply.option == *number));
        let accepted = last.kind == REP_ACK;
        assert!(accepted || before.is_empty(), "an error after other replies");
        if payload.len() > usize::try_from(MAX_OPTION_LENGTH).unwrap() {
            assert!(!accepted);
            continue;
        }
        match number {
            2 => assert!(accepted),
            3 | 8 => assert!(!accepted || payload.is_empty()),
            11 => assert_eq!(accepted, payload.is_empty()),
            6 | 7 => {
                let request = info_request(payload).filter(|(name, _)| Two.find(name).is_some());
                assert_eq!(accepted, request.is_some());
                let kinds =
                    before.iter().map(|reply| u16::from_be_bytes(*reply.payload.first_chunk().unwrap()));
                let wants = |kind: u16| request.as_ref().is_some_and(|(_, wanted)| wanted.contains(&kind));
                let due = [0, 1, 3].into_iter().filter(|kind| accepted && (*kind == 0 || wants(*kind)));
                assert!(kinds.eq(due) && before.iter().all(|reply| reply.kind == REP_INFO));
            }
            9 | 10 => {
                let request = context_request(payload).filter(|(name, _)| chunks && Two.find(name).is_some());
                assert_eq!(accepted, request.is_some());
                let queries = request.map(|(_, queries)| queries).unwrap_or_default();
                let names: Vec<&str> =
                    before.iter().map(|reply| str::from_utf8(&reply.payload[4..]).unwrap()).collect();
                let due = CONTEXTS.into_iter().filter(|context| {
                    let namespace = *number == 9
                        && queries.iter().any(|query| {
                            query.ends_with(':')
                                && context.starts_with(query)
                                && query.matches(':').count() == 1
                        });
                    let all = *number == 9 && queries.is_empty();
                    accepted && (all || namespace || queries.iter().any(|query| query == context))
                });
                assert!(due.eq(names) && before.iter().all(|reply| reply.kind == REP_META_CONTEXT));
            }
            _ => assert!(!accepted),
        }
        chunks |= accepted && matches!(number, 8 | 11);
    }
}

/// Has any export there may be a name for.
pub(crate) struct All;

impl Exports for All {
    type Export = u8;

    fn find(&self, name: &str) -> Option<Found<u8>> {
        Some(Found { export: 0, name: name.to_owned(), info: INFO })
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The client's half, fed anything.
pub fn client_handshake(data: &[u8]) {
    let mut input = Input::new(data);
    let cuts = input.cuts();
    let count = usize::from(input.u8() % 32);
    let name = String::from_utf8_lossy(input.take(count)).into_owned();
    asked(&name, input.rest(), &cuts);
}

/// The client's half, fed whole replies of any payload after the right greeting.
pub fn client_replies(data: &[u8]) {
    let mut input = Input::new(data);
    let cuts = input.cuts();
    let mut stream = GREETING.to_vec();
    while !input.is_empty() {
        let kind = match input.u8() % 8 {
            0 => REP_ACK,
            1 => input.u32(),
            2 => REP_ERROR | u32::from(input.u8()),
            _ => REP_INFO,
        };
        let option = if input.u8() == 0xff { input.u32() } else { OPT_GO };
        let count = usize::from(input.u8());
        put_reply(&mut stream, Told { option, kind, payload: input.take(count) });
    }
    let Some(whole) = asked("disk", &stream, &cuts) else {
        return;
    };
    let (replies, _) = told(&stream[GREETING.len()..]);
    if let Ok((ClientOutcome::Transmission(negotiated), used)) = whole.result {
        let until = replies.iter().position(|reply| reply.kind == REP_ACK).unwrap();
        let lengths = replies[..=until].iter().map(|reply| 20 + reply.payload.len());
        assert_eq!(used, GREETING.len() + lengths.sum::<usize>());
        assert_eq!(Some(negotiated.info), told_info(&replies[..until]));
    }
}

/// What replies tell of an export, the last word of each kind.
fn told_info(replies: &[Told<'_>]) -> Option<ExportInfo> {
    let last = |kind: u16| {
        let mut payloads = replies.iter().rev().map(|reply| reply.payload);
        payloads
            .find(|payload| payload.starts_with(&kind.to_be_bytes()))
            .map(|payload| Input::new(&payload[2..]))
    };
    let mut export = last(0)?;
    let (size, flags) = (export.u64(), TransmissionFlags(export.u16()));
    let block_sizes = last(3).map(|mut sizes| BlockSizes {
        minimum: sizes.u32(),
        preferred: sizes.u32(),
        maximum: sizes.u32(),
    });
    Some(ExportInfo { size, flags, block_sizes })
}

fn asked(name: &str, stream: &[u8], cuts: &[usize]) -> Option<Asked> {
    let whole = ask(name, &[stream])?;
    assert_eq!(ask(name, &pieces(stream, cuts)).as_ref(), Some(&whole), "cut at {cuts:?}");
    // Whatever a server says, a client's half of the conversation is one that a server understands.
    if !whole.output.is_empty() {
        let served = ServerHandshake::new().receive(&whole.output, &All, &mut Vec::new());
        let Ok((_, Outcome::Transmission(found, _))) = served else {
            panic!("a server makes {served:?} of the client");
        };
        assert_eq!(found.name, name);
    }
    Some(whole)
}
