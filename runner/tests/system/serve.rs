//! `brim serve`, as other people's NBD clients see it.

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use brim_device::Bytes;
use nbd_server::client::Client;
use rustix::process::{Pid, Signal, kill_process};

use crate::Test;
use crate::bench::brim;
use crate::needs::Need;

const CLIENTS: &[Need] = &[Need::Tool("nbdinfo"), Need::Tool("nbdcopy"), Need::Tool("qemu-io")];

const SECURE: &[Need] = &[Need::Tool("nbdinfo"), Need::Tool("qemu-io"), Need::Tool("openssl")];

const ACTIVATED: &[Need] = &[Need::Tool("nbdinfo"), Need::Tool("systemd-socket-activate")];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("serve_on_a_unix_socket", CLIENTS, unix),
        ("serve_on_tcp", CLIENTS, tcp),
        ("serve_read_only_and_rotational", CLIENTS, read_only_and_rotational),
        ("serve_with_a_write_cache", CLIENTS, write_cache),
        ("serve_keeps_a_log_that_replays", CLIENTS, log),
        ("serve_a_profile_of_the_house", CLIENTS, profile),
        ("serve_several_disks_with_block_sizes", CLIENTS, several),
        ("serve_tls_with_the_certificates_of_the_manual", SECURE, tls),
        ("serve_a_client_on_stdin", &[], stdio),
        ("serve_on_a_socket_of_systemd", ACTIVATED, activated),
        ("serve_needs_what_it_is_told_to_use", &[], nothing_handed_over),
        ("serve_refuses_a_path_that_is_not_its_own", &[], not_its_own),
    ]
}

/// A server that ends with the test.
struct Served {
    child: Child,
    uri: String,
}

impl Served {
    fn start(arguments: &[&str]) -> Self {
        let words: Vec<&str> = ["serve", "--size", "67108864"].iter().chain(arguments).copied().collect();
        let mut child = brim(&words).stderr(Stdio::piped()).spawn().unwrap();
        let mut uri = String::new();
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut uri).unwrap();
        Self { child, uri: uri.trim().to_owned() }
    }

    fn end(mut self) {
        kill_process(Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap(), Signal::TERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

fn unix() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.sock");
    let served = Served::start(&["--unix", path.to_str().unwrap()]);
    clients(&served.uri, directory.path());
    served.end();
    assert!(!path.exists(), "the socket went away with the server");
}

/// What QEMU's client writes is in the log, and `brim log replay` makes the same disk of it.
fn log() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let served = Served::start(&["--unix", &path("socket"), "--log", &path("log")]);
    let write = [
        "-f",
        "raw",
        &served.uri,
        "-c",
        "write -P 7 64k 192k",
        "-c",
        "write -z 128k 4k",
        "-c",
        "discard 0 64k",
    ];
    let written =
        Command::new("qemu-io").args(write).args(["-c", "write -f -P 9 1M 512", "-c", "flush"]).output();
    assert!(written.unwrap().status.success());
    let copied = Command::new("nbdcopy").args([&served.uri, &path("disk")]).status().unwrap();
    assert!(copied.success());
    served.end();
    let replayed =
        brim(&["log", "replay", &path("log"), "--onto", &path("again"), "--size", "64MiB"]).output();
    assert!(replayed.unwrap().status.success());
    assert!(std::fs::read(path("disk")).unwrap() == std::fs::read(path("again")).unwrap());
    let taken = brim(&["serve", "--size", "1MiB", "--unix", &path("socket"), "--log", &path("log")])
        .output()
        .unwrap();
    assert_eq!(taken.status.code(), Some(2));
}

/// The profile's size and cache are what a client sees.
fn profile() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let mut child = brim(&["serve", "--config", "sd-card-a1", "--unix", path.to_str().unwrap()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut uri = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut uri).unwrap();
    let size = Command::new("nbdinfo").args(["--size", uri.trim()]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&size.stdout).trim(), (32u64 << 30).to_string());
    Served { child, uri }.end();
    let unknown = brim(&["serve", "--config", "floppy", "--unix", path.to_str().unwrap()]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(said.contains("hdd-7200"), "{said}");
}

fn tcp() {
    let directory = tempfile::tempdir().unwrap();
    let served = Served::start(&["--listen", "127.0.0.1:0"]);
    assert!(served.uri.starts_with("nbd://127.0.0.1:"), "{}", served.uri);
    clients(&served.uri, directory.path());
    served.end();
}

fn clients(uri: &str, directory: &Path) {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let info: serde_json::Value = serde_json::from_str(&run("nbdinfo", &["--json", uri])).unwrap();
    assert_eq!(info["exports"][0]["export-size"], 64 << 20);
    for can in ["flush", "fua", "trim", "zero", "write", "multi-conn"] {
        run("nbdinfo", &["--can", can, uri]);
    }
    let (there, back) = (directory.join("there"), directory.join("back"));
    let content: Vec<u8> = (0..64_u32 << 20).map(|index| u8::try_from(index * 7 % 253).unwrap()).collect();
    std::fs::write(&there, &content).unwrap();
    run("nbdcopy", &[there.to_str().unwrap(), uri]);
    run("nbdcopy", &[uri, back.to_str().unwrap()]);
    assert!(std::fs::read(&back).unwrap() == content, "what was copied there came back");
    run(
        "qemu-io",
        &[
            "-f",
            "raw",
            uri,
            "-c",
            "write -P 0xaa 4k 8k",
            "-c",
            "write -z 8k 4k",
            "-c",
            "discard 4k 4k",
            "-c",
            "read -P 0 8k 4k",
            "-c",
            "flush",
            "-c",
            "aio_write -P 1 0 64k",
            "-c",
            "aio_read 0 64k",
            "-c",
            "aio_flush",
            "-c",
            "write -f -P 3 1M 512",
            "-c",
            "read -P 3 1M 512",
        ],
    );
}

fn read_only_and_rotational() {
    let served = Served::start(&["--listen", "127.0.0.1:0", "--read-only", "--rotational"]);
    for is in ["read-only", "rotational"] {
        assert!(Command::new("nbdinfo").args(["--is", is, &served.uri]).status().unwrap().success(), "{is}");
    }
    let write =
        Command::new("qemu-io").args(["-f", "raw", &served.uri, "-c", "write 0 4k"]).output().unwrap();
    assert!(!write.status.success(), "a write to a read-only disk");
    served.end();
}

/// What nbdcopy leaves without `--flush` is dirty, and with it is not.
fn write_cache() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    std::fs::write(&source, vec![7; 1 << 20]).unwrap();
    let served = Served::start(&["--listen", "127.0.0.1:0", "--write-cache"]);
    for (arguments, state) in [(&[][..], 3), (&["--flush"], 1)] {
        let copied = Command::new("nbdcopy").args(arguments).arg(&source).arg(&served.uri).status().unwrap();
        assert!(copied.success());
        let (_, told) = nbdinfo(&["--map=brim:state", "--json", &served.uri]);
        let extents: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(
            (&extents[0]["length"], &extents[0]["type"]),
            (&(1 << 20).into(), &state.into()),
            "{told}"
        );
    }
    served.end();
}

fn nbdinfo(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("nbdinfo").args(arguments).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn several() {
    let sizes = ["--block-size", "4096,64KiB,1MiB"];
    let exports = ["--export", "a disk", "--export", "b=3MiB", "--listen", "127.0.0.1:0"];
    let served = Served::start(&[&exports[..], &sizes].concat());
    let (first, address) = (&served.uri, served.uri.trim_end_matches("a%20disk"));
    assert_ne!(first, address, "a name as a URI has it");
    for (name, size) in [("", "67108864"), ("a%20disk", "67108864"), ("b", "3145728")] {
        assert_eq!(nbdinfo(&["--size", &format!("{address}{name}")]), (true, size.to_owned()));
    }
    let (_, listed) = nbdinfo(&["--list", "--json", address]);
    assert!(listed.contains("\"a disk\"") && listed.contains("\"b\""), "{listed}");
    assert!(listed.contains("\"block_size_maximum\": 1048576"), "{listed}");
    let write = ["-f", "raw", first, "-c", "write -P 1 100 100", "-c", "read -P 1 100 100"];
    let done = Command::new("qemu-io").args(write).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    served.end();
}

/// The commands in docs/nbd.md that make certificates, run as they stand there.
fn certificates(directory: &Path) {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/nbd.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let commands = manual.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let made = Command::new("bash").args(["-ec", commands]).current_dir(directory).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn tls() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let files = directory.path().to_str().unwrap();
    let always = ["--listen", "127.0.0.1:0", "--tls-certificates", files, "--tls-verify-peer", "--tls"];
    for mode in ["on", "require"] {
        let served = Served::start(&[&always[..], &[mode]].concat());
        let address = served.uri.strip_prefix("nbds://").unwrap().trim_end_matches('/');
        let secure = format!("nbds://{address}/?tls-certificates={files}");
        assert_eq!(nbdinfo(&["--size", &secure]), (true, "67108864".to_owned()));
        assert!(nbdinfo(&["--is", "tls", &secure]).0);
        assert_eq!(nbdinfo(&["--size", &format!("nbd://{address}/")]).0, mode == "on");
        let credentials = format!("tls-creds-x509,id=tls0,endpoint=client,dir={files}");
        let (host, port) = address.split_once(':').unwrap();
        let image =
            format!("driver=nbd,server.type=inet,server.host={host},server.port={port},tls-creds=tls0");
        let words = ["--object", &credentials, "--image-opts", &image, "-c", "write -P 1 0 1M"];
        let done = Command::new("qemu-io").args(words).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        served.end();
    }
}

fn stdio() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut child = brim(&["serve", "--size", "1MiB", "--stdio"])
        .stdin(OwnedFd::from(theirs.try_clone().unwrap()))
        .stdout(OwnedFd::from(theirs))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let client = Client::connect(ours, "").unwrap();
    client.write(Bytes(4096), b"heard").unwrap();
    assert_eq!(client.read(Bytes(4096), Bytes(5)).unwrap(), b"heard");
    drop(client);
    assert_eq!(child.wait().unwrap().code(), Some(0), "it ends with its client");
    // What is no socket is no client.
    let lonely = brim(&["serve", "--size", "1MiB", "--stdio"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(lonely.status.code(), Some(3));
}

fn activated() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.sock");
    let brim = brim(&["serve", "--size", "1MiB", "--activated"]);
    let mut child = Command::new("systemd-socket-activate")
        .args(["--listen", path.to_str().unwrap()])
        .arg(brim.get_program())
        .args(brim.get_args())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !path.exists() {
        std::thread::yield_now();
    }
    let uri = format!("nbd+unix:///?socket={}", path.display());
    let told = Command::new("nbdinfo").args(["--size", &uri]).output().unwrap();
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), "1048576");
    assert!(path.exists(), "the socket is not ours to remove");
    // libnbd starts servers in the same way.
    let brim = self::brim(&["serve", "--size", "1MiB", "--activated"]);
    let words: Vec<_> = std::iter::once(brim.get_program()).chain(brim.get_args()).collect();
    let told = Command::new("nbdinfo").args(["--size", "--", "["]).args(words).arg("]").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), "1048576");
}

fn nothing_handed_over() {
    let output = brim(&["serve", "--size", "1MiB", "--activated"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(brim(&["serve", "--size", "1MiB"]).output().unwrap().status.code(), Some(2));
}

fn not_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    let output = brim(&["serve", "--size", "1MiB", "--unix", path.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(std::fs::read(&path).unwrap(), b"data");
}
