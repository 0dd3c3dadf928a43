//! Shrinking, with somebody to ask who knows by a rule what fails.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it is")]

use std::convert::Infallible;

use brim_scenario::{Scenario, Settings, Shrunk, print, shrink};
use brim_trial::{Bytes, FileOperation, Operation, Plan, Round};
use proptest::collection::vec;
use proptest::prelude::*;

fn plan(rest: &str) -> Plan {
    let head = "schema = 1\nname = \"test\"\nclaim = \"it works\"\nsource = \"a test\"\n[device]\nsize = \"1 GiB\"\n\
        [filesystem]\nkind = \"btrfs\"\nmount = [\"noatime\", \"nobarrier\"]\n[prepare]\nfill = { data_free = \"100 blocks\" }\n";
    let scenario = Scenario::parse("test.toml", &format!("{head}{rest}"));
    let scenario = scenario.unwrap_or_else(|error| panic!("{:?}", miette::Report::new(error)));
    scenario.plans(&Settings::default()).unwrap().remove(0)
}

/// A plan whose steps are fsyncs of these files, in phases of seven, and which fails when `fsync` of the last one does.
fn of_files(files: &[u8]) -> Plan {
    let phase = |files: &[u8]| {
        let steps: Vec<String> =
            files.iter().map(|file| format!("{{ do.fsync = {{ file = \"f{file}\" }} }}")).collect();
        format!("[[phase]]\nname = \"a phase\"\nstep = [ {} ]\n", steps.join(", "))
    };
    let phases: Vec<String> = files.chunks(7).map(phase).collect();
    plan(&format!("{}[[reproduced]]\nstep = \"fsync\"\n", phases.concat()))
}

fn files(plan: &Plan) -> Vec<u8> {
    let steps = plan.phases.iter().flat_map(|phase| &phase.steps);
    steps.filter_map(|step| step.operation.file()?.as_str().strip_prefix('f')?.parse().ok()).collect()
}

fn shrunk(plan: &Plan, fails: impl Fn(&Plan) -> bool) -> Shrunk {
    let mut asked = 0;
    let (shrunk, error) = shrink::<Infallible>(plan, &mut |candidate, _| {
        asked += 1;
        assert!(print(candidate, "").is_ok(), "only what can be written down is asked about");
        Ok(fails(candidate))
    });
    assert!(error.is_none() && shrunk.is_minimal);
    assert_eq!(shrunk.tried, asked);
    assert!(fails(&shrunk.plan));
    shrunk
}

/// `wanted` stands in `files`, in this order, with others in between.
fn has_in_order(files: &[u8], wanted: &[u8]) -> bool {
    let mut rest = files.iter();
    wanted.iter().all(|wanted| rest.any(|file| file == wanted))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// For all plans, and all steps of it that it takes: those are left, and nothing else.
    #[test]
    fn what_it_takes_is_left_and_nothing_else(
        all in vec(0u8..40, 1..40),
        picks in vec(any::<prop::sample::Index>(), 1..5),
    ) {
        let mut places: Vec<usize> = picks.iter().map(|pick| pick.index(all.len())).collect();
        places.sort_unstable();
        places.dedup();
        let wanted: Vec<u8> = places.into_iter().map(|place| all[place]).collect();
        let shrunk = shrunk(&of_files(&all), |plan| has_in_order(&files(plan), &wanted));
        prop_assert_eq!(files(&shrunk.plan), wanted);
        prop_assert_eq!(shrunk.plan.phases.len(), 1);
    }

    /// For all rules, also those that no order explains: no single step of what is left can go.
    #[test]
    fn no_single_step_of_what_is_left_can_go(all in vec(0u8..9, 1..20), salt in any::<u64>()) {
        // Fails or not by dice, but for the whole.
        let dice = |files: &[u8]| {
            let hash = files.iter().fold(salt, |hash, file| {
                (hash ^ u64::from(*file)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17)
            });
            hash % 3 == 0
        };
        let whole = of_files(&all);
        let fails = |plan: &Plan| files(plan) == all || dice(&files(plan));
        let shrunk = shrunk(&whole, fails);
        let left = files(&shrunk.plan);
        for place in 0..left.len() {
            let mut fewer = left.clone();
            fewer.remove(place);
            prop_assert!(fewer.is_empty() || fewer == all || !dice(&fewer), "{:?} without {}", left, place);
        }
    }
}

const RACE: &str = r#"
[[fault]]
name = "gate"
when = { op = "read", nth = 3, probability = 0.5 }
then = "hold"
[[fault]]
name = "slow"
when = { op = "write" }
then = { delay = "1 ms" }
[[phase]]
name = "fill"
times = 40
step = [
  { do.pwrite = { file = "a", offset = "${i} * 132096 B", length = "132096 B" } },
  { do.fsync = { file = "a" } },
]
[[phase]]
name = "race"
step = [
  { by = "one", do.scrub = {} },
  { by = "two", await.held = "gate" },
  { by = "two", do.pwrite = { file = "b", offset = "0 B", length = "64 KiB" } },
  { by = "two", release = "gate" },
  { by = "three", do.syncfs = {} },
]
[[reproduced]]
step = "pwrite"
"#;

fn pwrites(plan: &Plan) -> impl Iterator<Item = (&str, u64)> {
    plan.phases.iter().flat_map(|phase| &phase.steps).filter_map(|step| match &step.operation {
        Operation::File(FileOperation::Pwrite { file, length, .. }) => {
            Some((file.as_str(), length.value(Round::default()).unwrap()))
        }
        _ => None,
    })
}

/// Workers, faults with their words, rounds, sizes and the disk all become as small as the rule lets them.
#[test]
fn everything_becomes_smaller() {
    let whole = plan(RACE);
    let fails = |plan: &Plan| {
        let waits = plan
            .phases
            .iter()
            .flat_map(|phase| &phase.steps)
            .any(|step| matches!(step.operation, Operation::Await { .. }));
        let writes = pwrites(plan).any(|(file, length)| file == "b" && length >= 6000);
        let rounds = plan.phases.iter().map(|phase| phase.times).max().unwrap();
        let filled = plan.phases.iter().any(|phase| phase.times >= 5) || rounds >= 5;
        waits
            && writes
            && filled
            && plan.devices[0].size >= Bytes(100 << 20)
            && plan.prepare.fill.data_free >= Some(Bytes(9 * 4096))
    };
    let shrunk = shrunk(&whole, fails);
    let text = print(&shrunk.plan, "").unwrap();
    assert_eq!(shrunk.plan.phases.iter().map(|phase| phase.times).collect::<Vec<_>>(), [5, 1], "{text}");
    assert_eq!(shrunk.plan.faults.len(), 1, "{text}");
    let gate = &shrunk.plan.faults[0].row.when;
    assert!(gate.nth.is_none() && gate.probability.is_none() && !gate.op.is_any(), "{text}");
    let steps: Vec<&str> =
        shrunk.plan.phases.iter().flat_map(|phase| &phase.steps).map(|step| step.name.as_str()).collect();
    // One step to go round with, what waits, and what fails.
    assert_eq!(steps.len(), 3, "{text}");
    assert!(shrunk.plan.phases.iter().all(|phase| phase.workers().len() == 1), "{text}");
    assert_eq!(shrunk.plan.prepare.fill.data_free, Some(Bytes(9 * 4096)), "{text}");
    assert!(shrunk.plan.devices[0].size < Bytes(128 << 20), "{text}");
    assert!(shrunk.plan.filesystem.mount.is_empty(), "{text}");
    assert!(pwrites(&shrunk.plan).all(|(_, length)| length < 12_000), "{text}");
}

/// What belongs together stays together: a size that two steps share is made smaller in both.
#[test]
fn a_size_that_steps_share_stays_shared() {
    let whole = plan(RACE);
    let same = |plan: &Plan| {
        let sizes: Vec<u64> = pwrites(plan).map(|(_, length)| length).collect();
        sizes.len() == 2 && sizes[0] == 129 * sizes[1] / 64 && sizes[1] > 0
    };
    assert!(same(&whole));
    let shrunk = shrunk(&whole, same);
    let sizes: Vec<u64> = pwrites(&shrunk.plan).map(|(_, length)| length).collect();
    assert!(sizes[0] < 132_096, "all sizes were halved together: {sizes:?}");
}

/// Who cannot say ends it, and what there is so far is not lost.
#[test]
fn an_error_gives_what_there_is_so_far() {
    let whole = of_files(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let mut left = 4;
    let (shrunk, error) = shrink(&whole, &mut |plan, what| {
        left -= 1;
        if left == 0 { Err(format!("the rig is gone at {what:?}")) } else { Ok(files(plan).contains(&9)) }
    });
    assert!(error.unwrap().starts_with("the rig is gone"));
    assert!(!shrunk.is_minimal && files(&shrunk.plan).contains(&9));
    assert!(files(&shrunk.plan).len() < 10);
}
