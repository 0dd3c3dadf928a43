//! Option haggling read a second time, by other code than brim's.

use nbd_wire::{BlockSizes, ExportInfo, Exports, Found, TransmissionFlags};

const REPLY_MAGIC: [u8; 8] = [0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9];

pub(crate) const OPT_EXPORT_NAME: u32 = 1;
pub(crate) const OPT_GO: u32 = 7;
pub(crate) const REP_ACK: u32 = 1;
pub(crate) const REP_INFO: u32 = 3;
pub(crate) const REP_META_CONTEXT: u32 = 4;
pub(crate) const REP_ERROR: u32 = 1 << 31;

pub(crate) const CONTEXTS: [&str; 3] = ["base:allocation", "x-test:a", "x-test:b"];

pub(crate) const INFO: ExportInfo = ExportInfo {
    size: 0x0102_0304_0506_0708,
    flags: TransmissionFlags(0x016d),
    block_sizes: Some(BlockSizes { minimum: 1, preferred: 4096, maximum: 32 << 20 }),
};

/// Two exports, of which `disk` is the default.
pub(crate) struct Two;

impl Exports for Two {
    type Export = u8;

    fn find(&self, name: &str) -> Option<Found<u8>> {
        let (name, export) = match name {
            "" | "disk" => ("disk", 1),
            "twö" => ("twö", 2),
            _ => return None,
        };
        Some(Found { export, name: name.to_owned(), info: INFO })
    }

    fn names(&self) -> Vec<String> {
        vec!["disk".to_owned(), "twö".to_owned()]
    }

    fn contexts(&self) -> &[&str] {
        &CONTEXTS
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

/// An option with its payload, and its length on the wire.
fn option(bytes: &[u8]) -> Option<(u32, &[u8], usize)> {
    let (number, length) = (word(bytes, 8)?, usize::try_from(word(bytes, 12)?).ok()?);
    Some((number, bytes.get(16..)?.get(..length)?, 16 + length))
}

/// The whole options behind a client's flags.
pub(crate) fn options(input: &[u8]) -> Vec<(u32, &[u8])> {
    let (mut rest, mut options) = (input.get(4..).unwrap_or_default(), Vec::new());
    while let Some((number, payload, length)) = option(rest) {
        options.push((number, payload));
        rest = &rest[length..];
    }
    options
}

/// One reply to an option.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    pub(crate) option: u32,
    pub(crate) kind: u32,
    pub(crate) payload: &'a [u8],
}

impl Told<'_> {
    /// Whether it is the last to its option.
    pub(crate) const fn is_final(&self) -> bool {
        self.kind == REP_ACK || self.kind & REP_ERROR != 0
    }
}

/// Whole option replies, and what is behind them.
pub(crate) fn told(mut output: &[u8]) -> (Vec<Told<'_>>, &[u8]) {
    let mut told = Vec::new();
    while output.starts_with(&REPLY_MAGIC) {
        let (Some(option), Some(kind), Some(length)) = (word(output, 8), word(output, 12), word(output, 16))
        else {
            break;
        };
        let Some(payload) = output[20..].get(..usize::try_from(length).unwrap()) else {
            break;
        };
        told.push(Told { option, kind, payload });
        output = &output[20 + payload.len()..];
    }
    (told, output)
}

/// A string with its length before it.
fn string(rest: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(word(rest, 0)?).ok()?;
    let text = rest.get(4..)?.get(..length)?;
    *rest = &rest[4 + length..];
    let name = String::from_utf8(text.to_vec()).ok()?;
    (length <= 4096 && !name.contains('\0')).then_some(name)
}

/// What `NBD_OPT_GO` and `NBD_OPT_INFO` ask for.
pub(crate) fn info_request(mut payload: &[u8]) -> Option<(String, Vec<u16>)> {
    let name = string(&mut payload)?;
    let wanted: Vec<u16> = payload
        .get(2..)?
        .chunks(2)
        .map(|kind| kind.iter().fold(0, |sum, byte| sum << 8 | u16::from(*byte)))
        .collect();
    let count = usize::from(u16::from_be_bytes(*payload.first_chunk()?));
    (payload.len() == 2 + 2 * count).then_some((name, wanted))
}

/// What `NBD_OPT_SET_META_CONTEXT` and `NBD_OPT_LIST_META_CONTEXT` ask for.
pub(crate) fn context_request(mut payload: &[u8]) -> Option<(String, Vec<String>)> {
    let name = string(&mut payload)?;
    let count = word(payload, 0)?;
    payload = &payload[4..];
    let mut queries = Vec::new();
    for _ in 0..count {
        queries.push(string(&mut payload).filter(|query| query.contains(':'))?);
    }
    payload.is_empty().then_some((name, queries))
}

/// An option as a client sends it.
pub(crate) fn put_option(stream: &mut Vec<u8>, number: u32, payload: &[u8]) {
    stream.extend_from_slice(b"IHAVEOPT");
    stream.extend(number.to_be_bytes());
    stream.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    stream.extend_from_slice(payload);
}

/// An option reply as a server sends it.
pub(crate) fn put_reply(stream: &mut Vec<u8>, told: Told<'_>) {
    stream.extend(REPLY_MAGIC);
    stream.extend(told.option.to_be_bytes());
    stream.extend(told.kind.to_be_bytes());
    stream.extend(u32::try_from(told.payload.len()).unwrap().to_be_bytes());
    stream.extend_from_slice(told.payload);
}

/// What a server says first.
pub(crate) const GREETING: &[u8; 18] = b"NBDMAGICIHAVEOPT\0\x03";
