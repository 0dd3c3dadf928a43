//! Haggling for metadata contexts, against bytes written down from proto.md, with input cut at every place.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

use nbd_wire::{ExportInfo, Exports, Found, Outcome, ServerHandshake, Terms, TransmissionFlags};
use proptest::prelude::*;

/// Two exports, of which `disk` is the default.
struct Two;

impl Exports for Two {
    type Export = ();

    fn find(&self, name: &str) -> Option<Found<()>> {
        let name = if name.is_empty() { "disk" } else { name };
        let info = ExportInfo { size: 512, flags: TransmissionFlags::HAS_FLAGS, block_sizes: None };
        let found = Found { export: (), name: name.to_owned(), info };
        ["disk", "other"].contains(&name).then_some(found)
    }

    fn names(&self) -> Vec<String> {
        vec!["disk".to_owned(), "other".to_owned()]
    }

    fn contexts(&self) -> &[&str] {
        &["base:allocation", "x-test:a", "x-test:b"]
    }
}

const LIST: u32 = 9;
const SET: u32 = 10;
const ERR_INVALID: u32 = 0x8000_0003;
const ERR_UNKNOWN: u32 = 0x8000_0006;

fn option(number: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [&b"IHAVEOPT"[..], &number.to_be_bytes(), &length.to_be_bytes(), payload].concat()
}

fn reply(option: u32, kind: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let header = [0x0003_e889_0455_65a9_u64.to_be_bytes().as_slice(), &option.to_be_bytes()].concat();
    [&header[..], &kind.to_be_bytes(), &length.to_be_bytes(), payload].concat()
}

fn string(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

/// The payload of either option (proto.md, "`NBD_OPT_LIST_META_CONTEXT`").
fn query(export: &str, queries: &[&str]) -> Vec<u8> {
    let count = u32::try_from(queries.len()).unwrap().to_be_bytes().to_vec();
    [string(export), count, queries.iter().flat_map(|query| string(query)).collect()].concat()
}

fn context(option: u32, id: u32, name: &str) -> Vec<u8> {
    reply(option, 4, &[&id.to_be_bytes(), name.as_bytes()].concat())
}

/// Feeds options in two pieces, and answers what was said and what came of it.
fn serve_cut(options: &[u8], cut: usize) -> (Vec<u8>, Option<Terms>) {
    let input = [&[0, 0, 0, 3], options].concat();
    let (mut handshake, mut output, mut used) = (ServerHandshake::new(), Vec::new(), 0);
    for end in [cut, input.len()] {
        match handshake.receive(&input[used..end], &Two, &mut output) {
            Ok((_, Outcome::Transmission(_, terms))) => return (output, Some(terms)),
            Ok((count, _)) => used += count,
            Err(_) => return (output, None),
        }
    }
    (output, None)
}

fn serve(options: &[Vec<u8>]) -> (Vec<u8>, Option<Terms>) {
    let options = options.concat();
    let whole = serve_cut(&options, options.len() + 4);
    for cut in 0..options.len() + 4 {
        assert_eq!(serve_cut(&options, cut), whole, "cut at {cut}");
    }
    whole
}

fn structured() -> Vec<u8> {
    option(8, b"")
}

fn go(export: &str) -> Vec<u8> {
    option(7, &[&string(export)[..], &[0, 0]].concat())
}

#[test]
fn lists_answer_to_nothing_names_and_namespaces() {
    let all = ["base:allocation", "x-test:a", "x-test:b"];
    for (queries, expected) in [
        (&[][..], &all[..]),
        (&["base:"], &all[..1]),
        (&["x-test:"], &all[1..]),
        (&["x-test:b", "base:"], &["base:allocation", "x-test:b"]),
        (&["base:other", "qemu:", "x-test:a:"], &[]),
    ] {
        let (output, _) = serve(&[structured(), option(LIST, &query("", queries))]);
        let told = expected.iter().flat_map(|name| context(LIST, 0, name)).collect();
        assert_eq!(output, [reply(8, 1, b""), told, reply(LIST, 1, b"")].concat(), "{queries:?}");
    }
}

#[test]
fn what_is_set_are_terms_of_that_export() {
    let set = |export: &str, queries: &[&str]| option(SET, &query(export, queries));
    let contexts =
        |options: &[Vec<u8>]| serve(&[vec![structured()], options.to_vec()].concat()).1.unwrap().contexts;
    let (output, _) =
        serve(&[structured(), set("disk", &["x-test:b", "base:", "x-test:", "base:allocation"])]);
    let told = [context(SET, 0, "base:allocation"), context(SET, 2, "x-test:b"), reply(SET, 1, b"")];
    assert_eq!(output, [reply(8, 1, b""), told.concat()].concat());
    assert_eq!(contexts(&[set("disk", &["x-test:b"]), go("disk")]), [2]);
    assert_eq!(contexts(&[set("", &["x-test:b"]), go("disk")]), [2], "the default by either name");
    assert_eq!(contexts(&[set("other", &["x-test:b"]), go("disk")]), []);
    assert_eq!(contexts(&[set("disk", &["x-test:b"]), set("disk", &[]), go("disk")]), []);
    // "Issuing this command replaces all previously-set metadata contexts (including when this command fails)."
    assert_eq!(contexts(&[set("disk", &["x-test:b"]), option(SET, b"x"), go("disk")]), []);
    let too_big = option(SET, &[0; 9000]);
    assert_eq!(contexts(&[set("disk", &["x-test:b"]), too_big, go("disk")]), []);
}

#[test]
fn what_is_malformed_unknown_or_out_of_turn_is_refused() {
    let refused = |number, payload: &[u8], error| {
        let (output, _) = serve(&[structured(), option(number, payload)]);
        assert_eq!(output, [reply(8, 1, b""), reply(number, error, b"")].concat(), "{payload:?}");
    };
    for number in [LIST, SET] {
        refused(number, b"", ERR_INVALID);
        refused(number, b"\0\0\0\0\0\0\0", ERR_INVALID);
        refused(number, b"\0\0\0\0\0\0\0\x01\0\0\0\x02a", ERR_INVALID);
        refused(number, b"\0\0\0\0\xff\xff\xff\xff", ERR_INVALID);
        refused(number, &query("", &["no namespace"]), ERR_INVALID);
        refused(number, &[&query("", &["base:"])[..], b"x"].concat(), ERR_INVALID);
        refused(number, &query("none", &["base:allocation"]), ERR_UNKNOWN);
        let (output, _) = serve(&[option(number, &query("", &["base:allocation"]))]);
        assert_eq!(output, reply(number, ERR_INVALID, b""), "before structured replies");
    }
}

proptest! {
    /// For all payloads: the server does not panic, and goes on haggling.
    #[test]
    fn arbitrary_payloads_are_answered(
        number in LIST..=SET, front in prop::sample::select(vec![0usize, 4, 8]),
        payload in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let payload = [&[0; 8][..front], &payload].concat();
        let (output, terms) = serve_cut(&[structured(), option(number, &payload), go("")].concat(), 0);
        prop_assert!(terms.is_some());
        prop_assert!(output.ends_with(&reply(7, 1, b"")));
    }
}
