//! Where the answer to a read goes.

use crate::bytes::wire_length;

/// A stream under construction: bytes, with data in between that need not be copied into them.
pub trait Sink {
    /// Data as the caller has it.
    type Data<'a>;

    /// The bytes so far, to be appended to. What was appended before may still be changed there.
    fn bytes(&mut self) -> &mut Vec<u8>;

    /// How many bytes it is in the stream.
    fn length(data: &Self::Data<'_>) -> u64;

    /// The stream goes on with this data.
    fn data(&mut self, data: Self::Data<'_>);

    /// The stream goes on with so many zeroes.
    fn zeroes(&mut self, length: u64);
}

/// A stream that is all in one piece.
impl Sink for Vec<u8> {
    type Data<'a> = &'a [u8];

    fn bytes(&mut self) -> &mut Vec<u8> {
        self
    }

    fn length(data: &&[u8]) -> u64 {
        u64::from(wire_length(data.len()))
    }

    fn data(&mut self, data: &[u8]) {
        self.extend_from_slice(data);
    }

    fn zeroes(&mut self, length: u64) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.resize(self.len().saturating_add(length), 0);
    }
}
