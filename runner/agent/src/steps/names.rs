//! Operations on the names of files, and on what else belongs to a file but is not its content.

use std::os::fd::AsRawFd;

use brim_trial::operation::{OpenFlag, Rename};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, XattrFlags};
use rustix::io;

use super::{Outcome, Steps};
use crate::site::Handle;

impl Steps<'_> {
    pub(super) fn open(self, name: &str, flags: &[OpenFlag]) -> Outcome {
        let mut given = OFlags::CLOEXEC;
        for flag in flags {
            given |= match flag {
                OpenFlag::ReadOnly => OFlags::RDONLY,
                OpenFlag::WriteOnly => OFlags::WRONLY,
                OpenFlag::Create => OFlags::CREATE,
                OpenFlag::Exclusive => OFlags::EXCL,
                OpenFlag::Truncate => OFlags::TRUNC,
                OpenFlag::Append => OFlags::APPEND,
                OpenFlag::Direct => OFlags::DIRECT,
                OpenFlag::Sync => OFlags::SYNC,
                OpenFlag::Dsync => OFlags::DSYNC,
            };
        }
        if !flags.contains(&OpenFlag::ReadOnly) && !flags.contains(&OpenFlag::WriteOnly) {
            given |= OFlags::RDWR;
        }
        let opened = self.site.open_at(name, given).map(|file| {
            if given.contains(OFlags::TRUNC) {
                self.site.written().truncate(name, 0);
            }
            let (appends, direct) = (given.contains(OFlags::APPEND), given.contains(OFlags::DIRECT));
            self.site.put(name, Handle::kept(file, appends, direct, false));
            0
        });
        Outcome::new("openat", opened)
    }

    pub(super) fn close_file(self, name: &str) -> Outcome {
        let nameless = self.site.nameless(name).is_some();
        let closed = self.site.close_told(name);
        if nameless {
            self.site.written().unlink(name);
        }
        Outcome::new("close", closed.unwrap_or(Err(io::Errno::BADF)).map(|()| 0))
    }

    pub(super) fn tmpfile(self, name: &str) -> Outcome {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let directory = name.rsplit_once('/').map_or(".", |(directory, _)| directory);
        let opened = self.site.with_parents(name, || {
            self.site.at(|root| rustix::fs::openat(root, directory, flags, Mode::from_raw_mode(0o644)))
        });
        let opened = opened.map(|file| {
            self.site.written().unlink(name);
            self.site.put(name, Handle::kept(file.into(), false, false, true));
            0
        });
        Outcome::new("openat", opened)
    }

    pub(super) fn creat(self, name: &str) -> Outcome {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC;
        let made = self.site.open_at(name, flags);
        if made.is_ok() && self.site.nameless(name).is_none() {
            self.site.written().truncate(name, 0);
        }
        Outcome::new("openat", made.map(|_| 0))
    }

    pub(super) fn mkdir(self, path: &str) -> Outcome {
        let mode = Mode::from_raw_mode(0o755);
        let make = || self.site.at(|root| rustix::fs::mkdirat(root, path, mode));
        Outcome::new("mkdirat", self.site.with_parents(path, make).map(|()| 0))
    }

    pub(super) fn rmdir(self, path: &str) -> Outcome {
        let removed = self.site.at(|root| rustix::fs::unlinkat(root, path, AtFlags::REMOVEDIR));
        Outcome::new("unlinkat", removed.map(|()| 0))
    }

    /// Unlinks a file, which is closed first, so that its space is freed, or stays open.
    pub(super) fn unlink(self, name: &str, keep_open: bool) -> Outcome {
        let unlink = || self.site.at(|root| rustix::fs::unlinkat(root, name, AtFlags::empty()));
        if keep_open {
            let handle = match self.site.open_if_there(name) {
                Ok(handle) => handle,
                Err(errno) => return Outcome::new("openat", Err(errno)),
            };
            let unlinked = unlink();
            if unlinked.is_ok() {
                handle.lose_name();
                self.site.written().not_durable(name);
            }
            return Outcome::new("unlinkat", unlinked.map(|()| 0));
        }
        self.site.close(name);
        let unlinked = unlink();
        if unlinked.is_ok() {
            self.site.written().unlink(name);
        }
        Outcome::new("unlinkat", unlinked.map(|()| 0))
    }

    pub(super) fn rename(self, from: &str, to: &str, how: Rename) -> Outcome {
        let flags = match how {
            Rename::Replace => RenameFlags::empty(),
            Rename::Noreplace => RenameFlags::NOREPLACE,
            Rename::Exchange => RenameFlags::EXCHANGE,
        };
        if how == Rename::Replace && from != to {
            self.site.close(to);
        }
        let renamed = self
            .site
            .with_parents(to, || self.site.at(|root| rustix::fs::renameat_with(root, from, root, to, flags)));
        match (renamed, how) {
            (Ok(()), Rename::Exchange) => {
                self.site.exchanged(from, to);
                self.site.written().exchange(from, to);
            }
            (Ok(()), Rename::Replace | Rename::Noreplace) => {
                self.site.renamed(from, to);
                self.site.written().rename(from, to);
            }
            (Err(_), _) => {}
        }
        Outcome::new("renameat2", renamed.map(|()| 0))
    }

    pub(super) fn link(self, from: &str, to: &str) -> Outcome {
        let nameless = self.site.nameless(from);
        let linked = self.site.with_parents(to, || {
            self.site.at(|root| match &nameless {
                Some(handle) => {
                    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
                    rustix::fs::linkat(CWD, path, root, to, AtFlags::SYMLINK_FOLLOW)
                }
                None => rustix::fs::linkat(root, from, root, to, AtFlags::empty()),
            })
        });
        if linked.is_ok() {
            self.site.written().link(from, to);
        }
        Outcome::new("linkat", linked.map(|()| 0))
    }

    pub(super) fn symlink(self, path: &str, target: &str) -> Outcome {
        let make = || self.site.at(|root| rustix::fs::symlinkat(target, root, path));
        Outcome::new("symlinkat", self.site.with_parents(path, make).map(|()| 0))
    }

    pub(super) fn setxattr(self, name: &str, attribute: &str, value: &[u8]) -> Outcome {
        match self.site.file_or_directory(name) {
            Ok(file) => {
                let set = rustix::fs::fsetxattr(&**file, attribute, value, XattrFlags::empty());
                Outcome::new("fsetxattr", set.map(|()| 0))
            }
            Err(errno) => Outcome::new("openat", Err(errno)),
        }
    }

    pub(super) fn removexattr(self, name: &str, attribute: &str) -> Outcome {
        match self.site.file_or_directory(name) {
            Ok(file) => {
                Outcome::new("fremovexattr", rustix::fs::fremovexattr(&**file, attribute).map(|()| 0))
            }
            Err(errno) => Outcome::new("openat", Err(errno)),
        }
    }

    pub(super) fn chmod(self, name: &str, mode: u32) -> Outcome {
        let mode = Mode::from_raw_mode(mode);
        let changed = self.site.at(|root| rustix::fs::chmodat(root, name, mode, AtFlags::empty()));
        Outcome::new("fchmodat", changed.map(|()| 0))
    }
}
