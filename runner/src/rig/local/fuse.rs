//! The disk as one file in a FUSE filesystem. A request that is done at once is done here; one that may wait goes to the NBD
//! server as it comes, so that none waits for another. The filesystem stays while one disk after the other is behind its file.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, UNIX_EPOCH};

use brim_trial::Bytes;
use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, Session, SessionACL, TimeOrNow, WriteFlags,
};
use nbd_server::Disk;
use nbd_server::client::{Client, Command, CommandError, Reply};

/// The one file. The agent puts its loop device over it.
const NAME: &str = "disk";
const FILE: INodeNo = INodeNo(2);
/// The kernel asks for the size each time: a live resize must be seen at once.
const TTL: Duration = Duration::ZERO;
/// The largest request the kernel sends.
const WRITE_MAX: u32 = 1 << 20;
/// More than a loop device has in flight (128, drivers/block/loop.c, v6.12), so that the kernel never throttles.
const BACKGROUND_MAX: u16 = 256;

// include/uapi/linux/falloc.h, v6.12; what loop sends for discard and for write-zeroes (drivers/block/loop.c).
const FALLOC_FL_KEEP_SIZE: i32 = 1;
const FALLOC_FL_PUNCH_HOLE: i32 = 2;
const FALLOC_FL_ZERO_RANGE: i32 = 16;

/// The one file, and the disk that is behind it for now.
#[derive(Debug, Default)]
pub(super) struct DiskFile {
    size: AtomicU64,
    /// How often it is open: a loop device holds it until its last request is done.
    open: AtomicUsize,
    behind: RwLock<Option<Behind>>,
}

/// A disk, and two ways to it.
#[derive(Debug)]
struct Behind {
    /// For whatever may have to wait, and for all once the server is gone: most disks never need it.
    client: OnceLock<Option<Client>>,
    /// Makes it.
    connect: Connect,
    /// For what is done at once; none when every request has to fail.
    disk: Option<Disk>,
}

/// How to come by a client; none where the server is gone.
pub(super) struct Connect(pub(super) Box<dyn Fn() -> Option<Client> + Send + Sync>);

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connect")
    }
}

/// The filesystem.
#[derive(Debug)]
struct Served(Arc<DiskFile>);

/// Serves `file` on the FUSE descriptor `fuse` of a filesystem that is mounted already.
pub(super) fn serve(file: &Arc<DiskFile>, fuse: OwnedFd) -> io::Result<BackgroundSession> {
    let served = Served(Arc::clone(file));
    let session = Session::from_fd(served, fuse, SessionACL::Owner, Config::default())?;
    session.spawn()
}

impl DiskFile {
    /// Puts a disk behind it.
    pub(super) fn put(&self, disk: Disk, connect: Connect) {
        self.set_size(disk.size());
        let behind = Behind { client: OnceLock::new(), connect, disk: Some(disk) };
        *self.behind.write().unwrap_or_else(PoisonError::into_inner) = Some(behind);
    }

    /// Takes the disk away: from now on there is nothing.
    pub(super) fn take(&self) {
        // Dropped without the lock: its thread may be about to answer somebody who waits for the lock.
        let gone = self.behind.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(gone);
    }

    /// Has every request go to the server, which is gone: it fails.
    pub(super) fn fail(&self) {
        if let Some(behind) = self.behind.write().unwrap_or_else(PoisonError::into_inner).as_mut() {
            behind.disk = None;
        }
    }

    /// The size of the file.
    pub(super) fn set_size(&self, size: Bytes) {
        self.size.store(size.0, Ordering::Release);
    }

    /// Whether anybody has it open.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire) > 0
    }

    /// Does a command and tells what it came to, now or when the disk has done it.
    fn run(&self, command: Command<'_>, done: impl FnOnce(Result<Reply, Errno>) + Send + 'static) {
        let behind = self.behind.read().unwrap_or_else(PoisonError::into_inner);
        let Some(behind) = behind.as_ref() else { return done(Err(Errno::EIO)) };
        if let Some(reply) = behind.disk.as_ref().and_then(|disk| disk.direct(&command)) {
            return done(Ok(reply));
        }
        match behind.client.get_or_init(|| behind.connect.0()) {
            Some(client) => client.submit(command, Box::new(move |result| done(result.map_err(errno)))),
            None => done(Err(Errno::EIO)),
        }
    }

    fn attributes(&self, ino: INodeNo) -> FileAttr {
        let (size, kind, perm) = match ino {
            FILE => (self.size.load(Ordering::Acquire), FileType::RegularFile, 0o600),
            _ => (0, FileType::Directory, 0o700),
        };
        FileAttr {
            ino,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// Does a command whose reply has no data.
    fn pass_on(&self, command: Command<'_>, reply: ReplyEmpty) {
        self.run(command, move |result| match result {
            Ok(_) => reply.ok(),
            Err(errno) => reply.error(errno),
        });
    }
}

fn errno(error: CommandError) -> Errno {
    Errno::from_i32(error.errno())
}

impl Filesystem for Served {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Without asynchronous direct I/O one slow request stops the whole loop device.
        let unsupported = |missing| io::Error::other(format!("the kernel's FUSE has no {missing:?}"));
        config.add_capabilities(InitFlags::FUSE_ASYNC_DIO).map_err(unsupported)?;
        // Refused settings come back as the nearest that is possible, and that is good enough.
        if let Err(nearest) = config.set_max_write(WRITE_MAX) {
            let _ = config.set_max_write(nearest);
        }
        let _ = config.set_max_background(BACKGROUND_MAX);
        Ok(())
    }

    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == NAME {
            reply.entry(&TTL, &self.0.attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.0.attributes(ino));
    }

    fn setattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.attr(&TTL, &self.0.attributes(ino));
    }

    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.0.open.fetch_add(1, Ordering::AcqRel);
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn release(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        reply.ok();
    }

    fn read(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let left = self.0.size.load(Ordering::Acquire).saturating_sub(offset);
        let command = Command::Read { offset: Bytes(offset), len: Bytes(left.min(u64::from(size))) };
        self.0.run(command, move |result| match result {
            Ok(Reply { data, .. }) => reply.data(&data),
            Err(errno) => reply.error(errno),
        });
    }

    fn write(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = u32::try_from(data.len()).unwrap_or(u32::MAX);
        self.0.run(Command::Write { offset: Bytes(offset), data, fua: false }, move |result| match result {
            Ok(_) => reply.written(written),
            Err(errno) => reply.error(errno),
        });
    }

    fn flush(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn fsync(&self, _request: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.0.pass_on(Command::Flush, reply);
    }

    fn fallocate(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let (offset, len) = (Bytes(offset), Bytes(length));
        match mode & !FALLOC_FL_KEEP_SIZE {
            FALLOC_FL_PUNCH_HOLE => self.0.pass_on(Command::Trim { offset, len, fua: false }, reply),
            FALLOC_FL_ZERO_RANGE => {
                let command = Command::WriteZeroes { offset, len, fua: false, no_hole: false };
                self.0.pass_on(command, reply);
            }
            _ => reply.error(Errno::EOPNOTSUPP),
        }
    }
}
