//! The HTML report, made of real runs and opened in a real browser.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::Test;
use crate::bench::{Journal, SCENARIO, brim};
use crate::campaign::Campaign;
use crate::needs::Need;

const BROWSER: &[Need] =
    &[Need::Rig, Need::Filesystem("btrfs"), Need::Tracefs, Need::Kernel(6, 18), Need::Tool(CHROMIUM)];
const CHROMIUM: &str = "chromium";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("a_report_opens_in_a_browser_with_every_plot_and_no_error", BROWSER, opens),
        ("a_campaign_opens_in_a_browser_with_every_plot_and_no_error", BROWSER, campaign_opens),
        ("a_browser_that_finds_an_error_is_heard", &[Need::Tool(CHROMIUM)], heard),
        (
            "a_report_of_a_journal_is_that_of_its_run",
            &[Need::Rig, Need::Filesystem("btrfs"), Need::Tracefs],
            of_a_journal,
        ),
        ("a_file_that_is_no_journal_is_refused", &[], refused),
    ]
}

/// Where what the browser saw is kept, for people to look at.
fn kept() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// Chromium without a window, for user 0 too, with nothing of its own to ask of the network.
fn chromium(arguments: &[&str], page: &Path) -> Output {
    let profile = tempfile::Builder::new().prefix("chromium-").tempdir().unwrap();
    let output = Command::new(CHROMIUM)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
        ])
        .args([
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ])
        .args(["--enable-logging=stderr", "--v=0"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// What the page's console says, errors of loading and of its content policy among it.
fn console(output: &Output) -> Vec<String> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    said.lines().filter(|line| line.contains("CONSOLE")).map(ToOwned::to_owned).collect()
}

/// The page as the browser understands it: with no error. What it looks like in light and dark, on paper, and as wide as a phone
/// is kept.
fn looked_at(name: &str, page: &str) -> String {
    let directory = kept();
    let path = directory.join(name).with_extension("html");
    fs::write(&path, page).unwrap();
    // No window is as narrow as a phone, but a frame in one is.
    let phone = directory.join(format!("{name}-phone.html"));
    let frame = format!(
        "<!DOCTYPE html><iframe src=\"{name}.html\" style=\"width:360px;height:1980px;border:0\"></iframe>"
    );
    fs::write(&phone, frame).unwrap();
    let picture = |page: &Path, kind: &str, more: &[&str]| {
        let file = directory.join(format!("{name}-{kind}"));
        let _old = fs::remove_file(&file);
        let option = if kind.ends_with("pdf") { "print-to-pdf" } else { "screenshot" };
        let option = format!("--{option}={}", file.display());
        let seen = chromium(&[&[option.as_str()], more].concat(), page);
        assert_eq!(console(&seen), Vec::<String>::new(), "{name} {kind}");
        let picture = fs::read(&file).unwrap();
        assert!(picture.len() > 10_000, "{kind} is {} bytes: nothing is on it", picture.len());
        picture
    };
    let light = picture(&path, "light.png", &["--window-size=1100,2000"]);
    let dark =
        picture(&path, "dark.png", &["--window-size=1100,2000", "--blink-settings=preferredColorScheme=0"]);
    assert_ne!(light, dark, "dark is another page than light");
    picture(&phone, "phone.png", &["--window-size=500,2000"]);
    picture(&path, "print.pdf", &["--no-pdf-header-footer"]);
    let dump = chromium(&["--dump-dom"], &path);
    assert_eq!(console(&dump), Vec::<String>::new(), "{name}");
    String::from_utf8(dump.stdout).unwrap()
}

fn plots(dom: &str, plot: &str) -> usize {
    dom.matches(&format!("data-plot=\"{plot}\"")).count()
}

fn opens() {
    let directory = tempfile::Builder::new().prefix("report-").tempdir().unwrap();
    let path = directory.path().join("a.html").display().to_string();
    let run = |arguments: &[&str]| {
        let output = brim(&[&["run"], arguments, &["--html", &path]].concat()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(&path).unwrap()
    };
    let dom = looked_at("gates", &run(&["btrfs/scrub-loses-accepted-write", "--trials", "3"]));
    assert_eq!((plots(&dom, "timeline"), plots(&dom, "trials")), (1, 1));
    for part in [
        "held by gate",
        "write requests so far",
        "metadata.may_use",
        "sync_file_range = ENOSPC",
        "steps by writer",
    ] {
        assert!(dom.contains(part), "{part}");
    }
    let dom = looked_at(
        "range",
        &run(&[SCENARIO, "--set", "free=64..68 blocks", "--set", "record=131072..131074 B"]),
    );
    assert_eq!(plots(&dom, "map"), 1);
    assert_eq!(dom.matches("class=\"cell ").count(), 15);
    let slow = directory.path().join("slow.toml");
    fs::write(&slow, SLOW).unwrap();
    let dom = looked_at("slow", &run(&[&slow.display().to_string()]));
    assert_eq!((plots(&dom, "timeline"), plots(&dom, "lateness")), (1, 1));
}

/// A map over two parameters, a threshold, a rate that is neither, and a disk that is slow.
fn campaign_opens() {
    let campaign = Campaign::new(CAMPAIGN);
    let (result, _) = campaign.run("out", &[]);
    assert_eq!(result["thresholds"][0]["found"], "threshold", "{}", result["thresholds"]);
    let path = campaign.path("campaign.html").display().to_string();
    let out = campaign.path("out").display().to_string();
    brim(&["campaign", "report", &out, "--html", &path]).output().unwrap();
    let dom = looked_at("campaign", &fs::read_to_string(&path).unwrap());
    assert_eq!((plots(&dom, "map"), plots(&dom, "curve")), (2, 1));
    assert!(plots(&dom, "timeline") >= 1 && plots(&dom, "lateness") >= 1);
    for part in [
        "pwrite/ENOSPC/data",
        "brim run --bundle",
        "Latency asked and given",
        "pwrite = ENOSPC",
        "href=\"#run-1\"",
    ] {
        assert!(dom.contains(part), "{part}");
    }
}

const CAMPAIGN: &str = r#"
keep = 30
[[sweep]]
name = "free space and record"
scenario = ["btrfs/fallocate-then-pwrite", "btrfs/fallocate-then-pwrite-aligned"]
params = { free = "60..76 blocks", record = "131072 B..135168 B step 1024 B" }

[[sweep]]
name = "from 66 blocks on"
scenario = "btrfs/fallocate-then-pwrite"
params = { free = "66..84 blocks" }
search = { param = "free", verify = 8 }

[[sweep]]
name = "on a slow disk"
scenario = "btrfs/fallocate-then-pwrite"
profile = "hdd-7200"
params = { free = "66 blocks" }
"#;

/// Reads and writes that each take 2 ms longer.
const SLOW: &str = r#"
schema = 1
name = "slow"
claim = "a slow disk is only slow"
source = "a test"
[device]
size = "128 MiB"
[filesystem]
kind = "btrfs"
[[fault]]
name = "slow"
when = { op = ["read", "write"] }
then = { delay = "2 ms" }
[[phase]]
name = "write"
times = 5
step = [
  { do.pwrite = { file = "blob", offset = "${i} * 64 KiB", length = "64 KiB" } },
  { do.fsync = { file = "blob" } },
]
[[reproduced]]
step = "fsync"
errno = "EIO"
"#;

/// The tests above would hear of an error.
fn heard() {
    let page = kept().join("error.html");
    fs::write(&page, "<!DOCTYPE html><title>x</title><script>console.error('it is wrong')</script>").unwrap();
    let lines = console(&chromium(&["--dump-dom"], &page));
    assert!(lines.iter().any(|line| line.contains("it is wrong")), "{lines:?}");
}

fn of_a_journal() {
    let directory = tempfile::Builder::new().prefix("report-").tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let output =
        brim(&["run", SCENARIO, "--trials", "2", "--json", "--html", &path("run.html")]).output().unwrap();
    let journal = Journal::read(&output);
    fs::write(path("a.jsonl"), &output.stdout).unwrap();
    let report = |arguments: &[&str]| {
        let output = brim(&[&["report"], arguments].concat()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(report(&[&path("a.jsonl"), "--html", &path("report.html")]), "");
    let without_origin = |name: &str| {
        let page = fs::read_to_string(path(name)).unwrap();
        page.split("<footer").next().unwrap().to_owned()
    };
    assert_eq!(without_origin("run.html"), without_origin("report.html"));
    // Text, JSON lines and JUnit of it are what the run itself says.
    let text = report(&[&path("a.jsonl")]);
    assert!(text.contains("reproduced  2 of 2 trials; as known for this kernel"), "{text}");
    let line: serde_json::Value = serde_json::from_str(report(&[&path("a.jsonl"), "--json"]).trim()).unwrap();
    assert_eq!(&line, journal.verdict());
    report(&[&path("a.jsonl"), "--junit", &path("a.xml")]);
    assert!(fs::read_to_string(path("a.xml")).unwrap().contains("tests=\"1\""));
    // A directory is all journals in it, and a last line that is cut short is left out.
    fs::create_dir(path("d")).unwrap();
    let mut cut = output.stdout.clone();
    cut.truncate(cut.len() - 20);
    fs::write(path("d/1.jsonl"), &output.stdout).unwrap();
    fs::write(path("d/2.jsonl"), &cut).unwrap();
    let lines = report(&[&path("d"), "--json"]);
    assert_eq!(lines.lines().count(), 2, "{lines}");
}

fn refused() {
    let directory = tempfile::Builder::new().prefix("report-").tempdir().unwrap();
    let path = directory.path().join("a.jsonl").display().to_string();
    for (text, why) in [
        ("{}\n", "line 1 of"),
        ("{\"schema\":9,\"event\":\"trial\",\"trial\":1}\n", "its schema is 9"),
        ("", "there is no run in"),
    ] {
        fs::write(&path, text).unwrap();
        let output = brim(&["report", &path]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).replace('│', "");
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why), "{said}");
    }
}
