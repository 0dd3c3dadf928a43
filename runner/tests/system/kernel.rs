//! `brim kernel` with the apt of this machine, as a user who is nobody.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::Test;
use crate::needs::Need;

const APT: &[Need] = &[Need::Tool("apt-get"), Need::Tool("dpkg-deb"), Need::Tool("depmod"), Need::Mirror];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("a_kernel_that_is_not_here_says_how_to_get_it", &[], not_here),
        ("a_kernel_is_added_without_root_found_moved_and_removed", APT, added),
    ]
}

fn command(kernels: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brim"));
    command.arg("kernel").args(arguments).env("NO_COLOR", "1").env("BRIM_KERNELS", kernels);
    command.stdin(Stdio::null());
    if rustix::process::geteuid().is_root() {
        // `nobody` of Debian and of most others.
        command.uid(65534).gid(65534);
    }
    command
}

fn brim(kernels: &Path, arguments: &[&str]) -> Output {
    command(kernels, arguments).output().unwrap()
}

/// What a command prints that goes well.
fn said(kernels: &Path, arguments: &[&str]) -> String {
    let output = brim(kernels, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command complains that does not.
fn refused(kernels: &Path, arguments: &[&str], exit: i32) -> String {
    let output = brim(kernels, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {error}");
    // Not as it is folded for the width of a terminal.
    error
        .split(|c: char| c.is_whitespace() || c == '│')
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if rustix::process::geteuid().is_root() {
        chown(directory.path(), Some(65534), Some(65534)).unwrap();
    }
    directory
}

fn not_here() {
    let directory = directory();
    let kernels = directory.path().join("kernels");
    let why = refused(&kernels, &["show", "uml/6.1"], 3);
    assert!(why.contains("`brim kernel add uml/6.1` gets it"), "{why}");
    let why = refused(&kernels, &["show", "uml/2.4"], 2);
    assert!(why.contains("uml/6.12") && why.contains("bzImage"), "{why}");
    let why = refused(&kernels, &["show", "/bin/sh"], 2);
    assert!(why.contains("no kernel that brim can boot"), "{why}");
    let why = refused(&kernels, &["show", "/bin/sh", "--modules", "/"], 2);
    assert!(why.contains("modules.dep"), "{why}");
    assert!(said(&kernels, &["list"]).contains("not here: brim kernel add debian/6.12"));
    assert!(!kernels.exists());
    // Nothing that apt could reach: a mirror that is not there, as offline.
    let sources = directory.path().join("none.list");
    fs::write(&sources, format!("deb file:{}/mirror bookworm main\n", directory.path().display())).unwrap();
    let add = ["add", "uml/6.1", "--sources", sources.to_str().unwrap()];
    // Without apt it is the program that is missing; with it, the packages.
    let why = refused(&kernels, &add, 3);
    assert!(why.contains("user-mode-linux") || why.contains("give `--kernel` the path"), "{why}");
    assert!(said(&kernels, &["list"]).contains("not here: brim kernel add uml/6.1"));
}

fn added() {
    let directory = directory();
    let kernels = directory.path().join("kernels");
    killed_early(&kernels);

    // Two at once: one brings it, and the other waits.
    let start = || {
        command(&kernels, &["add", "uml/6.1"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let outputs = [start(), start()].map(|child: Child| child.wait_with_output().unwrap());
    let (mut here, mut downloads) = (0, 0);
    for output in outputs {
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && out.contains("user-mode-linux"), "{out}{error}");
        here += usize::from(out.contains("(was here)"));
        downloads += error.matches("downloading user-mode-linux").count();
    }
    assert_eq!((here, downloads), (1, 1));
    assert!(!kernels.join(".new").exists());

    let line = said(&kernels, &["list", "--json"]).lines().next().unwrap().to_owned();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let release = line["release"].as_str().unwrap();
    assert!(line["name"] == "uml/6.1" && line["kind"] == "uml" && release.starts_with("6.1."), "{line}");
    starts(Path::new(line["image"].as_str().unwrap()), release);
    let shown = said(&kernels, &["show", "uml/6.1", "--load", "nbd", "--load", "btrfs"]);
    assert!(shown.contains("load     nbd (") && !shown.contains("load     btrfs"), "{shown}");
    let why = refused(&kernels, &["show", "uml/6.1", "--load", "nosuch"], 3);
    assert!(why.contains("uml/6.1 has no module nosuch"), "{why}");

    // A cache is copied and moved; an image is used without its name.
    let moved = directory.path().join("moved");
    fs::rename(&kernels, &moved).unwrap();
    let image = moved.join("uml/6.1/linux.uml");
    assert!(said(&moved, &["show", "uml/6.1"]).contains(image.to_str().unwrap()));
    starts(&image, release);
    let by_path = said(&moved, &["show", image.to_str().unwrap()]);
    assert!(
        by_path.contains(release) && by_path.contains(moved.join("uml/6.1/modules").to_str().unwrap()),
        "{by_path}"
    );

    said(&moved, &["remove", "uml/6.1"]);
    assert!(!image.exists() && said(&moved, &["list"]).contains("not here: brim kernel add uml/6.1"));
}

/// An `add` that is killed while it works leaves nothing that counts, and nothing in the way of the next.
fn killed_early(kernels: &Path) {
    let mut child =
        command(kernels, &["add", "uml/6.1"]).stderr(Stdio::null()).process_group(0).spawn().unwrap();
    let limit = Instant::now() + Duration::from_secs(60);
    while !kernels.join(".new/apt/lists").exists() {
        assert!(Instant::now() < limit && child.try_wait().unwrap().is_none(), "it does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    let group = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    child.wait().unwrap();
    assert!(kernels.join(".new").exists());
    assert!(said(kernels, &["list"]).contains("not here: brim kernel add uml/6.1"));
}

/// User Mode Linux prints its release without booting.
fn starts(image: &Path, release: &str) {
    let output = Command::new(image).arg("--version").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), release, "{output:?}");
}
