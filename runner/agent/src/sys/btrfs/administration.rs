//! The ioctls of an administrator. Layouts and numbers are those of include/uapi/linux/btrfs.h, v6.12; they are written down here as
//! the crate that has them, btrfs-uapi, makes them with bindgen and libclang at each build.

use std::os::fd::AsFd;

use brim_trial::operation::{Compression, Profile};
use rustix::io;
use rustix::ioctl::{self, NoArg, Setter, Updater, opcode};

use super::{MAGIC, VolArgs, VolArgsV2, name, search};

const RESIZE: ioctl::Opcode = opcode::write::<VolArgs>(MAGIC, 3);
const SYNC: ioctl::Opcode = opcode::none(MAGIC, 8);
const ADD_DEV: ioctl::Opcode = opcode::write::<VolArgs>(MAGIC, 10);
const SNAP_DESTROY: ioctl::Opcode = opcode::write::<VolArgs>(MAGIC, 15);
const DEFRAG_RANGE: ioctl::Opcode = opcode::write::<DefragRange>(MAGIC, 16);
const BALANCE_V2: ioctl::Opcode = opcode::read_write::<BalanceArgs>(MAGIC, 32);
const QUOTA_CTL: ioctl::Opcode = opcode::read_write::<[u64; 2]>(MAGIC, 40);
const QGROUP_LIMIT: ioctl::Opcode = opcode::read::<[u64; 6]>(MAGIC, 43);
const QUOTA_RESCAN: ioctl::Opcode = opcode::write::<[u64; 8]>(MAGIC, 44);
const QUOTA_RESCAN_WAIT: ioctl::Opcode = opcode::none(MAGIC, 46);
const DEV_REPLACE: ioctl::Opcode = opcode::read_write::<ReplaceArgs>(MAGIC, 53);
const RM_DEV_V2: ioctl::Opcode = opcode::write::<VolArgsV2>(MAGIC, 58);
const DEVICE_SPEC_BY_ID: u64 = 1 << 3;
const QUOTA_ENABLE: u64 = 1;
const LIMIT_REFERENCED: u64 = 1;
const LIMIT_EXCLUSIVE: u64 = 1 << 1;
const DEFRAG_COMPRESS: u64 = 1;
const DEFRAG_START_IO: u64 = 2;
const REPLACE_START: u64 = 0;
// include/uapi/linux/fs.h, v6.12.
const FITRIM: ioctl::Opcode = opcode::read_write::<[u64; 3]>(b'X', 121);
// include/uapi/linux/btrfs_tree.h, v6.12.
const ROOT_TREE: u64 = 1;
const ORPHAN_OBJECTID: u64 = u64::MAX - 4;
const ORPHAN_ITEM: u32 = 48;

/// `struct btrfs_ioctl_defrag_range_args`.
#[repr(C)]
struct DefragRange {
    start: u64,
    length: u64,
    flags: u64,
    extent_threshold: u32,
    compression: u32,
    unused: [u32; 4],
}

/// `struct btrfs_ioctl_dev_replace_args` with what starts a replacement.
#[repr(C)]
struct ReplaceArgs {
    command: u64,
    result: u64,
    from: u64,
    read_elsewhere: u64,
    from_name: [u8; 1025],
    to_name: [u8; 1025],
    padding: [u8; 6],
    spare: [u64; 64],
}

/// `struct btrfs_ioctl_balance_args`.
#[repr(C)]
struct BalanceArgs {
    flags: u64,
    state: u64,
    /// Data, metadata, system.
    kinds: [BalanceFilter; 3],
    progress: BalanceProgress,
    unused: [u64; 72],
}

/// How far a balance has come, in chunks.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BalanceProgress {
    pub(crate) expected: u64,
    pub(crate) considered: u64,
    pub(crate) completed: u64,
}

/// `struct btrfs_balance_args`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BalanceFilter {
    profiles: u64,
    usage: u64,
    device: u64,
    physical: [u64; 2],
    logical: [u64; 2],
    target: u64,
    flags: u64,
    limit: u64,
    stripes: [u32; 2],
    unused: [u64; 6],
}

impl BalanceFilter {
    pub(crate) fn usage(&mut self, percent: u64) {
        (self.usage, self.flags) = (percent, self.flags | (1 << 1));
    }

    pub(crate) fn profiles(&mut self, profiles: &[Profile]) {
        let bits = profiles.iter().map(|profile| profile_bit(*profile)).fold(0, |all, bit| all | bit);
        (self.profiles, self.flags) = (bits, self.flags | 1);
    }

    pub(crate) fn device(&mut self, id: u64) {
        (self.device, self.flags) = (id, self.flags | (1 << 2));
    }

    pub(crate) fn limit(&mut self, count: u64) {
        (self.limit, self.flags) = (count, self.flags | (1 << 5));
    }

    pub(crate) fn convert(&mut self, profile: Profile, soft: bool) {
        let soft = if soft { 1 << 9 } else { 0 };
        (self.target, self.flags) = (profile_bit(profile), self.flags | (1 << 8) | soft);
    }
}

/// Which chunks a balance is for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Balance {
    pub(crate) data: Option<BalanceFilter>,
    pub(crate) metadata: Option<BalanceFilter>,
    pub(crate) system: Option<BalanceFilter>,
    pub(crate) force: bool,
}

/// `BTRFS_BLOCK_GROUP_*`; `single`, which is no bit there, is `BTRFS_AVAIL_ALLOC_BIT_SINGLE`.
fn profile_bit(profile: Profile) -> u64 {
    match profile {
        Profile::Single => 1 << 48,
        Profile::Raid0 => 1 << 3,
        Profile::Raid1 => 1 << 4,
        Profile::Dup => 1 << 5,
        Profile::Raid10 => 1 << 6,
        Profile::Raid5 => 1 << 7,
        Profile::Raid6 => 1 << 8,
        Profile::Raid1c3 => 1 << 9,
        Profile::Raid1c4 => 1 << 10,
    }
}

/// Balances, until done. What the kernel says of its progress is told at a good end alone.
pub(crate) fn balance(mount: impl AsFd, balance: &Balance) -> io::Result<BalanceProgress> {
    let Balance { data, metadata, system, force } = balance;
    // BTRFS_BALANCE_DATA, BTRFS_BALANCE_METADATA, BTRFS_BALANCE_SYSTEM and BTRFS_BALANCE_FORCE.
    let kinds = [(data, 1), (metadata, 1 << 2), (system, 1 << 1)];
    let flags = kinds.iter().filter(|(filter, _)| filter.is_some()).fold(0, |all, (_, flag)| all | flag);
    let mut arguments = BalanceArgs {
        flags: flags | if *force { 1 << 3 } else { 0 },
        state: 0,
        kinds: kinds.map(|(filter, _)| filter.unwrap_or_default()),
        progress: BalanceProgress::default(),
        unused: [0; 72],
    };
    // SAFETY: BTRFS_IOC_BALANCE_V2 reads and writes a 1024-byte `struct btrfs_ioctl_balance_args`.
    unsafe { ioctl::ioctl(mount, Updater::<BALANCE_V2, BalanceArgs>::new(&mut arguments)) }?;
    Ok(arguments.progress)
}

/// Adds `device` to the filesystem.
pub(crate) fn add_device(mount: impl AsFd, device: &str) -> io::Result<()> {
    let arguments = VolArgs { fd: 0, name: name(device)? };
    // SAFETY: BTRFS_IOC_ADD_DEV reads a `struct btrfs_ioctl_vol_args`.
    unsafe { ioctl::ioctl(mount, Setter::<ADD_DEV, VolArgs>::new(arguments)) }
}

/// Takes a device out of the filesystem by its path, or `missing`.
pub(crate) fn remove_device(mount: impl AsFd, device: &str) -> io::Result<()> {
    remove(mount, VolArgsV2 { fd: 0, transid: 0, flags: 0, unused: [0; 4], name: name(device)? })
}

/// Takes a device out of the filesystem by its number there.
pub(crate) fn remove_device_by_id(mount: impl AsFd, id: u64) -> io::Result<()> {
    // The number stands where a name would.
    let mut name = [0; 4040];
    for (to, from) in name.iter_mut().zip(id.to_ne_bytes()) {
        *to = from;
    }
    remove(mount, VolArgsV2 { fd: 0, transid: 0, flags: DEVICE_SPEC_BY_ID, unused: [0; 4], name })
}

fn remove(mount: impl AsFd, arguments: VolArgsV2) -> io::Result<()> {
    // SAFETY: BTRFS_IOC_RM_DEV_V2 reads a `struct btrfs_ioctl_vol_args_v2`.
    unsafe { ioctl::ioctl(mount, Setter::<RM_DEV_V2, VolArgsV2>::new(arguments)) }
}

/// Replaces the device with this number by the one at this path, until all is copied.
pub(crate) fn replace_device(mount: impl AsFd, from: u64, to: &str) -> io::Result<()> {
    let mut arguments = ReplaceArgs {
        command: REPLACE_START,
        result: 0,
        from,
        read_elsewhere: 0,
        from_name: [0; 1025],
        to_name: name(to)?,
        padding: [0; 6],
        spare: [0; 64],
    };
    // SAFETY: BTRFS_IOC_DEV_REPLACE reads and writes a 2600-byte `struct btrfs_ioctl_dev_replace_args`.
    unsafe { ioctl::ioctl(mount, Updater::<DEV_REPLACE, ReplaceArgs>::new(&mut arguments)) }?;
    match arguments.result {
        0 => Ok(()),
        // BTRFS_IOCTL_DEV_REPLACE_RESULT_ALREADY_STARTED and _SCRUB_INPROGRESS.
        _ => Err(io::Errno::INPROGRESS),
    }
}

/// Gives the filesystem another size: `2:314572800`, `max`.
pub(crate) fn resize(mount: impl AsFd, size: &str) -> io::Result<()> {
    let arguments = VolArgs { fd: 0, name: name(size)? };
    // SAFETY: BTRFS_IOC_RESIZE reads a `struct btrfs_ioctl_vol_args`.
    unsafe { ioctl::ioctl(mount, Setter::<RESIZE, VolArgs>::new(arguments)) }
}

/// Deletes the subvolume `called` in the directory `parent`.
pub(crate) fn delete_subvolume(parent: impl AsFd, called: &str) -> io::Result<()> {
    let arguments = VolArgs { fd: 0, name: name(called)? };
    // SAFETY: BTRFS_IOC_SNAP_DESTROY reads a `struct btrfs_ioctl_vol_args`.
    unsafe { ioctl::ioctl(parent, Setter::<SNAP_DESTROY, VolArgs>::new(arguments)) }
}

/// How many subvolumes are deleted and not gone yet.
pub(crate) fn deleted_subvolumes(mount: impl AsFd) -> io::Result<usize> {
    search(mount, ROOT_TREE, ORPHAN_OBJECTID, ORPHAN_ITEM).map(|items| items.len())
}

/// Commits, and has the cleaner look whether there is something to do.
pub(crate) fn sync(mount: impl AsFd) -> io::Result<()> {
    // SAFETY: BTRFS_IOC_SYNC takes no argument.
    unsafe { ioctl::ioctl(mount, NoArg::<SYNC>::new()) }
}

/// Writes a file anew.
pub(crate) fn defragment(file: impl AsFd, compression: Option<Compression>) -> io::Result<()> {
    // fs/btrfs/compression.h and include/uapi, enum btrfs_compression_type.
    let (flags, compression) = match compression {
        None => (0, 0),
        Some(Compression::Zlib) => (DEFRAG_COMPRESS, 1),
        Some(Compression::Lzo) => (DEFRAG_COMPRESS, 2),
        Some(Compression::Zstd) => (DEFRAG_COMPRESS, 3),
    };
    let arguments = DefragRange {
        start: 0,
        length: u64::MAX,
        flags: flags | DEFRAG_START_IO,
        extent_threshold: 0,
        compression,
        unused: [0; 4],
    };
    // SAFETY: BTRFS_IOC_DEFRAG_RANGE reads a `struct btrfs_ioctl_defrag_range_args`.
    unsafe { ioctl::ioctl(file, Setter::<DEFRAG_RANGE, DefragRange>::new(arguments)) }
}

/// Turns quotas on, which begins to count what is there.
pub(crate) fn enable_quota(mount: impl AsFd) -> io::Result<()> {
    let mut arguments = [QUOTA_ENABLE, 0];
    // SAFETY: BTRFS_IOC_QUOTA_CTL reads and writes a `struct btrfs_ioctl_quota_ctl_args`: two numbers.
    unsafe { ioctl::ioctl(mount, Updater::<QUOTA_CTL, [u64; 2]>::new(&mut arguments)) }
}

/// Begins to count anew what subvolumes have.
pub(crate) fn rescan_quota(mount: impl AsFd) -> io::Result<()> {
    // SAFETY: BTRFS_IOC_QUOTA_RESCAN reads a `struct btrfs_ioctl_quota_rescan_args`: eight numbers.
    unsafe { ioctl::ioctl(mount, Setter::<QUOTA_RESCAN, [u64; 8]>::new([0; 8])) }
}

/// Waits until all is counted.
pub(crate) fn wait_quota(mount: impl AsFd) -> io::Result<()> {
    // SAFETY: BTRFS_IOC_QUOTA_RESCAN_WAIT takes no argument.
    unsafe { ioctl::ioctl(mount, NoArg::<QUOTA_RESCAN_WAIT>::new()) }
}

/// Limits the subvolume that `subvolume` is in, in all and of its own.
pub(crate) fn limit_qgroup(
    subvolume: impl AsFd,
    referenced: Option<u64>,
    exclusive: Option<u64>,
) -> io::Result<()> {
    let flags = referenced.map_or(0, |_| LIMIT_REFERENCED) | exclusive.map_or(0, |_| LIMIT_EXCLUSIVE);
    // Number 0 is the group of the subvolume itself.
    let arguments = [0, flags, referenced.unwrap_or(0), exclusive.unwrap_or(0), 0, 0];
    // SAFETY: BTRFS_IOC_QGROUP_LIMIT reads a `struct btrfs_ioctl_qgroup_limit_args`, six numbers, although its number says that it
    // writes one.
    unsafe { ioctl::ioctl(subvolume, Setter::<QGROUP_LIMIT, [u64; 6]>::new(arguments)) }
}

/// Discards what is free, and says how many bytes that were.
pub(crate) fn trim(mount: impl AsFd) -> io::Result<u64> {
    let mut range = [0, u64::MAX, 0];
    // SAFETY: FITRIM reads and writes a `struct fstrim_range`: three numbers.
    unsafe { ioctl::ioctl(mount, Updater::<FITRIM, [u64; 3]>::new(&mut range)) }?;
    Ok(range[1])
}
