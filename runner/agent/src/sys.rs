//! The few system calls that no safe library wraps. Everything unsafe of the agent is in this file and those below it.

#![expect(unsafe_code, reason = "ioctls with their own structs, and unshare")]

pub(crate) mod btrfs;
mod fiemap;
mod mapping;

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, RawFd};

use rustix::io;
use rustix::ioctl::{self, NoArg, Setter, opcode};
use rustix::process::Signal;
use rustix::thread::UnshareFlags;
use syscalls::Sysno;

pub(crate) use fiemap::{extents, fiemap};
pub(crate) use mapping::{Mapping, page_size};

/// The running kernel's release: `6.18.44-cloud-amd64`.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Has the kernel kill this process when its parent dies, and says whether the parent is still `parent`.
///
/// # Errors
/// prctl(2) failed.
pub fn die_with_parent(parent: u32) -> io::Result<bool> {
    signal_with_parent(parent, Signal::KILL)
}

/// As [`die_with_parent`], but with a SIGTERM, for a process that has something to do before.
///
/// # Errors
/// prctl(2) failed.
pub fn told_with_parent(parent: u32) -> io::Result<bool> {
    signal_with_parent(parent, Signal::TERM)
}

fn signal_with_parent(parent: u32, signal: Signal) -> io::Result<bool> {
    rustix::process::set_parent_process_death_signal(Some(signal))?;
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    Ok(now.is_some_and(|now| u32::try_from(now) == Ok(parent)))
}

// include/uapi/linux/time.h, v6.12.
const CLOCK_MONOTONIC: usize = 1;

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of the trace records. It is asked by system call, as a kernel of User Mode Linux
/// has not all of the vDSO that rustix insists on (7.2 lacks `__vdso_getcpu`).
#[must_use]
pub fn monotonic() -> u64 {
    let mut now = [0_i64; 2];
    // SAFETY: clock_gettime(2) fills a `struct timespec`, which is two numbers of 64 bits here (asm-generic/posix_types.h).
    let read = unsafe {
        syscalls::syscall2(Sysno::clock_gettime, CLOCK_MONOTONIC, now.as_mut_ptr().expose_provenance())
    };
    let [seconds, nanoseconds] = if read.is_ok() { now } else { [0; 2] };
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    number(seconds) * 1_000_000_000 + number(nanoseconds)
}

/// Calls this thread what it is: started by way of /proc/self/exe it would be `exe` in ps(1) and in the kernel log.
pub(crate) fn set_name() {
    // A name is a convenience.
    let _ = rustix::thread::set_name(c"brim-agent");
}

/// Gives this process its own mount namespace. To be called before it has a second thread.
pub(crate) fn unshare_mounts() -> io::Result<()> {
    // SAFETY: only CLONE_FILES is dangerous here, as it would split the descriptor table that I/O safety rests on.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
}

/// Puts the processes that this one starts from now on in a new process namespace.
pub(crate) fn unshare_processes() -> io::Result<()> {
    // SAFETY: as above.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) }
}

// include/uapi/linux/loop.h, v6.12.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;
const LOOP_CLR_FD: ioctl::Opcode = 0x4C01;
const LOOP_SET_CAPACITY: ioctl::Opcode = 0x4C07;
const LOOP_CONFIGURE: ioctl::Opcode = 0x4C0A;
const LOOP_CTL_GET_FREE: ioctl::Opcode = 0x4C82;
// include/uapi/linux/fs.h, v6.12.
const BLKFLSBUF: ioctl::Opcode = opcode::none(0x12, 97);

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// The number of a loop device that is free now; somebody else may still take it first.
pub(crate) fn loop_get_free(control: impl AsFd) -> io::Result<u32> {
    struct GetFree;
    // SAFETY: LOOP_CTL_GET_FREE takes no argument and answers with its return value.
    unsafe impl ioctl::Ioctl for GetFree {
        type Output = u32;
        const IS_MUTATING: bool = false;
        fn opcode(&self) -> ioctl::Opcode {
            LOOP_CTL_GET_FREE
        }
        fn as_ptr(&mut self) -> *mut std::ffi::c_void {
            std::ptr::null_mut()
        }
        unsafe fn output_from_ptr(out: ioctl::IoctlOutput, _: *mut std::ffi::c_void) -> io::Result<u32> {
            u32::try_from(out).map_err(|_| io::Errno::INVAL)
        }
    }
    // SAFETY: as above.
    unsafe { ioctl::ioctl(control, GetFree) }
}

/// Makes `device` a loop device over `backing`, with direct I/O, that goes away at its last close.
pub(crate) fn loop_configure(
    device: impl AsFd,
    backing: RawFd,
    block_size: u32,
    name: &str,
) -> io::Result<()> {
    let mut file_name = [0; 64];
    for (to, from) in file_name.iter_mut().take(63).zip(name.bytes()) {
        *to = from;
    }
    let info = LoopInfo64 {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        sizelimit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO,
        file_name,
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    let fd = u32::try_from(backing).map_err(|_| io::Errno::BADF)?;
    let config = LoopConfig { fd, block_size, info, reserved: [0; 8] };
    // SAFETY: LOOP_CONFIGURE reads a `struct loop_config`, and the layout is the one above.
    unsafe { ioctl::ioctl(device, Setter::<LOOP_CONFIGURE, LoopConfig>::new(config)) }
}

/// Has the loop device go away now, or at its last close.
pub(crate) fn loop_clear(device: impl AsFd) -> io::Result<()> {
    // SAFETY: LOOP_CLR_FD takes no argument.
    unsafe { ioctl::ioctl(device, NoArg::<LOOP_CLR_FD>::new()) }
}

/// Has the loop device take its size from its file again.
pub(crate) fn loop_set_capacity(device: impl AsFd) -> io::Result<()> {
    // SAFETY: LOOP_SET_CAPACITY takes no argument.
    unsafe { ioctl::ioctl(device, NoArg::<LOOP_SET_CAPACITY>::new()) }
}

/// Forgets what the block device has cached.
pub(crate) fn flush_buffers(device: impl AsFd) -> io::Result<()> {
    // SAFETY: BLKFLSBUF takes no argument that it reads.
    unsafe { ioctl::ioctl(device, NoArg::<BLKFLSBUF>::new()) }
}

// include/uapi/linux/random.h, v6.12: _IOW('R', 0x03, int[2]), with a `struct rand_pool_info` behind the pointer.
const RNDADDENTROPY: ioctl::Opcode = opcode::write::<[i32; 2]>(b'R', 3);

/// `struct rand_pool_info` with room for a seed.
#[repr(C)]
struct RandPoolInfo {
    entropy_count: i32,
    buf_size: i32,
    buf: [u8; 32],
}

/// Adds `seed` to the kernel's entropy, and has every bit of it count.
pub(crate) fn add_entropy(random: impl AsFd, seed: &[u8; 32]) -> io::Result<()> {
    let info = RandPoolInfo { entropy_count: 256, buf_size: 32, buf: *seed };
    // SAFETY: RNDADDENTROPY reads a `struct rand_pool_info` and as many bytes behind it as its `buf_size` says.
    unsafe { ioctl::ioctl(random, Setter::<RNDADDENTROPY, RandPoolInfo>::new(info)) }
}

// include/uapi/linux/fs.h, v6.12: wait for what is under way, write the rest, wait for that.
const SYNC_FILE_RANGE_WRITE_AND_WAIT: usize = 7;

/// Writes a range of a file back and waits, without its metadata and without a commit.
pub(crate) fn sync_file_range(file: &File, offset: u64, length: u64) -> io::Result<()> {
    let number = |value: u64| usize::try_from(value).map_err(|_| io::Errno::INVAL);
    let descriptor = usize::try_from(file.as_raw_fd()).map_err(|_| io::Errno::BADF)?;
    let (offset, length) = (number(offset)?, number(length)?);
    // SAFETY: sync_file_range(2) takes four numbers and no pointer; the descriptor is open.
    let ended = unsafe {
        syscalls::syscall4(Sysno::sync_file_range, descriptor, offset, length, SYNC_FILE_RANGE_WRITE_AND_WAIT)
    };
    ended.map(drop).map_err(|errno| io::Errno::from_raw_os_error(errno.into_raw()))
}

/// Closes a file, and says what close(2) says; the descriptor is gone in either case.
pub(crate) fn close(file: File) -> io::Result<()> {
    let descriptor = usize::try_from(file.into_raw_fd()).map_err(|_| io::Errno::BADF)?;
    // SAFETY: the descriptor was the file's own, and nobody else has it.
    let ended = unsafe { syscalls::syscall1(Sysno::close, descriptor) };
    ended.map(drop).map_err(|errno| io::Errno::from_raw_os_error(errno.into_raw()))
}

// include/uapi/linux/fs.h, v6.12.
const FIFREEZE: ioctl::Opcode = opcode::read_write::<i32>(b'X', 119);
const FITHAW: ioctl::Opcode = opcode::read_write::<i32>(b'X', 120);

/// Has the filesystem of `root` take no writes any more, once those under way are done.
pub(crate) fn freeze(root: impl AsFd) -> io::Result<()> {
    // SAFETY: FIFREEZE has an argument that it does not look at.
    unsafe { ioctl::ioctl(root, NoArg::<FIFREEZE>::new()) }
}

/// Has it take writes again.
pub(crate) fn thaw(root: impl AsFd) -> io::Result<()> {
    // SAFETY: as above.
    unsafe { ioctl::ioctl(root, NoArg::<FITHAW>::new()) }
}

/// Has the kernel swap to the file at `path`.
pub(crate) fn swapon(path: &str) -> io::Result<()> {
    let path = std::ffi::CString::new(path).map_err(|_| io::Errno::INVAL)?;
    // SAFETY: swapon(2) reads a string that lives as long as the call.
    told(unsafe { libc::swapon(path.as_ptr(), 0) })
}

/// Has it do so no longer.
pub(crate) fn swapoff(path: &str) -> io::Result<()> {
    let path = std::ffi::CString::new(path).map_err(|_| io::Errno::INVAL)?;
    // SAFETY: as above.
    told(unsafe { libc::swapoff(path.as_ptr()) })
}

/// What a call of the C library came to.
fn told(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        return Ok(());
    }
    Err(io::Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(io::Errno::IO))
}

// include/uapi/linux/perf_event.h, v6.12.
const PERF_SET_FILTER: ioctl::Opcode = opcode::write::<*mut u8>(b'$', 6);

/// Has a tracepoint's perf event pass only records for which `filter` holds.
pub(crate) fn perf_set_filter(event: &impl AsRawFd, filter: &CStr) -> io::Result<()> {
    struct Filter<'a>(&'a CStr);
    // SAFETY: PERF_EVENT_IOC_SET_FILTER reads a nul-terminated string, which lives as long as the call.
    unsafe impl ioctl::Ioctl for Filter<'_> {
        type Output = ();
        const IS_MUTATING: bool = false;
        fn opcode(&self) -> ioctl::Opcode {
            PERF_SET_FILTER
        }
        fn as_ptr(&mut self) -> *mut std::ffi::c_void {
            self.0.as_ptr().cast_mut().cast()
        }
        unsafe fn output_from_ptr(_: ioctl::IoctlOutput, _: *mut std::ffi::c_void) -> io::Result<()> {
            Ok(())
        }
    }
    // SAFETY: `event` owns the descriptor and outlives the call.
    let event = unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) };
    // SAFETY: as above.
    unsafe { ioctl::ioctl(event, Filter(filter)) }
}
