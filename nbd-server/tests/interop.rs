//! Other people's clients against our server. Each is skipped, with what it needs, where the tool is not installed;
//! with `BRIM_TEST_REQUIRE=1` a missing tool is a failure.
#![expect(
    clippy::unwrap_used,
    reason = "a test without the test harness: clippy does not see that it is one"
)]

#[path = "common/certificates.rs"]
mod certificates;
#[path = "interop/live.rs"]
mod live;
#[path = "interop/log.rs"]
mod log;
#[path = "interop/sizes.rs"]
mod sizes;
#[path = "interop/sparse.rs"]
mod sparse;
#[path = "interop/tls.rs"]
mod tls;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitCode, Output};

use brim_device::Bytes;
use libtest_mimic::{Arguments, Failed, Trial};
use nbd_server::{Disk, DiskOptions, Listener, Server};

const SIZE: Bytes = Bytes(128 << 20);

/// How a client reaches the server.
#[derive(Clone, Copy)]
enum Family {
    Unix,
    Tcp,
}

/// A server with one export named `disk`, reachable under `uri`.
struct Rig {
    disk: Disk,
    uri: String,
    dir: tempfile::TempDir,
    _listener: Listener,
    server: Server,
}

impl Rig {
    fn new(family: Family, options: DiskOptions) -> Self {
        Self::on(Server::new(), family, options)
    }

    fn on(server: Server, family: Family, options: DiskOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new_with(SIZE, options).unwrap();
        server.add_export("disk", disk.clone()).unwrap();
        let (listener, uri) = match family {
            Family::Unix => {
                let path = dir.path().join("nbd.sock");
                let uri = format!("nbd+unix:///disk?socket={}", path.display());
                (server.listen_unix(&path).unwrap(), uri)
            }
            Family::Tcp => {
                let listener = server.listen_tcp(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
                let uri = format!("nbd://{}/disk", listener.local_addr().unwrap());
                (listener, uri)
            }
        };
        Self { disk, uri, dir, _listener: listener, server }
    }
}

type Check = fn(&Rig) -> Result<(), Failed>;

const CHECKS: [(&str, &str, Check); 6] = [
    ("nbdinfo", "json", nbdinfo_json),
    ("nbdinfo", "list", nbdinfo_list),
    ("nbdinfo", "can", nbdinfo_can),
    ("nbdcopy", "round_trip", nbdcopy_round_trip),
    ("qemu-io", "script", qemu_io_script),
    ("qemu-io", "past_the_end", qemu_io_past_the_end),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let required = std::env::var_os("BRIM_TEST_REQUIRE").is_some_and(|value| value == "1");
    let trial = |tool: &str, name: String, check: Box<dyn FnOnce() -> Result<(), Failed> + Send>| {
        let trial = Trial::test(name, check);
        if required || installed(tool) {
            trial
        } else {
            trial.with_kind(format!("needs {tool}")).with_ignored_flag(true)
        }
    };
    let mut trials = Vec::new();
    for (family_name, family) in [("unix", Family::Unix), ("tcp", Family::Tcp)] {
        for (cache_name, write_cache) in [("without_cache", false), ("with_cache", true)] {
            let options = DiskOptions { write_cache, ..DiskOptions::default() };
            for (tool, what, check) in CHECKS.into_iter().chain(sparse::CHECKS).chain(sizes::CHECKS) {
                let name = format!("{tool}::{what}::{family_name}::{cache_name}");
                trials.push(trial(tool, name, Box::new(move || check(&Rig::new(family, options)))));
            }
        }
        let name = format!("fio::under_live_control::{family_name}");
        trials.push(trial(
            "fio",
            name,
            Box::new(move || live::check(&Rig::new(family, DiskOptions::default()))),
        ));
        for (tool, what, check) in tls::CHECKS {
            let name = format!("{tool}::{what}::{family_name}");
            trials.push(trial(tool, name, Box::new(move || check(&tls::Secured::new(family)))));
        }
    }
    for (tool, what, check) in log::CHECKS {
        trials.push(trial(tool, format!("{tool}::{what}"), Box::new(check)));
    }
    for (tool, what, check) in log::UNPACKAGED {
        let trial = Trial::test(format!("{tool}::{what}"), check);
        let is_there = installed(tool);
        trials.push(trial.with_kind(format!("needs {tool}")).with_ignored_flag(!is_there));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn installed(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(tool).is_file())
}

fn output(tool: &str, arguments: &[&str]) -> Result<Output, Failed> {
    // A server that hangs must not hang the tests.
    let mut command = Command::new("timeout");
    command.args(["60", tool]).args(arguments);
    command.output().map_err(|error| format!("cannot run {tool}: {error}").into())
}

/// Runs a tool that has to succeed, and answers what it wrote to stdout.
fn succeed(tool: &str, arguments: &[&str]) -> Result<String, Failed> {
    let output = output(tool, arguments)?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("{tool} {arguments:?}: {}\n{stdout}{stderr}", output.status).into())
}

fn nbdinfo_json(rig: &Rig) -> Result<(), Failed> {
    let text = succeed("nbdinfo", &["--json", &rig.uri])?;
    let json: serde_json::Value = serde_json::from_str(&text)?;
    assert_eq!(json["protocol"], "newstyle-fixed");
    let export = &json["exports"][0];
    assert_eq!(export["export-size"], SIZE.0);
    for (key, value) in [
        ("can_fua", true),
        ("can_flush", true),
        ("can_trim", true),
        ("can_zero", true),
        ("can_multi_conn", true),
        ("is_read_only", false),
        ("is_rotational", false),
    ] {
        assert_eq!(export[key], value, "{key}");
    }
    assert_eq!(export["block_size_minimum"], 1);
    assert_eq!(export["block_size_preferred"], 4096);
    Ok(())
}

fn nbdinfo_list(rig: &Rig) -> Result<(), Failed> {
    let text = succeed("nbdinfo", &["--list", "--json", &rig.uri])?;
    let json: serde_json::Value = serde_json::from_str(&text)?;
    let names: Vec<_> =
        json["exports"].as_array().ok_or("no exports")?.iter().map(|e| &e["export-name"]).collect();
    assert_eq!(names, ["disk"]);
    Ok(())
}

fn nbdinfo_can(rig: &Rig) -> Result<(), Failed> {
    for (question, status) in [
        ("connect", 0),
        ("flush", 0),
        ("fua", 0),
        ("multi-conn", 0),
        ("trim", 0),
        ("zero", 0),
        ("write", 0),
        ("df", 0),
        ("cache", 0),
        ("fast-zero", 0),
    ] {
        let output = output("nbdinfo", &["--can", question, &rig.uri])?;
        assert_eq!(output.status.code(), Some(status), "--can {question}");
    }
    Ok(())
}

fn nbdcopy_round_trip(rig: &Rig) -> Result<(), Failed> {
    let data = noise(usize::try_from(SIZE.0)?);
    let (there, back) = (rig.dir.path().join("there"), rig.dir.path().join("back"));
    std::fs::write(&there, &data)?;
    std::fs::write(&back, [])?;
    succeed("nbdcopy", &[text(&there), &rig.uri])?;
    assert_eq!(rig.disk.allocated(), SIZE);
    // Without --flush nothing is sure to be durable; here it then is not.
    let dirty = if rig.disk.options().write_cache { SIZE } else { Bytes::ZERO };
    assert_eq!(rig.disk.dirty(), dirty);
    succeed("nbdcopy", &["--flush", text(&there), &rig.uri])?;
    assert_eq!(rig.disk.power_cut(), Bytes::ZERO);
    succeed("nbdcopy", &[&rig.uri, text(&back)])?;
    assert!(std::fs::read(&back)? == data, "what came back differs");
    Ok(())
}

/// A bit of everything; its first write is one of the long ones, which go past the input buffer.
const QEMU_IO_SCRIPT: [&str; 12] = [
    "write -P 0xaa 4k 8M",
    "write -z 8k 4k",
    "discard 4k 4k",
    "read -P 0 8k 4k",
    "read -P 0xaa 12k 1M",
    "flush",
    "aio_write -P 1 0 64k",
    "aio_flush",
    "aio_read -P 1 0 64k",
    "aio_flush",
    "write -f -P 3 1M 512",
    "read -P 3 1M 512",
];

fn qemu_io_script(rig: &Rig) -> Result<(), Failed> {
    let stdout = qemu_io(rig, &QEMU_IO_SCRIPT)?;
    assert!(!stdout.contains("fail") && !stdout.contains("rror"), "{stdout}");
    assert!(rig.disk.stats().write.requests >= 3);
    Ok(())
}

fn qemu_io_past_the_end(rig: &Rig) -> Result<(), Failed> {
    let stdout = qemu_io(rig, &["read -P 0 127M 1M", "write -P 7 127M 1M", "read -P 7 127M 1M"])?;
    assert!(!stdout.contains("fail"), "{stdout}");
    let beyond = output("qemu-io", &["-f", "raw", &rig.uri, "-c", "write 128M 4k"])?;
    let told =
        String::from_utf8_lossy(&beyond.stderr).into_owned() + &String::from_utf8_lossy(&beyond.stdout);
    assert!(told.contains("failed") || told.contains("error"), "{told}");
    Ok(())
}

fn qemu_io(rig: &Rig, commands: &[&str]) -> Result<String, Failed> {
    let mut arguments = vec!["-f", "raw", rig.uri.as_str()];
    arguments.extend(commands.iter().flat_map(|command| ["-c", command]));
    succeed("qemu-io", &arguments)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Bytes without a pattern that a block store could get right by accident (xorshift64).
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = vec![0; len];
    for word in noise.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
    }
    noise
}
