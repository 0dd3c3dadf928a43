//! A plan in words.

mod administration;
mod file;

use std::fmt::Write;

use brim_trial::judge::blocks;
use brim_trial::kernel::Requirement;
use brim_trial::operation::{DiskWord, Pool, Release, Space, WhenFull, Which};
use brim_trial::plan::{Allow, Fault, Fill, Loop};
use brim_trial::{Bytes, Control, FilesystemKind, Operation, Phase, Plan, Step, Survival, Template};

/// How long a line of running text is at most.
const LINE: usize = 100;

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
    for (device, given) in &plan.pools {
        let disk =
            if plan.devices.len() > 1 { format!("the disk `{device}`") } else { "the disk".to_owned() };
        writeln!(text, "While the steps run, there is a pool behind {disk}: {}.\n", pool(given))?;
    }
    write_faults(text, plan)?;
    for phase in plan.phases.iter().filter(|phase| !phase.steps.is_empty()) {
        write_phase(text, phase)?;
    }
    let conditions: Vec<String> = plan.reproduced.iter().map(ToString::to_string).collect();
    match conditions.as_slice() {
        [one] => writeln!(text, "\nReproduced means: {one}.")?,
        several => {
            writeln!(text, "\nReproduced means that all of this holds:")?;
            several.iter().try_for_each(|one| writeln!(text, "  - {one}"))?;
        }
    }
    Ok(())
}

fn write_known(text: &mut String, plan: &Plan) -> std::fmt::Result {
    if let Some(why) = &plan.why {
        writeln!(text, "\nWhy:")?;
        write_paragraphs(text, why)?;
        writeln!(text)?;
    }
    if let Some(Control { change, changes, verdict, kernel }) = &plan.control {
        let (change, changes) = (change.trim_end_matches('.'), changes.join(", "));
        let on = if *kernel == Requirement::STAR { String::new() } else { format!(" on kernels {kernel}") };
        writeln!(text, "Its control is to be {verdict}{on}: {change} ({changes}).")?;
    }
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
        match &known.rate {
            None => writeln!(text, "Known with these parameters: {} on {kernel}.", known.verdict)?,
            Some(rate) => {
                let why = rate.why.trim_end_matches('.');
                writeln!(
                    text,
                    "Known with these parameters: {} in {rate} of all trials on {kernel}, as {why}.",
                    known.verdict
                )?;
            }
        }
    }
    Ok(())
}

/// Text in lines that a terminal has room for; an empty line is between two paragraphs.
fn write_paragraphs(text: &mut String, sentences: &str) -> std::fmt::Result {
    let paragraphs = sentences.trim().split("\n\n").map(|paragraph| {
        let words: Vec<&str> = paragraph.split_whitespace().collect();
        let options = textwrap::Options::new(LINE).initial_indent("  ").subsequent_indent("  ");
        textwrap::fill(&words.join(" "), options.break_words(false))
    });
    writeln!(text, "{}", paragraphs.collect::<Vec<_>>().join("\n\n"))
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
    for own in &phase.loops {
        writeln!(text, "  {}", goes_round(own))?;
    }
    for (number, step) in (1..).zip(&phase.steps) {
        let by = step.by.as_ref().map(|by| format!("{by}: ")).unwrap_or_default();
        writeln!(text, "  {number}. {by}{}{}", operation(&step.operation), may_fail(step))?;
    }
    Ok(())
}

/// How a worker goes round by itself.
fn goes_round(Loop { by, times, until, beside, copies }: &Loop) -> String {
    let copies = match copies {
        1 => String::new(),
        copies => format!(" is there {copies} times, copy = 0 to {}, and each", copies - 1),
    };
    let mut ends = Vec::new();
    match times {
        1 if beside.is_none() => ends.push("once".to_owned()),
        times if until.is_none() && beside.is_none() => ends.push(format!("{times} times")),
        _ => {}
    }
    ends.extend(until.map(|errno| format!("until something fails with {errno}")));
    ends.extend(beside.as_ref().map(|other| format!("as long as {other} is at work")));
    format!("{by}{copies} goes round {}.", ends.join(", or "))
}

/// `, which may fail with ENOSPC`.
fn may_fail(step: &Step) -> String {
    let names: Vec<String> = step
        .allow
        .iter()
        .map(|allow| match allow {
            Allow::Any => "anything".to_owned(),
            Allow::Errno(errno) => errno.to_string(),
            Allow::Signal(signal) => signal.to_string(),
        })
        .collect();
    if names.is_empty() { String::new() } else { format!(", which may fail with {}", names.join(" or ")) }
}

/// One operation as a sentence.
fn operation(operation: &Operation) -> String {
    match operation {
        Operation::File(operation) => file::operation(operation),
        Operation::Subvolume { path } => format!("make the subvolume `{path}`"),
        Operation::Snapshot { of, to, read_only } => {
            let kind = if *read_only { "read-only snapshot" } else { "snapshot" };
            format!("make a {kind} of `{of}` at `{to}`")
        }
        Operation::Scrub {} => "scrub the disk".to_owned(),
        Operation::Panic { trial: Some(trial) } => format!("panic the kernel, in trial {trial}"),
        Operation::Panic { trial: None } => "panic the kernel".to_owned(),
        Operation::Counters {} => "read the filesystem's counters".to_owned(),
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
        Operation::PowerCut { survival, arm } => power_cut(*survival, arm),
        Operation::Disk(word) => disk(word),
        Operation::Syncfs {} => "syncfs the mount".to_owned(),
        Operation::ResizeDisk { size, device } => {
            let disk =
                device.as_ref().map_or_else(|| "the disk".to_owned(), |name| format!("the disk `{name}`"));
            format!("give {disk} a size of {size}, under the mounted filesystem")
        }
        Operation::Freeze {} => "freeze the filesystem (FIFREEZE)".to_owned(),
        Operation::Thaw {} => "thaw the filesystem (FITHAW)".to_owned(),
        Operation::Exec { command, exit } => {
            let words: Vec<&str> = command.iter().map(Template::as_str).collect();
            let ends = if *exit == 0 { String::new() } else { format!(", which has to end with {exit}") };
            format!("run `{}` there{ends}", words.join(" "))
        }
        Operation::Sleep { time } => format!("wait for {time}"),
        Operation::AwaitCounter { counter, is } => format!("wait until {counter} is {}", is.of_bytes()),
        Operation::AwaitLog { pattern, count: 1 } => {
            format!("wait until the kernel log has a line like `{pattern}`")
        }
        Operation::AwaitLog { pattern, count } => {
            format!("wait until the kernel log has {count} lines like `{pattern}`")
        }
        Operation::Await { gate, count: 1 } => format!("wait until a request is held by \"{gate}\""),
        Operation::Await { gate, count } => format!("wait until {count} requests are held by \"{gate}\""),
        Operation::Arm { fault } => format!("put the fault \"{fault}\" in force"),
        Operation::Release { gate, some: None } => format!("open the gate \"{gate}\" for good"),
        Operation::Release { gate, some: Some(release) } => let_go(gate, release),
        Operation::Close { gate } => format!("have the gate \"{gate}\" hold again"),
    }
}

fn power_cut(survival: Survival, arm: &[String]) -> String {
    let Survival { kept, torn } = survival;
    let [kept, torn] = [kept, torn].map(|ratio| ratio.to_f64() * 100.0);
    let left = if survival.is_none() {
        String::new()
    } else {
        format!(", by which {kept} % of the sectors in its cache are kept and {torn} % are torn")
    };
    let names: Vec<String> = arm.iter().map(|fault| format!("\"{fault}\"")).collect();
    let armed = match names.as_slice() {
        [] => String::new(),
        [name] => format!(" with the fault {name} in force"),
        names => format!(" with the faults {} in force", names.join(", ")),
    };
    format!("cut the disk's power{left}, and mount what is left{armed}")
}

/// What the disk is told.
fn disk(word: &DiskWord) -> String {
    match word {
        DiskWord::Mark { text } => format!("put the mark {text:?} into the write log, if one is kept"),
        DiskWord::KeepSnapshot { name } => format!("keep what the disk holds as \"{name}\""),
        DiskWord::RestoreSnapshot { name } => {
            format!("unmount, have the disk hold again what it did at \"{name}\", and mount again")
        }
        DiskWord::SetPool { device, pool: given } => {
            format!("put a pool behind {}: {}", named(device.as_deref()), pool(given))
        }
        DiskWord::RemovePool { device } => format!("put all of its size behind {}", named(device.as_deref())),
    }
}

/// A disk, of which there may be several.
fn named(device: Option<&str>) -> String {
    device.map_or_else(|| "the disk".to_owned(), |device| format!("the disk `{device}`"))
}

/// How much space there is, and what becomes of what needs more.
fn pool(pool: &Pool) -> String {
    let space = match pool.space {
        Space::Limit(limit) => format!("its blocks may take {limit} in all"),
        Space::Free(free) => format!("its blocks may take {free} more than they do then"),
    };
    let when_full = match pool.when_full {
        WhenFull::Error => "fails with ENOSPC",
        WhenFull::Hold => "waits at the gate \"pool\"",
    };
    format!("{space}, and a write that needs more {when_full}")
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
