//! What a program under test does with files, by `xfs_io` and coreutils.

use brim_trial::operation::{Content, Expect, FallocateMode, How, OpenFlag, Rename, Shared, Target};
use brim_trial::{FileOperation, Template};

use super::{NeedsBrim, named, value};

/// The commands for one operation.
pub(super) fn lines(operation: &FileOperation) -> Result<Vec<String>, NeedsBrim> {
    let one = |line: String| Ok(vec![line]);
    let with = |flags: &str, file: &Template, commands: &[String]| {
        let commands: Vec<String> = commands.iter().map(|command| format!(" -c \"{command}\"")).collect();
        let commands = commands.concat();
        Ok(vec![format!("xfs_io -f{flags}{commands} {}", named(file))])
    };
    let on = |file: &Template, command: String| with("", file, &[command]);
    match operation {
        FileOperation::Fallocate { file, offset, length, mode, keep_size } => {
            let keep = if *keep_size { "-k " } else { "" };
            let verb = fallocate(*mode)?;
            on(file, format!("{verb} {keep}{} {}", value(offset), value(length)))
        }
        FileOperation::Pwrite { file, offset, length, data, how, short: _ } => {
            let (flags, words) = how_words(*how);
            // One system call, as long as it is.
            let (data, offset, length) = (self::data(data), value(offset), value(length));
            with(flags, file, &[format!("pwrite {words}{data} -b {length} {offset} {length}")])
        }
        FileOperation::Pread { file, offset, length, expect, how } => {
            let (flags, words) = how_words(*how);
            let command = format!("pread {words}-v {} {}", value(offset), value(length));
            one(format!("xfs_io -r{flags} -c \"{command}\" {}  # it has to be {}", named(file), is(*expect)))
        }
        FileOperation::MmapWrite { file, offset, length, data: _ } => {
            let range = format!("{} {}", value(offset), value(length));
            with("", file, &[format!("mmap {range}"), format!("mwrite -S 0x62 {range}")])
        }
        FileOperation::MmapRead { file, offset, length, expect } => {
            let range = format!("{} {}", value(offset), value(length));
            let commands = format!("-c \"mmap -r {range}\" -c \"mread -v {range}\"");
            one(format!("xfs_io -r {commands} {}  # it has to be {}", named(file), is(*expect)))
        }
        // What is dirty of the file is written back by whichever mapping.
        FileOperation::Msync { file, offset, length } => {
            let range = format!("{} {}", value(offset), value(length));
            with("", file, &[format!("mmap {range}"), format!("msync -s {range}")])
        }
        FileOperation::Fsync { file } => on(file, "fsync".to_owned()),
        FileOperation::Fdatasync { file } => on(file, "fdatasync".to_owned()),
        FileOperation::SyncFileRange { file, offset, length } => {
            on(file, format!("sync_range -b -w -a {} {}", value(offset), value(length)))
        }
        FileOperation::Truncate { file, size } => on(file, format!("truncate {}", value(size))),
        FileOperation::Reflink { from, to, range: None } => {
            one(format!("cp --reflink=always {} {}", named(from), named(to)))
        }
        FileOperation::Reflink { from, to, range: Some(range) } => {
            on(to, format!("reflink {} {}", named(from), shared(range)))
        }
        FileOperation::Dedupe { from, to, range } => {
            on(to, format!("dedupe {} {}", named(from), shared(range)))
        }
        by_name => of_names(by_name),
    }
}

/// As [`lines`], of what is done to names and attributes.
fn of_names(operation: &FileOperation) -> Result<Vec<String>, NeedsBrim> {
    let one = |line: String| Ok(vec![line]);
    match operation {
        FileOperation::Open { file, flags } if flags.contains(&OpenFlag::Truncate) => {
            one(format!(": > {}", named(file)))
        }
        FileOperation::Creat { file } => one(format!(": > {}", named(file))),
        FileOperation::Open { file, flags } if flags.contains(&OpenFlag::Create) => {
            one(format!("touch {}", named(file)))
        }
        FileOperation::Open { .. } | FileOperation::Close { .. } => Ok(Vec::new()),
        FileOperation::Tmpfile { .. } => Err(NeedsBrim("a file has no name".to_owned())),
        FileOperation::Unlink { keep_open: true, .. } => {
            Err(NeedsBrim("a file is kept open without a name".to_owned()))
        }
        FileOperation::Unlink { file, keep_open: false } => one(format!("rm {}", named(file))),
        FileOperation::Mkdir { path } => one(format!("mkdir {}", named(path))),
        FileOperation::Rmdir { path } => one(format!("rmdir {}", named(path))),
        FileOperation::Rename { from, to, how } => {
            let flag = match how {
                Rename::Replace => "",
                Rename::Noreplace => " --update=none-fail",
                Rename::Exchange => " --exchange",
            };
            one(format!("mv -T{flag} {} {}", named(from), named(to)))
        }
        FileOperation::Link { from, to } => one(format!("ln {} {}", named(from), named(to))),
        FileOperation::Symlink { path, target: Target::Path(target) } => {
            one(format!("ln -s {} {}", named(target), named(path)))
        }
        FileOperation::Symlink { path, target: Target::Length(length) } => {
            one(format!("ln -s \"$(head -c {} /dev/zero | tr '\\0' x)\" {}", value(length), named(path)))
        }
        FileOperation::Setxattr { file, name, length } => one(format!(
            "setfattr -n {} -v \"$(head -c {} /dev/zero | tr '\\0' x)\" {}",
            named(name),
            value(length),
            named(file)
        )),
        FileOperation::Removexattr { file, name } => {
            one(format!("setfattr -x {} {}", named(name), named(file)))
        }
        FileOperation::Chmod { file, mode } => one(format!("chmod {mode:04o} {}", named(file))),
        FileOperation::Nocow { file } => one(format!("touch {0} && chattr +C {0}", named(file))),
        FileOperation::Extents { file, expect: _ } => one(format!("filefrag -v {}", named(file))),
        FileOperation::Mkswap { file } => one(format!("mkswap {}", named(file))),
        FileOperation::Swapon { file } => one(format!("swapon {}", named(file))),
        FileOperation::Swapoff { file } => one(format!("swapoff {}", named(file))),
        FileOperation::Fallocate { .. }
        | FileOperation::Pwrite { .. }
        | FileOperation::Pread { .. }
        | FileOperation::MmapWrite { .. }
        | FileOperation::MmapRead { .. }
        | FileOperation::Msync { .. }
        | FileOperation::Fsync { .. }
        | FileOperation::Fdatasync { .. }
        | FileOperation::SyncFileRange { .. }
        | FileOperation::Truncate { .. }
        | FileOperation::Reflink { .. }
        | FileOperation::Dedupe { .. } => lines(operation),
    }
}

fn fallocate(mode: FallocateMode) -> Result<&'static str, NeedsBrim> {
    Ok(match mode {
        FallocateMode::Allocate => "falloc",
        FallocateMode::PunchHole => "fpunch",
        FallocateMode::ZeroRange => "fzero",
        FallocateMode::CollapseRange => "fcollapse",
        FallocateMode::InsertRange => "finsert",
        FallocateMode::UnshareRange => "funshare",
        FallocateMode::WriteZeroes => {
            return Err(NeedsBrim("xfs_io knows no FALLOC_FL_WRITE_ZEROES".to_owned()));
        }
    })
}

/// Flags of `xfs_io`, and words for its pread and pwrite, as in its manual.
fn how_words(How { direct, dsync, nowait }: How) -> (&'static str, &'static str) {
    let words = match (dsync, nowait) {
        (false, false) => "",
        (true, false) => "-V 1 -D ",
        (false, true) => "-V 1 -N ",
        (true, true) => "-V 1 -D -N ",
    };
    (if direct { " -d" } else { "" }, words)
}

fn data(data: &Content) -> &'static str {
    match data {
        Content::Random => "-i /dev/urandom",
        Content::Zeroes => "-S 0",
        Content::Compressible | Content::Text(_) => "-S 0x62",
    }
}

fn is(expect: Expect) -> &'static str {
    match expect {
        Expect::Written => "what was written",
        Expect::Synced => "what was durable",
        Expect::Zeroes => "zeroes",
    }
}

fn shared(Shared { offset, length, to_offset }: &Shared) -> String {
    format!("{} {} {}", value(offset), value(to_offset), value(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_counted_by_the_shell() {
        let file = Template::from("dir/f${i}".to_owned());
        let lines = lines(&FileOperation::Creat { file }).unwrap();
        assert_eq!(lines, [": > \"dir/f${i}\""]);
        let file = Template::from("it's".to_owned());
        assert_eq!(super::lines(&FileOperation::Creat { file }).unwrap(), [r": > 'it'\''s'"]);
    }
}
