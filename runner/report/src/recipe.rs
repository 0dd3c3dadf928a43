//! The steps of a plan for a shell, without brim: for somebody who has the disk of a bundle and no time to build a tool.

use brim_trial::operation::{Administration, Expect, Filter, Profile};
use brim_trial::{Content, Expression, FilesystemKind, Operation, Phase, Plan};

/// Why a plan is none for a shell: it needs a disk that does as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedsBrim(pub String);

/// The commands that do what the plan does on the disk of the bundle `name`, one line each. What is written differs, and files are
/// not kept open from step to step.
///
/// # Errors
/// The plan has faults, gates, a power cut or workers side by side.
pub fn recipe(plan: &Plan, name: &str) -> Result<Vec<String>, NeedsBrim> {
    if let Some(fault) = plan.faults.first() {
        return Err(NeedsBrim(format!("the disk has the fault \"{}\"", fault.row.name)));
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
    if phase.workers().len() > 1 {
        return Err(NeedsBrim(format!("the phase \"{}\" has workers side by side", phase.name)));
    }
    let steps: Vec<Vec<String>> =
        phase.steps.iter().map(|step| operation(plan, &step.operation)).collect::<Result<_, _>>()?;
    let steps = steps.concat();
    if phase.times == 1 {
        return Ok(steps);
    }
    let body = steps.iter().map(|step| match phase.until {
        Some(_) => format!("  {step} || break"),
        None => format!("  {step}"),
    });
    let mut lines = vec![format!("for ((i = 0; i < {}; i++)); do", phase.times)];
    lines.extend(body);
    lines.push("done".to_owned());
    Ok(lines)
}

fn operation(plan: &Plan, operation: &Operation) -> Result<Vec<String>, NeedsBrim> {
    let one = |line: String| Ok(vec![line]);
    let on = |file: &str, command: String| Ok(vec![format!("xfs_io -f -c \"{command}\" {}", quoted(file))]);
    match operation {
        Operation::Fallocate { file, offset, length, keep_size } => {
            let keep = if *keep_size { "-k " } else { "" };
            on(file, format!("falloc {keep}{} {}", value(offset), value(length)))
        }
        Operation::Pwrite { file, offset, length, data } => {
            let source = match data {
                Content::Random => "-i /dev/urandom",
                Content::Zeroes => "-S 0",
            };
            // One system call, as long as it is.
            on(file, format!("pwrite {source} -b {} {} {}", value(length), value(offset), value(length)))
        }
        Operation::Pread { file, offset, length, expect } => {
            let expect = match expect {
                Expect::Written => "what was written",
                Expect::Synced => "what was durable",
                Expect::Zeroes => "zeroes",
            };
            let command = format!("pread -v {} {}", value(offset), value(length));
            one(format!("xfs_io -r -c \"{command}\" {}  # it has to be {expect}", quoted(file)))
        }
        Operation::Fsync { file } => on(file, "fsync".to_owned()),
        Operation::Fdatasync { file } => on(file, "fdatasync".to_owned()),
        Operation::SyncFileRange { file, offset, length } => {
            on(file, format!("sync_range -b -w -a {} {}", value(offset), value(length)))
        }
        Operation::Syncfs {} => one("sync --file-system .".to_owned()),
        Operation::Truncate { file, size } => on(file, format!("truncate {}", value(size))),
        Operation::Unlink { file } => one(format!("rm {}", quoted(file))),
        Operation::ResizeDisk { size, device: _ } => {
            let device = "$(findmnt --noheadings --output SOURCE /mnt/brim)";
            one(format!("truncate --size {} $disk && losetup --set-capacity {device}", value(size)))
        }
        Operation::Nocow { file } => one(format!("touch {0} && chattr +C {0}", quoted(file))),
        Operation::Subvolume { path } => one(format!("btrfs subvolume create {}", quoted(path))),
        Operation::Snapshot { of, to, read_only } => {
            let flag = if *read_only { " -r" } else { "" };
            one(format!("btrfs subvolume snapshot{flag} {} {}", quoted(of), quoted(to)))
        }
        Operation::Reflink { from, to, offset, length, to_offset } => on(
            to,
            format!("reflink {} {} {} {}", quoted(from), value(offset), value(to_offset), value(length)),
        ),
        Operation::Scrub {} => one("btrfs scrub start -B .".to_owned()),
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
            one(format!("btrfs filesystem defragment{way} {}", quoted(file)))
        }
        Administration::Compress { file, with } => {
            one(format!("touch {0} && btrfs property set {0} compression {1}", quoted(file), with.name()))
        }
        Administration::QuotaEnable {} => one("btrfs quota enable . && btrfs quota rescan -w .".to_owned()),
        Administration::QuotaRescan {} => one("btrfs quota rescan -w .".to_owned()),
        Administration::QgroupLimit { path, referenced, exclusive } => {
            let limit = |flag: &str, size: &Option<Expression>| {
                size.as_ref().map(|size| format!("btrfs qgroup limit{flag} {} {}", value(size), quoted(path)))
            };
            Ok([limit("", referenced), limit(" -e", exclusive)].into_iter().flatten().collect())
        }
        Administration::SubvolumeDelete { path } => one(format!("btrfs subvolume delete {}", quoted(path))),
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
    match expression.value(0) {
        Ok(value) if !reads_the_round(expression) => value.to_string(),
        _ => format!("$(({}))", arithmetic(expression)),
    }
}

fn reads_the_round(expression: &Expression) -> bool {
    match expression {
        Expression::Size(_) | Expression::Count(_) => false,
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
        Expression::Add(left, right) => two(left, '+', right),
        Expression::Subtract(left, right) => two(left, '-', right),
        Expression::Multiply(left, right) => format!("{} * {}", arithmetic(left), arithmetic(right)),
    }
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
