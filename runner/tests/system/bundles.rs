//! Bundles: written, run again here and in a guest, told in a mail, and refused where they are none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Test;
use crate::bench::{Journal, SCENARIO, assert_nothing_left, brim, mark, scenario};
use crate::guests::{as_nobody, in_guest};
use crate::needs::{BTRFS, LINUX_UML, Need};

const BOTH: &[Need] = &[Need::Uml, Need::Rig, Need::Filesystem("btrfs"), Need::Tracefs];
/// What the recipe of a mail takes.
const SHELL: &[Need] = &[
    Need::Rig,
    Need::Filesystem("btrfs"),
    Need::Tracefs,
    Need::Kernel(6, 18),
    Need::Tool("xfs_io"),
    Need::Tool("unshare"),
    Need::Tool("bash"),
];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("a_bundle_runs_again_on_its_own_disk", BTRFS, runs_again),
        ("a_bundle_has_the_trial_that_stands_for_the_verdict", BTRFS, the_trial_that_stands),
        ("a_bundle_of_the_host_runs_in_a_guest_and_back", BOTH, between_rigs),
        ("a_range_makes_a_bundle_for_each_value", BTRFS, range),
        ("a_bundle_that_came_to_something_else_says_so", BTRFS, something_else),
        ("a_mail_about_a_bundle_has_steps_that_reproduce_it_without_brim", SHELL, mail),
        ("a_file_that_is_no_bundle_is_refused", &[], refused),
    ]
}

struct Bundles(tempfile::TempDir);

impl Bundles {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("bundles-").tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().display().to_string())
            .collect();
        names.sort();
        names
    }
}

fn stdout(arguments: &[&str]) -> String {
    let output = brim(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn unpacked(bundle: &str, into: &Path) -> PathBuf {
    let status = Command::new("tar").args(["-xzf", bundle, "-C"]).arg(into).status().unwrap();
    assert!(status.success());
    let name = Path::new(bundle).file_name().unwrap().display().to_string();
    into.join(name.strip_suffix(".brim.tar.gz").unwrap())
}

fn runs_again() {
    let bundles = Bundles::new();
    let path = bundles.path("hit.brim.tar.gz");
    let first = Journal::of(&["run", SCENARIO, "--trials", "2", "--seed", "7", "--bundle", &path]);
    assert_eq!(first.exit, Some(0));
    assert_eq!(bundles.files(), ["hit.brim.tar.gz"], "nothing else is left beside it");
    let mut command = brim(&["run", "--bundle", &path, "--json"]);
    let mark = mark(&mut command);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let again = Journal::read(&output);
    assert_eq!(again.exit, Some(0));
    assert!(said.contains("the same as in the bundle: reproduced, pwrite = ENOSPC"), "{said}");
    assert_eq!(again.verdict()["command"], format!("brim run --bundle {path}"));
    for field in ["verdict", "failed_step", "errno", "space", "seed", "known", "kernel"] {
        assert_eq!(again.verdict()[field], first.verdict()[field], "{field}");
    }
    assert_eq!(
        again.all("counters")[0]["counters"],
        first.all("counters")[0]["counters"],
        "before the first step"
    );
    assert_nothing_left(&mark);
    // What is in it is a sparse file for tar, with the filesystem on it, as it was and as the trial left it.
    let directory = unpacked(&path, bundles.0.path());
    for (image, words) in [("disk.img", "total devices 1"), ("disk-after.img", "total devices 1")] {
        let image = directory.join(image);
        let metadata = fs::metadata(&image).unwrap();
        assert_eq!(metadata.len(), 128 << 20);
        assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512 < 8 << 20, "it is sparse");
        let shown = Command::new("btrfs").args(["filesystem", "show"]).arg(&image).output().unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout).to_lowercase();
        assert!(shown.contains(words), "{shown}");
    }
    let lines = fs::read_to_string(directory.join("journal.jsonl")).unwrap();
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events, first.events, "the journal is that of the run");
}

/// Content is drawn anew in each trial: what reproduces in trial 3 is run again as trial 3.
fn the_trial_that_stands() {
    // The dice of the fault let most requests pass: with this seed the first trial that it fails in is a later one.
    let rest = r#"
        [[fault]]
        name = "dice"
        when = { op = "write", region = "file:blob", probability = 0.3 }
        then = { error = "EIO" }
        [[phase]]
        name = "write"
        until = "EIO"
        times = 1
        step = [
          { do.fallocate = { file = "blob", offset = "0 B", length = "64 KiB" } },
          { do.syncfs = {} },
          { arm = "dice" },
          { do.pwrite = { file = "blob", offset = "0 B", length = "64 KiB" } },
          { do.fsync = { file = "blob" } },
        ]
        [[reproduced]]
        step = "fsync"
        errno = "EIO"
    "#;
    let scenario = scenario(rest);
    let bundles = Bundles::new();
    let (path, mut later) = (bundles.path("dice.brim.tar.gz"), 0);
    for seed in ["1", "2", "3", "4", "5", "6"] {
        let run = Journal::of(&["run", &scenario.path, "--trials", "5", "--seed", seed, "--bundle", &path]);
        if run.verdict()["verdict"] != "reproduced" {
            continue;
        }
        let trials = run.all("trial-verdict");
        let stands = trials.iter().find(|trial| trial["verdict"] == "reproduced").unwrap();
        later += usize::from(stands["trial"] != 1);
        let again = Journal::of(&["run", "--bundle", &path]);
        assert_eq!(again.all("trial")[0]["trial"], stands["trial"]);
        assert_eq!(again.verdict()["verdict"], "reproduced");
    }
    assert!(later > 0, "a trial that is not the first was among them");
}

fn between_rigs() {
    let bundles = Bundles::new();
    let (host, guest) = (bundles.path("host.brim.tar.gz"), bundles.path("guest.brim.tar.gz"));
    assert_eq!(Journal::of(&["run", SCENARIO, "--bundle", &host]).exit, Some(0));
    let wrote = Journal::of(&in_guest(&[SCENARIO, "--trials", "2", "--bundle", &guest]));
    assert_eq!(wrote.exit, Some(0));
    // A bundle of the host needs no root in a guest.
    let mut command = brim(&["run", "--bundle", &host, "--kernel", LINUX_UML, "--json"]);
    let readable: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&bundles.0, readable).unwrap();
    as_nobody(&mut command);
    let in_guest = Journal::read(&command.output().unwrap());
    assert_eq!((in_guest.exit, &in_guest.verdict()["rig"]), (Some(0), &"uml".into()));
    assert_eq!(in_guest.verdict()["failed_step"], "pwrite");
    // One of a guest runs in its guest again, and here.
    let again = Journal::of(&["run", "--bundle", &guest]);
    assert_eq!((again.exit, &again.verdict()["rig"]), (Some(0), &"uml".into()));
    assert_eq!(again.all("counters")[0]["counters"], wrote.all("counters")[0]["counters"]);
    let here = Journal::of(&["run", "--bundle", &guest, "--kernel", "running"]);
    assert_eq!((here.exit, &here.verdict()["rig"]), (Some(0), &"host/fuse".into()));
    // What a guest's disk became goes with the guest, and the bundle says so.
    let shown = stdout(&["bundle", "show", &guest]);
    assert!(shown.contains("disk-after.img: the disk went with the guest"), "{shown}");
}

fn range() {
    let bundles = Bundles::new();
    let path = bundles.path("of/a/range");
    let run = Journal::of(&["run", SCENARIO, "--set", "free=65..66 blocks", "--bundle", &path]);
    assert_eq!(run.exit, Some(0));
    let names =
        ["65", "66"].map(|free| format!("{path}/btrfs-fallocate-then-pwrite-free-{free}-blocks.brim.tar.gz"));
    for (name, verdict) in names.iter().zip(run.all("verdict")) {
        let again = Journal::of(&["run", "--bundle", name]);
        assert_eq!((again.exit, &again.verdict()["verdict"]), (Some(0), &verdict["verdict"]));
        // The scenario in it stands alone: it is the one that ran.
        let scenario = stdout(&["bundle", "scenario", name]);
        assert!(
            scenario.contains(&format!("fill = {{ data_free = {} }}", verdict["params"]["free"])),
            "{scenario}"
        );
    }
    let one =
        brim(&["run", SCENARIO, "--set", "free=65..66 blocks", "--bundle", &bundles.path("x.brim.tar.gz")]);
    let refused = { one }.output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("name a directory"));
}

/// A bundle that says something else than what comes of it: the exit code is 1.
fn something_else() {
    let bundles = Bundles::new();
    let path = bundles.path("a.brim.tar.gz");
    assert_eq!(Journal::of(&["run", SCENARIO, "--bundle", &path]).exit, Some(0));
    let directory = unpacked(&path, bundles.0.path());
    let manifest = directory.join("bundle.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"failed_step\": \"pwrite\"", "\"failed_step\": \"fallocate\""))
        .unwrap();
    // GNU tar packs it again, and the disk sparse, as it does for anybody.
    let packed = Command::new("tar")
        .args(["--sparse", "--format=posix", "-czf", &path, "-C"])
        .arg(bundles.0.path())
        .args(
            [
                "README.txt",
                "bundle.json",
                "scenario.toml",
                "journal.jsonl",
                "kernel.log",
                "tickets.txt",
                "written.json",
                "disk.img",
            ]
            .map(|file| format!("a/{file}")),
        )
        .status()
        .unwrap();
    assert!(packed.success());
    let output = brim(&["run", "--bundle", &path]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text} {}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("not the same as in the bundle: reproduced, fallocate = ENOSPC"), "{text}");
}

/// The commands of the mail, in bash, on the disk of the bundle.
fn mail() {
    let bundles = Bundles::new();
    let path = bundles.path("hit.brim.tar.gz");
    assert_eq!(Journal::of(&["run", SCENARIO, "--bundle", &path]).exit, Some(0));
    let mail = stdout(&["bundle", "mail", &path]);
    assert!(
        mail.starts_with("Subject: btrfs: pwrite = ENOSPC, for want of data space (reproduced on "),
        "{mail}"
    );
    let recipe: Vec<&str> =
        mail.lines().skip_while(|line| !line.starts_with("Without brim")).skip(1).collect();
    assert!(recipe.len() > 5, "{mail}");
    let mut command = Command::new("unshare");
    // Its mount is in a namespace of its own, and its loop device goes with the mount.
    let script =
        format!("mount -t tmpfs none /mnt; cd {}; {}", bundles.0.path().display(), recipe.join("\n"));
    command.args(["--mount", "bash", "-c", &script]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("pwrite: No space left on device"), "{said}\n{script}");
    assert!(!said.contains("falloc"), "{said}");
}

fn refused() {
    let bundles = Bundles::new();
    let refusal = |arguments: &[&str]| {
        let output = brim(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        // As one line: it is wrapped to the terminal.
        let said = String::from_utf8(output.stderr).unwrap().replace('│', "");
        said.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let path = bundles.path("a.brim.tar.gz");
    fs::write(&path, "not a bundle").unwrap();
    for arguments in
        [vec!["run", "--bundle", &path], vec!["bundle", "show", &path], vec!["bundle", "mail", &path]]
    {
        let said = refusal(&arguments);
        assert!(said.contains("it is not a whole tar archive packed with gzip"), "{said}");
    }
    let said = refusal(&["run", "--bundle", &bundles.path("none.brim.tar.gz")]);
    assert!(said.contains("cannot read"), "{said}");
    for option in
        ["--set=free=1 block", "--control", "--log=log", "--config=hdd-7200", "--mkfs=-M", "--mount=noatime"]
    {
        let said = refusal(&["run", "--bundle", &path, option]);
        let name = option.split('=').next().unwrap();
        assert!(said.contains(&format!("{name} does not go with the bundle that is run again")), "{said}");
    }
    let said = refusal(&["run"]);
    assert!(said.contains("required"), "{said}");
    // An archive that would write elsewhere: nothing of it is written anywhere.
    let evil = bundles.0.path().join("evil");
    fs::create_dir(&evil).unwrap();
    fs::write(evil.join("README.txt"), "x").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", evil.join("kernel.log")).unwrap();
    for (members, why) in [
        (["evil/README.txt", "evil/kernel.log"].as_slice(), "is no plain file"),
        (&["evil/README.txt", "--transform=s,evil,..,"], "lies beside the others"),
        (&["evil/README.txt"], "it has no bundle.json"),
    ] {
        let status = Command::new("tar")
            .args(["-P", "-czf", &path, "-C"])
            .arg(bundles.0.path())
            .args(members)
            .status();
        assert!(status.unwrap().success());
        let before = bundles.files();
        let said = refusal(&["run", "--bundle", &path]);
        assert!(said.contains(why), "{said}");
        assert_eq!(bundles.files(), before);
    }
}
