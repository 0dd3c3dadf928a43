//! The error values of replies.

use std::fmt;

/// An error a server may answer a command with: the values of proto.md, "Error values".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// `NBD_EPERM`: operation not permitted.
    Eperm,
    /// `NBD_EIO`: input/output error.
    Eio,
    /// `NBD_ENOMEM`: cannot allocate memory.
    Enomem,
    /// `NBD_EINVAL`: invalid argument.
    Einval,
    /// `NBD_ENOSPC`: no space left on device.
    Enospc,
    /// `NBD_EOVERFLOW`: value too large.
    Eoverflow,
    /// `NBD_ENOTSUP`: operation not supported.
    Enotsup,
    /// `NBD_ESHUTDOWN`: server is in the process of being shut down.
    Eshutdown,
}

impl ErrorCode {
    /// Every code, in the order of its value.
    pub const ALL: [Self; 8] = [
        Self::Eperm,
        Self::Eio,
        Self::Enomem,
        Self::Einval,
        Self::Enospc,
        Self::Eoverflow,
        Self::Enotsup,
        Self::Eshutdown,
    ];

    /// The value on the wire. proto.md, "Error values", takes them from Linux, so that this is also Linux' errno.
    #[must_use]
    pub const fn value(self) -> u32 {
        match self {
            Self::Eperm => 1,
            Self::Eio => 5,
            Self::Enomem => 12,
            Self::Einval => 22,
            Self::Enospc => 28,
            Self::Eoverflow => 75,
            Self::Enotsup => 95,
            Self::Eshutdown => 108,
        }
    }

    /// The code of a value that is not zero. A value nobody defined counts as `EINVAL`, as a client should take it
    /// (proto.md, "Error values").
    #[must_use]
    pub fn from_value(value: u32) -> Self {
        Self::ALL.into_iter().find(|code| code.value() == value).unwrap_or(Self::Einval)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eperm => "EPERM",
            Self::Eio => "EIO",
            Self::Enomem => "ENOMEM",
            Self::Einval => "EINVAL",
            Self::Enospc => "ENOSPC",
            Self::Eoverflow => "EOVERFLOW",
            Self::Enotsup => "ENOTSUP",
            Self::Eshutdown => "ESHUTDOWN",
        })
    }
}
