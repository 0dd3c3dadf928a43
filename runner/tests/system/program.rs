//! `brim exec` and `brim shell`: somebody's own program at the brim.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Output, Stdio};

use rustix::fs::FallocateFlags;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::Test;
use crate::bench::{Journal, SCENARIO, assert_nothing_left, brim, mark};
use crate::needs::BTRFS;

/// The argument that makes this binary the program under test.
pub(crate) const WRITER: &str = "write-until-it-fails";
const RECORD: u64 = 132_096;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("exec_of_a_writer_fails_where_the_scenario_does", BTRFS, writer_fails_at_the_same_place),
        ("exec_passes_exit_code_and_streams_on", BTRFS, passes_on),
        ("exec_takes_what_a_program_left_running_with_it", BTRFS, takes_children),
        ("exec_of_no_program_says_so", BTRFS, no_program),
        ("exec_on_ext4_and_xfs_is_as_full_as_asked", BTRFS, other_filesystems),
        ("exec_counts_every_call_that_failed", BTRFS, counts_every_call),
        ("exec_leaves_a_ctrl_c_to_the_program", BTRFS, ctrl_c),
        ("exec_finds_a_program_in_the_users_directory", BTRFS, program_from_here),
        ("exec_of_a_size_that_cannot_be_is_bad_usage", BTRFS, bad_sizes),
        ("exec_has_faults_takes_orders_and_keeps_a_log", BTRFS, faults_orders_and_log),
        ("exec_tells_the_kernel_of_a_size_that_was_ordered", BTRFS, live_size),
        ("exec_finds_the_regions_that_rows_name", BTRFS, live_regions),
        ("shell_runs_the_users_shell_there", BTRFS, shell),
    ]
}

/// The argument that makes this binary write a block many times over, whatever comes of it.
pub(crate) const MANY: &str = "write-many-times";
const TIMES: u64 = 4_000;

/// Writes 4,000 blocks one behind the other; says how many had no room.
pub(crate) fn write_many_times() {
    let file = OpenOptions::new().write(true).create_new(true).open("blob").unwrap();
    let no_room =
        |round: &u64| rustix::io::pwrite(&file, &[1; 4096], round * 4096) == Err(rustix::io::Errno::NOSPC);
    let failed = (0..TIMES).filter(no_room).count();
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{failed}").unwrap();
}

/// Writes as gocryptfs does; says which call failed, where and how.
pub(crate) fn write_until_it_fails() {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open("blob").unwrap();
    let data: Vec<u8> = (0..RECORD).map(|index| u8::try_from(index * 31 % 251).unwrap()).collect();
    for round in 0.. {
        let offset = round * RECORD;
        if let Err(errno) = rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, offset, RECORD) {
            return say("fallocate", offset, errno);
        }
        let mut written = 0;
        while written < data.len() {
            match rustix::io::pwrite(&file, &data[written..], offset + u64::try_from(written).unwrap()) {
                Ok(count) => written += count,
                Err(errno) => return say("pwrite", offset, errno),
            }
        }
        file.sync_all().unwrap();
    }
}

fn say(call: &str, offset: u64, errno: rustix::io::Errno) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{call} {offset} {}", errno.raw_os_error()).unwrap();
}

fn writer_fails_at_the_same_place() {
    for blocks in ["66 blocks", "67 blocks"] {
        let journal = Journal::of(&["run", SCENARIO, "--set", &format!("free={blocks}")]);
        let failed = journal.all("step").into_iter().find(|step| step["errno"] == "ENOSPC").unwrap();
        let expected = format!("{} {} 28\n", failed["step"].as_str().unwrap(), failed["range"]["offset"]);
        let this = std::env::current_exe().unwrap().display().to_string();
        let words = ["exec", "--size", "128MiB", "--data-free", blocks, "--", &this, WRITER];
        let output = brim(&words).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{blocks}");
        let evidence = String::from_utf8_lossy(&output.stderr);
        let syscall = failed["syscall"].as_str().unwrap();
        assert!(evidence.contains(&format!("ENOSPC from {syscall} ×1")), "{evidence}");
        assert!(evidence.contains("tickets     data"), "{evidence}");
        assert_eq!(output.status.code(), Some(0));
    }
}

fn passes_on() {
    let mut command = brim(&["exec", "--", "sh", "-c", "cat; pwd >&2; exit 7"]);
    let mark = mark(&mut command);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"over to you").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"over to you");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("/brim\n"),
        "the mount is the working directory"
    );
    assert_eq!(output.status.code(), Some(7));
    assert_nothing_left(&mark);
}

fn takes_children() {
    let mut command = brim(&["exec", "--", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & exec 3>held; echo on"]);
    let mark = mark(&mut command);
    let output = command.output().unwrap();
    assert_eq!(output.stdout, b"on\n");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_nothing_left(&mark);
}

fn no_program() {
    let output = brim(&["exec", "--", "there-is-no-such-program"]).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("run `there-is-no-such-program`: No such file or directory"), "{said}");
}

/// xfs keeps some blocks of what it calls free for the maps of the extents it gives out, so not all can be had.
fn other_filesystems() {
    for (filesystem, size, take, left) in
        [("ext4", "128MiB", "204800", "0"), ("xfs", "320MiB", "122880", "20")]
    {
        let words = ["--filesystem", filesystem, "--size", size, "--data-free", "50 blocks", "--"];
        let program = ["fallocate", "-l", take, "file"];
        let words: Vec<&str> = ["exec"].into_iter().chain(words).chain(program).collect();
        let output = brim(&words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(&format!("data free   50 blocks → {left} blocks")), "{filesystem}: {said}");
        assert_eq!(output.status.code(), Some(0), "{filesystem}: {said}");
    }
}

/// Far more than the trace rings hold at once.
fn counts_every_call() {
    let this = std::env::current_exe().unwrap().display().to_string();
    let output = brim(&["exec", "--data-free", "66 blocks", "--", &this, MANY]).output().unwrap();
    let failed = TIMES - 66;
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{failed}\n"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("ENOSPC from pwrite64 ×{failed}")), "{said}");
    assert!(said.contains(&format!("tickets     data 4096 B = ENOSPC ×{failed}")), "{said}");
    assert!(!said.contains("not seen"), "{said}");
}

fn ctrl_c() {
    let script = "trap 'exit 7' INT; echo ready; while :; do sleep 0.1; done";
    let mut command = brim(&["exec", "--", "sh", "-c", script]);
    let mark = mark(&mut command);
    let mut child = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process_group(group, Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert_nothing_left(&mark);
}

fn program_from_here() {
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/bin/true", directory.path().join("mine")).unwrap();
    let output = brim(&["exec", "--", "./mine"]).current_dir(directory.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

fn bad_sizes() {
    for (words, part) in
        [(["--size", "1MiB"], "too small"), (["--data-free", "4095 B"], "whole number of blocks")]
    {
        let words: Vec<&str> = ["exec"].into_iter().chain(words).chain(["--", "true"]).collect();
        let output = brim(&words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(part), "`{part}` is not in:\n{said}");
    }
}

fn shell() {
    let mut command = brim(&["shell", "--data-free", "10 blocks"]);
    let mark = mark(&mut command);
    command.env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"stat -f -c %T .\nexit 3\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"btrfs\n");
    assert_eq!(output.status.code(), Some(3));
    assert_nothing_left(&mark);
}

/// The rows, the orders and the log of `brim exec`: a slow disk, a gate that `brim ctl` opens, and the disk made again.
/// A script at a mount with a control socket; `ctl` in it is `brim ctl` for that socket.
fn with_control(options: &[&str], script: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control").display().to_string();
    let script =
        format!("ctl() {{ {} ctl --control {socket} \"$@\"; }}\n{script}", env!("CARGO_BIN_EXE_brim"));
    let words = [&["exec", "--control", &socket], options, &["--", "sh", "-ec", &script]].concat();
    brim(&words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The kernel sees a new size at once, larger or smaller, also one that comes back with a snapshot.
fn live_size() {
    // btrfs becomes no smaller than 256 MiB.
    let output = with_control(
        &["--size", "320MiB"],
        "device=$(df --output=source . | tail -1)\n\
         ctl snapshot keep before\n\
         ctl resize 384MiB; blockdev --getsize64 $device\n\
         btrfs filesystem resize max . >/dev/null; df --block-size=1 --output=size . | tail -1\n\
         btrfs filesystem resize 256m . >/dev/null; ctl resize 288MiB; blockdev --getsize64 $device\n\
         ctl snapshot restore before; blockdev --getsize64 $device\n",
    );
    let (said, shown) = (text(&output.stderr), text(&output.stdout));
    assert_eq!(output.status.code(), Some(0), "{said}");
    let sizes: Vec<u64> = shown.lines().filter_map(|line| line.trim().parse().ok()).collect();
    let mib = |mib: u64| mib << 20;
    assert_eq!(sizes, [mib(384), mib(384), mib(288), mib(320)], "{shown}{said}");
}

/// Rows name the regions of the filesystem that is mounted, on the command line and live.
fn live_regions() {
    let superblock = r#"name = "commit", when = { op = "write", region = "superblock", once = true }, then = { delay = "1 ms" }"#;
    let output = with_control(
        &["--fault", superblock],
        "echo something > a; dd if=/dev/zero of=b bs=64k count=1 2>/dev/null; sync -f b\n\
         ctl fault add 'name = \"b\", when = { op = \"write\", region = \"file:b\" }, then = { delay = \"1 ms\" }'\n\
         ctl region superblock; ctl region file:b\n\
         chattr +C . ; ctl region file:nothing || true\n\
         dd if=/dev/zero of=b bs=64k count=1 conv=notrunc oflag=direct 2>/dev/null\n",
    );
    let (said, shown) = (text(&output.stderr), text(&output.stdout));
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("\"commit\" matched") && !said.contains("\"commit\" matched 0"), "{said}");
    assert!(shown.contains("superblock  65536+4096 67108864+4096"), "{shown}");
    let defined = shown.lines().any(|line| line.starts_with("file:b ") && line.contains('+'));
    assert!(defined, "{shown}");
    assert!(said.contains("open nothing to find where it lies"), "{said}");
}

fn faults_orders_and_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (socket, log) = (path("control"), path("log"));
    let script = format!(
        "echo held > a; sync & {brim} ctl --control {socket} wait gate 1 --limit 20s && \
         {brim} ctl --control {socket} open gate && wait && {brim} ctl --control {socket} mark synced",
        brim = env!("CARGO_BIN_EXE_brim")
    );
    let row = |text: &str| ["--fault".to_owned(), text.to_owned()];
    let mut words = vec!["exec".to_owned(), "--control".to_owned(), socket, "--log".to_owned(), log.clone()];
    words.extend(row(r#"name = "gate", when = { op = "write", once = true }, then = "hold""#));
    words.extend(row(r#"name = "slow", when = { op = "flush" }, then = { delay = "5 ms" }"#));
    words.extend(["--", "sh", "-ec", &script].map(ToOwned::to_owned));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = brim(&words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("\"gate\" matched") && said.contains("late by"), "{said}");
    let shown = brim(&["log", "show", &log]).output().unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("\"synced\""));
    let replayed =
        brim(&["log", "replay", &log, "--onto", &path("disk"), "--size", "128MiB"]).output().unwrap();
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    let checked = std::process::Command::new("btrfs").args(["check", "--readonly", &path("disk")]).output();
    let checked = checked.unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
