//! What an administrator does to a btrfs.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

use brim_trial::Expression;
use brim_trial::operation::{Administration, Compression, Filter};
use brim_trial::plan::Device as Disk;
use rustix::fs::XattrFlags;
use rustix::io;

use super::whole::after_mount;
use super::{Outcome, Round, Steps};
use crate::Failure;
use crate::kernel_log::KernelLog;
use crate::sys;
use crate::sys::btrfs::administration as ioctls;

/// How often the cleaner is looked after.
const CLEANER_TICK: Duration = Duration::from_millis(1);
/// btrfs' property, which new extents of a file follow (btrfs-property(8)).
const COMPRESSION: &str = "btrfs.compression";

impl Steps<'_> {
    pub(super) fn administer(self, act: &Administration, round: Round) -> Result<Outcome, Failure> {
        match act {
            Administration::DeviceAdd { device } => {
                let device = self.devices.get(Some(device))?;
                Ok(self.ioctl(|root| ioctls::add_device(root, device.path())))
            }
            Administration::DeviceRemove { device } => Ok(self.remove(device)),
            Administration::DeviceReplace { from, to } => self.replace(from, to),
            Administration::LoseDevice { device, options } => self.lose(device, options.as_deref()),
            Administration::Balance { data, metadata, system, force } => {
                let kinds = [data.as_ref(), metadata.as_ref(), system.as_ref()];
                self.balance(kinds, *force)
            }
            Administration::ResizeFilesystem { size, device } => {
                self.resize_filesystem(size.as_ref(), device.as_deref(), round)
            }
            Administration::Defragment { file, compress } => {
                Ok(self.with(file, "ioctl", |file| ioctls::defragment(file, *compress)))
            }
            Administration::Compress { file, with } => Ok(self.compress(file, *with)),
            Administration::QuotaEnable {} => Ok(self.ioctl(|root| {
                ioctls::enable_quota(root)?;
                ioctls::wait_quota(root)
            })),
            Administration::QuotaRescan {} => Ok(self.ioctl(|root| {
                match ioctls::rescan_quota(root) {
                    // One is under way; what it has not counted yet it still counts.
                    Ok(()) | Err(io::Errno::INPROGRESS) => ioctls::wait_quota(root),
                    Err(errno) => Err(errno),
                }
            })),
            Administration::QgroupLimit { path, referenced, exclusive } => {
                let bytes =
                    |limit: &Option<Expression>| limit.as_ref().map(|limit| round.value(limit)).transpose();
                let (referenced, exclusive) = (bytes(referenced)?, bytes(exclusive)?);
                Ok(match self.site.look(path) {
                    Ok(subvolume) => Outcome::new(
                        "ioctl",
                        ioctls::limit_qgroup(subvolume, referenced, exclusive).map(|()| 0),
                    ),
                    Err(errno) => Outcome::new("openat", Err(errno)),
                })
            }
            Administration::SubvolumeDelete { path } => Ok(self.delete_subvolume(path)),
            Administration::WaitCleaner {} => Ok(self.wait_cleaner()),
            Administration::Fstrim {} => {
                let trimmed = self.site.at(|root| ioctls::trim(root));
                let reported = trimmed.iter().map(|bytes| ("trimmed".to_owned(), *bytes)).collect();
                Ok(Outcome { reported, ..Outcome::new("ioctl", trimmed) })
            }
        }
    }

    fn ioctl(self, call: impl FnOnce(&File) -> io::Result<()>) -> Outcome {
        Outcome::new("ioctl", self.site.at(|root| call(root).map(|()| 0)))
    }

    /// A disk that is gone has no path any more, but the number that the filesystem still has for what it misses.
    fn remove(self, device: &str) -> Outcome {
        if device == Disk::MISSING {
            return self.ioctl(|root| ioctls::remove_device(root, Disk::MISSING));
        }
        match self.devices.get(Some(device)) {
            Ok(device) => self.ioctl(|root| ioctls::remove_device(root, device.path())),
            Err(_) => self.ioctl(|root| ioctls::remove_device_by_id(root, missing(root)?)),
        }
    }

    fn replace(self, from: &str, to: &str) -> Result<Outcome, Failure> {
        let to = self.devices.get(Some(to))?;
        let from = self.devices.get(Some(from)).ok();
        Ok(self.ioctl(|root| {
            let from = match &from {
                Some(device) => number(root, device.path())?,
                None => missing(root)?,
            };
            ioctls::replace_device(root, from, to.path())
        }))
    }

    fn lose(self, device: &str, options: Option<&[String]>) -> Result<Outcome, Failure> {
        let ((), mounted) = self.site.without_mount(|place| {
            if let Some(options) = options {
                place.set_options(options);
            }
            self.devices.lose(device)
        })?;
        Ok(after_mount(mounted))
    }

    fn balance(self, kinds: [Option<&Filter>; 3], force: bool) -> Result<Outcome, Failure> {
        // Without a log its words are not there to be counted; the errno is.
        let mut log = KernelLog::open().ok();
        if let Some(log) = log.as_mut() {
            log.skip()?;
        }
        let result = self.site.at(|root| {
            let balance = chunks(kinds, force, |name| self.number_of(root, name))?;
            ioctls::balance(root, &balance)
        });
        let mut reported = BTreeMap::new();
        if let Ok(progress) = &result {
            let numbers = [
                ("expected", progress.expected),
                ("considered", progress.considered),
                ("relocated", progress.completed),
            ];
            reported.extend(numbers.map(|(name, number)| (name.to_owned(), number)));
        }
        if let Some(log) = log.as_mut() {
            let lines = log.new_lines(self.trial, &self.devices.kernel_names())?;
            let lines: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
            reported.extend(enospc_errors(&lines, result.is_ok()));
        }
        Ok(Outcome { reported, ..Outcome::new("ioctl", result.map(|progress| progress.completed)) })
    }

    /// The filesystem's number of a disk, or of the one that it misses.
    fn number_of(self, root: &File, name: &str) -> io::Result<u64> {
        match self.devices.get(Some(name)) {
            Ok(device) => number(root, device.path()),
            Err(_) => missing(root),
        }
    }

    fn resize_filesystem(
        self,
        size: Option<&Expression>,
        device: Option<&str>,
        round: Round,
    ) -> Result<Outcome, Failure> {
        let size = size.map(|size| round.value(size)).transpose()?;
        let size = size.map_or_else(|| "max".to_owned(), |size| size.to_string());
        let device = self.devices.get(device)?;
        Ok(self.ioctl(|root| ioctls::resize(root, &format!("{}:{size}", number(root, device.path())?))))
    }

    /// Of a directory it holds for all that is made in it.
    fn compress(self, file: &str, with: Compression) -> Outcome {
        let set = |file: &File| {
            rustix::fs::fsetxattr(file, COMPRESSION, with.name().as_bytes(), XattrFlags::empty())
        };
        // What is there may be a directory, and what is not becomes a file.
        match self.site.look(file) {
            Ok(there) => Outcome::new("fsetxattr", set(&there).map(|()| 0)),
            Err(io::Errno::NOENT) => self.with(file, "fsetxattr", set),
            Err(errno) => Outcome::new("openat", Err(errno)),
        }
    }

    fn delete_subvolume(self, path: &str) -> Outcome {
        self.site.close_below(path);
        let (parent, name) = match self.site.parent(path) {
            Ok(found) => found,
            Err(errno) => return Outcome::new("openat", Err(errno)),
        };
        let deleted = ioctls::delete_subvolume(&parent, name);
        if deleted.is_ok() {
            self.site.written().delete_subvolume(path);
        }
        Outcome::new("ioctl", deleted.map(|()| 0))
    }

    fn wait_cleaner(self) -> Outcome {
        self.ioctl(|root| {
            loop {
                // A commit wakes the thread that wakes the cleaner; the last one gives back what it has freed.
                ioctls::sync(root)?;
                if ioctls::deleted_subvolumes(root)? == 0 {
                    return ioctls::sync(root);
                }
                std::thread::sleep(CLEANER_TICK);
            }
        })
    }
}

/// The filesystem's number of the device at `path`.
fn number(root: &File, path: &str) -> io::Result<u64> {
    let devices = sys::btrfs::devices(root)?;
    let found = devices.iter().find(|(_, its)| its == path).map(|(number, _)| *number);
    found.ok_or(io::Errno::NODEV)
}

/// The number of the one device that the filesystem misses.
fn missing(root: &File) -> io::Result<u64> {
    let devices = sys::btrfs::devices(root)?;
    let found = devices.iter().find(|(_, path)| path.is_empty()).map(|(number, _)| *number);
    found.ok_or(io::Errno::NODEV)
}

fn chunks(
    [data, metadata, system]: [Option<&Filter>; 3],
    force: bool,
    number: impl Fn(&str) -> io::Result<u64>,
) -> io::Result<ioctls::Balance> {
    let filter = |filter: &Filter| {
        let mut to = ioctls::BalanceFilter::default();
        if let Some(percent) = filter.usage {
            to.usage(percent);
        }
        if !filter.profiles.is_empty() {
            to.profiles(&filter.profiles);
        }
        if let Some(device) = &filter.device {
            to.device(number(device)?);
        }
        if let Some(count) = filter.limit {
            to.limit(count);
        }
        if let Some(profile) = filter.convert {
            to.convert(profile, filter.soft);
        }
        Ok::<_, io::Errno>(to)
    };
    let (data, metadata, system) = match (data, metadata, system) {
        // All chunks, as they are.
        (None, None, None) => (Some(&Filter::NONE), Some(&Filter::NONE), Some(&Filter::NONE)),
        // As `btrfs balance` has it: what is said of metadata holds for the chunk tree's own chunks.
        (data, metadata, None) => (data, metadata, metadata),
        all => all,
    };
    Ok(ioctls::Balance {
        data: data.map(filter).transpose()?,
        metadata: metadata.map(filter).transpose()?,
        system: system.map(filter).transpose()?,
        force,
    })
}

/// What the kernel log counts of chunks that did not fit: `1 enospc errors during balance` (fs/btrfs/volumes.c,
/// `__btrfs_balance`, v6.12). After a good end there were none; after a bad one the line may be missing.
fn enospc_errors(lines: &[&str], is_good: bool) -> Option<(String, u64)> {
    let count = lines.iter().find_map(|line| {
        let (before, _) = line.split_once(" enospc errors during balance")?;
        before.rsplit(' ').next()?.parse().ok()
    });
    count.or(is_good.then_some(0)).map(|count| ("enospc_errors".to_owned(), count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_count_is_read() {
        let line = "BTRFS info (device loop3): 12 enospc errors during balance";
        let found = |lines: &[&str], is_good| enospc_errors(lines, is_good).map(|(_, count)| count);
        assert_eq!(found(&["BTRFS info (device loop3): balance: start -d", line], false), Some(12));
        assert_eq!(found(&[], true), Some(0));
        assert_eq!(found(&["BTRFS info (device loop3): balance: ended with status: -28"], false), None);
    }

    #[test]
    fn what_is_said_of_metadata_holds_for_the_chunk_tree() {
        let filter = Filter { usage: Some(50), ..Filter::default() };
        let none = |_: &str| Err(io::Errno::NODEV);
        let given = chunks([None, Some(&filter), None], false, none).unwrap();
        assert!(given.data.is_none() && given.metadata.is_some() && given.system.is_some());
        let all = chunks([None; 3], false, none).unwrap();
        assert!(all.data.is_some() && all.metadata.is_some() && all.system.is_some());
        let data = chunks([Some(&filter), None, None], false, none).unwrap();
        assert!(data.metadata.is_none() && data.system.is_none());
        let odd = Filter { device: Some("missing".to_owned()), ..filter };
        assert!(chunks([Some(&odd), None, None], false, none).is_err());
    }
}
