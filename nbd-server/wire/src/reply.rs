//! Replies of the transmission phase.

use crate::ErrorCode;
use crate::bytes::{Fields, Put};

/// `NBD_SIMPLE_REPLY_MAGIC` (proto.md, "Simple reply message").
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;

/// The header of a simple reply. The data of a read that went well follows it and is the caller's to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SimpleReply {
    /// The name the client gave its request.
    pub cookie: u64,
    /// `None` when it was done. With an error no data follows, not even for a read.
    pub error: Option<ErrorCode>,
}

/// The stream does not start with a reply, so it is out of step and no later byte can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a reply starts with {found:#010x}, as no reply of such a connection does")]
pub struct BadReplyMagic {
    /// The first four bytes.
    pub found: u32,
}

impl SimpleReply {
    /// The length of a header in bytes (proto.md, "Simple reply message").
    pub const SIZE: usize = 16;

    /// Reads the header at the front of `input`; `None` while fewer than [`SimpleReply::SIZE`] bytes are there.
    ///
    /// # Errors
    ///
    /// When the magic is wrong. The connection must then be dropped.
    pub fn parse(input: &[u8]) -> Result<Option<Self>, BadReplyMagic> {
        let Some(header) = input.first_chunk::<{ Self::SIZE }>() else {
            return Ok(None);
        };
        let mut fields = Fields(header);
        let magic = fields.u32();
        if magic != Some(SIMPLE_REPLY_MAGIC) {
            return Err(BadReplyMagic { found: magic.unwrap_or_default() });
        }
        Ok(Self::fields(&mut fields))
    }

    fn fields(fields: &mut Fields<'_>) -> Option<Self> {
        let error = Some(fields.u32()?).filter(|value| *value != 0).map(ErrorCode::from_value);
        Some(Self { error, cookie: fields.u64()? })
    }

    /// Appends the header to `output`.
    pub fn encode(&self, output: &mut Vec<u8>) {
        output.put_u32(SIMPLE_REPLY_MAGIC);
        output.put_u32(self.error.map_or(0, ErrorCode::value));
        output.put_u64(self.cookie);
    }
}
