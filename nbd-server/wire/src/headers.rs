//! Which headers the messages of one connection have, as its handshake agreed.

/// The headers of requests and replies in the transmission phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Headers {
    /// Compact requests, simple replies: what a client gets that asks for nothing.
    #[default]
    Simple,
    /// Compact requests, replies in chunks where they have a payload (`NBD_OPT_STRUCTURED_REPLY`).
    Structured,
    /// Extended requests and extended chunks, both with 64-bit lengths (`NBD_OPT_EXTENDED_HEADERS`; proto.md of the
    /// branch extension-ext-header).
    Extended,
}

/// What client and server agreed upon besides the export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The headers of all messages from here on.
    pub headers: Headers,
    /// The metadata contexts that `NBD_CMD_BLOCK_STATUS` answers for, by their ID, which is their index in
    /// [`Exports::contexts`](crate::Exports::contexts). Ascending; empty when none were selected for this export.
    pub contexts: Vec<u32>,
}
