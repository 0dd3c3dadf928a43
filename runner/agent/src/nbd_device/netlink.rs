//! Generic netlink: one request to a family of the kernel, and its answer. Numbers and attributes are in the machine's own
//! byte order.

use netlink_packet_core::{
    DecodeError, Emitable, ErrorMessage, NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable, Nla, NlasIterator,
};
use rustix::io::{self, Errno};
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// `struct genlmsghdr`: command, version, two bytes that are zero (include/uapi/linux/genetlink.h).
const HEADER_LEN: usize = 4;
/// The controller, which knows the other families by name (include/uapi/linux/genetlink.h).
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_VERSION: u8 = 2;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// Answers are told from strays by it. Each request has a socket of its own, so one number serves them all.
const SEQUENCE: u32 = 1;
/// Several times what the controller says of any family.
const ANSWER_MAX: usize = 32 << 10;

/// One request or answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Generic {
    pub(super) family: u16,
    pub(super) command: u8,
    pub(super) version: u8,
    pub(super) attributes: Vec<Attribute>,
}

/// A number or text by its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attribute {
    kind: u16,
    value: Vec<u8>,
}

impl Attribute {
    pub(super) fn of_u32(kind: u16, value: u32) -> Self {
        Self { kind, value: value.to_ne_bytes().to_vec() }
    }

    pub(super) fn of_u64(kind: u16, value: u64) -> Self {
        Self { kind, value: value.to_ne_bytes().to_vec() }
    }

    pub(super) fn nested(kind: u16, inner: &[Self]) -> Self {
        let mut value = vec![0; inner.buffer_len()];
        inner.emit(&mut value);
        Self { kind: kind | netlink_packet_core::NLA_F_NESTED, value }
    }

    fn text(kind: u16, text: &str) -> Self {
        Self { kind, value: [text.as_bytes(), &[0]].concat() }
    }
}

impl Nla for Attribute {
    fn value_len(&self) -> usize {
        self.value.len()
    }

    fn kind(&self) -> u16 {
        self.kind
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.value);
    }
}

impl Generic {
    /// The value of the first attribute of a kind, where it has the length of a number.
    fn value<const LEN: usize>(&self, kind: u16) -> Option<[u8; LEN]> {
        let attribute = self.attributes.iter().find(|attribute| attribute.kind == kind)?;
        attribute.value.as_slice().try_into().ok()
    }

    pub(super) fn u32(&self, kind: u16) -> Option<u32> {
        self.value(kind).map(u32::from_ne_bytes)
    }

    /// The bytes of the whole request.
    fn to_bytes(&self) -> Vec<u8> {
        let mut message =
            NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(self.clone()));
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        message.header.sequence_number = SEQUENCE;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }
}

impl NetlinkSerializable for Generic {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        HEADER_LEN + self.attributes.as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (header, attributes) = buffer.split_at_mut(HEADER_LEN);
        header.copy_from_slice(&[self.command, self.version, 0, 0]);
        self.attributes.as_slice().emit(attributes);
    }
}

impl NetlinkDeserializable for Generic {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let Some(([command, version, _, _], attributes)) = payload.split_first_chunk::<HEADER_LEN>() else {
            return Err("shorter than its header".into());
        };
        let attributes = NlasIterator::new(attributes)
            .map(|attribute| attribute.map(|it| Attribute { kind: it.kind(), value: it.value().to_vec() }))
            .collect::<Result<_, _>>()?;
        Ok(Self { family: header.message_type, command: *command, version: *version, attributes })
    }
}

/// The number that the kernel has given the family with this name; `None` where nobody has registered it.
pub(super) fn family(name: &str) -> io::Result<Option<u16>> {
    let attributes = vec![Attribute::text(CTRL_ATTR_FAMILY_NAME, name)];
    let request =
        Generic { family: GENL_ID_CTRL, command: CTRL_CMD_GETFAMILY, version: CTRL_VERSION, attributes };
    match ask(&request) {
        Ok(answer) => {
            let id = answer.and_then(|answer| answer.value(CTRL_ATTR_FAMILY_ID)).map(u16::from_ne_bytes);
            id.map(Some).ok_or(Errno::BADMSG)
        }
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Sends a request, and waits until the kernel has done it. What it says beside "done" is answered.
///
/// # Errors
/// The kernel's own number where it refuses; `BADMSG` where its answer cannot be read.
pub(super) fn ask(request: &Generic) -> io::Result<Option<Generic>> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::GENERIC),
    )?;
    let kernel = SocketAddrNetlink::new(0, 0);
    rustix::net::connect(&socket, &kernel)?;
    rustix::net::send(&socket, &request.to_bytes(), SendFlags::empty())?;
    let mut buffer = vec![0; ANSWER_MAX];
    let mut said = None;
    loop {
        let (_, len) = io::retry_on_intr(|| rustix::net::recv(&socket, &mut *buffer, RecvFlags::TRUNC))?;
        // Longer than the buffer is unreadable, as is empty.
        for word in words(buffer.get(..len).unwrap_or_default())? {
            match word {
                Word::Said(message) => said = Some(message),
                Word::Done => return Ok(said),
                Word::Refused(errno) => return Err(errno),
            }
        }
    }
}

/// What the kernel says to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    /// Something beside "done".
    Said(Generic),
    Done,
    Refused(Errno),
}

/// What one datagram says to our request.
fn words(mut datagram: &[u8]) -> io::Result<Vec<Word>> {
    let mut words = Vec::new();
    if datagram.is_empty() {
        return Err(Errno::BADMSG);
    }
    while !datagram.is_empty() {
        let message = NetlinkMessage::<Generic>::deserialize(datagram).map_err(|_| Errno::BADMSG)?;
        // Messages are padded to multiples of four: include/uapi/linux/netlink.h, `NLMSG_ALIGN`.
        let len = usize::try_from(message.header.length).map_err(|_| Errno::BADMSG)?.next_multiple_of(4);
        datagram = datagram.get(len..).unwrap_or_default();
        if message.header.sequence_number != SEQUENCE {
            continue;
        }
        match message.payload {
            NetlinkPayload::InnerMessage(generic) => words.push(Word::Said(generic)),
            NetlinkPayload::Error(ErrorMessage { code: None, .. }) => words.push(Word::Done),
            NetlinkPayload::Error(ErrorMessage { code: Some(code), .. }) => {
                words.push(Word::Refused(errno(code.get())?));
            }
            _ => {}
        }
    }
    Ok(words)
}

/// The error behind a negative code.
fn errno(code: i32) -> io::Result<Errno> {
    // include/linux/err.h, `MAX_ERRNO`.
    let known = code.checked_neg().filter(|number| (1..=4095).contains(number));
    known.map(Errno::from_raw_os_error).ok_or(Errno::BADMSG)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    /// `struct nlmsghdr` with our sequence.
    fn header(len: u32, family: u16, flags: u16, sequence: u32) -> Vec<u8> {
        let [len, sequence, port] = [len, sequence, 0].map(u32::to_ne_bytes);
        bytes(&[&len, &family.to_ne_bytes(), &flags.to_ne_bytes(), &sequence, &port])
    }

    fn acknowledgement(code: i32, sequence: u32) -> Vec<u8> {
        bytes(&[&header(36, 2, 0x100, sequence), &code.to_ne_bytes(), &header(20, 0x1c, 5, sequence)])
    }

    fn message(kind: u16, value: &[u8]) -> Generic {
        let attributes = vec![Attribute { kind, value: value.to_vec() }];
        Generic { family: 0x1c, command: 1, version: 1, attributes }
    }

    /// The layout of include/uapi/linux/netlink.h and genetlink.h, byte for byte.
    #[test]
    fn a_request_is_laid_out_as_the_kernel_reads_it() {
        let inner = Attribute::nested(1, &[Attribute::of_u32(1, 9)]);
        let attributes =
            vec![Attribute::of_u64(2, 1 << 40), Attribute::text(2, "nbd"), Attribute::nested(7, &[inner])];
        let request = Generic { family: 0x1c, command: 3, version: 1, attributes };
        let [twelve, eight, sixteen] = [12u16, 8, 16].map(u16::to_ne_bytes);
        let [one, two, nested_one, nested_seven] = [1u16, 2, 0x8001, 0x8007].map(u16::to_ne_bytes);
        let expected = bytes(&[
            // NLM_F_REQUEST | NLM_F_ACK
            &header(16 + 4 + 12 + 8 + 16, 0x1c, 5, 1),
            &[3, 1, 0, 0],
            &[&twelve[..], &two, &(1u64 << 40).to_ne_bytes()].concat(),
            &[&eight[..], &two, b"nbd\0"].concat(),
            &[&sixteen[..], &nested_seven, &twelve, &nested_one, &eight, &one, &9u32.to_ne_bytes()].concat(),
        ]);
        assert_eq!(request.to_bytes(), expected);
    }

    /// On the running kernel, whichever it is: the controller's own number never changes.
    #[test]
    fn the_kernel_knows_its_families() {
        assert_eq!(family("nlctrl"), Ok(Some(GENL_ID_CTRL)));
        assert_eq!(family("brim-has-none"), Ok(None));
    }

    #[test]
    fn an_answer_may_come_before_its_acknowledgement_or_with_it() {
        let said = message(1, &7u32.to_ne_bytes());
        let together = bytes(&[&said.to_bytes(), &acknowledgement(0, 1)]);
        assert_eq!(words(&together), Ok(vec![Word::Said(said.clone()), Word::Done]));
        assert_eq!(words(&said.to_bytes()), Ok(vec![Word::Said(said.clone())]));
        assert_eq!((said.u32(1), said.u32(2)), (Some(7), None));
        assert_eq!(message(1, b"short").u32(1), None);
    }

    #[test]
    fn a_refusal_has_the_number_of_the_kernel() {
        assert_eq!(words(&acknowledgement(-16, 1)), Ok(vec![Word::Refused(Errno::BUSY)]));
        // Another's.
        assert_eq!(words(&acknowledgement(-16, 2)), Ok(vec![]));
        for nonsense in [16, i32::MIN, -4096] {
            assert_eq!(words(&acknowledgement(nonsense, 1)), Err(Errno::BADMSG));
        }
        assert_eq!(words(&[]), Err(Errno::BADMSG));
    }

    proptest! {
        /// For all requests: what is read is what was written, with all attributes in order.
        #[test]
        fn a_message_reads_as_it_was_written(
            family in 16..u16::MAX,
            (command, version) in any::<(u8, u8)>(),
            attributes in prop::collection::vec((0..0x4000u16, prop::collection::vec(any::<u8>(), 0..40)), 0..8),
        ) {
            let attributes = attributes.into_iter().map(|(kind, value)| Attribute { kind, value }).collect();
            let written = Generic { family, command, version, attributes };
            prop_assert_eq!(words(&written.to_bytes()), Ok(vec![Word::Said(written)]));
        }

        /// For all datagrams that were cut or changed: they are read or refused, in finite time and without a panic.
        #[test]
        fn nothing_breaks_the_reader(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..4),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut datagram: Vec<u8> = values.iter().flat_map(|value| message(1, value).to_bytes()).collect();
            datagram.extend(acknowledgement(-1, 1));
            for (at, byte) in changes {
                let at = at.index(datagram.len());
                datagram[at] = byte;
            }
            let _read_or_refused = words(&datagram[..=cut.index(datagram.len())]);
        }
    }
}
