//! `brim log`: what it prints, the disks that it makes, and what it refuses.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use brim_device::log::{Flags, Mark, Record, Stretch, WriteLog};
use brim_device::{Bytes, Store};

const SIZE: usize = 64 << 10;

fn brim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_brim")).args(arguments).env("NO_COLOR", "1").output().unwrap()
}

fn succeed(arguments: &[&str]) -> String {
    let output = brim(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn assert_usage(arguments: &[&str], parts: &[&str]) {
    let output = brim(arguments);
    // As one line, without the frame that long messages are wrapped in.
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = said.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    for part in parts {
        assert!(said.contains(part), "{arguments:?}: `{part}` is not in:\n{said}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A directory with a log, and what the disk was after each of its entries.
struct Logged {
    dir: tempfile::TempDir,
    moments: Vec<Vec<u8>>,
}

impl Logged {
    fn new() -> Self {
        let mut store = Store::new(Bytes::of_len(SIZE)).unwrap();
        let (mut log, mut moments) = (WriteLog::new(), Vec::new());
        let mut keep = |store: &Store, record: Record| {
            let mut now = vec![0; SIZE];
            store.read(Bytes::ZERO, &mut now).unwrap();
            moments.push(now);
            log.push(record);
        };
        let write = |store: &mut Store, offset, byte, len, flags| {
            store.write(Bytes(offset), &vec![byte; len]).unwrap();
            Record::written(store, Bytes(offset), Bytes::of_len(len), flags).unwrap().remove(0)
        };
        let record = write(&mut store, 4096, 1, 8192, Flags::NONE);
        keep(&store, record);
        keep(&store, Record::flush());
        keep(&store, Record::mark(Mark::new("synced \u{1b}[2J").unwrap()));
        store.trim(Bytes(8192), Bytes(4096)).unwrap();
        keep(&store, Record::discarded(&store, Bytes(8192), Bytes(4096), Flags::NONE).unwrap().remove(0));
        let record = write(&mut store, 65024, 2, 512, Flags::FUA);
        keep(&store, record);
        keep(&store, Record::mark(Mark::new("end").unwrap()));
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        log.encode(|stretch| match stretch {
            Stretch::Bytes(more) => bytes.extend_from_slice(more),
            Stretch::Zeroes(len) => bytes.resize(bytes.len() + len.to_len().unwrap(), 0),
        });
        fs::write(dir.path().join("log"), bytes).unwrap();
        Self { dir, moments }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn replay(&self, more: &[&str]) -> (String, Vec<u8>) {
        let (log, disk) = (self.path("log"), self.path("disk"));
        let said = succeed(&[&["log", "replay", text(&log), "--onto", text(&disk)], more].concat());
        let content = fs::read(&disk).unwrap();
        fs::remove_file(&disk).unwrap();
        (said, content)
    }
}

#[test]
fn show_has_a_line_for_each_entry() {
    let logged = Logged::new();
    let log = logged.path("log");
    assert_eq!(
        succeed(&["log", "show", text(&log)]),
        r#"       0 write    -                      4096         8192
       1 flush    flush
       2 mark     -                                        "synced \u{1b}[2J"
       3 discard  -                      8192         4096
       4 write    fua                   65024          512
       5 mark     -                                        "end"
"#
    );
    let json = succeed(&["log", "show", text(&log), "--json"]);
    let lines: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines[4],
        serde_json::json!({
            "schema": 1, "entry": 4, "op": "write", "flags": ["fua"], "offset": 65024, "length": 512
        })
    );
    assert_eq!(
        lines[5],
        serde_json::json!({ "schema": 1, "entry": 5, "op": "mark", "flags": [], "mark": "end" })
    );
    assert_eq!(lines.len(), 6);
}

#[test]
fn replay_gives_the_disk_at_every_entry() {
    let logged = Logged::new();
    for (entry, moment) in logged.moments.iter().enumerate() {
        let (_, disk) = logged.replay(&["--to", &entry.to_string()]);
        assert!(disk == *moment, "after entry {entry}");
    }
    let (said, disk) = logged.replay(&[]);
    assert!(disk == logged.moments[5]);
    assert!(
        said.starts_with("entries 0 to 5 of 6 replayed onto ") && said.ends_with("a disk of 64 KiB\n"),
        "{said}"
    );
    assert!(logged.replay(&["--to", "synced \u{1b}[2J"]).1 == logged.moments[2]);
    assert!(logged.replay(&["--to", "mark:end", "--size", "1MiB"]).1[..SIZE] == logged.moments[5]);
    // Up to the flush nothing is behind the first 12 KiB.
    assert!(logged.replay(&["--to", "1", "--size", "12KiB"]).1[..] == logged.moments[1][..12288]);
    let (_, rest) = logged.replay(&["--from", "3"]);
    assert!(rest[..65024].iter().all(|byte| *byte == 0) && rest[65024..] == [2; 512]);
}

#[test]
fn replay_of_zeroes_is_sparse() {
    let logged = Logged::new();
    let (mut store, mut log) = (Store::new(Bytes(64 << 20)).unwrap(), WriteLog::new());
    store.write(Bytes::ZERO, &vec![1; 32 << 20]).unwrap();
    log.push(Record::written(&store, Bytes::ZERO, Bytes(32 << 20), Flags::NONE).unwrap().remove(0));
    log.push(Record::zeroed(&store, Bytes::ZERO, Bytes(64 << 20), Flags::NONE).unwrap().remove(0));
    let mut bytes = Vec::new();
    log.encode(|stretch| match stretch {
        Stretch::Bytes(more) => bytes.extend_from_slice(more),
        Stretch::Zeroes(len) => bytes.resize(bytes.len() + len.to_len().unwrap(), 0),
    });
    let (path, disk) = (logged.path("long"), logged.path("disk"));
    fs::write(&path, bytes).unwrap();
    succeed(&["log", "replay", text(&path), "--onto", text(&disk)]);
    assert!(fs::read(&disk).unwrap().iter().all(|byte| *byte == 0));
    assert_eq!(fs::metadata(&disk).unwrap().len(), 64 << 20);
    assert!(fs::metadata(&disk).unwrap().blocks() < 64);
}

#[test]
fn what_is_there_is_not_touched() {
    let logged = Logged::new();
    let (log, there, link) = (logged.path("log"), logged.path("there"), logged.path("link"));
    fs::write(&there, "somebody's").unwrap();
    symlink(logged.path("nowhere"), &link).unwrap();
    for path in [text(&there), text(&link), text(&log), "/dev/null", text(logged.dir.path())] {
        assert_usage(
            &["log", "replay", text(&log), "--onto", path],
            &["cannot create", "that it has not created"],
        );
    }
    assert_eq!(fs::read(&there).unwrap(), b"somebody's");
    assert!(!logged.path("nowhere").exists());
}

#[test]
fn bad_logs_and_places_exit_with_2_and_make_no_disk() {
    let logged = Logged::new();
    let (log, bad, disk) = (logged.path("log"), logged.path("bad"), logged.path("disk"));
    let whole = fs::read(&log).unwrap();
    let replay = |more: &[&str], parts: &[&str]| {
        assert_usage(&[&["log", "replay", text(&log), "--onto", text(&disk)], more].concat(), parts);
        assert!(!disk.exists(), "{more:?}");
    };
    replay(&["--to", "6"], &["no entry 6: it has 6", "brim log show"]);
    replay(&["--to", "nobody"], &["no mark \"nobody\"", "brim log show"]);
    replay(&["--to", "mark:5"], &["no mark \"5\""]);
    replay(&["--from", "6"], &["entry 6 is not before the end"]);
    replay(&["--from", "3", "--to", "2"], &["entry 3 is not before the end"]);
    replay(&["--size", "1000"], &["512"]);
    replay(&["--size", "32KiB"], &["entry 4 ends at byte 65536, past a disk of 32 KiB", "65536"]);
    replay(&["--to", &"x".repeat(480)], &["480"]);

    let refuse = |bytes: &[u8], parts: &[&str]| {
        fs::write(&bad, bytes).unwrap();
        assert_usage(&["log", "show", text(&bad)], parts);
        assert_usage(&["log", "replay", text(&bad), "--onto", text(&disk)], parts);
        assert!(!disk.exists());
    };
    refuse(b"", &["0 B are too short"]);
    refuse(&[7; 512], &["not a write log", "dm-log-writes"]);
    refuse(
        &whole[..9000],
        &["entry 0 at byte 512 of the log: it ends at byte 9216, but the log at byte 9000"],
    );
    refuse(
        &whole[..9300],
        &["entry 1 at byte 9216 of the log: it ends at byte 9728, but the log at byte 9300"],
    );
    let mut changed = whole.clone();
    changed[9216 + 16] = 0x80;
    refuse(&changed, &["entry 1 at byte 9216 of the log: the flags 0x80 mean nothing", "brim log show"]);
    assert_usage(&["log", "show", text(&logged.path("nobody"))], &["cannot read", "nobody"]);
    assert_usage(&["log", "show", text(logged.dir.path())], &["cannot read"]);
    // What is before the bad entry is shown.
    let output = brim(&["log", "show", text(&bad)]);
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1);
    fs::write(&bad, brim_device::log::superblock(0)).unwrap();
    assert_eq!(succeed(&["log", "show", text(&bad)]), "");
    assert_usage(&["log", "replay", text(&bad), "--onto", text(&disk)], &["changes nothing", "--size"]);
    succeed(&["log", "replay", text(&bad), "--onto", text(&disk), "--size", "1MiB"]);
}
