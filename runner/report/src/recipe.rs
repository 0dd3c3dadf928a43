//! The steps of a plan for a shell, without brim: for somebody who has the disk of a bundle and no time to build a tool.

mod file;

use brim_trial::operation::{Administration, DiskWord, Filter, Profile};
use brim_trial::template::{COPY, ITERATION};
use brim_trial::{Expression, FilesystemKind, Operation, Phase, Plan, Round, Step, Template};

/// Why a plan is none for a shell: it needs a disk that does as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedsBrim(pub String);

/// The commands that do what the plan does on the disk of the bundle `name`, one line each. What is written differs, and files are
/// not kept open from step to step.
///
/// # Errors
/// The plan has faults, gates, a pool, a power cut, workers side by side, or waits for what a shell does not see.
pub fn recipe(plan: &Plan, name: &str) -> Result<Vec<String>, NeedsBrim> {
    if let Some(fault) = plan.faults.first() {
        return Err(NeedsBrim(format!("the disk has the fault \"{}\"", fault.row.name)));
    }
    if !plan.pools.is_empty() {
        return Err(NeedsBrim("there is a pool behind the disk".to_owned()));
    }
    if plan.devices.len() > 1 {
        return Err(NeedsBrim("there are several disks".to_owned()));
    }
    let mut lines = vec![
        format!("tar -xzf {name}.brim.tar.gz && disk=$PWD/{name}/disk.img"),
        format!("mkdir -p /mnt/brim && {} && cd /mnt/brim", mount(plan)),
    ];
    for phase in &plan.phases {
        lines.extend(self::phase(plan, phase)?);
    }
    lines.push("cd / && umount /mnt/brim".to_owned());
    Ok(lines)
}

fn mount(plan: &Plan) -> String {
    let options: Vec<&str> =
        std::iter::once("loop").chain(plan.filesystem.mount.iter().map(String::as_str)).collect();
    format!("mount -o {} $disk /mnt/brim", quoted(&options.join(",")))
}

fn phase(plan: &Plan, phase: &Phase) -> Result<Vec<String>, NeedsBrim> {
    if phase.workers().len() > 1 || !phase.loops.is_empty() {
        return Err(NeedsBrim(format!("the phase \"{}\" has workers side by side", phase.name)));
    }
    let mut steps = Vec::new();
    for step in &phase.steps {
        let lines = operation(plan, &step.operation)?;
        steps.extend(lines.into_iter().map(|line| (step, line)));
    }
    if phase.times == 1 {
        return Ok(steps.into_iter().map(|(step, line)| with_allowed(step, line)).collect());
    }
    let body = steps.into_iter().map(|(step, line)| match phase.until {
        Some(_) if step.allow.is_empty() => format!("  {line} || break"),
        _ => format!("  {}", with_allowed(step, line)),
    });
    let mut lines = vec![format!("for ((i = 0; i < {}; i++)); do", phase.times)];
    lines.extend(body);
    lines.push("done".to_owned());
    Ok(lines)
}

/// A command that may fail as the step may.
fn with_allowed(step: &Step, line: String) -> String {
    if step.allow.is_empty() { line } else { format!("{line} || true") }
}

fn operation(plan: &Plan, operation: &Operation) -> Result<Vec<String>, NeedsBrim> {
    let one = |line: String| Ok(vec![line]);
    match operation {
        Operation::File(operation) => file::lines(operation),
        Operation::Syncfs {} => one("sync --file-system .".to_owned()),
        Operation::ResizeDisk { size, device: _ } => {
            let device = "$(findmnt --noheadings --output SOURCE /mnt/brim)";
            one(format!("truncate --size {} $disk && losetup --set-capacity {device}", value(size)))
        }
        Operation::Subvolume { path } => one(format!("btrfs subvolume create {}", named(path))),
        Operation::Snapshot { of, to, read_only } => {
            let flag = if *read_only { " -r" } else { "" };
            one(format!("btrfs subvolume snapshot{flag} {} {}", named(of), named(to)))
        }
        Operation::Scrub {} => one("btrfs scrub start -B .".to_owned()),
        Operation::Counters {} => one("btrfs filesystem df --raw .".to_owned()),
        Operation::Freeze {} => one("fsfreeze --freeze .".to_owned()),
        Operation::Thaw {} => one("fsfreeze --unfreeze .".to_owned()),
        Operation::Exec { command, exit: _ } => one(command.iter().map(named).collect::<Vec<_>>().join(" ")),
        Operation::Sleep { time } => {
            one(format!("sleep {}", std::time::Duration::from_nanos(time.0).as_secs_f64()))
        }
        Operation::Disk(DiskWord::Mark { .. }) => Ok(Vec::new()),
        Operation::Disk(word) => Err(NeedsBrim(format!("the disk is told to `{}`", word.verb()))),
        Operation::AwaitCounter { .. } | Operation::AwaitLog { .. } => {
            Err(NeedsBrim("a step waits for a counter or for the kernel log".to_owned()))
        }
        Operation::DropCaches {} => one("echo 3 > /proc/sys/vm/drop_caches".to_owned()),
        Operation::Panic { .. } => one("echo c > /proc/sysrq-trigger".to_owned()),
        Operation::Remount { options, live } => one(remount(plan, options.as_deref(), *live)),
        Operation::Administer(act) => administer(act),
        Operation::Check {} => one(around(
            plan,
            match plan.filesystem.kind {
                FilesystemKind::Btrfs => "btrfs check --readonly $disk && ",
                FilesystemKind::Ext4 => "e2fsck -f -n $disk && ",
                FilesystemKind::Xfs => "xfs_repair -n $disk && ",
            },
        )),
        Operation::PowerCut { .. } => Err(NeedsBrim("the power of the disk is cut".to_owned())),
        Operation::Await { gate, .. } | Operation::Release { gate, .. } | Operation::Close { gate } => {
            Err(NeedsBrim(format!("there is the gate \"{gate}\"")))
        }
        Operation::Arm { fault } => Err(NeedsBrim(format!("the disk has the fault \"{fault}\""))),
    }
}

/// What an administrator does, on the one disk there is.
fn administer(act: &Administration) -> Result<Vec<String>, NeedsBrim> {
    let one = |line: String| Ok(vec![line]);
    match act {
        Administration::DeviceAdd { .. }
        | Administration::DeviceRemove { .. }
        | Administration::DeviceReplace { .. }
        | Administration::LoseDevice { .. } => Err(NeedsBrim("it is about several disks".to_owned())),
        Administration::Balance { data, metadata, system, force } => {
            let all = [("-d", data), ("-m", metadata), ("-s", system)];
            let given = all.into_iter().filter_map(|(flag, filter)| Some((flag, filter.as_ref()?)));
            let filters: Vec<String> =
                given.map(|(flag, filter)| format!("{flag}{}", filter_words(filter))).collect();
            // Without filters the tool asks first.
            let filters = if filters.is_empty() { "--full-balance".to_owned() } else { filters.join(" ") };
            one(format!("btrfs balance start{} {filters} .", if *force { " --force" } else { "" }))
        }
        Administration::ResizeFilesystem { size, device: _ } => {
            let size = size.as_ref().map_or_else(|| "max".to_owned(), value);
            one(format!("btrfs filesystem resize {size} ."))
        }
        Administration::Defragment { file, compress } => {
            let way = compress.map(|way| format!(" -c{}", way.name())).unwrap_or_default();
            one(format!("btrfs filesystem defragment{way} {}", named(file)))
        }
        Administration::Compress { file, with } => {
            one(format!("touch {0} && btrfs property set {0} compression {1}", named(file), with.name()))
        }
        Administration::QuotaEnable {} => one("btrfs quota enable . && btrfs quota rescan -w .".to_owned()),
        Administration::QuotaRescan {} => one("btrfs quota rescan -w .".to_owned()),
        Administration::QgroupLimit { path, referenced, exclusive } => {
            let limit = |flag: &str, size: &Option<Expression>| {
                size.as_ref().map(|size| format!("btrfs qgroup limit{flag} {} {}", value(size), named(path)))
            };
            Ok([limit("", referenced), limit(" -e", exclusive)].into_iter().flatten().collect())
        }
        Administration::SubvolumeDelete { path } => one(format!("btrfs subvolume delete {}", named(path))),
        Administration::WaitCleaner {} => one("btrfs subvolume sync .".to_owned()),
        Administration::Fstrim {} => one("fstrim .".to_owned()),
    }
}

/// The filter of a balance as btrfs-balance(8) has it.
fn filter_words(Filter { usage, profiles, device, limit, convert, soft }: &Filter) -> String {
    let names =
        |profiles: &[Profile]| profiles.iter().map(|profile| profile.name()).collect::<Vec<_>>().join("|");
    let words = [
        usage.map(|usage| format!("usage={usage}")),
        (!profiles.is_empty()).then(|| format!("profiles={}", names(profiles))),
        device.as_ref().map(|_| "devid=1".to_owned()),
        limit.map(|limit| format!("limit={limit}")),
        convert.map(|profile| format!("convert={}", profile.name())),
        soft.then(|| "soft".to_owned()),
    ];
    let words = words.into_iter().flatten().collect::<Vec<_>>().join(",");
    if words.is_empty() { words } else { quoted(&words) }
}

/// `remount`: live, or away and back.
fn remount(plan: &Plan, options: Option<&[String]>, live: bool) -> String {
    let options = options.map(|options| options.join(","));
    match options {
        Some(options) if live => format!("mount -o {} /mnt/brim", quoted(&format!("remount,{options}"))),
        Some(options) => {
            let options = quoted(&format!("loop,{options}"));
            format!("cd / && umount /mnt/brim && mount -o {options} $disk /mnt/brim && cd /mnt/brim")
        }
        None => around(plan, ""),
    }
}

/// Something between an unmount and a mount.
fn around(plan: &Plan, between: &str) -> String {
    format!("cd / && umount /mnt/brim && {between}{} && cd /mnt/brim", mount(plan))
}

/// A value for a shell, worked out by it where it depends on the round.
fn value(expression: &Expression) -> String {
    match expression.value(Round::default()) {
        Ok(value) if !reads_the_round(expression) => value.to_string(),
        _ => format!("$(({}))", arithmetic(expression)),
    }
}

fn reads_the_round(expression: &Expression) -> bool {
    match expression {
        Expression::Size(_) | Expression::Count(_) | Expression::Copy => false,
        Expression::Iteration => true,
        Expression::Add(left, right)
        | Expression::Subtract(left, right)
        | Expression::Multiply(left, right) => reads_the_round(left) || reads_the_round(right),
    }
}

fn arithmetic(expression: &Expression) -> String {
    let two = |left, sign, right| format!("({} {sign} {})", arithmetic(left), arithmetic(right));
    match expression {
        Expression::Size(size) => size.0.to_string(),
        Expression::Count(count) => count.to_string(),
        Expression::Iteration => "i".to_owned(),
        // There is one of each worker here.
        Expression::Copy => "0".to_owned(),
        Expression::Add(left, right) => two(left, '+', right),
        Expression::Subtract(left, right) => two(left, '-', right),
        Expression::Multiply(left, right) => format!("{} * {}", arithmetic(left), arithmetic(right)),
    }
}

/// A name for a shell, which counts the rounds in `i` itself.
fn named(name: &Template) -> String {
    // There is one of each worker here.
    let name = name.as_str().replace(COPY, "0");
    if !name.contains(ITERATION) {
        return quoted(&name);
    }
    let escaped: Vec<String> = name.split(ITERATION).map(escaped).collect();
    format!("\"{}\"", escaped.join(ITERATION))
}

/// Text inside double quotes.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        if "\\\"$`".contains(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._/-=,+:@%".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
