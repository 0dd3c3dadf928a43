//! From the scenarios that come with brim to their plans: parameters, ranges, known verdicts, determinism.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it is")]

use std::fs;
use std::path::{Path, PathBuf};

use brim_device::fault::ErrorName;
use brim_scenario::{Scenario, Settings};
use brim_trial::operation::{Release, Which};
use brim_trial::plan::Content;
use brim_trial::{Bytes, Expression, FilesystemKind, Nanos, Operation, Plan, Verdict};
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
    let fallocate = Operation::Fallocate { file: "blob".into(), offset, length: *record(), keep_size: true };
    assert_eq!(plan.phases[0].steps[0].operation, fallocate);
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
    assert_eq!(made.phases[0].steps[0].operation.file(), Some("other/blob"));
    assert_eq!(made.phases[0].steps[4].operation.file(), Some("other/random"));
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
    let (from, to, offset, length) = ("blob".to_owned(), "other".to_owned(), block(1), block(2));
    let reflink = Operation::Reflink { from, to, to_offset: offset.clone(), offset, length };
    assert_eq!(made.phases[2].steps[5].operation, reflink);
    assert_eq!(made.reproduced[0].content, Some(Content::Lost));
    assert_eq!(made.reproduced[1].step, "first");
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
