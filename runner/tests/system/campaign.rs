//! `brim campaign` on real kernels: the map, kills, shards, engines, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::Test;
use crate::bench::{Journal, assert_nothing_left, brim, mark};
use crate::end::moments;
use crate::needs::{BTRFS, LINUX_UML, Need};

/// On 6.18 the write fails at these counts of free blocks alone (DESIGN.md, fact 6).
const NEW_KERNEL: &[Need] = &[Need::Rig, Need::Filesystem("btrfs"), Need::Tracefs, Need::Kernel(6, 18)];
const BOTH: &[Need] = &[Need::Uml, Need::Rig, Need::Filesystem("btrfs"), Need::Tracefs, Need::Kernel(6, 18)];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("a_campaign_finds_the_three_counts_of_blocks_and_keeps_their_journals", NEW_KERNEL, map),
        ("a_campaign_killed_ten_times_has_the_result_of_one_that_was_not", BTRFS, killed_ten_times),
        ("the_shards_of_a_campaign_merged_are_one_machine_byte_for_byte", BTRFS, shards),
        ("a_campaign_goes_on_only_as_it_began", BTRFS, goes_on_as_it_began),
        ("a_search_says_that_the_map_is_not_monotone", NEW_KERNEL, search),
        ("a_campaign_mixes_the_running_kernel_and_a_guest", BOTH, mixed),
        ("a_cell_that_mkfs_refuses_fails_alone", BTRFS, refused),
        ("a_hit_of_a_campaign_is_run_again_by_its_line", NEW_KERNEL, again),
        ("a_hit_of_a_campaign_has_its_bundle_and_is_shrunk", NEW_KERNEL, shrunk),
    ]
}

/// A campaign file and directories that go away with the test.
pub(crate) struct Campaign {
    directory: TempDir,
}

impl Campaign {
    /// With these lines behind the head.
    pub(crate) fn new(rest: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("campaign-").tempdir().unwrap();
        let text = format!("schema = 1\nname = \"test\"\nabout = \"a test\"\n{rest}\n");
        fs::write(directory.path().join("test.toml"), text).unwrap();
        Self { directory }
    }

    pub(crate) fn file(&self) -> String {
        self.directory.path().join("test.toml").display().to_string()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn words(&self, name: &str) -> Vec<String> {
        let out = self.path(name).display().to_string();
        ["campaign", "run", &self.file(), "--out", &out].map(ToOwned::to_owned).to_vec()
    }

    /// Runs it to its end; the result, and the exit code.
    pub(crate) fn run(&self, name: &str, more: &[&str]) -> (Value, Option<i32>) {
        let mut words = self.words(name);
        words.extend(more.iter().map(|word| (*word).to_owned()));
        let output = brim(&words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let result =
            fs::read(self.path(name).join("result.json")).unwrap_or_else(|_| panic!("no result: {said}"));
        (serde_json::from_slice(&result).unwrap(), output.status.code())
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The journals under a directory, by their last two names.
fn kept(path: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for signature in fs::read_dir(path).into_iter().flatten().flatten() {
        for file in fs::read_dir(signature.path()).unwrap().flatten() {
            if file.path().extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            names.push(format!("{}/{}", signature.file_name().display(), file.file_name().display()));
        }
    }
    names.sort();
    names
}

const MAP: &str =
    "[[sweep]]\nscenario = \"btrfs/fallocate-then-pwrite\"\nparams = { free = \"62..102 blocks\" }";

fn map() {
    let campaign = Campaign::new(MAP);
    let (result, exit) = campaign.run("out", &[]);
    assert_eq!(exit, Some(0), "all as known");
    let hits: Vec<&str> = result["cells"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|cell| cell["reproduced"] == 1)
        .map(|cell| cell["params"]["free"].as_str().unwrap())
        .collect();
    assert_eq!(hits, ["66 blocks", "99 blocks"]);
    assert_eq!((&result["trials"], &result["inconclusive"]), (&41.into(), &0.into()));
    assert_eq!(result["groups"][0]["signature"], "pwrite/ENOSPC/data");
    let trials = lines(&campaign.path("out/trials.jsonl"));
    assert_eq!(trials.len(), 41);
    let journals = kept(&campaign.path("out/hits"));
    assert_eq!(journals.len(), 2);
    let journal = lines(&campaign.path("out/hits").join(&journals[0]));
    assert_eq!(
        (&journal[0]["event"], &journal.last().unwrap()["verdict"]),
        (&"run".into(), &"reproduced".into())
    );
    let report = brim(&["campaign", "report", &campaign.path("out").display().to_string()]).output().unwrap();
    let report = String::from_utf8(report.stdout).unwrap();
    assert!(report.contains("....X................................X..."), "{report}");
}

/// Ten kills at moments spread over its life; the torn line that a kill may leave is added once.
fn killed_ten_times() {
    let rest = "[[sweep]]\nscenario = \"btrfs/fallocate-then-pwrite\"\n\
        params = { free = \"60..70 blocks\", record = [\"132096 B\", \"100000 B\"] }\nstop = { trials = 8 }";
    let campaign = Campaign::new(rest);
    let (calm, _) = campaign.run("calm", &[]);
    assert_eq!(calm["trials"], 176);
    let mut cut_short = 0;
    for (index, moment) in moments(10, Duration::from_millis(900)).enumerate() {
        let mut command = brim(&campaign.words("killed"));
        let mark = mark(&mut command);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(200) + moment);
        cut_short += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_nothing_left(&mark);
        let trials = campaign.path("killed/trials.jsonl");
        if index == 5 {
            let mut text = fs::read_to_string(&trials).unwrap();
            text.push_str("{\"cell\":\"0123");
            fs::write(&trials, text).unwrap();
        }
    }
    assert!(cut_short >= 5, "only {cut_short} kills came before the end: this tells little");
    campaign.run("killed", &[]);
    let read = |name: &str| fs::read_to_string(campaign.path(name).join("result.json")).unwrap();
    assert_eq!(read("killed"), read("calm"));
    let mut trials: Vec<String> = lines(&campaign.path("killed/trials.jsonl"))
        .iter()
        .map(|trial| format!("{} {}", trial["cell"], trial["number"]))
        .collect();
    assert_eq!(trials.len(), 176, "none is lost");
    trials.sort();
    trials.dedup();
    assert_eq!(trials.len(), 176, "none is there twice");
}

fn shards() {
    let campaign = Campaign::new(&format!("{MAP}\nstop = {{ trials = 2 }}"));
    let (whole, exit) = campaign.run("whole", &[]);
    assert_eq!(whole["trials"], 82);
    let mut words =
        vec!["campaign".to_owned(), "merge".to_owned(), campaign.path("merged").display().to_string()];
    for index in 1..=3 {
        let name = format!("shard-{index}");
        campaign.run(&name, &["--shard", &format!("{index}/3")]);
        words.push(campaign.path(&name).display().to_string());
    }
    let merged = brim(&words).output().unwrap();
    assert_eq!(merged.status.code(), exit);
    let read = |name: &str| fs::read_to_string(campaign.path(name).join("result.json")).unwrap();
    assert_eq!(read("merged"), read("whole"));
    let journals = kept(&campaign.path("merged/hits"));
    assert!(!journals.is_empty());
    for journal in journals {
        let bundle = campaign.path("merged/hits").join(journal.replace(".jsonl", ".brim.tar.gz"));
        assert!(bundle.exists(), "{}", bundle.display());
    }
    // Without one of them it is not finished, and says so.
    let part = [&words[..2], &[campaign.path("part").display().to_string()], &words[3..5]].concat();
    let output = brim(&part).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stdout).contains("not finished"));
}

fn goes_on_as_it_began() {
    let sweep = "[[sweep]]\nscenario = \"btrfs/fallocate-then-pwrite\"\nstop = { trials = 3 }";
    let campaign = Campaign::new(sweep);
    let (before, _) = campaign.run("out", &[]);
    let refusal = |more: &[&str]| {
        let mut words = campaign.words("out");
        words.extend(more.iter().map(|word| (*word).to_owned()));
        let output = brim(&words).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).replace("\n  │", ""))
    };
    let (exit, said) = refusal(&["--shard", "1/2"]);
    assert!(exit == Some(2) && said.contains("of another shard"), "{said}");
    // Something else ran it.
    let machine = campaign.path("out/machine.json");
    let mut seen: Value = serde_json::from_slice(&fs::read(&machine).unwrap()).unwrap();
    let release = seen["kernels"]["running"]["release"].clone();
    seen["kernels"]["running"]["release"] = "1.2.3".into();
    fs::write(&machine, seen.to_string()).unwrap();
    // Nothing is left to do, and nobody asks.
    assert_eq!(refusal(&[]).0, Some(0));
    let trials = campaign.path("out/trials.jsonl");
    let text = fs::read_to_string(&trials).unwrap();
    let one_less: String = text.split_inclusive('\n').take(2).collect();
    fs::write(&trials, one_less).unwrap();
    let (exit, said) = refusal(&[]);
    assert!(exit == Some(2) && said.contains("1.2.3") && said.contains("--anyway"), "{said}");
    assert_eq!(refusal(&["--anyway"]).0, Some(0));
    let (after, _) = campaign.run("out", &[]);
    assert_eq!(after, before, "{release}");
    // A line that no kill leaves.
    fs::write(&trials, format!("nonsense\n{text}")).unwrap();
    let (exit, said) = refusal(&[]);
    assert!(exit == Some(2) && said.contains("line 1"), "{said}");
    fs::write(&trials, text).unwrap();
    // Another file.
    fs::write(campaign.file(), fs::read_to_string(campaign.file()).unwrap() + "\n# more\n").unwrap();
    let (exit, said) = refusal(&[]);
    assert!(exit == Some(2) && said.contains("another campaign"), "{said}");
}

fn search() {
    let rest = "[[sweep]]\nscenario = \"btrfs/fallocate-then-pwrite\"\nparams = { free = \"60..70 blocks\" }\n\
        search = { param = \"free\" }";
    let campaign = Campaign::new(rest);
    let (result, _) = campaign.run("out", &[]);
    let found = &result["thresholds"][0];
    assert_eq!(found["found"], "not-monotone");
    let above: Vec<&Value> =
        found["runs"].as_array().unwrap().iter().filter(|run| run["above"] == true).collect();
    assert_eq!(above.len(), 1);
    assert_eq!((&above[0]["first"], &above[0]["last"]), (&"66 blocks".into(), &"66 blocks".into()));
}

fn mixed() {
    let rest = format!(
        "[[sweep]]\nscenario = \"btrfs/fallocate-then-pwrite\"\nkernel = [\"running\", \"{LINUX_UML}\"]\n\
         params = {{ free = [\"65 blocks\", \"66 blocks\", \"70 blocks\"] }}\nstop = {{ trials = 2 }}"
    );
    let campaign = Campaign::new(&rest);
    let (result, exit) = campaign.run("out", &[]);
    assert_eq!(exit, Some(0), "{result}");
    let at = |kernel: &str, free: &str| {
        let cells = result["cells"].as_array().unwrap();
        let cell =
            cells.iter().find(|cell| cell["kernel"] == kernel && cell["params"]["free"] == free).unwrap();
        cell["reproduced"].as_u64().unwrap()
    };
    let on = |kernel: &str| ["65 blocks", "66 blocks", "70 blocks"].map(|free| at(kernel, free));
    assert_eq!((on("running"), on(LINUX_UML)), ([0, 2, 0], [0, 2, 2]));
}

fn refused() {
    let rest = "[[sweep]]\nscenario = \"btrfs/fallocate-then-pwrite\"\nmkfs = [[], [\"--no-such-option\"]]";
    let campaign = Campaign::new(rest);
    let (result, exit) = campaign.run("out", &[]);
    assert_eq!(exit, Some(3));
    assert_eq!((&result["ended"], &result["failed_cells"]), (&"done".into(), &1.into()));
    let cells = result["cells"].as_array().unwrap();
    assert_eq!((&cells[0]["ended"], &cells[1]["ended"]), (&"trials".into(), &"failed".into()));
    assert!(cells[1]["reason"].as_str().unwrap().contains("mkfs.btrfs"), "{}", cells[1]);
}

/// The line of a group is the trial itself: same seed, same steps, same numbers.
fn again() {
    let campaign =
        Campaign::new("[[sweep]]\nscenario = \"btrfs/fallocate-then-pwrite\"\nmount = [[\"nodatasum\"]]");
    let (result, _) = campaign.run("out", &[]);
    let line = result["groups"][0]["first"]["command"].as_str().unwrap();
    let words = shlex::split(line.strip_prefix("brim ").unwrap()).unwrap();
    let journal = Journal::of(&words);
    assert_eq!(journal.verdict()["verdict"], "reproduced");
    let trial = &lines(&campaign.path("out/trials.jsonl"))[0];
    let seed = u64::from_str_radix(trial["seed"].as_str().unwrap().strip_prefix("0x").unwrap(), 16).unwrap();
    assert_eq!(journal.verdict()["seed"], seed);
    let kept = kept(&campaign.path("out/hits"));
    let steps = |events: &[Value]| -> Vec<Value> {
        let steps = events.iter().filter(|event| event["event"] == "step");
        steps
            .map(|step| serde_json::json!([step["step"], step["range"], step["returned"], step["errno"]]))
            .collect()
    };
    assert_eq!(steps(&journal.events), steps(&lines(&campaign.path("out/hits").join(&kept[0]))));
}

/// The bundle of a hit is the hit: its disk, its seed, its steps. What is left of it stands alone and fails in the same way.
fn shrunk() {
    let campaign = Campaign::new(
        "keep = 1\n[[sweep]]\nscenario = \"btrfs/fallocate-then-pwrite\"\nparams = { free = [\"65 blocks\", \"66 blocks\"] }\n\
         stop = { trials = 2 }",
    );
    let out = campaign.path("out").display().to_string();
    campaign.run("out", &[]);
    let kept = kept(&campaign.path("out/hits"));
    assert_eq!(kept.len(), 1, "as many as the file says: {kept:?}");
    let bundle = campaign.path("out/hits").join(kept[0].replace(".jsonl", ".brim.tar.gz"));
    let bundle = bundle.display().to_string();
    let again = Journal::of(&["run", "--bundle", &bundle]);
    assert_eq!(again.verdict()["verdict"], "reproduced");
    let steps = |events: &[Value]| -> Vec<Value> {
        let steps = events.iter().filter(|event| event["event"] == "step");
        steps
            .map(|step| serde_json::json!([step["step"], step["range"], step["returned"], step["errno"]]))
            .collect()
    };
    assert_eq!(steps(&again.events), steps(&lines(&campaign.path("out/hits").join(&kept[0]))));
    let report = brim(&["campaign", "report", &out]).output().unwrap();
    let report = String::from_utf8(report.stdout).unwrap();
    assert!(
        report.contains("pwrite/ENOSPC/data") && report.contains(&format!("brim run --bundle {bundle}")),
        "{report}"
    );
    let mut command = brim(&["campaign", "shrink", &out, "pwrite/ENOSPC/data", "--trials", "1"]);
    let mark = mark(&mut command);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_nothing_left(&mark);
    let small = campaign.path("out/shrunk/pwrite+ENOSPC+data.toml").display().to_string();
    let verdict = Journal::of(&["run", &small, "--trials", "2"]).verdict().clone();
    assert_eq!((&verdict["reproduced"], &verdict["failed_step"]), (&2.into(), &"pwrite".into()));
    let output = brim(&["campaign", "shrink", &out, "fsync/EIO"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("fsync/EIO") && said.contains("there are: pwrite/ENOSPC/data"), "{said}");
}
