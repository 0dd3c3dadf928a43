//! Error numbers by their names, as a scenario writes them and a journal keeps them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A Linux error number. Written as its name (`ENOSPC`), or as `errno 524` where it has none here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Errno(pub i32);

/// The name is not one of Linux' error numbers.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not the name of an error number")]
pub struct UnknownErrno(pub String);

impl Errno {
    /// Input/output error.
    pub const EIO: Self = Self(5);
    /// No space left on device.
    pub const ENOSPC: Self = Self(28);

    /// The names that `FromStr` accepts, in the order of their numbers.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|(_, name)| *name)
    }

    /// The name, where the number has one in this table.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        TABLE.iter().find(|(number, _)| *number == self.0).map(|(_, name)| *name)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl FromStr for Errno {
    type Err = UnknownErrno;

    fn from_str(text: &str) -> Result<Self, UnknownErrno> {
        if let Some((number, _)) = TABLE.iter().find(|(_, name)| *name == text) {
            return Ok(Self(*number));
        }
        let number = text.strip_prefix("errno ").and_then(|digits| digits.parse().ok());
        number.map(Self).ok_or_else(|| UnknownErrno(text.to_owned()))
    }
}

impl From<Errno> for String {
    fn from(errno: Errno) -> Self {
        errno.to_string()
    }
}

impl TryFrom<String> for Errno {
    type Error = UnknownErrno;

    fn try_from(text: String) -> Result<Self, UnknownErrno> {
        text.parse()
    }
}

// include/uapi/asm-generic/errno-base.h and errno.h, v6.12: those a filesystem or a block device returns.
const TABLE: &[(i32, &str)] = &[
    (1, "EPERM"),
    (2, "ENOENT"),
    (4, "EINTR"),
    (5, "EIO"),
    (6, "ENXIO"),
    (7, "E2BIG"),
    (9, "EBADF"),
    (11, "EAGAIN"),
    (12, "ENOMEM"),
    (13, "EACCES"),
    (14, "EFAULT"),
    (16, "EBUSY"),
    (17, "EEXIST"),
    (18, "EXDEV"),
    (19, "ENODEV"),
    (20, "ENOTDIR"),
    (21, "EISDIR"),
    (22, "EINVAL"),
    (23, "ENFILE"),
    (24, "EMFILE"),
    (25, "ENOTTY"),
    (26, "ETXTBSY"),
    (27, "EFBIG"),
    (28, "ENOSPC"),
    (29, "ESPIPE"),
    (30, "EROFS"),
    (31, "EMLINK"),
    (32, "EPIPE"),
    (34, "ERANGE"),
    (36, "ENAMETOOLONG"),
    (38, "ENOSYS"),
    (39, "ENOTEMPTY"),
    (40, "ELOOP"),
    (61, "ENODATA"),
    (75, "EOVERFLOW"),
    (84, "EILSEQ"),
    (95, "EOPNOTSUPP"),
    (108, "ESHUTDOWN"),
    (110, "ETIMEDOUT"),
    (116, "ESTALE"),
    (117, "EUCLEAN"),
    (122, "EDQUOT"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_as_its_number() {
        for (number, name) in TABLE {
            assert_eq!(name.parse(), Ok(Errno(*number)));
            assert_eq!(Errno(*number).to_string(), *name);
        }
        assert_eq!("errno 524".parse(), Ok(Errno(524)));
        assert_eq!("ENOSPACE".parse::<Errno>(), Err(UnknownErrno("ENOSPACE".into())));
    }
}
