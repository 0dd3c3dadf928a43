//! Running brim, reading its journal, and looking for what it left behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The scenario of the 2019 report.
pub(crate) const SCENARIO: &str = "scenarios/btrfs/fallocate-then-pwrite.toml";
/// The variable that every process of a run inherits.
const MARK: &str = "BRIM_TEST_MARK";

/// The root of the project.
pub(crate) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// brim with these arguments, in the root of the project.
pub(crate) fn brim<S: AsRef<str>>(arguments: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brim"));
    command.args(arguments.iter().map(AsRef::as_ref)).current_dir(project()).env("NO_COLOR", "1");
    command
}

/// What `brim run … --json` printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) events: Vec<Value>,
    pub(crate) exit: Option<i32>,
}

impl Journal {
    /// Runs brim and reads its journal.
    pub(crate) fn of<S: AsRef<str>>(arguments: &[S]) -> Self {
        let output = brim(arguments).arg("--json").output().unwrap();
        Self::read(&output)
    }

    pub(crate) fn read(output: &Output) -> Self {
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!events.is_empty(), "no journal; exit {:?}, stderr: {said}", output.status.code());
        assert!(events.iter().all(|event| event["schema"] == 1));
        Self { events, exit: output.status.code() }
    }

    /// The events of one kind.
    pub(crate) fn all(&self, kind: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["event"] == kind).collect()
    }

    /// What the only step of this name told of itself.
    pub(crate) fn step(&self, name: &str) -> &Value {
        let steps: Vec<&Value> = self.all("step").into_iter().filter(|step| step["step"] == name).collect();
        assert_eq!(steps.len(), 1, "{name}: {:?}", self.events);
        steps[0]
    }

    /// The only verdict.
    pub(crate) fn verdict(&self) -> &Value {
        let verdicts = self.all("verdict");
        assert_eq!(verdicts.len(), 1, "one verdict");
        verdicts[0]
    }
}

/// What the processes of one run carry, and what was there before it, to find what outlives it.
#[derive(Debug)]
pub(crate) struct Mark {
    value: String,
    files: BTreeSet<PathBuf>,
}

/// Marks a run that is about to start.
pub(crate) fn mark(command: &mut Command) -> Mark {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let value = format!("{}-{nanos}", std::process::id());
    command.env(MARK, &value);
    Mark { value, files: files().collect() }
}

/// Everything where a run might leave something.
fn files() -> impl Iterator<Item = PathBuf> {
    let places = ["/", "/mnt", "/media", "/srv", "/tmp", "/run", "/var/tmp", "/dev/shm"];
    places.into_iter().flat_map(fs::read_dir).flatten().flatten().map(|entry| entry.path())
}

/// Asserts that soon nothing is left of the runs that carried `mark`: no process, no loop device, no mount, no file.
pub(crate) fn assert_nothing_left(mark: &Mark) {
    assert_nothing_left_after(mark, Duration::from_secs(10));
}

/// The same, within this time.
pub(crate) fn assert_nothing_left_after(mark: &Mark, limit: Duration) {
    let until = Instant::now() + limit;
    loop {
        let left = leftovers(mark);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "left behind: {left:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn leftovers(mark: &Mark) -> Vec<String> {
    let mut left = Vec::new();
    let mut others = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let wanted = format!("{MARK}={}", mark.value);
        let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default().replace('\0', " ");
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()) {
            left.push(format!("process {}: {command}", entry.file_name().display()));
        } else if command.starts_with("brim __agent ") {
            // Each of its disks is a FUSE filesystem, whose device may have gone already.
            let mounts = fs::read_to_string(entry.path().join("mounts")).unwrap_or_default();
            others += mounts.lines().filter(|line| line.contains(" fuse.brim ")).count();
        }
    }
    // What is left over is more than the disks of everybody else's runs on this machine.
    let devices = loop_devices();
    if devices.len() > others {
        left.extend(devices.into_iter().map(|device| format!("loop device {device}")));
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    left.extend(mounts.lines().filter(|line| line.contains("brim")).map(|line| format!("mount {line}")));
    let ours = |path: &PathBuf| path.to_string_lossy().contains("brim") && !mark.files.contains(path);
    left.extend(files().filter(ours).map(|path| format!("file {}", path.display())));
    left
}

/// The loop devices that brim set up: `loop0`.
pub(crate) fn loop_devices() -> Vec<String> {
    let mut devices = Vec::new();
    for entry in fs::read_dir("/sys/block").unwrap().flatten() {
        let backing = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        if backing.contains("/disk") {
            devices.push(entry.file_name().display().to_string());
        }
    }
    devices
}

/// A scenario file that goes away with the test.
pub(crate) struct Scenario {
    _directory: tempfile::TempDir,
    pub(crate) path: String,
}

/// Writes a scenario: a btrfs of 128 MiB with 100 blocks free, and `rest` of the file.
pub(crate) fn scenario(rest: &str) -> Scenario {
    whole_scenario(&format!(
        "[device]\nsize = \"128 MiB\"\n[filesystem]\nkind = \"btrfs\"\n[prepare]\nfill = {{ data_free = \"100 blocks\" }}\n{rest}"
    ))
}

/// Writes a scenario that `rest` says all of but its name.
pub(crate) fn whole_scenario(rest: &str) -> Scenario {
    let directory = tempfile::Builder::new().prefix("scenario-").tempdir().unwrap();
    let path = directory.path().join("test.toml");
    let head =
        "schema = 1\nname = \"test\"\nclaim = \"it works\"\nsource = \"a test\"\nstep_limit = \"2 s\"\n";
    fs::write(&path, format!("{head}{rest}")).unwrap();
    let path = path.display().to_string();
    Scenario { _directory: directory, path }
}
