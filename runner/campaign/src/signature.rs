//! What failures alike have in common: the step, the error, data or metadata, and the kernel function that complained. Short, and
//! the same each time: no address, no number that differs from trial to trial.

use brim_trial::event::{Problem, TrialVerdictEvent};
use brim_trial::{Event, Verdict};

/// The most letters of a part.
const PART_MAX: usize = 60;

/// The signature of a trial, from its verdict and its events; `None` where nothing failed.
#[must_use]
pub fn signature(verdict: &TrialVerdictEvent, events: &[Event]) -> Option<String> {
    let trial = verdict.trial;
    let mut parts: Vec<String> = Vec::new();
    if let Some(step) = &verdict.failed_step {
        parts.push(step.clone());
        parts.extend(verdict.errno.map(|errno| errno.to_string()));
        parts.extend(events.iter().find_map(|event| problem(event, trial, step)).map(ToOwned::to_owned));
        parts.extend(verdict.space.map(|space| space.to_string()));
    } else if verdict.verdict == Verdict::Inconclusive {
        parts.push(doubt(trial, events).to_owned());
    }
    let complained = events.iter().find_map(|event| match event {
        Event::KernelLog(line) if line.trial == trial => function(&line.text),
        Event::Crash(crash) if crash.trial == trial => {
            std::iter::once(&crash.how).chain(&crash.last_words).find_map(|line| function(line))
        }
        Event::Stuck(stuck) if stuck.trial == trial => stuck
            .waiting_in
            .as_deref()
            .and_then(|functions| functions.split_whitespace().next())
            .and_then(word),
        _ => None,
    });
    if parts.is_empty() && complained.is_none() {
        return None;
    }
    if parts.is_empty() {
        parts.push("kernel-log".to_owned());
    }
    parts.extend(complained);
    Some(parts.iter().map(|part| tidy(part)).collect::<Vec<_>>().join("/"))
}

fn problem<'a>(event: &'a Event, trial: u32, name: &str) -> Option<&'a str> {
    match event {
        Event::Step(step) if step.trial == trial && step.step == name => match step.problem.as_ref()? {
            Problem::Lost(_) => Some("lost"),
            Problem::Unclean(_) => Some("unclean"),
            Problem::TooFew(_) => Some("too-few-held"),
            Problem::Differs => Some("differs"),
            Problem::Exited(_) => Some("exited"),
            Problem::Extents(_) => Some("other-extents"),
        },
        _ => None,
    }
}

/// Why a trial is inconclusive in which no step failed.
fn doubt(trial: u32, events: &[Event]) -> &'static str {
    let of = |event: &Event| match event {
        Event::Crash(crash) if crash.trial == trial => Some("crash"),
        Event::Stuck(stuck) if stuck.trial == trial || stuck.trial == 0 => Some("stuck"),
        _ => None,
    };
    events.iter().find_map(of).unwrap_or("state")
}

/// The kernel function that a line of the kernel log names: where a warning or an oops was, where a transaction was aborted,
/// or what says that it failed.
fn function(line: &str) -> Option<String> {
    // include/linux/kallsyms.h, "%pS": `WARNING: CPU: 1 PID: 99 at fs/btrfs/space-info.c:42 btrfs_free_space+0x1a/0x30`,
    // `RIP: 0010:btrfs_free_space+0x1a/0x30`.
    let placed = |text: &str| {
        text.split_whitespace().find_map(|piece| {
            let piece = piece.rsplit(':').next().unwrap_or(piece);
            piece.split_once("+0x").and_then(|(name, _)| word(name))
        })
    };
    if line.contains(" at ") && line.contains("WARNING") || line.contains("RIP:") || line.contains("BUG:") {
        return placed(line);
    }
    // fs/btrfs/messages.c: `in btrfs_finish_ordered_io:3270: errno=-28 No space left`.
    if let Some((name, _)) =
        line.split_once(": errno=").and_then(|(before, _)| before.rsplit(' ').next()?.split_once(':'))
    {
        return word(name);
    }
    // `cow_file_range failed, …`; `btrfs_run_delayed_refs returned -28`.
    let mut words =
        line.split_whitespace().map(|word| word.trim_end_matches([',', ':', ';', '.'])).peekable();
    while let Some(name) = words.next() {
        if words.peek().is_some_and(|next| matches!(*next, "failed" | "returned")) {
            return word(name).filter(|name| name.contains('_'));
        }
    }
    None
}

/// A name of C.
fn word(name: &str) -> Option<String> {
    let name = name.split(['+', '(']).next().unwrap_or(name);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let starts = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    // What the compiler makes of a function has its name, a dot and something that differs from build to build.
    (starts && name.chars().all(is_name)).then(|| name.split('.').next().unwrap_or(name).to_owned())
}

/// A part that may stand in the name of a directory.
fn tidy(part: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '-' };
    part.chars().take(PART_MAX).map(keep).collect()
}

/// The directory of a signature: one name, whatever parts it has.
#[must_use]
pub fn directory(signature: &str) -> String {
    signature.replace('/', "+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_in_what_kernels_print() {
        for (line, name) in [
            (
                "WARNING: CPU: 1 PID: 99 at fs/btrfs/space-info.c:42 btrfs_add_bytes_may_use+0x1a/0x30 [btrfs]",
                "btrfs_add_bytes_may_use",
            ),
            ("RIP: 0010:btrfs_free_reserved_data.isra.0+0x5/0x20", "btrfs_free_reserved_data"),
            (
                "BTRFS: error (device loop0 state A) in btrfs_finish_one_ordered:3270: errno=-28 No space left",
                "btrfs_finish_one_ordered",
            ),
            (
                "BTRFS error (device loop0): cow_file_range failed, root=5 inode=257 start=0 len=65536",
                "cow_file_range",
            ),
        ] {
            assert_eq!(function(line).as_deref(), Some(name), "{line}");
        }
        for line in [
            "BTRFS info (device loop0): scrub: started on devid 1",
            "mount failed",
            "BTRFS: 5 returned 3",
            "",
        ] {
            assert_eq!(function(line), None, "{line}");
        }
    }

    #[test]
    fn a_signature_is_one_name_of_a_directory() {
        assert_eq!(tidy("a b/../c"), "a-b-..-c");
        assert_eq!(directory("pwrite/ENOSPC/data"), "pwrite+ENOSPC+data");
    }
}
