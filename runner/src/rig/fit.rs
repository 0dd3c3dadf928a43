//! What a scenario asks of the way to the disk that a rig cannot deliver.

use std::collections::BTreeMap;

use brim_device::fault::{ErrorName, Then};
use brim_trial::operation::{DiskWord, Pool, WhenFull};
use brim_trial::{Operation, Plan};

use super::RigName;

/// How a disk reaches a kernel, as far as it loses something on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    /// What carries the requests.
    driver: &'static str,
    /// Every error of the disk is `EIO` to the kernel (drivers/block/nbd.c, `nbd_handle_reply`, v6.12).
    errors_are_eio: bool,
    /// Requests come with FUA.
    has_fua: bool,
}

impl RigName {
    const fn way(self) -> Way {
        match self {
            // drivers/block/loop.c, v6.12: no BLK_FEAT_FUA; errors are those of the file.
            Self::Auto | Self::HostFuse => {
                Way { driver: "a loop device", errors_are_eio: false, has_fua: false }
            }
            Self::HostNbd | Self::Uml | Self::QemuNbd => {
                Way { driver: "nbd.ko", errors_are_eio: true, has_fua: true }
            }
        }
    }
}

/// What of `plan` is not delivered as it asks on `rig`, in sentences.
pub(crate) fn notes(plan: &Plan, rig: RigName) -> Vec<String> {
    let way = rig.way();
    let mut notes = Vec::new();
    if way.errors_are_eio {
        for (whose, error) in errors(plan) {
            notes.push(format!(
                "the {} of {whose} arrives as EIO: {} has no other",
                error.name(),
                way.driver
            ));
        }
    }
    let rows = plan.faults.iter().map(|fault| &fault.row);
    let wants_fua = rows.filter(|row| row.when.fua == Some(true));
    for row in wants_fua.filter(|_| !way.has_fua) {
        notes.push(format!(
            "the fault \"{}\" matches nothing: {} has no FUA, and such a write is a write and a flush there",
            row.name, way.driver
        ));
    }
    notes
}

/// The same for each rig there is: sentences, and the rigs they are about.
pub(crate) fn notes_by_rig(plan: &Plan) -> BTreeMap<String, Vec<&'static str>> {
    let mut all = BTreeMap::new();
    for (name, rig) in RigName::ALL.into_iter().filter(|(_, rig)| *rig != RigName::Auto) {
        for note in notes(plan, rig) {
            all.entry(note).or_insert_with(Vec::new).push(name);
        }
    }
    all
}

/// The errors that requests may fail with, other than `EIO`, and whose they are.
fn errors(plan: &Plan) -> Vec<(String, ErrorName)> {
    let mut errors = Vec::new();
    for row in plan.faults.iter().map(|fault| &fault.row) {
        if let Then::Error(error) = row.then {
            errors.push((format!("the fault \"{}\"", row.name), error));
        }
    }
    let fails = |pool: &Pool| pool.when_full == WhenFull::Error;
    let of_the_pool = || ("the pool".to_owned(), ErrorName::Enospc);
    errors.extend(plan.pools.values().filter(|pool| fails(pool)).map(|_| of_the_pool()));
    for step in plan.phases.iter().flat_map(|phase| &phase.steps) {
        match &step.operation {
            Operation::Disk(DiskWord::SetPool { pool, .. }) if fails(pool) => errors.push(of_the_pool()),
            Operation::Release { gate, some: Some(release) } => {
                if let Some(error) = release.error {
                    errors.push((format!("the release of \"{gate}\""), error));
                }
            }
            _ => {}
        }
    }
    errors.retain(|(_, error)| *error != ErrorName::Eio);
    errors.dedup();
    errors
}

#[cfg(test)]
mod tests {
    use brim_scenario::{Scenario, Settings};

    use super::*;

    fn plan(device: &str, fault: &str) -> Plan {
        let text = format!(
            "schema = 1\nname = \"a\"\nclaim = \"b\"\nsource = \"c\"\n[device]\nsize = \"128 MiB\"\n{device}\
             [filesystem]\nkind = \"btrfs\"\n{fault}[[phase]]\nname = \"d\"\nstep = [ {{ do.syncfs = {{}} }} ]\n\
             [[reproduced]]\nstep = \"syncfs\"\nerrno = \"EIO\"\n"
        );
        Scenario::parse("test", &text).unwrap().plans(&Settings::default()).unwrap().remove(0)
    }

    #[test]
    fn what_a_rig_turns_into_eio_is_told() {
        let fault = |then: &str| {
            let row = format!("[[fault]]\nname = \"f\"\nwhen = {{ op = \"write\" }}\nthen = {then}\n");
            plan("", &row)
        };
        for rig in [RigName::HostNbd, RigName::Uml, RigName::QemuNbd] {
            let said = notes(&fault("{ error = \"ENOSPC\" }"), rig);
            assert_eq!(said, ["the ENOSPC of the fault \"f\" arrives as EIO: nbd.ko has no other"]);
            assert!(notes(&fault("{ error = \"EIO\" }"), rig).is_empty());
            assert!(notes(&fault("\"hold\""), rig).is_empty());
            let pool = plan("pool = { free = \"1 MiB\" }\n", "");
            assert_eq!(notes(&pool, rig), ["the ENOSPC of the pool arrives as EIO: nbd.ko has no other"]);
            assert!(notes(&plan("pool = { free = \"1 MiB\", when_full = \"hold\" }\n", ""), rig).is_empty());
        }
        assert!(notes(&fault("{ error = \"ENOSPC\" }"), RigName::HostFuse).is_empty());
    }

    #[test]
    fn fua_that_never_comes_is_told() {
        let plan =
            plan("", "[[fault]]\nname = \"f\"\nwhen = { op = \"write\", fua = true }\nthen = \"hold\"\n");
        assert!(notes(&plan, RigName::HostFuse)[0].contains("no FUA"));
        assert_eq!(notes_by_rig(&plan).into_values().collect::<Vec<_>>(), [["host/fuse"]]);
    }
}
