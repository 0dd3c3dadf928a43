//! btrfs' own ioctls, and the ones of files that go with them.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use rustix::io;
use rustix::ioctl::{self, Getter, Setter, Updater, opcode};

// include/uapi/linux/btrfs.h, v6.12.
const MAGIC: u8 = 0x94;
const FORGET_DEV: ioctl::Opcode = opcode::write::<VolArgs>(MAGIC, 5);
const SUBVOL_CREATE: ioctl::Opcode = opcode::write::<VolArgs>(MAGIC, 14);
const SNAP_CREATE_V2: ioctl::Opcode = opcode::write::<VolArgsV2>(MAGIC, 23);
const SCRUB: ioctl::Opcode = opcode::read_write::<ScrubArgs>(MAGIC, 27);
const FS_INFO: ioctl::Opcode = opcode::read::<FsInfo>(MAGIC, 31);
const SUBVOL_RDONLY: u64 = 2;
/// The one device of every filesystem that brim makes.
const FIRST_DEVICE: u64 = 1;
// include/uapi/linux/fs.h, v6.12.
const FICLONERANGE: ioctl::Opcode = opcode::write::<CloneRange>(MAGIC, 13);

/// `struct btrfs_ioctl_fs_info_args`, as far as it is read here.
#[repr(C)]
struct FsInfo {
    max_id: u64,
    num_devices: u64,
    fsid: [u8; 16],
    rest: [u64; 124],
}

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_scrub_args` with its `struct btrfs_scrub_progress`.
#[repr(C)]
struct ScrubArgs {
    device: u64,
    start: u64,
    end: u64,
    flags: u64,
    progress: ScrubProgress,
    unused: [u64; 109],
}

#[repr(C)]
#[derive(Default)]
struct ScrubProgress {
    data_extents_scrubbed: u64,
    tree_extents_scrubbed: u64,
    data_bytes_scrubbed: u64,
    tree_bytes_scrubbed: u64,
    read_errors: u64,
    csum_errors: u64,
    verify_errors: u64,
    no_csum: u64,
    csum_discards: u64,
    super_errors: u64,
    malloc_errors: u64,
    uncorrectable_errors: u64,
    corrected_errors: u64,
    last_physical: u64,
    unverified_errors: u64,
}

/// `struct file_clone_range`.
#[repr(C)]
struct CloneRange {
    from: i64,
    from_offset: u64,
    length: u64,
    to_offset: u64,
}

/// The fsid the kernel knows this mount by: a temporary one where it is a fork beside its original.
pub(crate) fn fsid(mount: impl AsFd) -> io::Result<[u8; 16]> {
    // SAFETY: BTRFS_IOC_FS_INFO writes a 1024-byte struct, and the layout begins as above.
    let info = unsafe { ioctl::ioctl(mount, Getter::<FS_INFO, FsInfo>::new()) }?;
    Ok(info.fsid)
}

/// Has btrfs forget that it ever scanned `device`.
pub(crate) fn forget(control: impl AsFd, device: &str) -> io::Result<()> {
    let arguments = VolArgs { fd: 0, name: name(device)? };
    // SAFETY: BTRFS_IOC_FORGET_DEV reads a `struct btrfs_ioctl_vol_args`.
    unsafe { ioctl::ioctl(control, Setter::<FORGET_DEV, VolArgs>::new(arguments)) }
}

/// Makes the subvolume `called` in the directory `parent`.
pub(crate) fn create_subvolume(parent: impl AsFd, called: &str) -> io::Result<()> {
    let arguments = VolArgs { fd: 0, name: name(called)? };
    // SAFETY: BTRFS_IOC_SUBVOL_CREATE reads a `struct btrfs_ioctl_vol_args`.
    unsafe { ioctl::ioctl(parent, Setter::<SUBVOL_CREATE, VolArgs>::new(arguments)) }
}

/// Makes a snapshot of `subvolume`, called `called`, in the directory `parent`.
pub(crate) fn create_snapshot(
    parent: impl AsFd,
    subvolume: &File,
    called: &str,
    read_only: bool,
) -> io::Result<()> {
    let arguments = VolArgsV2 {
        fd: i64::from(subvolume.as_raw_fd()),
        transid: 0,
        flags: if read_only { SUBVOL_RDONLY } else { 0 },
        unused: [0; 4],
        name: name(called)?,
    };
    // SAFETY: BTRFS_IOC_SNAP_CREATE_V2 reads a `struct btrfs_ioctl_vol_args_v2`, and the descriptor in it is open.
    unsafe { ioctl::ioctl(parent, Setter::<SNAP_CREATE_V2, VolArgsV2>::new(arguments)) }
}

/// Scrubs the device, which takes until all of it is read, and says how many errors there were.
pub(crate) fn scrub(mount: impl AsFd) -> io::Result<u64> {
    let mut arguments = ScrubArgs {
        device: FIRST_DEVICE,
        start: 0,
        end: u64::MAX,
        flags: 0,
        progress: ScrubProgress::default(),
        unused: [0; 109],
    };
    // SAFETY: BTRFS_IOC_SCRUB reads and writes a 1024-byte `struct btrfs_ioctl_scrub_args`.
    unsafe { ioctl::ioctl(mount, Updater::<SCRUB, ScrubArgs>::new(&mut arguments)) }?;
    let ScrubProgress { read_errors, csum_errors, verify_errors, super_errors, .. } = arguments.progress;
    Ok(read_errors + csum_errors + verify_errors + super_errors)
}

/// Has `to` share the extents of `length` bytes of `from`.
pub(crate) fn clone_range(
    from: &File,
    from_offset: u64,
    length: u64,
    to: &File,
    to_offset: u64,
) -> io::Result<()> {
    let arguments = CloneRange { from: i64::from(from.as_raw_fd()), from_offset, length, to_offset };
    // SAFETY: FICLONERANGE reads a `struct file_clone_range`, and the descriptor in it is open.
    unsafe { ioctl::ioctl(to, Setter::<FICLONERANGE, CloneRange>::new(arguments)) }
}

/// A name in a struct, with at least one nul behind it.
fn name<const LENGTH: usize>(name: &str) -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    if name.len() >= LENGTH {
        return Err(io::Errno::NAMETOOLONG);
    }
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    Ok(bytes)
}
