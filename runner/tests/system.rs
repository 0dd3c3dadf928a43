//! What a user sees, on the running kernel with real mounts. A test that needs something this machine has not says so
//! in its name and is ignored; with `BRIM_TEST_REQUIRE=1` (as in CI) it fails instead.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests of limits and of processes that end wait on the real clock"
)]

#[path = "system/administration.rs"]
mod administration;
#[path = "system/bench.rs"]
mod bench;
#[path = "system/beside.rs"]
mod beside;
#[path = "system/bundles.rs"]
mod bundles;
#[path = "system/campaign.rs"]
mod campaign;
#[path = "system/conditions.rs"]
mod conditions;
#[path = "system/contents.rs"]
mod contents;
#[path = "system/controls.rs"]
mod controls;
#[path = "system/ctl.rs"]
mod ctl;
#[path = "system/devices.rs"]
mod devices;
#[path = "system/end.rs"]
mod end;
#[path = "system/files.rs"]
mod files;
#[path = "system/fill.rs"]
mod fill;
#[path = "system/gates.rs"]
mod gates;
#[path = "system/guest_end.rs"]
mod guest_end;
#[path = "system/guests.rs"]
mod guests;
#[path = "system/kernel.rs"]
mod kernel;
#[path = "system/log.rs"]
mod log;
#[path = "system/machines.rs"]
mod machines;
#[path = "system/needs.rs"]
mod needs;
#[path = "system/operations.rs"]
mod operations;
#[path = "system/program.rs"]
mod program;
#[path = "system/races.rs"]
mod races;
#[path = "system/regions.rs"]
mod regions;
#[path = "system/report.rs"]
mod report;
#[path = "system/rig.rs"]
mod rig;
#[path = "system/run.rs"]
mod run;
#[path = "system/serve.rs"]
mod serve;
#[path = "system/shrink.rs"]
mod shrink;
#[path = "system/slurm.rs"]
mod slurm;
#[path = "system/workers.rs"]
mod workers;

use libtest_mimic::{Arguments, Completion, Trial};
use needs::Need;

fn main() {
    // As the program under test.
    match std::env::args().nth(1).as_deref() {
        Some(program::WRITER) => return program::write_until_it_fails(),
        Some(program::MANY) => return program::write_many_times(),
        _ => {}
    }
    let mut arguments = Arguments::from_args();
    // They count loop devices and mounts.
    arguments.test_threads = Some(1);
    let tests = [
        run::tests(),
        workers::tests(),
        files::tests(),
        beside::tests(),
        gates::tests(),
        contents::tests(),
        log::tests(),
        operations::tests(),
        conditions::tests(),
        controls::tests(),
        regions::tests(),
        races::tests(),
        bundles::tests(),
        shrink::tests(),
        report::tests(),
        fill::tests(),
        devices::tests(),
        administration::tests(),
        program::tests(),
        rig::tests(),
        end::tests(),
        serve::tests(),
        ctl::tests(),
        kernel::tests(),
        machines::tests(),
        guests::tests(),
        guest_end::tests(),
        campaign::tests(),
        slurm::tests(),
    ];
    let trials = tests.into_iter().flatten().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit();
}

/// One test: its name, what it needs, what it does. It fails by a panic.
type Test = (&'static str, &'static [Need], fn());

fn trial((name, needs, test): Test) -> Trial {
    let (late, early): (Vec<Need>, Vec<Need>) = needs.iter().partition(|need| matches!(need, Need::Mirror));
    let is_required = std::env::var_os("BRIM_TEST_REQUIRE").is_some();
    let lacks = |why: String| format!("this must run here, but the machine lacks: {why}").into();
    let Some(why) = missing(&early) else {
        return Trial::ignorable_test(name, move || match missing(&late) {
            Some(why) if is_required => Err(lacks(why)),
            Some(why) => Ok(Completion::ignored_with(format!("it needs {why}"))),
            None => {
                test();
                Ok(Completion::Completed)
            }
        });
    };
    if is_required {
        return Trial::test(name, move || Err(lacks(why)));
    }
    Trial::test(format!("{name} (skipped, it needs {why})"), || Ok(())).with_ignored_flag(true)
}

/// What is missing of some needs, in words; `None` if all is there.
fn missing(needs: &[Need]) -> Option<String> {
    let missing: Vec<String> = needs.iter().filter_map(|need| need.missing()).collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}
