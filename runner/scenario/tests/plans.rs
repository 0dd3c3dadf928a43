//! From the scenarios that come with brim to their plans: parameters, ranges, known verdicts, determinism.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it is")]

use std::fs;
use std::path::{Path, PathBuf};

use brim_device::fault::ErrorName;
use brim_scenario::{Scenario, Settings};
use brim_trial::condition::{Content, StepCondition};
use brim_trial::event::Signal;
use brim_trial::operation::{ExtentCount, FallocateMode, How, Release, Shared, Short, Which};
use brim_trial::plan::{Allow, Loop};
use brim_trial::{
    Bytes, Condition, Errno, Expression, FileOperation, FilesystemKind, Limits, Nanos, Operation, Plan,
    Round, Verdict,
};
use proptest::prelude::*;

const REPRODUCER: &str = "btrfs/fallocate-then-pwrite";

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")
}

fn text(name: &str) -> String {
    fs::read_to_string(scenarios().join(name).with_extension("toml")).unwrap()
}

fn parse(text: &str) -> Scenario {
    Scenario::parse("test.toml", text).unwrap_or_else(|error| panic!("{:?}", miette::Report::new(error)))
}

fn settings(filesystem: Option<FilesystemKind>, set: &[(&str, &str)]) -> Settings {
    Settings { filesystem, set: set.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect() }
}

fn plans(scenario: &Scenario, filesystem: Option<FilesystemKind>, set: &[(&str, &str)]) -> Vec<Plan> {
    scenario
        .plans(&settings(filesystem, set))
        .unwrap_or_else(|error| panic!("{:?}", miette::Report::new(error)))
}

fn plan(scenario: &Scenario, filesystem: Option<FilesystemKind>, set: &[(&str, &str)]) -> Plan {
    let mut plans = plans(scenario, filesystem, set);
    assert_eq!(plans.len(), 1);
    plans.remove(0)
}

/// FNV-1a: it stays the same from one toolchain to the next, unlike `DefaultHasher`.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[test]
fn the_scenario_of_the_mail_is_read() {
    let scenario = parse(&text(REPRODUCER));
    assert_eq!(scenario.name(), REPRODUCER);
    assert_eq!(scenario.default_filesystem(), FilesystemKind::Btrfs);
    assert_eq!(scenario.params()["free"], "66 blocks");
    assert!(scenario.claim().starts_with("pwrite into") && scenario.source().starts_with("linux-btrfs"));
    let plan = plan(&scenario, None, &[]);
    assert_eq!(plan.devices[0].size, Bytes(128 << 20));
    assert_eq!(plan.prepare.fill.data_free, Some(Bytes(66 * 4096)));
    assert_eq!(plan.step_limit, Nanos(30_000_000_000));
    assert_eq!(plan.phases[0].times, 1_000_000);
    let record = || Box::new(Expression::Size(Bytes(132_096)));
    let offset = Expression::Multiply(Box::new(Expression::Iteration), record());
    let (file, mode) = ("blob".into(), FallocateMode::Allocate);
    let fallocate = FileOperation::Fallocate { file, offset, length: *record(), mode, keep_size: true };
    assert_eq!(plan.phases[0].steps[0].operation, fallocate.into());
    let names: Vec<&str> = plan.phases[0].steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["fallocate", "pwrite", "fsync"]);
}

/// For all scenarios that come with brim: they are right, named after their place, and have a plan everywhere, but for what only
/// btrfs has.
#[test]
fn the_scenarios_of_the_house_are_right() {
    let mut count = 0;
    for directory in fs::read_dir(scenarios()).unwrap().map(|entry| entry.unwrap().path()) {
        for file in fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()) {
            let scenario = parse(&fs::read_to_string(&file).unwrap());
            assert_eq!(scenarios().join(scenario.name()).with_extension("toml"), file);
            let own = scenario.default_filesystem();
            for kind in FilesystemKind::ALL {
                match scenario.plans(&settings(Some(kind), &[])) {
                    Ok(plans) => assert_eq!(plans[0].filesystem.kind, kind),
                    Err(error) => {
                        let said = error.to_string();
                        assert!(kind != own && said.contains("which only btrfs has"), "{said}");
                    }
                }
            }
            count += 1;
        }
    }
    assert!(count >= 2);
}

/// The same scenario gives the same plan, byte for byte, on every machine and with every toolchain.
#[test]
fn a_plan_is_the_same_every_time() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fingerprints/fallocate-then-pwrite.txt");
    let json = serde_json::to_vec(&plan(&parse(&text(REPRODUCER)), None, &[])).unwrap();
    let fingerprint = format!("{:016x}\n", hash(&json));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, &fingerprint).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        kept,
        fingerprint,
        "the plan of {REPRODUCER} is another one than before:\n{}\nIf the scenario or the form of a plan was meant to \
         change, run `UPDATE_SNAPSHOTS=1 cargo test -p brim-scenario --test plans` and commit {}.",
        String::from_utf8_lossy(&json),
        path.display()
    );
}

#[test]
fn settings_come_before_overrides_and_overrides_before_defaults() {
    let scenario = parse(&text(REPRODUCER));
    let size = |filesystem, set: &[(&str, &str)]| plan(&scenario, filesystem, set).devices[0].size;
    assert_eq!(size(None, &[]), Bytes(128 << 20));
    assert_eq!(size(Some(FilesystemKind::Ext4), &[]), Bytes(128 << 20));
    assert_eq!(size(Some(FilesystemKind::Xfs), &[]), Bytes(320 << 20));
    assert_eq!(size(Some(FilesystemKind::Xfs), &[("size", "1 GiB")]), Bytes(1 << 30));
}

#[test]
fn a_range_gives_a_plan_for_each_value_in_order() {
    let scenario = parse(&text(REPRODUCER));
    let free = |set: &[(&str, &str)]| -> Vec<String> {
        plans(&scenario, None, set).iter().map(|plan| plan.params["free"].clone()).collect()
    };
    let expected: Vec<String> = (60..=140).map(|count| format!("{count} blocks")).collect();
    assert_eq!(free(&[("free", "60..140 blocks")]), expected);
    assert_eq!(free(&[("free", "60 blocks..140blocks")]), expected);
    assert_eq!(free(&[("free", "1..2 blocks")]), ["1 block", "2 blocks"]);
    assert_eq!(free(&[("free", "7..7 blocks")]), ["7 blocks"]);
}

#[test]
fn several_ranges_give_their_product_and_the_last_varies_fastest() {
    let scenario = parse(&text(REPRODUCER));
    let set = [("free", "1..2 blocks"), ("size", "1 GiB"), ("record", "5..7 KiB")];
    let plans = plans(&scenario, None, &set);
    let seen: Vec<(&str, &str)> =
        plans.iter().map(|plan| (plan.params["free"].as_str(), plan.params["record"].as_str())).collect();
    let one = [("1 block", "5 KiB"), ("1 block", "6 KiB"), ("1 block", "7 KiB")];
    let two = [("2 blocks", "5 KiB"), ("2 blocks", "6 KiB"), ("2 blocks", "7 KiB")];
    assert_eq!(seen, [one, two].concat());
    assert!(plans.iter().all(|plan| plan.params["size"] == "1 GiB"));
}

#[test]
fn parameters_are_normalised() {
    let scenario = parse(&text(REPRODUCER));
    assert_eq!(plan(&scenario, None, &[("free", " 0065blocks ")]).params["free"], "65 blocks");
    assert_eq!(plan(&scenario, None, &[("free", "1blocks")]).params["free"], "1 block");
}

#[test]
fn what_is_known_depends_on_filesystem_parameters_and_kernel() {
    let scenario = parse(&text(REPRODUCER));
    let known = |filesystem, set: &[(&str, &str)], kernel| plan(&scenario, filesystem, set).known_on(kernel);
    let (yes, no) = (Some(Verdict::Reproduced), Some(Verdict::NotReproduced));
    assert_eq!(known(None, &[], "6.18.44"), yes);
    assert_eq!(known(None, &[], "6.1.0-56-cloud-amd64"), yes);
    assert_eq!(known(None, &[], "5.10.46"), no);
    assert_eq!(known(None, &[], "4.19.0-27-amd64"), None);
    assert_eq!(known(None, &[("free", "65 blocks")], "6.18.44"), no);
    assert_eq!(known(None, &[("free", "65 blocks")], "6.12.107"), None);
    assert_eq!(known(None, &[("free", "99 blocks")], "6.18.44"), yes);
    assert_eq!(known(None, &[("free", "264 KiB")], "6.18.44"), yes, "66 blocks by another name");
    assert_eq!(known(None, &[("free", "260 KiB")], "6.18.44"), no, "65 blocks by another name");
    assert_eq!(known(None, &[("free", "198 blocks")], "6.18.44"), yes);
    assert_eq!(known(None, &[("free", "165 blocks")], "6.18.44"), no);
    assert_eq!(known(None, &[("free", "301 blocks")], "6.18.44"), None);
    assert_eq!(known(None, &[("size", "256 MiB")], "6.18.44"), None, "nothing is known of other sizes");
    assert_eq!(known(None, &[("size", "131072 KiB")], "6.18.44"), yes, "the default by another name");
    let xfs = Some(FilesystemKind::Xfs);
    assert_eq!(known(Some(FilesystemKind::Ext4), &[], "5.10.0"), no);
    assert_eq!(known(Some(FilesystemKind::Ext4), &[("free", "1000 blocks")], "5.10.0"), no);
    assert_eq!(known(xfs, &[], "6.18.44"), no);
    assert_eq!(
        known(xfs, &[("size", "320 MiB"), ("free", "1 block")], "6.18.44"),
        no,
        "the override is the default"
    );
    assert_eq!(known(xfs, &[("size", "128 MiB")], "6.18.44"), None);
}

const EVERYTHING: &str = r#"
schema = 1
name = "test/everything"
claim = "every key has a reader"
source = "this test"
step_limit = "2 * ${limit}"

[params]
limit = "1500 ms"
rounds = 3
dir = "some"
fill = "random"
level = "1"
nodes = "32k"

[device]
size = "3 * (1 GiB - 512 MiB) + 512 B"
write_cache = true

[filesystem]
kind = "btrfs"
mkfs = ["--nodesize", "${nodes}"]
mount = ["compress=zstd:${level}"]

[[fault]]
name = "commit"
when = { op = "flush", nth = "${rounds}" }
then = "hold"

[[fault]]
name = "all"
when = {}
then = "hold"

[[phase]]
name = "the first of ${rounds}"
times = "2 * ${rounds}"
step = [
  { do.pwrite = { file = "${dir}/blob", offset = "0 B", length = "1 block", data = "${fill}" }, name = "first" },
  { do.truncate = { file = "blob", size = "64 KiB * (5 - ${i})" } },
  { do.syncfs = {} },
  { do.resize_disk = { size = "1 GiB + ${i} * 512 B" } },
  { do.unlink = { file = "${dir}/${fill}" } },
]

[[phase]]
name = "side by side"
until = "EIO"
step = [
  { by = "one", await.held = { gate = "commit", count = "${rounds}" } },
  { by = "two", await.held = "all", name = "wait" },
  { by = "one", release = "commit" },
  { by = "two", arm = "all" },
  { by = "two", release = { gate = "all", first = "${rounds}" } },
  { by = "two", release = { gate = "all", order = "reversed" } },
  { by = "two", release = { gate = "all", only = [2, 3, 1], error = "ENOSPC" } },
  { by = "two", release = { gate = "all" } },
  { by = "two", close = "commit" },
  { do.syncfs = {} },
]

[[phase]]
name = "all verbs"
step = [
  { do.subvolume = { path = "${dir}" } },
  { do.nocow = { file = "${dir}/blob" } },
  { do.sync_file_range = { file = "blob", offset = "0 B", length = "1 block" } },
  { do.fdatasync = { file = "blob" } },
  { do.snapshot = { of = "${dir}", to = "snap", read_only = true } },
  { do.reflink = { from = "blob", to = "other", offset = "1 block", length = "2 blocks" } },
  { do.scrub = {} },
  { do.drop_caches = {} },
  { do.remount = {} },
  { do.power_cut = {} },
  { do.check = {} },
  { do.pread = { file = "blob", offset = "0 B", length = "1 block", expect = "zeroes" } },
]

[[reproduced]]
step = "pread"
content = "lost"

[[reproduced]]
step = "first"
space = "metadata"

[[known]]
params = { dir = ["other", "some"], rounds = [2, "4..6"] }
verdict = "inconclusive"
"#;

#[test]
fn every_key_arrives_in_the_plan() {
    let scenario = parse(EVERYTHING);
    let made = plan(&scenario, None, &[("dir", "other"), ("rounds", "2")]);
    assert_eq!(made.step_limit, Nanos(3_000_000_000));
    assert_eq!(made.devices[0].size, Bytes(3 * (512 << 20) + 512));
    assert_eq!(made.filesystem.mkfs, ["--nodesize", "32k"]);
    assert_eq!(made.filesystem.mount, ["compress=zstd:1"]);
    assert_eq!(made.prepare.fill.data_free, None);
    assert_eq!(serde_json::to_string(&made.faults[0].row.when).unwrap(), r#"{"op":["flush"],"nth":2}"#);
    assert_eq!(made.phases[0].name, "the first of 2");
    assert_eq!((made.phases[0].times, made.phases[0].until), (4, None));
    assert_eq!(made.phases[0].steps[0].operation.file(), Some(&"other/blob".into()));
    assert_eq!(made.phases[0].steps[4].operation.file(), Some(&"other/random".into()));
    assert_eq!((made.phases[1].times, made.phases[1].workers()), (1, vec![Some("one"), Some("two"), None]));
    let (gate, name) = ("commit".to_owned(), &made.phases[1].steps[1].name);
    assert_eq!(made.phases[1].steps[0].operation, Operation::Await { gate: gate.clone(), count: 2 });
    assert_eq!(made.phases[1].steps[2].operation, Operation::Release { gate: gate.clone(), some: None });
    assert_eq!(name, "wait");
    assert_eq!(made.phases[1].steps[3].operation, Operation::Arm { fault: "all".to_owned() });
    let which = [Which::First(2), Which::Reversed, Which::Only(vec![2, 3, 1]), Which::All];
    for (at, which) in (4..).zip(which) {
        let error = (at == 6).then_some(ErrorName::Enospc);
        let some = Some(Release { which, error });
        assert_eq!(made.phases[1].steps[at].operation, Operation::Release { gate: "all".to_owned(), some });
    }
    assert_eq!(made.phases[1].steps[8].operation, Operation::Close { gate });
    assert!(made.is_armed("all") && !made.is_armed("commit"));
    assert!(made.devices[0].write_cache);
    let verbs: Vec<&str> = made.phases[2].steps.iter().map(|step| step.operation.verb()).collect();
    let expected = "subvolume nocow sync_file_range fdatasync snapshot reflink scrub drop_caches remount power_cut check pread";
    assert_eq!(verbs.join(" "), expected);
    let block = |count: u64| Expression::Size(Bytes(count * 4096));
    let range = Some(Shared { offset: block(1), length: block(2), to_offset: block(1) });
    let reflink = FileOperation::Reflink { from: "blob".into(), to: "other".into(), range };
    assert_eq!(made.phases[2].steps[5].operation, reflink.into());
    let of_steps: Vec<_> = made.reproduced.iter().flat_map(Condition::steps).collect();
    assert_eq!(of_steps[0].content, Some(Content::Lost));
    assert_eq!(of_steps[1].step, "first");
    assert_eq!(made.known.len(), 1);
    for (rounds, count) in [("1", 0), ("2", 1), ("3", 0)] {
        assert_eq!(plan(&scenario, None, &[("rounds", rounds)]).known.len(), count, "{rounds} rounds");
    }
    let elsewhere = plan(&scenario, Some(FilesystemKind::Ext4), &[]).filesystem;
    assert!(elsewhere.mkfs.is_empty() && elsewhere.mount.is_empty());
}

#[test]
fn a_value_that_goes_wrong_in_a_later_round_is_told() {
    let error = parse(EVERYTHING).plans(&settings(None, &[("rounds", "4")])).unwrap_err();
    assert_eq!(error.to_string(), "`size` is below zero or past 2^64 in round 7");
}

const FILES: &str = r#"
schema = 1
name = "test/files"
claim = "every verb on files is read"
source = "this test"

[params]
dir = "d"
copies = 3

[device]
size = "128 MiB"

[filesystem]
kind = "btrfs"

[[phase]]
name = "files"
until = "ENOSPC"
step = [
  { by = "one", do.mkdir = { path = "${dir}${i}" } },
  { by = "one", do.creat = { file = "${dir}${i}/f${copy}-${i}" }, allow = ["ENOSPC", "SIGBUS"] },
  { by = "one", do.pwrite = { file = "f${copy}", offset = "${copy} * 1 MiB + ${i} * 4 KiB", length = "4 KiB", how = ["direct", "dsync"], short = "stop", data = { text = "${dir}!" } }, allow = "any" },
  { by = "two", do.fallocate = { file = "f", offset = "0 B", length = "4 KiB", mode = "zero_range", keep_size = true } },
  { by = "two", do.rename = { from = "f", to = "g", how = "exchange" } },
  { by = "two", do.symlink = { path = "l", length = "3000 B" } },
  { by = "two", do.chmod = { file = "f", mode = "0600" } },
  { by = "two", do.extents = { file = "f", expect = { count = "${copies}", shared = { at_least = 1, at_most = 2 } } } },
  { by = "two", do.open = { file = "f", flags = "O_TRUNC" } },
  { by = "two", do.unlink = { file = "f", keep_open = true } },
]
[[phase.worker]]
name = "one"
times = 5
copies = "${copies}"
[[phase.worker]]
name = "two"
while = "one"

[[reproduced]]
step = "pwrite"
"#;

#[test]
fn verbs_on_files_and_loops_are_read() {
    let made = plan(&parse(FILES), None, &[]);
    let phase = &made.phases[0];
    let steps: Vec<&FileOperation> = phase
        .steps
        .iter()
        .map(|step| match &step.operation {
            Operation::File(operation) => operation,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(*steps[1], FileOperation::Creat { file: "d${i}/f${copy}-${i}".into() });
    let round = Round { iteration: 4, copy: 2 };
    assert_eq!(steps[1].file().at(round), "d4/f2-4");
    let FileOperation::Pwrite { offset, data, how, short, .. } = steps[2] else { panic!("{:?}", steps[2]) };
    assert_eq!(offset.value(round), Ok((2 << 20) + 4 * 4096));
    assert_eq!((data, *short), (&brim_trial::Content::Text("d!".to_owned()), Short::Stop));
    assert_eq!(*how, How { direct: true, dsync: true, nowait: false });
    let FileOperation::Extents { expect, .. } = steps[7] else { panic!("{:?}", steps[7]) };
    let limits = Limits { at_least: 1, at_most: Some(2) };
    assert_eq!(expect[..], [(ExtentCount::Count, Limits::exactly(3)), (ExtentCount::Shared, limits)]);
    let errno = Errno::ENOSPC;
    assert_eq!(phase.steps[1].allow, [Allow::Errno(errno), Allow::Signal(Signal::Bus)]);
    assert!(phase.steps[2].allows(Some(Errno::EIO), None) && !phase.steps[1].allows(Some(Errno::EIO), None));
    assert!(!phase.steps[2].allows(None, None), "what no system call told is not allowed");
    let until = Some(errno);
    let own = |by: &str, times, beside: Option<&str>, copies| Loop {
        by: by.to_owned(),
        times,
        until,
        beside: beside.map(ToOwned::to_owned),
        copies,
    };
    assert_eq!(phase.loops, [own("one", 5, None, 3), own("two", u64::MAX, Some("one"), 1)]);
    assert_eq!(serde_json::from_slice::<Plan>(&serde_json::to_vec(&made).unwrap()).unwrap(), made);
}

proptest! {
    /// For all settings: a plan or a message, and the message can be shown.
    #[test]
    fn any_setting_has_an_answer(key in "(free|size|record|.*)", value in r"([0-9]{1,3}|[ .*${}µ-]|blocks|KiB|\PC){0,6}") {
        let scenario = parse(&text(REPRODUCER));
        if let Err(error) = scenario.plans(&settings(None, &[(&key, &value)])) {
            let shown = format!("{:?}", miette::Report::new(error));
            prop_assert!(!shown.is_empty());
        }
    }

    /// For all places of a scenario where something is lost or put in: a scenario or a message that can be shown.
    #[test]
    fn any_text_has_an_answer(at in 0usize..2200, lost in 0usize..6, put_in in r"([0-9${}\[\]=.*µ\n-]|\PC){0,3}") {
        let mut changed: Vec<char> = EVERYTHING.chars().collect();
        let at = at.min(changed.len());
        let end = (at + lost).min(changed.len());
        changed.splice(at..end, put_in.chars());
        let changed: String = changed.into_iter().collect();
        if let Err(error) = Scenario::parse("test.toml", &changed) {
            let shown = format!("{:?}", miette::Report::new(error));
            prop_assert!(!shown.is_empty());
        }
    }
}

/// A scenario with one of everything that a control may change.
const CONTROLLED: &str = r#"
schema = 1
name   = "btrfs/example"
claim  = "it works"
source = "a test"
why    = """
First.

Second."""
params = { free = "66 blocks", lie = "1" }
[device]
size = "128 MiB"
[filesystem]
kind  = "btrfs"
mount = ["nodatacow"]
[prepare]
fill = { data_free = "${free}" }
[[fault]]
name = "gate"
when = { op = "write" }
then = "hold"
[[phase]]
name = "one"
step = [
  { do.fallocate = { file = "f", offset = "0 B", length = "4 KiB" } },
  { by = "other", await.held = "gate" },
  { only = "control", name = "more", do.fsync = { file = "f" } },
]
[[phase]]
name = "two"
step = [ { only = "control", arm = "liar" } ]
[[reproduced]]
step = "fallocate"
[[known]]
kernel  = ">= 6.1"
verdict = "reproduced"
[[known]]
verdict = "not-reproduced"
[control]
change        = "all of it"
params        = { free = "67 blocks" }
without_fault = ["gate"]
without_step  = ["fallocate"]
mkfs          = ["--mixed"]
mount         = []
kernel        = ">= 5.10"
[[control.fault]]
name = "liar"
when = { nth = "${lie}" }
then = "volatile"
"#;

#[test]
fn a_control_is_the_scenario_with_its_changes() {
    let scenario = parse(CONTROLLED);
    let main = plan(&scenario, None, &[]);
    assert_eq!(main.why.as_deref(), Some("First.\n\nSecond."));
    assert_eq!(main.phases[0].steps.len(), 2);
    assert!(main.phases[1].steps.is_empty(), "its only step is the control's");
    assert_eq!(main.faults.len(), 1);
    let control = main.control.unwrap();
    assert_eq!((control.change.as_str(), control.verdict), ("all of it", Verdict::NotReproduced));
    let changes = [
        "free = 67 blocks",
        "without the fault \"gate\"",
        "without the step \"fallocate\"",
        "mkfs `--mixed`",
        "no options of mount",
        "with the fault \"liar\"",
        "with the step \"more\"",
        "with \"liar\" in force",
    ];
    assert_eq!(control.changes, changes);

    // What is set on the command line holds for the control too, but for what it changes itself.
    let controls =
        scenario.controls(&settings(None, &[("free", "1..3 blocks"), ("lie", "2")])).unwrap().unwrap();
    assert_eq!(controls.len(), 3);
    let plan = &controls[0];
    assert_eq!(plan.prepare.fill.data_free, Some(Bytes(67 * 4096)));
    assert_eq!(
        (plan.filesystem.mkfs.as_slice(), plan.filesystem.mount.len()),
        (&["--mixed".to_owned()][..], 0)
    );
    let names: Vec<&str> =
        plan.phases.iter().flat_map(|phase| &phase.steps).map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["more", "arm"]);
    assert_eq!(plan.faults.len(), 1);
    assert_eq!((plan.faults[0].row.name.as_str(), plan.faults[0].row.when.nth), ("liar", Some(2)));
    assert_eq!(plan.changed.as_ref().unwrap().change, "all of it");
    assert!(plan.control.is_none());
}

/// A condition may be about a step that the control alone has: it is what the control is judged by.
#[test]
fn a_condition_names_a_step_of_the_control() {
    let text = CONTROLLED.replace(
        "step = \"fallocate\"",
        "any = [ { step = \"fallocate\" }, { step = \"more\", errno = \"EIO\" } ]",
    );
    let scenario = parse(&text);
    let main = plan(&scenario, None, &[]);
    assert!(main.phases.iter().flat_map(|phase| &phase.steps).all(|step| step.name != "more"));
    let control = scenario.controls(&settings(None, &[])).unwrap().unwrap().remove(0);
    assert!(control.phases[0].steps.iter().any(|step| step.name == "more"));
    // Each chooses between the steps that it has.
    assert_eq!(main.reproduced, [StepCondition::fails("fallocate").into()]);
    let errno = Some(Errno::EIO);
    assert_eq!(control.reproduced, [StepCondition { errno, ..StepCondition::fails("more") }.into()]);
}

#[test]
fn a_control_is_to_be_what_the_scenario_is_not() {
    let control = |text: &str| parse(text).controls(&settings(None, &[])).unwrap().unwrap().remove(0);
    let main = control(CONTROLLED);
    assert_eq!(main.known_on("6.12"), Some(Verdict::NotReproduced));
    assert_eq!(main.known_on("5.4"), None, "nothing is said of it there");
    let promise = CONTROLLED.replace("verdict = \"reproduced\"", "verdict = \"not-reproduced\"");
    assert_eq!(control(&promise).known_on("6.12"), Some(Verdict::Reproduced));
    let said = CONTROLLED.replace("change ", "verdict = \"reproduced\"\nchange ");
    assert_eq!(control(&said).known_on("6.12"), Some(Verdict::Reproduced));
    let scenario = parse(CONTROLLED);
    let unknown = scenario.controls(&settings(None, &[("free", "1 block")])).unwrap().unwrap().remove(0);
    assert_eq!(unknown.known_on("6.12"), None, "nothing is known of the scenario with that value");
}

#[test]
fn a_rate_is_a_share_of_the_trials() {
    let text = CONTROLLED.replacen(
        "verdict = \"reproduced\"",
        "rate = { at_least = \"2 %\", at_most = 0.1, why = \"timing\" }",
        1,
    );
    let plan = plan(&parse(&text), None, &[]);
    let known = plan.expected_on("6.12").unwrap();
    assert_eq!(known.verdict, Verdict::Reproduced);
    assert_eq!(known.rate.as_ref().unwrap().to_string(), "2 % to 10 %");
    assert!(plan.expected_on("5.10").unwrap().rate.is_none());
}

const DISKS: &str = r#"
schema = 1
name   = "test"
claim  = "c"
source = "s"
params = { size = "128 MiB", spare = "256 MiB" }

[[device]]
name = "a"
size = "${size}"

[[device]]
name = "b"
size = "${spare}"
write_cache = true
in_filesystem = false

[filesystem]
kind = "btrfs"
mkfs = ["-n", "4096"]

[prepare]
fill = { metadata_free = "12 KiB" }

[[prepare.step]]
do.quota_enable = {}

[[fault]]
name = "first"
when = { op = "write" }
then = "hold"

[[fault]]
name   = "second"
device = "b"
when   = { op = "write" }
then   = "hold"

[[phase]]
name = "test"
step = [
  { do.device_add = { device = "b" } },
  { do.balance    = { data = { usage = "50", profiles = "single", convert = "raid1", soft = true }, force = true } },
  { do.resize_filesystem = { size = "max", device = "b" } },
  { do.resize_disk = { size = "${spare} + 4096 B", device = "b" } },
  { do.remount    = { options = ["degraded"] } },
]

[[reproduced]]
step = "balance"
"#;

#[test]
fn disks_have_names_and_faults_are_of_one() {
    let scenario = parse(DISKS);
    let made = plan(&scenario, None, &[("spare", "512 MiB")]);
    let disks: Vec<(&str, Bytes, bool, bool)> = made
        .devices
        .iter()
        .map(|disk| (disk.name.as_str(), disk.size, disk.write_cache, disk.in_filesystem))
        .collect();
    assert_eq!(disks, [("a", Bytes(128 << 20), false, true), ("b", Bytes(512 << 20), true, false)]);
    let faults: Vec<(&str, &str)> =
        made.faults.iter().map(|fault| (fault.device.as_str(), fault.row.name.as_str())).collect();
    assert_eq!(faults, [("a", "first"), ("b", "second")]);
    assert_eq!(made.prepare.fill.metadata_free, Some(Bytes(12 << 10)));
    assert_eq!(made.prepare.steps[0].name, "quota_enable");
    let written: Vec<String> =
        made.phases[0].steps.iter().map(|step| serde_json::to_string(&step.operation).unwrap()).collect();
    assert_eq!(
        written,
        [
            r#"{"administer":{"device_add":{"device":"b"}}}"#,
            concat!(
                r#"{"administer":{"balance":{"data":{"usage":50,"profiles":["single"],"convert":"raid1","soft":true},"#,
                r#""metadata":null,"system":null,"force":true}}}"#
            ),
            r#"{"administer":{"resize_filesystem":{"size":null,"device":"b"}}}"#,
            r#"{"resize_disk":{"size":{"add":[{"size":536870912},{"size":4096}]},"device":"b"}}"#,
            r#"{"remount":{"options":["degraded"]}}"#,
        ]
    );
    assert!(
        !made.has_parity() && plan(&parse(&DISKS.replace("\"raid1\"", "\"raid5\"")), None, &[]).has_parity()
    );
}

/// What only btrfs has is right with the file's own filesystem, and refused to whoever asks for another one.
#[test]
fn what_only_btrfs_has_is_refused_elsewhere() {
    let scenario = parse(DISKS);
    for kind in [FilesystemKind::Ext4, FilesystemKind::Xfs] {
        let said = scenario.plans(&settings(Some(kind), &[])).unwrap_err().to_string();
        assert!(said.contains("which only btrfs has"), "{said}");
    }
    let plain = DISKS.replace("fill = { metadata_free = \"12 KiB\" }", "");
    let kept = ["device_add", "balance", "resize_filesystem", "quota_enable"];
    let plain: String = plain
        .lines()
        .filter(|line| !kept.iter().any(|verb| line.contains(verb)))
        .collect::<Vec<_>>()
        .join("\n");
    // The condition, which is last, went with the verb that it names.
    let plain = parse(&format!("{}\nstep = \"remount\"\n", plain.replace("[[prepare.step]]", "")));
    assert_eq!(
        plan(&plain, Some(FilesystemKind::Ext4), &[]).devices.len(),
        2,
        "a spare is no part of the filesystem"
    );
}
