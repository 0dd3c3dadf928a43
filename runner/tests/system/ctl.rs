//! `brim ctl` against `brim serve`.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use brim_device::Bytes;
use nbd_server::client::{Client, Command};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::Test;
use crate::bench::brim;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("ctl_adds_rows_in_the_words_of_a_scenario", &[], rows),
        ("ctl_holds_and_releases", &[], gates),
        ("ctl_changes_the_disk", &[], disk),
        ("ctl_shows_statistics", &[], statistics),
        ("ctl_exits_with_what_happened", &[], exits),
    ]
}

/// A server with a control socket, which ends with the test.
struct Controlled {
    child: Child,
    directory: tempfile::TempDir,
    control: PathBuf,
}

impl Controlled {
    fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        let (disk, control) = (place("disk.sock"), place("control.sock"));
        let always = [
            "serve",
            "--size",
            "64MiB",
            "--unix",
            disk.to_str().unwrap(),
            "--control",
            control.to_str().unwrap(),
        ];
        let mut child = brim(&[&always[..], arguments].concat()).stderr(Stdio::null()).spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while !control.exists() {
            assert!(Instant::now() < until && child.try_wait().unwrap().is_none(), "it does not serve");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { child, directory, control }
    }

    fn client(&self, export: &str) -> Client {
        let stream = UnixStream::connect(self.directory.path().join("disk.sock")).unwrap();
        Client::connect(stream, export).unwrap()
    }

    fn output(&self, arguments: &[&str]) -> Output {
        let always = ["ctl", "--control", self.control.to_str().unwrap()];
        brim(&[&always[..], arguments].concat()).output().unwrap()
    }

    /// What a command that succeeds prints.
    fn ctl(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command prints on stderr that ends with this code.
    fn fails(&self, arguments: &[&str], code: i32) -> String {
        let output = self.output(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ctl(&[&["--json"], arguments].concat())).unwrap()
    }

    fn end(mut self) {
        kill_process(Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap(), Signal::TERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        assert!(!self.control.exists(), "the control socket went away with the server");
    }
}

/// Also where the test fails.
impl Drop for Controlled {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _waited_already = self.child.wait();
    }
}

fn rows() {
    let served = Controlled::start(&[]);
    let slow = "name = \"slow\", when = { op = \"write\", every = 2 }, then = { delay = \"5 ms\" }";
    assert_eq!(served.ctl(&["fault", "add", slow]), "added slow\n");
    let file = served.directory.path().join("rows.toml");
    let two = "[[fault]]\nname = \"a\"\nwhen = { op = \"read\" }\nthen = { error = \"EIO\" }\n\
        [[fault]]\nname = \"b\"\nwhen = { op = \"flush\" }\nthen = \"hold\"\n";
    std::fs::write(&file, two).unwrap();
    assert_eq!(served.ctl(&["fault", "add", &format!("@{}", file.display())]), "added a\nadded b\n");
    assert_eq!(served.ctl(&["fault", "add", "{\"name\":\"c\",\"then\":\"drop\"}"]), "added c\n");
    let client = served.client("");
    for _ in 0..4 {
        client.write(Bytes(0), &[1; 512]).unwrap();
    }
    assert!(client.read(Bytes(0), Bytes(512)).is_err());
    let shown = served.ctl(&["faults"]);
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..5], ["NAME", "WHEN", "THEN", "MATCHES", "FIRINGS"]);
    assert_eq!(lines[1][..9], ["slow", "write,", "every", "2", "delay", "5", "ms", "4", "2"]);
    assert_eq!(lines[2], ["a", "read", "error", "EIO", "1", "1", "-", "-"]);
    assert_eq!(lines[3], ["b", "flush", "hold", "0", "0", "closed", "-"]);
    let faults = served.json(&["faults"]);
    assert_eq!(faults["ok"]["faults"][0]["lateness"]["count"], 2);
    assert_eq!(served.ctl(&["fault", "remove", "a"]), "removed a: 1 matches, 1 firings\n");
    assert!(served.fails(&["fault", "remove", "a"], 1).contains("faults: \"slow\", \"b\", \"c\""));
    let said = served.fails(&["fault", "add", "name = \"x\", when = { op = \"wrte\" }, then = \"hold\""], 2);
    assert!(said.contains("did you mean `write`"), "{said}");
    served.end();
}

fn gates() {
    let served = Controlled::start(&[]);
    served.ctl(&["fault", "add", "name = \"gate\", when = { op = \"write\" }, then = \"hold\""]);
    let client = served.client("");
    let start = |block: u64| {
        let (sender, answer) = mpsc::channel();
        let command = Command::Write { offset: Bytes(block * 4096), data: &[7; 4096], fua: false };
        client.submit(command, Box::new(move |result| sender.send(result).unwrap_or_default()));
        answer
    };
    let answers: Vec<_> = (0..4).map(start).collect();
    assert_eq!(served.ctl(&["wait", "gate", "4"]), "4 requests held\n");
    let held = served.ctl(&["held"]);
    assert_eq!(held.lines().count(), 5, "{held}");
    let ids: Vec<&str> = held.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(served.ctl(&["release", "gate", "--first", "1"]), "1 request let go\n");
    let both = ["release", "gate", "--error", "ENOSPC", "--id", ids[3], ids[2]];
    assert_eq!(served.ctl(&both), "2 requests let go\n");
    assert_eq!(served.ctl(&["open", "gate"]), "1 request let go\n");
    let failed = |answer: &mpsc::Receiver<Result<_, _>>| {
        answer.recv_timeout(Duration::from_secs(30)).unwrap().is_err()
    };
    assert_eq!(answers.iter().map(failed).collect::<Vec<_>>(), [false, false, true, true]);
    assert_eq!(served.ctl(&["held"]), "nothing is held\n");
    served.ctl(&["close", "gate"]);
    assert!(served.fails(&["wait", "gate", "--limit", "20 ms"], 1).contains("0 of 1"));
    assert_eq!(served.ctl(&["open", "--all"]), "0 requests let go\n");
    served.end();
}

fn disk() {
    let log = tempfile::tempdir().unwrap();
    let log = log.path().join("log");
    let served = Controlled::start(&["--write-cache", "--seed", "0x2a", "--log", log.to_str().unwrap()]);
    let client = served.client("");
    let value = |client: &Client| client.read(Bytes(0), Bytes(1)).unwrap()[0];
    client.write(Bytes(0), &[1; 4096]).unwrap();
    served.ctl(&["snapshot", "keep", "one"]);
    assert_eq!(served.ctl(&["power-cut"]), "lost 4 KiB\n");
    assert_eq!(value(&client), 0);
    served.ctl(&["snapshot", "restore", "one"]);
    assert_eq!(value(&client), 1);
    assert_eq!(served.ctl(&["snapshot", "list"]), "one\n");
    assert!(served.ctl(&["fork", "copy", "--of", "one"]).starts_with("forked in "));
    assert_eq!(served.ctl(&["power-cut", "--keep", "100%"]), "sectors: 0 lost, 8 kept, 0 torn\n");
    assert_eq!(value(&served.client("copy")), 1);
    let exports = served.ctl(&["exports"]);
    assert!(exports.lines().any(|line| line.starts_with("\"copy\"  64 MiB")), "{exports}");
    served.ctl(&["--export", "copy", "resize", "1MiB"]);
    assert_eq!(served.client("copy").info().size, Bytes(1 << 20));
    served.ctl(&["remove-export", "copy"]);
    assert!(served.fails(&["stats", "--export", "copy"], 1).contains("no export \"copy\""));
    served.ctl(&["pool", "8KiB"]);
    client.write(Bytes(4096), &[1; 4096]).unwrap();
    assert!(client.write(Bytes(8192), &[1; 4096]).is_err());
    served.ctl(&["pool", "none"]);
    client.write(Bytes(8192), &[1; 4096]).unwrap();
    served.ctl(&["region", "log", "64KiB+4KiB", "1MiB+512"]);
    assert_eq!(served.json(&["regions"])["ok"]["regions"][0]["ranges"][1]["offset"], 1 << 20);
    assert_eq!(served.json(&["stats"])["ok"]["stats"]["seed"], 42);
    served.ctl(&["seed", "7"]);
    assert_eq!(served.json(&["stats"])["ok"]["stats"]["seed"], 7);
    served.ctl(&["mark", "here"]);
    served.ctl(&["snapshot", "forget", "one"]);
    served.ctl(&["settle"]);
    served.end();
    let shown = brim(&["log", "show", log.to_str().unwrap()]).output().unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("\"here\""));
}

fn statistics() {
    let served = Controlled::start(&["--export", "a", "--export", "b=1MiB"]);
    served.ctl(&["fault", "add", "name = \"slow\", when = { op = \"write\" }, then = { delay = \"1 ms\" }"]);
    served.client("a").write(Bytes(0), &[1; 4096]).unwrap();
    let text = served.ctl(&["stats"]);
    assert!(text.contains("size        64 MiB\n") && text.contains("write       1  (4 KiB)\n"), "{text}");
    let metrics = served.ctl(&["stats", "--prometheus"]);
    for line in [
        "# TYPE brim_requests_total counter",
        "brim_requests_total{export=\"a\",op=\"write\"} 1",
        "brim_requests_total{export=\"b\",op=\"write\"} 0",
        "brim_size_bytes{export=\"b\"} 1048576",
        "brim_fault_firings_total{export=\"a\",fault=\"slow\"} 1",
        "brim_lateness_seconds_bucket{export=\"a\",fault=\"slow\",le=\"+Inf\"} 1",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} is not in:\n{metrics}");
    }
    assert!(!served.ctl(&["--export", "b", "stats", "--prometheus"]).contains("export=\"a\""));
    served.end();
}

fn exits() {
    let nowhere = brim(&["ctl", "--control", "/nonexistent/socket", "faults"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("brim serve --control"));
    let served = Controlled::start(&[]);
    assert_eq!(served.ctl(&["raw", "{\"id\":5,\"do\":\"settle\"}"]), "{\"id\":5,\"ok\":\"done\"}\n");
    let refused = served.output(&["raw", "make it slow"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stdout).starts_with("{\"error\":\"column 1: "));
    let refused = served.output(&["close", "gate", "--json"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stdout).contains("there is no gate"));
    for wrong in [
        &["power-cut", "--keep", "half"][..],
        &["wait", "gate", "--limit", "5"],
        &["release", "gate", "--error", "EAGAIN"],
        &["region", "log", "64KiB"],
        &["open"],
        &["resize", "big"],
        &["fault", "add", "@/nonexistent"],
        &["fault", "add", "{}"],
        &["stats", "--prometheus", "--json"],
    ] {
        served.fails(wrong, 2);
    }
    served.end();
}
