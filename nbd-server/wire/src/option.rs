//! Option haggling: the numbers and payloads both sides share.

use crate::TransmissionFlags;
use crate::bytes::{Fields, Put, wire_length};

/// `NBDMAGIC`, the first eight bytes a server sends (proto.md, "Newstyle negotiation").
pub(crate) const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// `IHAVEOPT`, second in the greeting and first in every option (proto.md, "Newstyle negotiation").
pub(crate) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// The first eight bytes of every option reply (proto.md, "Fixed newstyle negotiation").
pub(crate) const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

/// `NBD_FLAG_FIXED_NEWSTYLE`, and by the same bit `NBD_FLAG_C_FIXED_NEWSTYLE` (proto.md, "Handshake flags").
pub(crate) const FIXED_NEWSTYLE: u16 = 1 << 0;
/// `NBD_FLAG_NO_ZEROES`, and by the same bit `NBD_FLAG_C_NO_ZEROES` (proto.md, "Handshake flags").
pub(crate) const NO_ZEROES: u16 = 1 << 1;

// proto.md, "Option types".
pub(crate) const OPT_EXPORT_NAME: u32 = 1;
pub(crate) const OPT_ABORT: u32 = 2;
pub(crate) const OPT_LIST: u32 = 3;
pub(crate) const OPT_STARTTLS: u32 = 5;
pub(crate) const OPT_INFO: u32 = 6;
pub(crate) const OPT_GO: u32 = 7;
pub(crate) const OPT_STRUCTURED_REPLY: u32 = 8;
pub(crate) const OPT_LIST_META_CONTEXT: u32 = 9;
pub(crate) const OPT_SET_META_CONTEXT: u32 = 10;
/// proto.md of extension-ext-header, "Option types".
pub(crate) const OPT_EXTENDED_HEADERS: u32 = 11;

// proto.md, "Option reply types".
pub(crate) const REP_ACK: u32 = 1;
pub(crate) const REP_SERVER: u32 = 2;
pub(crate) const REP_INFO: u32 = 3;
pub(crate) const REP_META_CONTEXT: u32 = 4;
/// Every error reply has this bit set.
pub(crate) const REP_FLAG_ERROR: u32 = 1 << 31;

// proto.md, "NBD_REP_INFO".
pub(crate) const INFO_EXPORT: u16 = 0;
pub(crate) const INFO_NAME: u16 = 1;
pub(crate) const INFO_BLOCK_SIZE: u16 = 3;

/// The longest name a peer may use, in bytes (proto.md, "Conventions").
pub const MAX_NAME_LENGTH: usize = 4096;

/// The longest option payload that is looked at, in bytes: a name and any sensible list of information requests.
/// A longer one is skipped as it arrives and answered with an error.
pub const MAX_OPTION_LENGTH: u32 = 8192;

/// Why an option was refused: the error replies of proto.md, "Option reply types".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// `NBD_REP_ERR_UNSUP`.
    #[error("the option is not known to the server")]
    Unsupported,
    /// `NBD_REP_ERR_POLICY`.
    #[error("the option is forbidden by the server's policy")]
    Policy,
    /// `NBD_REP_ERR_INVALID`.
    #[error("the option's data is malformed")]
    Invalid,
    /// `NBD_REP_ERR_PLATFORM`.
    #[error("the option is not supported on the server's platform")]
    Platform,
    /// `NBD_REP_ERR_TLS_REQD`.
    #[error("the server wants TLS first")]
    TlsRequired,
    /// `NBD_REP_ERR_UNKNOWN`.
    #[error("the server has no such export")]
    UnknownExport,
    /// `NBD_REP_ERR_SHUTDOWN`.
    #[error("the server is shutting down")]
    Shutdown,
    /// `NBD_REP_ERR_BLOCK_SIZE_REQD`.
    #[error("the server wants the client to ask for its block sizes")]
    BlockSizeRequired,
    /// `NBD_REP_ERR_TOO_BIG`.
    #[error("the option is too large for the server")]
    TooBig,
    /// `NBD_REP_ERR_EXT_HEADER_REQD` (proto.md of extension-ext-header).
    #[error("the server wants extended headers")]
    ExtendedHeadersRequired,
    /// A number that this crate has no name for.
    #[error("the server answered with error reply {0:#010x}")]
    Other(u32),
}

impl OptionError {
    /// The reply type on the wire.
    pub(crate) const fn value(self) -> u32 {
        let number = match self {
            Self::Unsupported => 1,
            Self::Policy => 2,
            Self::Invalid => 3,
            Self::Platform => 4,
            Self::TlsRequired => 5,
            Self::UnknownExport => 6,
            Self::Shutdown => 7,
            Self::BlockSizeRequired => 8,
            Self::TooBig => 9,
            Self::ExtendedHeadersRequired => 10,
            Self::Other(value) => value,
        };
        REP_FLAG_ERROR | number
    }

    pub(crate) const fn from_value(value: u32) -> Self {
        match value & !REP_FLAG_ERROR {
            1 => Self::Unsupported,
            2 => Self::Policy,
            3 => Self::Invalid,
            4 => Self::Platform,
            5 => Self::TlsRequired,
            6 => Self::UnknownExport,
            7 => Self::Shutdown,
            8 => Self::BlockSizeRequired,
            9 => Self::TooBig,
            10 => Self::ExtendedHeadersRequired,
            _ => Self::Other(value),
        }
    }
}

/// The sizes a client should keep to, in bytes: proto.md, "Block size constraints".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockSizes {
    /// Offsets and lengths are multiples of this; 1 allows any byte.
    pub minimum: u32,
    /// What runs best.
    pub preferred: u32,
    /// The longest payload of one command.
    pub maximum: u32,
}

impl Default for BlockSizes {
    /// What holds where nothing was agreed upon: any byte, best in 4 KiB, payloads up to 32 MiB (proto.md, "Size
    /// constraints").
    fn default() -> Self {
        Self { minimum: 1, preferred: 4096, maximum: 32 << 20 }
    }
}

/// Why no server may announce such sizes: proto.md, "Size constraints".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockSizesError {
    /// The minimum is out of range.
    #[error("a minimum block size is a power of 2 up to 65536, and {0} is not")]
    Minimum(u32),
    /// The preferred size is out of range.
    #[error("a preferred block size is a power of 2, at least 512 and the minimum, and {0} is not")]
    Preferred(u32),
    /// The maximum is out of range.
    #[error("a maximum payload is at least the preferred block size, and {0} is less")]
    Maximum(u32),
}

impl BlockSizes {
    /// Whether a server may announce them.
    ///
    /// # Errors
    ///
    /// The first of the three that it may not.
    pub const fn check(self) -> Result<(), BlockSizesError> {
        let Self { minimum, preferred, maximum } = self;
        if !minimum.is_power_of_two() || minimum > 1 << 16 {
            return Err(BlockSizesError::Minimum(minimum));
        }
        if !preferred.is_power_of_two() || preferred < 512 || preferred < minimum {
            return Err(BlockSizesError::Preferred(preferred));
        }
        if maximum < preferred {
            return Err(BlockSizesError::Maximum(maximum));
        }
        Ok(())
    }
}

/// What the handshake tells about an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExportInfo {
    /// Size in bytes.
    pub size: u64,
    /// What it can do.
    pub flags: TransmissionFlags,
    /// Told only when a client asks for it.
    pub block_sizes: Option<BlockSizes>,
}

/// The payload of `NBD_OPT_INFO` and `NBD_OPT_GO` (proto.md, "Option types").
pub(crate) struct InfoRequest<'a> {
    pub(crate) name: &'a str,
    /// Big-endian numbers of two bytes each.
    wanted: &'a [u8],
}

impl<'a> InfoRequest<'a> {
    /// `None` when it is malformed: lengths that do not add up, or a name that is no name.
    pub(crate) fn parse(payload: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        let length = fields.u32()?;
        let name = parse_name(fields.bytes(length)?)?;
        let count = fields.u16()?;
        let wanted = fields.bytes(u32::from(count) * 2)?;
        fields.0.is_empty().then_some(Self { name, wanted })
    }

    pub(crate) fn wants(&self, information: u16) -> bool {
        self.wanted.chunks_exact(2).any(|kind| kind == information.to_be_bytes())
    }
}

/// A name is UTF-8 without NUL, of at most 4096 bytes (proto.md, "Conventions").
pub(crate) fn parse_name(bytes: &[u8]) -> Option<&str> {
    if bytes.len() > MAX_NAME_LENGTH || bytes.contains(&0) {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

/// Appends an option as a client sends it.
pub(crate) fn put_option(output: &mut Vec<u8>, option: u32, payload: &[u8]) {
    output.put_u64(OPTION_MAGIC);
    output.put_u32(option);
    output.put_u32(wire_length(payload.len()));
    output.extend_from_slice(payload);
}

/// Appends an option reply as a server sends it.
pub(crate) fn put_reply(output: &mut Vec<u8>, option: u32, reply: u32, payload: &[u8]) {
    output.put_u64(REPLY_MAGIC);
    output.put_u32(option);
    output.put_u32(reply);
    output.put_u32(wire_length(payload.len()));
    output.extend_from_slice(payload);
}
