//! Operations on files in words.

use brim_trial::operation::{Expect, FallocateMode, How, OpenFlag, Rename, Shared, Short, Target};
use brim_trial::{Content, FileOperation};

/// One operation as a sentence.
pub(super) fn operation(operation: &FileOperation) -> String {
    match operation {
        FileOperation::Fsync { file } => format!("fsync `{file}`"),
        FileOperation::Fdatasync { file } => format!("fdatasync `{file}`"),
        FileOperation::Nocow { file } => format!("have `{file}` written in place (FS_NOCOW_FL)"),
        FileOperation::Mkswap { file } => format!("make `{file}` a swap area"),
        FileOperation::Swapon { file } => format!("swap to `{file}` (swapon)"),
        FileOperation::Swapoff { file } => format!("swap to `{file}` no longer (swapoff)"),
        FileOperation::Truncate { file, size } => format!("truncate `{file}` to {size}"),
        FileOperation::Open { file, flags } if flags.is_empty() => format!("open `{file}`"),
        FileOperation::Open { file, flags } => {
            let flags: Vec<&str> = flags.iter().map(|flag| OpenFlag::name(*flag)).collect();
            format!("open `{file}` with {}", flags.join(" | "))
        }
        FileOperation::Close { file } => format!("close `{file}`"),
        FileOperation::Tmpfile { file } => {
            format!("open a file without a name (O_TMPFILE), called `{file}` here")
        }
        FileOperation::Creat { file } => format!("creat `{file}` and close it"),
        FileOperation::Mkdir { path } => format!("mkdir `{path}`"),
        FileOperation::Rmdir { path } => format!("rmdir `{path}`"),
        FileOperation::Unlink { file, keep_open: false } => format!("unlink `{file}`"),
        FileOperation::Unlink { file, keep_open: true } => format!("unlink `{file}`, which stays open"),
        FileOperation::Rename { from, to, how } => match how {
            Rename::Replace => format!("rename `{from}` to `{to}`"),
            Rename::Noreplace => {
                format!("rename `{from}` to `{to}`, which must not be there (RENAME_NOREPLACE)")
            }
            Rename::Exchange => format!("exchange `{from}` and `{to}` (RENAME_EXCHANGE)"),
        },
        FileOperation::Link { from, to } => format!("link `{from}` as `{to}`"),
        FileOperation::Symlink { path, target: Target::Path(target) } => {
            format!("make `{path}` a symbolic link to `{target}`")
        }
        FileOperation::Symlink { path, target: Target::Length(length) } => {
            format!("make `{path}` a symbolic link to a name of {length}")
        }
        FileOperation::Setxattr { file, name, length } => {
            format!("set the attribute {name} of `{file}` to {length} of random bytes")
        }
        FileOperation::Removexattr { file, name } => format!("remove the attribute {name} of `{file}`"),
        FileOperation::Chmod { file, mode } => format!("chmod `{file}` to {mode:04o}"),
        FileOperation::Reflink { from, to, range: None } => {
            format!("have `{to}` share all of `{from}` (FICLONE)")
        }
        FileOperation::Reflink { from, to, range: Some(Shared { offset, length, to_offset }) } => format!(
            "have `{to}` at offset {to_offset} share {length} of `{from}` at offset {offset} (FICLONERANGE)"
        ),
        FileOperation::Dedupe { from, to, range: Shared { offset, length, to_offset } } => format!(
            "have `{to}` at offset {to_offset} share {length} of `{from}` at offset {offset} if they hold the same \
             (FIDEDUPERANGE)"
        ),
        FileOperation::Extents { file, expect } => {
            let expect: Vec<String> =
                expect.iter().map(|(what, bound)| format!("`{}` has to be {bound}", what.name())).collect();
            let expect =
                if expect.is_empty() { String::new() } else { format!("; {}", expect.join(" and ")) };
            format!("count the extents of `{file}` (FIEMAP){expect}")
        }
        sized => on_a_range(sized),
    }
}

fn on_a_range(operation: &FileOperation) -> String {
    let Some((offset, length)) = operation.range() else { return operation.verb().to_owned() };
    let file = operation.file();
    match operation {
        FileOperation::Fallocate { mode, keep_size, .. } => {
            let keep = if *keep_size { ", leaving its size as it is (FALLOC_FL_KEEP_SIZE)" } else { "" };
            let mode = match mode {
                FallocateMode::Allocate => {
                    return format!("fallocate {length} of `{file}` at offset {offset}{keep}");
                }
                FallocateMode::PunchHole => "punch a hole of",
                FallocateMode::ZeroRange => "zero a range of",
                FallocateMode::CollapseRange => "take out a range of",
                FallocateMode::InsertRange => "insert a hole of",
                FallocateMode::UnshareRange => "unshare a range of",
                FallocateMode::WriteZeroes => "write zeroes to a range of",
            };
            format!("{mode} {length} in `{file}` at offset {offset} (fallocate){keep}")
        }
        FileOperation::Pwrite { data, how, short, .. } => {
            let short = if *short == Short::Stop { ", in one call" } else { "" };
            format!("pwrite {length} of {} to `{file}` at offset {offset}{}{short}", content(data), way(*how))
        }
        FileOperation::Pread { expect, how, .. } => {
            let (expect, way) = (expected(*expect), way(*how));
            format!("pread {length} of `{file}` at offset {offset}{way}, which has to be {expect}")
        }
        FileOperation::MmapWrite { data, .. } => {
            format!("store {length} of {} to `{file}` at offset {offset} through a mapping", content(data))
        }
        FileOperation::MmapRead { expect, .. } => format!(
            "load {length} of `{file}` at offset {offset} through a mapping, which has to be {}",
            expected(*expect)
        ),
        FileOperation::Msync { .. } => format!("msync {length} of `{file}` at offset {offset}"),
        _ => format!("write {length} of `{file}` at offset {offset} back and wait (sync_file_range)"),
    }
}

fn content(content: &Content) -> String {
    match content {
        Content::Random => "random bytes".to_owned(),
        Content::Zeroes => "zeroes".to_owned(),
        Content::Compressible => "bytes that repeat".to_owned(),
        Content::Text(text) => format!("\"{}\" again and again", text.escape_debug()),
    }
}

fn expected(expect: Expect) -> &'static str {
    match expect {
        Expect::Written => "what was written there",
        Expect::Synced => "what was durable there",
        Expect::Zeroes => "zeroes",
    }
}

/// `, past the page cache (O_DIRECT)`.
fn way(How { direct, dsync, nowait }: How) -> String {
    let mut ways = String::new();
    for (is_it, way) in [
        (direct, ", past the page cache (O_DIRECT)"),
        (dsync, ", durable when it returns (RWF_DSYNC)"),
        (nowait, ", without waiting (RWF_NOWAIT)"),
    ] {
        ways.push_str(if is_it { way } else { "" });
    }
    ways
}
