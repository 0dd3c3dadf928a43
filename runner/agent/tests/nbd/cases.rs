//! What holds on every kernel with nbd.ko.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use brim_device::Bytes;
use brim_device::fault::{ErrorName, Op, Then};
use brim_device::log::What;
use rustix::fs::{FallocateFlags, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::guest::{BLOCK, HOLD, KILLED, LIMIT, Rig, open, read, sysfs, tool, write};
use brim_agent::{NbdDevice, NbdSettings};

const MIB: u64 = 1 << 20;
const EIO: Option<i32> = Some(5);

/// One test: its name, the programs it takes from this machine, what it does in the guest. It fails by a panic.
type Case = (&'static str, &'static [&'static str], fn());

pub(crate) const ALL: &[Case] = &[
    ("every_kind_of_request_reaches_the_server", &["blkdiscard"], requests),
    ("a_held_request_stops_no_other_and_is_sent_once", &[], held),
    ("the_disk_grows_and_shrinks_while_it_is_used", &[], resize),
    ("an_error_of_any_number_is_eio", &[], errors),
    ("a_device_is_free_when_disconnect_returns", &[], again),
    ("two_hundred_disks_come_and_go", &[], cycles),
    ("a_disk_that_is_cut_off_answers_with_eio", &[], cut),
    ("a_server_that_goes_leaves_its_requests_waiting_until_the_cut", &[], server_goes),
    ("the_device_of_a_killed_process_goes_with_it", &[], killed),
    ("a_disk_has_its_exact_size_in_blocks_of_any", &[], sizes),
    ("a_refusal_says_what_was_tried", &[], refused),
    ("btrfs_lives_on_it", &["mkfs.btrfs"], btrfs),
];

fn requests() {
    let rig = Rig::new(16 * MIB);
    let device = rig.attach();
    assert_eq!((device.path(), device.name()), ("/dev/nbd0", "nbd0"));
    assert_eq!(device.size().unwrap(), Bytes(16 * MIB));
    let queue = |file: &str| sysfs("nbd0", &format!("queue/{file}")).unwrap();
    assert_eq!((queue("logical_block_size").as_str(), queue("write_cache").as_str()), ("4096", "write back"));
    assert_eq!(queue("fua"), "1");

    let file = open("/dev/nbd0", OFlags::empty());
    write(&file, 3, 7).unwrap();
    assert_eq!(read(&file, 3).unwrap(), 7);
    let durable = |block: usize| {
        let mut now = [0; BLOCK];
        rig.disk.durable().read(Bytes::of_len(block * BLOCK), &mut now).unwrap();
        now[0]
    };
    assert_eq!(durable(3), 0, "before the flush");
    file.sync_data().unwrap();
    assert_eq!(durable(3), 7, "after the flush");

    rig.disk.start_log();
    write(&open("/dev/nbd0", OFlags::DSYNC), 5, 9).unwrap();
    let log = rig.disk.stop_log().unwrap().unwrap();
    let written = log.iter().find(|it| matches!(it.entry().what, What::Write { .. })).unwrap();
    assert!(written.entry().flags.fua, "{:?}", written.entry());

    let stats = rig.disk.stats();
    assert!(stats.read.requests >= 1 && stats.flush.requests >= 1, "{stats:?}");
    assert_eq!(
        (stats.write.requests, stats.write.bytes, stats.trim.requests),
        (2, Bytes::of_len(2 * BLOCK), 0)
    );
    tool("blkdiscard", &["-o", "12288", "-l", "4096", "/dev/nbd0"]);
    assert_eq!(rig.disk.stats().trim.bytes, Bytes::of_len(BLOCK));

    // Before v6.12 nbd.ko has no NBD_CMD_WRITE_ZEROES, and the kernel writes zeroes itself.
    let before = rig.disk.stats();
    rustix::fs::fallocate(&file, FallocateFlags::ZERO_RANGE, 5 * 4096, 4096).unwrap();
    let now = rig.disk.stats();
    let sent = (now.zeroes.requests - before.zeroes.requests, now.write.requests - before.write.requests);
    assert_eq!(sent, if queue("write_zeroes_max_bytes") == "0" { (0, 1) } else { (1, 0) });
    assert_eq!(read(&file, 5).unwrap(), 0);
    drop(file);
    device.forget().unwrap();
    device.forget_cache().unwrap();

    let cached = std::fs::File::options().write(true).open("/dev/nbd0").unwrap();
    std::os::unix::fs::FileExt::write_all_at(&cached, &[4; BLOCK], 7 * 4096).unwrap();
    drop(cached);
    let flushes = rig.disk.stats().flush;
    device.disconnect().unwrap();
    let mut now = [0; BLOCK];
    rig.disk.snapshot().read(Bytes(7 * 4096), &mut now).unwrap();
    assert_eq!(now, [4; BLOCK], "what was only cached");
    assert_eq!(rig.disk.stats().flush, flushes, "what nobody asked to be durable need not be");
}

/// `BRIM_TEST_HOLD` says for how many seconds: each 30 the kernel looks whether it has to do something about the request.
fn held() {
    let rig = Rig::new(16 * MIB);
    let device = rig.attach();
    let file = open(device.path(), OFlags::empty());
    write(&file, 1, 1).unwrap();
    rig.fault("gate", Op::Write, Then::HOLD);
    thread::scope(|scope| {
        let writer = scope.spawn(|| write(&file, 1, 2));
        rig.wait_held("gate", 1);
        let hold = std::env::var(HOLD).map_or(0, |seconds| seconds.parse().unwrap());
        thread::sleep(Duration::from_secs(hold));
        assert_eq!(read(&file, 1).unwrap(), 1);
        let second = scope.spawn(|| write(&file, 2, 2));
        rig.wait_held("gate", 2);
        assert_eq!(rig.disk.stats().write.requests, 3, "neither was sent again");
        assert!(!writer.is_finished());
        assert_eq!(rig.disk.open_gate("gate"), 2);
        writer.join().unwrap().unwrap();
        second.join().unwrap().unwrap();
    });
    assert_eq!((read(&file, 1).unwrap(), read(&file, 2).unwrap()), (2, 2));
    assert_eq!(rig.disk.stats().write.requests, 3);
}

fn resize() {
    let rig = Rig::new(16 * MIB);
    let device = rig.attach();
    let file = open(device.path(), OFlags::empty());
    let last = |size: u64| size / 4096 - 1;
    for size in [32 * MIB, 20 * MIB + 4096, 16 * MIB] {
        rig.disk.resize(Bytes(size)).unwrap();
        assert_eq!(device.resize(Bytes(size)).unwrap(), Bytes(size));
        assert_eq!(device.size().unwrap(), Bytes(size));
        write(&file, last(size), 1).unwrap();
        assert_eq!(read(&file, last(size)).unwrap(), 1);
        assert!(write(&file, last(size) + 1, 1).is_err(), "past the end of {size}");
    }
    assert_eq!(device.resize(Bytes(16 * MIB)).unwrap(), Bytes(16 * MIB), "the size it has");

    // Newer kernels wait for what is held, older ones do not.
    rig.fault("gate", Op::Write, Then::HOLD);
    rig.disk.resize(Bytes(24 * MIB)).unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| write(&file, 0, 2));
        rig.wait_held("gate", 1);
        let resized = scope.spawn(|| device.resize(Bytes(24 * MIB)));
        thread::sleep(Duration::from_millis(100));
        assert_eq!(rig.disk.open_gate("gate"), 1);
        writer.join().unwrap().unwrap();
        assert_eq!(resized.join().unwrap().unwrap(), Bytes(24 * MIB));
    });
}

fn errors() {
    let rig = Rig::new(16 * MIB);
    let device = rig.attach();
    let file = open(device.path(), OFlags::empty());
    for error in ErrorName::ALL {
        rig.fault("error", Op::Write, Then::Error(error));
        assert_eq!(write(&file, 0, 1).unwrap_err().raw_os_error(), EIO);
        rig.disk.remove_fault("error").unwrap();
        write(&file, 0, 1).unwrap();
    }
}

fn again() {
    let (one, two) = (Rig::new(4 * MIB), Rig::new(8 * MIB));
    let first = one.attach();
    let second = two.attach();
    assert_eq!((first.name(), second.name()), ("nbd0", "nbd1"));
    first.disconnect().unwrap();
    assert_eq!((sysfs("nbd0", "pid"), sysfs("nbd0", "size").as_deref()), (None, Some("0")));
    assert_eq!(sysfs("nbd1", "size").as_deref(), Some("16384"));
    let first = one.attach();
    assert_eq!(first.name(), "nbd0", "the kernel takes the first that is free");
    drop(first);
    assert_eq!(sysfs("nbd0", "pid"), None, "a drop disconnects too");

    // Somebody still has it open: the device stays taken until they close it, and disconnect waits for that.
    let first = one.attach();
    let open = open(first.path(), OFlags::empty());
    let closed = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        drop(open);
    });
    let start = Instant::now();
    first.disconnect().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(250), "it returned while the device was in use");
    closed.join().unwrap();
    assert_eq!(one.attach().name(), "nbd0");
}

fn cycles() {
    let rig = Rig::new(4 * MIB);
    let there_is = || {
        // The server ends a connection after the kernel.
        wait_until("the server's connections ended", || rig.server.connection_count() == 0);
        ["/proc/self/fd", "/sys/block"].map(|directory| std::fs::read_dir(directory).unwrap().count())
    };
    let cycle = |byte: u8| {
        let device = rig.attach();
        assert_eq!(device.name(), "nbd0");
        write(&open(device.path(), OFlags::empty()), 0, byte).unwrap();
        device.disconnect().unwrap();
    };
    cycle(0);
    let (before, memory, start) = (there_is(), slab(), Instant::now());
    (0..200).for_each(cycle);
    let took = start.elapsed() / 200;
    assert_eq!(there_is(), before, "descriptors and devices");
    println!("a cycle takes {took:?}; {memory} KiB of slab before, {} KiB after", slab());
    // A leak of one request queue in each would be more than a MiB.
    assert!(slab() < memory + 1024, "{memory} KiB of slab before, {} KiB after", slab());
}

fn slab() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("SUnreclaim:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < until, "{what}: not within {LIMIT:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn cut() {
    let rig = Rig::new(4 * MIB);
    let device = rig.attach();
    let file = open(device.path(), OFlags::empty());
    rig.fault("gate", Op::Write, Then::HOLD);
    thread::scope(|scope| {
        let writer = scope.spawn(|| write(&file, 0, 1));
        rig.wait_held("gate", 1);
        device.cut().unwrap();
        assert_eq!(writer.join().unwrap().unwrap_err().raw_os_error(), EIO);
    });
    assert_eq!(write(&file, 1, 1).unwrap_err().raw_os_error(), EIO);
    wait_until("the server saw the end of its stream", || rig.server.connection_count() == 0);
    device.cut().expect("nothing is left to cut");
    drop(file);
    device.disconnect().unwrap();
    assert_eq!(sysfs("nbd0", "pid"), None);
}

fn server_goes() {
    let rig = Rig::new(4 * MIB);
    let device = rig.attach();
    let file = open(device.path(), OFlags::empty());
    rig.fault("gate", Op::Write, Then::HOLD);
    let (sender, ended) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| sender.send(write(&file, 0, 1)).unwrap());
        rig.wait_held("gate", 1);
        rig.server.shutdown();
        assert_eq!(read(&file, 0).unwrap_err().raw_os_error(), EIO, "what is new fails at once");
        assert!(ended.recv_timeout(Duration::from_secs(1)).is_err(), "what was sent waits");
        device.cut().unwrap();
        assert_eq!(ended.recv_timeout(LIMIT).unwrap().unwrap_err().raw_os_error(), EIO);
    });
}

fn killed() {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program).arg(KILLED).stdout(Stdio::piped()).spawn().unwrap();
    let mut name = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut name).unwrap();
    assert_eq!(name, "nbd0\n");
    assert!(sysfs("nbd0", "pid").is_some());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the device is free", || sysfs("nbd0", "pid").is_none());
    assert_eq!(Rig::new(4 * MIB).attach().name(), "nbd0");
}

fn sizes() {
    for (block_size, size) in [(512, MIB + 512), (1024, MIB + 1024), (4096, MIB + 4096)] {
        let device = Rig::new(size).attach_with(block_size);
        assert_eq!(device.size().unwrap(), Bytes(size));
        let queue = sysfs(device.name(), "queue/logical_block_size").unwrap();
        assert_eq!(queue, block_size.to_string());
    }
}

fn refused() {
    let settings = NbdSettings { size: Bytes(MIB), block_size: 4096, flags: 1 };
    let no_socket = std::fs::File::open("/dev/null").unwrap();
    let failure = NbdDevice::connect(no_socket, &settings).unwrap_err();
    assert_eq!(failure.to_string(), "attach the disk by nbd: Socket operation on non-socket (os error 88)");
    assert_eq!(sysfs("nbd0", "pid"), None, "nothing is left behind");
    assert_eq!(Rig::new(MIB).attach().name(), "nbd0");
}

fn btrfs() {
    let rig = Rig::new(256 * MIB);
    let device = rig.attach();
    tool("mkfs.btrfs", &["-q", device.path()]);
    device.forget_cache().unwrap();
    rustix::mount::mount(device.path(), "/mnt", "btrfs", MountFlags::empty(), None::<&std::ffi::CStr>)
        .unwrap();
    let file = std::fs::File::create("/mnt/file").unwrap();
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 64 * MIB).unwrap();
    let (before, flushes) = (rig.disk.allocated(), rig.disk.stats().flush.requests);
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![1; 8 << 20], 0).unwrap();
    file.sync_all().unwrap();
    assert!(rig.disk.stats().flush.requests > flushes, "fsync reached the server");
    assert!(rig.disk.allocated().0 >= before.0 + 8 * MIB, "{} then {}", before, rig.disk.allocated());
    let full = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 1 << 30);
    assert_eq!(full, Err(rustix::io::Errno::NOSPC));
    drop(file);
    rustix::mount::unmount("/mnt", UnmountFlags::empty()).unwrap();
    device.disconnect().unwrap();
}
