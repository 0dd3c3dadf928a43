//! A plan in words.

mod administration;

use std::fmt::Write;

use brim_trial::judge::blocks;
use brim_trial::kernel::Requirement;
use brim_trial::operation::{Expect, Release, Which};
use brim_trial::plan::{Content as Outcome, Fault, Fill};
use brim_trial::{Bytes, Condition, Content, FilesystemKind, Operation, Phase, Plan, Survival};

/// The whole scenario in plain sentences.
#[must_use]
pub fn explain(plan: &Plan) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_plan(&mut text, plan);
    text
}

fn write_plan(text: &mut String, plan: &Plan) -> std::fmt::Result {
    writeln!(text, "{}\n", plan.scenario)?;
    writeln!(text, "Claim: {}.", plan.claim.trim_end_matches('.'))?;
    writeln!(text, "Source: {}\n", plan.source)?;
    let filesystem = &plan.filesystem;
    write!(text, "{} ", disks(plan))?;
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
    write_preparation(text, plan)?;
    for device in plan.devices.iter().filter(|device| device.write_cache) {
        match plan.devices.as_slice() {
            [_] => writeln!(text, "The disk has a volatile write cache.\n")?,
            _ => writeln!(text, "The disk `{}` has a volatile write cache.\n", device.name)?,
        }
    }
    write_faults(text, plan)?;
    for phase in &plan.phases {
        write_phase(text, phase)?;
    }
    let conditions: Vec<String> = plan.reproduced.iter().map(condition).collect();
    writeln!(text, "\nReproduced means: {}.", conditions.join(", and "))?;
    writeln!(
        text,
        "No step may take longer than {} s.",
        std::time::Duration::from_nanos(plan.step_limit.0).as_secs_f64()
    )?;
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

/// What becomes of the disks, up to how the filesystem is made.
fn disks(plan: &Plan) -> String {
    let kind = plan.filesystem.kind;
    let article = if kind == FilesystemKind::Btrfs { "a" } else { "an" };
    if let [device] = plan.devices.as_slice() {
        return format!("A disk of exactly {} ({} B) gets {article} {kind}", device.size, device.size.0);
    }
    let listed = |in_filesystem: bool| {
        let devices = plan.devices.iter().filter(|device| device.in_filesystem == in_filesystem);
        let listed = devices
            .map(|device| format!("`{}` of exactly {} ({} B)", device.name, device.size, device.size.0));
        listed.collect::<Vec<_>>()
    };
    let (members, spares) = (listed(true), listed(false));
    let spares = match spares.as_slice() {
        [] => String::new(),
        [one] => format!("The disk {one} is attached and empty. "),
        several => format!("The disks {} are attached and empty. ", several.join(", ")),
    };
    match members.as_slice() {
        [one] => format!("{spares}The disk {one} gets {article} {kind}"),
        several => format!("{spares}The disks {} get one {kind}", several.join(", ")),
    }
}

fn write_preparation(text: &mut String, plan: &Plan) -> std::fmt::Result {
    let of = if plan.devices.len() > 1 { "those disks" } else { "that disk" };
    for (number, step) in (1..).zip(&plan.prepare.steps) {
        if number == 1 {
            writeln!(text, "Before anything else, and once:")?;
        }
        writeln!(text, "  {number}. {}", operation(&step.operation))?;
    }
    let part = |free: Option<Bytes>, of: &str| {
        free.map(|free| format!("exactly {} ({} B) of {of}", blocks(free), free.0))
    };
    let Fill { data_free, metadata_free } = plan.prepare.fill;
    let parts: Vec<String> =
        part(data_free, "data").into_iter().chain(part(metadata_free, "metadata")).collect();
    if !parts.is_empty() {
        let room = parts.join(" and ");
        return writeln!(
            text,
            "It is filled until there is room for {room} by its own counters. Each trial starts on a fork of {of}.\n"
        );
    }
    let left = if plan.prepare.steps.is_empty() { "It is left empty. " } else { "" };
    writeln!(text, "{left}Each trial starts on a fork of {of}.\n")
}

fn write_faults(text: &mut String, plan: &Plan) -> std::fmt::Result {
    for Fault { device, row } in &plan.faults {
        let disk =
            if plan.devices.len() > 1 { format!("the disk `{device}`") } else { "the disk".to_owned() };
        let when = if plan.is_armed(&row.name) {
            format!("From where \"{}\" is put in force", row.name)
        } else {
            "While the steps run".to_owned()
        };
        writeln!(text, "{when}, {disk} {row}: \"{}\".\n", row.name)?;
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
        Operation::Remount { options, live: false } => {
            format!("unmount and mount again{}", administration::with(options.as_ref()))
        }
        Operation::Remount { options, live: true } => {
            format!("remount{}, while it is mounted", administration::with(options.as_ref()))
        }
        Operation::Administer(act) => administration::sentence(act),
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
        Operation::ResizeDisk { size, device } => {
            let disk =
                device.as_ref().map_or_else(|| "the disk".to_owned(), |name| format!("the disk `{name}`"));
            format!("give {disk} a size of {size}, under the mounted filesystem")
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
