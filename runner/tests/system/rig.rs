//! The rig `host/fuse`: what the disk sees, and a disk that stands still.

use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::Test;
use crate::bench::{Journal, assert_nothing_left, brim, mark, mounted_by, scenario};
use crate::needs::{BTRFS, Need};

const TRIM: &[Need] = &[Need::Rig, Need::Filesystem("btrfs"), Need::Tool("fstrim"), Need::Tool("blkdiscard")];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("a_frozen_disk_ends_with_a_verdict", BTRFS, frozen_disk),
        ("a_held_write_does_not_stop_other_requests", BTRFS, held_write),
        ("flush_discard_and_zeroes_reach_the_server", TRIM, reach_the_server),
        ("a_live_resize_is_seen_by_the_kernel", BTRFS, live_resize),
    ]
}

const HOLD_FIRST_WRITE: &str = "[[fault]]\nname = \"stop\"\nwhen = { op = \"write\", nth = 1 }\nthen = \"hold\"\n\
    [[phase]]\nname = \"write\"\nstep = [ { do.pwrite = { file = \"f\", offset = \"0 B\", length = \"64 KiB\" } }, \
    { do.fsync = { file = \"f\" } }, { do.syncfs = {} } ]\n[[reproduced]]\nstep = \"fsync\"\nerrno = \"EIO\"\n";

fn frozen_disk() {
    let scenario = scenario(HOLD_FIRST_WRITE).with_limit("2 s");
    let journal = Journal::of(&["run", &scenario.path, "--trials", "2"]);
    let verdict = journal.verdict();
    assert_eq!((&verdict["verdict"], &verdict["inconclusive"]), (&"inconclusive".into(), &2.into()));
    assert_eq!(verdict["reason"], "fsync did not end within its limit");
    assert_eq!(journal.exit, Some(4));
    let stuck = journal.all("stuck");
    assert_eq!(stuck.len(), 2);
    assert_eq!(
        journal.all("phase")[0]["completed"],
        serde_json::json!([1, 1, 0]),
        "nothing follows a stuck step"
    );
    let held = stuck[0]["held"][0].as_str().unwrap();
    assert!(held.starts_with("write of ") && held.ends_with("held by \"stop\""), "{held}");
    assert!(stuck[0]["waiting_in"].as_str().unwrap().contains("writeback"), "{}", stuck[0]);
}

/// While a write is held, a direct read of another place on the same loop device ends.
fn held_write() {
    let scenario = scenario(HOLD_FIRST_WRITE).with_limit("5 s");
    let mut command = brim(&["run", &scenario.path, "--json"]);
    let mark = mark(&mut command);
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    let device = loop {
        if let Some(device) = mounted_by(&mark).into_iter().find(|device| writes_in_flight(device) == 1) {
            break device;
        }
        assert!(Instant::now() < until, "no write was ever held");
        std::thread::sleep(Duration::from_millis(5));
    };
    // Let the held one be told from one that is merely under way.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(writes_in_flight(&device), 1);
    let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap();
    let options =
        std::fs::OpenOptions::new().read(true).custom_flags(direct).open(format!("/dev/{device}")).unwrap();
    let mut aligned = vec![0_u8; 8192];
    let start = aligned.as_ptr().align_offset(4096);
    let read = rustix::io::pread(&options, &mut aligned[start..start + 4096], 64 << 10).unwrap();
    assert_eq!(read, 4096);
    assert_eq!(writes_in_flight(&device), 1, "the read has ended, and the write is still held");
    drop(options);
    assert_eq!(child.wait().unwrap().code(), Some(4));
    assert_nothing_left(&mark);
}

fn writes_in_flight(device: &str) -> u64 {
    // Documentation/ABI/stable/sysfs-block: reads, then writes.
    let text = std::fs::read_to_string(format!("/sys/block/{device}/inflight")).unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn reach_the_server() {
    // The last but one MiB is not in use: the filesystem is empty.
    let script = "dd if=/dev/urandom of=x bs=1M count=8 conv=fsync 2>/dev/null && rm x && sync -f . && fstrim . && \
        blkdiscard -f -z -o 126M -l 1M $(findmnt -n -o SOURCE --target .)";
    let output = brim(&["exec", "--", "sh", "-c", script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for op in ["flush ×", "trim ×", "write ×", "zeroes ×1 (1048576 B)"] {
        assert!(said.contains(op), "`{op}` is not in:\n{said}");
    }
}

fn live_resize() {
    let scenario = scenario(
        "[[phase]]\nname = \"grow, then shrink\"\nstep = [ { do.resize_disk = { size = \"160 MiB\" } }, \
         { do.resize_disk = { size = \"144 MiB\" } }, { do.syncfs = {} }, { do.unlink = { file = \"no\" } } ]\n\
         [[reproduced]]\nstep = \"unlink\"\nerrno = \"ENOENT\"\n",
    );
    let journal = Journal::of(&["run", &scenario.path]);
    assert_eq!(journal.verdict()["verdict"], "reproduced");
    // What the kernel then says of the block device, in bytes.
    let sizes: Vec<u64> = journal
        .all("step")
        .iter()
        .filter(|step| step["step"] == "resize_disk")
        .map(|step| step["returned"].as_u64().unwrap())
        .collect();
    assert_eq!(sizes, [160 << 20, 144 << 20]);
}
