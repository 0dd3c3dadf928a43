//! The two sets of flags that outlive the handshake: what an export can do, and how one command wants it done.

use std::ops::BitOr;

/// What an export offers: proto.md, "Transmission flags".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TransmissionFlags(pub u16);

impl TransmissionFlags {
    /// `NBD_FLAG_HAS_FLAGS`: must always be set.
    pub const HAS_FLAGS: Self = Self(1 << 0);
    /// `NBD_FLAG_READ_ONLY`: writes, trims and zeroes will fail.
    pub const READ_ONLY: Self = Self(1 << 1);
    /// `NBD_FLAG_SEND_FLUSH`: the server has `NBD_CMD_FLUSH`.
    pub const SEND_FLUSH: Self = Self(1 << 2);
    /// `NBD_FLAG_SEND_FUA`: the server honours `NBD_CMD_FLAG_FUA`.
    pub const SEND_FUA: Self = Self(1 << 3);
    /// `NBD_FLAG_ROTATIONAL`: the export behaves like a rotational medium.
    pub const ROTATIONAL: Self = Self(1 << 4);
    /// `NBD_FLAG_SEND_TRIM`: the server has `NBD_CMD_TRIM`.
    pub const SEND_TRIM: Self = Self(1 << 5);
    /// `NBD_FLAG_SEND_WRITE_ZEROES`: the server has `NBD_CMD_WRITE_ZEROES`.
    pub const SEND_WRITE_ZEROES: Self = Self(1 << 6);
    /// `NBD_FLAG_SEND_DF`: the server honours `NBD_CMD_FLAG_DF`. Clear where replies are simple.
    pub const SEND_DF: Self = Self(1 << 7);
    /// `NBD_FLAG_CAN_MULTI_CONN`: a flush on one connection covers what any other was answered.
    pub const CAN_MULTI_CONN: Self = Self(1 << 8);
    /// `NBD_FLAG_SEND_CACHE`: the server has `NBD_CMD_CACHE`.
    pub const SEND_CACHE: Self = Self(1 << 10);
    /// `NBD_FLAG_SEND_FAST_ZERO`: the server honours `NBD_CMD_FLAG_FAST_ZERO`.
    pub const SEND_FAST_ZERO: Self = Self(1 << 11);
    /// `NBD_FLAG_BLOCK_STATUS_PAYLOAD`: `NBD_CMD_BLOCK_STATUS` may have a payload that picks contexts. With extended
    /// headers only (proto.md of extension-ext-header, "Transmission flags").
    pub const BLOCK_STATUS_PAYLOAD: Self = Self(1 << 12);

    /// Whether every flag of `other` is set here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for TransmissionFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// How one command is to be done: proto.md, "Command flags".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CommandFlags(pub u16);

impl CommandFlags {
    /// No flag at all.
    pub const NONE: Self = Self(0);
    /// `NBD_CMD_FLAG_FUA`: answer only when what was written is on stable storage. Valid with every command.
    pub const FUA: Self = Self(1 << 0);
    /// `NBD_CMD_FLAG_NO_HOLE`: zeroes should be allocated, not punched. Valid with `NBD_CMD_WRITE_ZEROES`.
    pub const NO_HOLE: Self = Self(1 << 1);
    /// `NBD_CMD_FLAG_DF`: at most one content chunk. Valid with `NBD_CMD_READ` where replies come in chunks.
    pub const DF: Self = Self(1 << 2);
    /// `NBD_CMD_FLAG_REQ_ONE`: one extent for each context. Valid with `NBD_CMD_BLOCK_STATUS`.
    pub const REQ_ONE: Self = Self(1 << 3);
    /// `NBD_CMD_FLAG_FAST_ZERO`: fail with `ENOTSUP` where zeroing is no faster than writing. Valid with
    /// `NBD_CMD_WRITE_ZEROES`.
    pub const FAST_ZERO: Self = Self(1 << 4);
    /// `NBD_CMD_FLAG_PAYLOAD_LEN`: the length is that of a payload behind the header. With extended headers only
    /// (proto.md of extension-ext-header, "Command flags").
    pub const PAYLOAD_LEN: Self = Self(1 << 5);

    /// Whether every flag of `other` is set here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for CommandFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
