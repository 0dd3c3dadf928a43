//! btrfs' own ioctls, and the ones of files that go with them.

pub(crate) mod administration;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use rustix::io;
use rustix::ioctl::{self, Getter, Setter, Updater, opcode};

// include/uapi/linux/btrfs.h, v6.12.
const MAGIC: u8 = 0x94;
const SCAN_DEV: ioctl::Opcode = opcode::write::<VolArgs>(MAGIC, 4);
const FORGET_DEV: ioctl::Opcode = opcode::write::<VolArgs>(MAGIC, 5);
const SUBVOL_CREATE: ioctl::Opcode = opcode::write::<VolArgs>(MAGIC, 14);
const SNAP_CREATE_V2: ioctl::Opcode = opcode::write::<VolArgsV2>(MAGIC, 23);
const TREE_SEARCH_V2: ioctl::Opcode = opcode::read_write::<SearchHead>(MAGIC, 17);
const SCRUB: ioctl::Opcode = opcode::read_write::<ScrubArgs>(MAGIC, 27);
const DEV_INFO: ioctl::Opcode = opcode::read_write::<DeviceInfo>(MAGIC, 30);
const FS_INFO: ioctl::Opcode = opcode::read::<FsInfo>(MAGIC, 31);
const SUBVOL_RDONLY: u64 = 2;
// include/uapi/linux/fs.h, v6.12.
const FICLONERANGE: ioctl::Opcode = opcode::write::<CloneRange>(MAGIC, 13);

/// `struct btrfs_ioctl_fs_info_args`, as far as it is read here.
#[repr(C)]
struct FsInfo {
    max_id: u64,
    num_devices: u64,
    fsid: [u8; 16],
    node_size: u32,
    sector_size: u32,
    rest: [u64; 123],
}

/// `struct btrfs_ioctl_dev_info_args`, as far as it is read here.
#[repr(C)]
struct DeviceInfo {
    id: u64,
    uuid: [u8; 16],
    bytes_used: u64,
    total_bytes: u64,
    rest: [u64; 379],
    path: [u8; 1024],
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

/// `struct btrfs_ioctl_search_args_v2` without its buffer.
#[repr(C)]
#[derive(Clone, Copy)]
struct SearchHead {
    tree: u64,
    objectid: [u64; 2],
    offset: [u64; 2],
    transid: [u64; 2],
    kind: [u32; 2],
    items: u32,
    unused: u32,
    more_unused: [u64; 4],
    size: u64,
}

/// How much of a tree is read at once: more than the longest of the items that are asked for.
const SEARCH_SIZE: usize = 16 << 10;
/// `struct btrfs_ioctl_search_header`.
const ITEM_HEAD: usize = 32;

#[repr(C)]
struct Search {
    head: SearchHead,
    buffer: [u8; SEARCH_SIZE],
}

// include/uapi/linux/btrfs_tree.h, v6.12.
const CHUNK_TREE: u64 = 3;
const FIRST_CHUNK_TREE: u64 = 256;
const CHUNK_ITEM: u32 = 228;
const EXTENT_DATA: u32 = 108;

/// An item of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// The last part of its key.
    pub(crate) offset: u64,
    /// What it holds.
    pub(crate) data: Vec<u8>,
}

/// The chunks of the filesystem; their keys' offsets are logical addresses.
pub(crate) fn chunk_items(mount: impl AsFd) -> io::Result<Vec<Item>> {
    search(mount, CHUNK_TREE, FIRST_CHUNK_TREE, CHUNK_ITEM)
}

/// The extents of a file; their keys' offsets are places in the file.
pub(crate) fn extent_items(file: &File) -> io::Result<Vec<Item>> {
    let inode = rustix::fs::fstat(file)?.st_ino;
    // Tree 0 is the subvolume that the file is in.
    search(file, 0, inode, EXTENT_DATA)
}

/// All items of a tree with this object and kind, in order of their offsets.
fn search(within: impl AsFd, tree: u64, objectid: u64, kind: u32) -> io::Result<Vec<Item>> {
    let mut items: Vec<Item> = Vec::new();
    let mut search = Box::new(Search {
        head: SearchHead {
            tree,
            objectid: [objectid; 2],
            offset: [0, u64::MAX],
            transid: [0, u64::MAX],
            kind: [kind; 2],
            items: u32::MAX,
            unused: 0,
            more_unused: [0; 4],
            size: u64::try_from(SEARCH_SIZE).unwrap_or(0),
        },
        buffer: [0; SEARCH_SIZE],
    });
    let head = search.head;
    loop {
        let from = match items.last() {
            None => 0,
            Some(Item { offset: u64::MAX, .. }) => return Ok(items),
            Some(last) => last.offset + 1,
        };
        search.head = SearchHead { offset: [from, u64::MAX], ..head };
        // SAFETY: BTRFS_IOC_TREE_SEARCH_V2 reads and writes the head and as many bytes behind it as the head says.
        unsafe { ioctl::ioctl(within.as_fd(), Updater::<TREE_SEARCH_V2, Search>::new(&mut search)) }?;
        let before = items.len();
        let mut rest = search.buffer.as_slice();
        for _ in 0..search.head.items {
            let Some(item) = item(&mut rest) else { return Err(io::Errno::UCLEAN) };
            items.push(item);
        }
        if items.len() == before {
            return Ok(items);
        }
    }
}

/// Takes an item off the front of a buffer: transaction, object, offset, kind and length, then as many bytes.
fn item(rest: &mut &[u8]) -> Option<Item> {
    let offset = u64::from_ne_bytes(rest.get(16..24)?.try_into().ok()?);
    let length = usize::try_from(u32::from_ne_bytes(rest.get(28..32)?.try_into().ok()?)).ok()?;
    let end = ITEM_HEAD.checked_add(length)?;
    let data = rest.get(ITEM_HEAD..end)?.to_vec();
    *rest = rest.get(end..)?;
    Some(Item { offset, data })
}

/// The fsid the kernel knows this mount by: a temporary one where it is a fork beside its original.
pub(crate) fn fsid(mount: impl AsFd) -> io::Result<[u8; 16]> {
    info(mount).map(|info| info.fsid)
}

fn info(mount: impl AsFd) -> io::Result<FsInfo> {
    // SAFETY: BTRFS_IOC_FS_INFO writes a 1024-byte struct, and the layout begins as above.
    unsafe { ioctl::ioctl(mount, Getter::<FS_INFO, FsInfo>::new()) }
}

/// How large the nodes of the trees are, in bytes.
pub(crate) fn node_size(mount: impl AsFd) -> io::Result<u64> {
    info(mount).map(|info| u64::from(info.node_size))
}

/// The devices of the filesystem: number and path, which is empty where it misses one.
pub(crate) fn devices(mount: impl AsFd) -> io::Result<Vec<(u64, String)>> {
    let mount = mount.as_fd();
    let mut devices = Vec::new();
    for id in 0..=info(mount)?.max_id {
        let mut device =
            DeviceInfo { id, uuid: [0; 16], bytes_used: 0, total_bytes: 0, rest: [0; 379], path: [0; 1024] };
        // SAFETY: BTRFS_IOC_DEV_INFO reads and writes a 4096-byte `struct btrfs_ioctl_dev_info_args`.
        match unsafe { ioctl::ioctl(mount, Updater::<DEV_INFO, DeviceInfo>::new(&mut device)) } {
            Ok(()) => {}
            // Numbers are not given twice: there are gaps where devices were removed.
            Err(io::Errno::NODEV) => continue,
            Err(errno) => return Err(errno),
        }
        let path = device.path.split(|byte| *byte == 0).next().unwrap_or_default();
        // Some kernels have a word for it.
        let path = String::from_utf8_lossy(path).into_owned();
        devices.push((id, if path.starts_with('/') { path } else { String::new() }));
    }
    Ok(devices)
}

/// Has btrfs look what is on `device`.
pub(crate) fn scan(control: impl AsFd, device: &str) -> io::Result<()> {
    let arguments = VolArgs { fd: 0, name: name(device)? };
    // SAFETY: BTRFS_IOC_SCAN_DEV reads a `struct btrfs_ioctl_vol_args`.
    unsafe { ioctl::ioctl(control, Setter::<SCAN_DEV, VolArgs>::new(arguments)) }
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

/// Scrubs all devices that are there, one after the other, which takes until all of them is read, and says how many errors
/// there were.
pub(crate) fn scrub(mount: impl AsFd) -> io::Result<u64> {
    let mount = mount.as_fd();
    let there = devices(mount)?.into_iter().filter(|(_, path)| !path.is_empty());
    there.map(|(device, _)| scrub_one(mount, device)).sum()
}

fn scrub_one(mount: impl AsFd, device: u64) -> io::Result<u64> {
    let mut arguments = ScrubArgs {
        device,
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
