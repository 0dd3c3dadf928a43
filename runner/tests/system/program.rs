//! `brim exec` and `brim shell`: somebody's own program at the brim.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::Stdio;

use rustix::fs::FallocateFlags;

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
        ("shell_runs_the_users_shell_there", BTRFS, shell),
    ]
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
