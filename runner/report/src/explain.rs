//! A plan in words.

use std::fmt::Write;

use brim_trial::judge::blocks;
use brim_trial::kernel::Requirement;
use brim_trial::operation::{Expect, Release, Which};
use brim_trial::plan::Content as Outcome;
use brim_trial::{Condition, Content, FilesystemKind, Operation, Phase, Plan, Survival};

/// The whole scenario in plain sentences.
#[must_use]
pub fn explain(plan: &Plan) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_plan(&mut text, plan);
    text
}

/// What is done and what it means, without what the scenario is called and where it comes from.
#[must_use]
pub fn steps(plan: &Plan) -> String {
    let mut text = String::new();
    let _ = write_state(&mut text, plan);
    text
}

fn write_plan(text: &mut String, plan: &Plan) -> std::fmt::Result {
    writeln!(text, "{}\n", plan.scenario)?;
    writeln!(text, "Claim: {}.", plan.claim.trim_end_matches('.'))?;
    writeln!(text, "Source: {}\n", plan.source)?;
    write_state(text, plan)?;
    writeln!(
        text,
        "No step may take longer than {} s.",
        std::time::Duration::from_nanos(plan.step_limit.0).as_secs_f64()
    )?;
    write_known(text, plan)
}

fn write_state(text: &mut String, plan: &Plan) -> std::fmt::Result {
    let filesystem = &plan.filesystem;
    let article = if filesystem.kind == FilesystemKind::Btrfs { "a" } else { "an" };
    write!(
        text,
        "A disk of exactly {} ({} B) gets {article} {} ",
        plan.device.size, plan.device.size.0, filesystem.kind
    )?;
    if filesystem.mkfs.is_empty() {
        let own = match filesystem.kind {
            FilesystemKind::Ext4 => ", but for blocks of 4 KiB and none reserved for root",
            FilesystemKind::Btrfs | FilesystemKind::Xfs => "",
        };
        writeln!(text, "made with mkfs' defaults{own}.")?;
    } else {
        writeln!(text, "made with `{}`.", filesystem.mkfs.join(" "))?;
    }
    if !filesystem.mount.is_empty() {
        writeln!(text, "It is mounted with `{}`.", filesystem.mount.join(","))?;
    }
    match plan.prepare.data_free {
        Some(free) => writeln!(
            text,
            "It is filled until there is room for exactly {} ({} B) of data by its own counters. Each trial starts on a fork \
             of that disk.\n",
            blocks(free),
            free.0
        )?,
        None => writeln!(text, "It is left empty. Each trial starts on a fork of that disk.\n")?,
    }
    if plan.device.write_cache {
        writeln!(text, "The disk has a volatile write cache.\n")?;
    }
    write_faults(text, plan)?;
    for phase in &plan.phases {
        write_phase(text, phase)?;
    }
    let conditions: Vec<String> = plan.reproduced.iter().map(condition).collect();
    writeln!(text, "\nReproduced means: {}.", conditions.join(", and "))
}

fn write_known(text: &mut String, plan: &Plan) -> std::fmt::Result {
    let mut told = Vec::new();
    for known in &plan.known {
        // The first that fits counts, so a second one for the same kernels never does.
        if told.contains(&&known.kernel) {
            continue;
        }
        told.push(&known.kernel);
        let kernel = if known.kernel == Requirement::STAR {
            "every kernel".to_owned()
        } else {
            format!("kernels {}", known.kernel)
        };
        writeln!(text, "Known with these parameters: {} on {kernel}.", known.verdict)?;
    }
    Ok(())
}

fn write_faults(text: &mut String, plan: &Plan) -> std::fmt::Result {
    for row in &plan.device.faults {
        let when = if plan.is_armed(&row.name) {
            format!("From where \"{}\" is put in force", row.name)
        } else {
            "While the steps run".to_owned()
        };
        writeln!(text, "{when}, the disk {row}: \"{}\".\n", row.name)?;
    }
    Ok(())
}

fn write_phase(text: &mut String, phase: &Phase) -> std::fmt::Result {
    match (phase.until, phase.times) {
        (Some(errno), 1) => {
            writeln!(text, "Then, once, or until something fails with {errno} ({}):", phase.name)?;
        }
        (Some(errno), _) => writeln!(text, "Then, until something fails with {errno} ({}):", phase.name)?,
        (None, 1) => writeln!(text, "Then, once ({}):", phase.name)?,
        (None, times) => writeln!(text, "Then, {times} times ({}):", phase.name)?,
    }
    if phase.workers().len() > 1 {
        writeln!(text, "  Each worker does its own steps in this order, beside the others.")?;
    }
    for (number, step) in (1..).zip(&phase.steps) {
        let by = step.by.as_ref().map(|by| format!("{by}: ")).unwrap_or_default();
        writeln!(text, "  {number}. {by}{}", operation(&step.operation))?;
    }
    Ok(())
}

/// One operation as a sentence.
fn operation(operation: &Operation) -> String {
    match operation {
        Operation::Fallocate { file, offset, length, keep_size } => {
            let keep = if *keep_size { ", leaving its size as it is (FALLOC_FL_KEEP_SIZE)" } else { "" };
            format!("fallocate {length} of `{file}` at offset {offset}{keep}")
        }
        Operation::Pwrite { file, offset, length, data } => {
            let data = match data {
                Content::Random => "random bytes",
                Content::Zeroes => "zeroes",
            };
            format!("pwrite {length} of {data} to `{file}` at offset {offset}")
        }
        Operation::Pread { file, offset, length, expect } => {
            let expect = match expect {
                Expect::Written => "what was written there",
                Expect::Synced => "what was durable there",
                Expect::Zeroes => "zeroes",
            };
            format!("pread {length} of `{file}` at offset {offset}, which has to be {expect}")
        }
        Operation::Fsync { file } => format!("fsync `{file}`"),
        Operation::Fdatasync { file } => format!("fdatasync `{file}`"),
        Operation::SyncFileRange { file, offset, length } => {
            format!("write {length} of `{file}` at offset {offset} back and wait (sync_file_range)")
        }
        Operation::Nocow { file } => format!("have `{file}` written in place (FS_NOCOW_FL)"),
        Operation::Subvolume { path } => format!("make the subvolume `{path}`"),
        Operation::Snapshot { of, to, read_only } => {
            let kind = if *read_only { "read-only snapshot" } else { "snapshot" };
            format!("make a {kind} of `{of}` at `{to}`")
        }
        Operation::Reflink { from, to, offset, length, to_offset } => format!(
            "have `{to}` at offset {to_offset} share {length} of `{from}` at offset {offset} (FICLONERANGE)"
        ),
        Operation::Scrub {} => "scrub the disk".to_owned(),
        Operation::Panic { trial: Some(trial) } => format!("panic the kernel, in trial {trial}"),
        Operation::Panic { trial: None } => "panic the kernel".to_owned(),
        Operation::DropCaches {} => "drop what the machine has cached".to_owned(),
        Operation::Remount {} => "unmount and mount again".to_owned(),
        Operation::Check {} => {
            "unmount, have the filesystem's own checker look for mistakes, and mount again".to_owned()
        }
        Operation::PowerCut { survival } if survival.is_none() => {
            "cut the disk's power, and mount what is left".to_owned()
        }
        Operation::PowerCut { survival: Survival { kept, torn } } => format!(
            "cut the disk's power, by which {} % of the sectors in its cache are kept and {} % are torn, and mount what is left",
            kept.to_f64() * 100.0,
            torn.to_f64() * 100.0
        ),
        Operation::Syncfs {} => "syncfs the mount".to_owned(),
        Operation::Truncate { file, size } => format!("truncate `{file}` to {size}"),
        Operation::Unlink { file } => format!("unlink `{file}`"),
        Operation::ResizeDisk { size } => {
            format!("give the disk a size of {size}, under the mounted filesystem")
        }
        Operation::Await { gate, count: 1 } => format!("wait until a request is held by \"{gate}\""),
        Operation::Await { gate, count } => format!("wait until {count} requests are held by \"{gate}\""),
        Operation::Arm { fault } => format!("put the fault \"{fault}\" in force"),
        Operation::Release { gate, some: None } => format!("open the gate \"{gate}\" for good"),
        Operation::Release { gate, some: Some(release) } => let_go(gate, release),
        Operation::Close { gate } => format!("have the gate \"{gate}\" hold again"),
    }
}

/// What a release that leaves its gate closed does.
fn let_go(gate: &str, Release { which, error }: &Release) -> String {
    let which = match which {
        Which::All => "what is held".to_owned(),
        Which::Reversed => "what is held, the last request first,".to_owned(),
        Which::First(1) => "the first request that is held".to_owned(),
        Which::First(count) => format!("the first {count} requests that are held"),
        Which::Only(places) => {
            let places: Vec<String> = places.iter().map(ToString::to_string).collect();
            format!("of the requests that are held number {}, in this order,", places.join(", "))
        }
    };
    match error {
        Some(error) => format!("fail {which} by \"{gate}\" with {}; others go on being held", error.name()),
        None => format!("do {which} by \"{gate}\"; others go on being held"),
    }
}

fn condition(condition: &Condition) -> String {
    let errno = condition.errno.map_or_else(String::new, |errno| format!(" with {errno}"));
    let space = condition.space.map_or_else(String::new, |space| {
        format!(", and a reservation of {space} space was refused under it")
    });
    match condition.content {
        Some(Outcome::Lost) => format!("{} finds its content lost", condition.step),
        None => format!("{} fails{errno}{space}", condition.step),
    }
}
