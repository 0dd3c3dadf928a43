//! New lines of the kernel log.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use brim_trial::event::KernelLogLine;

use crate::Failure;
use crate::failure::Trying;

/// Lines of this level and below are errors and warnings: they are kept whatever they speak of.
const WARNING: u8 = 4;

/// A reader of `/dev/kmsg`, at its own place.
#[derive(Debug)]
pub(crate) struct KernelLog {
    device: File,
}

impl KernelLog {
    /// Opens the kernel log.
    pub(crate) fn open() -> Result<Self, Failure> {
        let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
        let device = OpenOptions::new()
            .read(true)
            .custom_flags(nonblock)
            .open("/dev/kmsg")
            .trying(|| "open /dev/kmsg".to_owned())?;
        Ok(Self { device })
    }

    /// Moves on to the end of the log.
    pub(crate) fn skip(&mut self) -> Result<(), Failure> {
        self.device.seek(SeekFrom::End(0)).map(|_| ()).trying(|| "seek in /dev/kmsg".to_owned())
    }

    /// The lines since the last call that may concern one of `devices` (`loop0`): what names it, and every warning that does
    /// not name another loop device.
    pub(crate) fn new_lines(
        &mut self,
        trial: u32,
        devices: &[String],
    ) -> Result<Vec<KernelLogLine>, Failure> {
        let mut lines = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.device.read(&mut record) {
                Ok(0) => break,
                Ok(length) => {
                    let text = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
                    lines.extend(parse(&text, trial).filter(|line| concerns(line, devices)));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The ring went round past our place; the next read goes on with what is left
                // (Documentation/ABI/testing/dev-kmsg).
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) => return Err(error).trying(|| "read /dev/kmsg".to_owned()),
            }
        }
        Ok(lines)
    }
}

/// One record: `PRIORITY,SEQUENCE,TIME,FLAGS[,…];TEXT`, then lines of its dictionary, each after a space.
fn parse(record: &str, trial: u32) -> Option<KernelLogLine> {
    let (prefix, rest) = record.split_once(';')?;
    let priority: u32 = prefix.split(',').next()?.parse().ok()?;
    let text = rest.split('\n').next()?.to_owned();
    Some(KernelLogLine { trial, level: u8::try_from(priority & 7).ok()?, text })
}

fn concerns(line: &KernelLogLine, devices: &[String]) -> bool {
    // lib/ratelimit.c counts for the whole machine.
    if line.text.ends_with("callbacks suppressed") {
        return false;
    }
    let names = |device: &str| {
        line.text
            .match_indices(device)
            .any(|(at, _)| !line.text[at + device.len()..].starts_with(|next: char| next.is_ascii_digit()))
    };
    let names_another = || line.text.contains("loop") && (0..256).any(|n| names(&format!("loop{n}")));
    devices.iter().any(|device| names(device)) || (line.level <= WARNING && !names_another())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_other_loop_devices_do_not_count() {
        let concerns = |line: &KernelLogLine, device: &str| concerns(line, &[device.to_owned()]);
        let line = |text: &str| parse(&format!("4,12,99,-;{text}\n"), 1).unwrap();
        assert!(concerns(&line("BTRFS warning (device loop1): x"), "loop1"));
        assert!(!concerns(&line("BTRFS warning (device loop10): x"), "loop1"));
        assert!(concerns(&line("WARNING: CPU: 0 PID: 1 at fs/btrfs/space-info.h:115"), "loop1"));
        let info = parse("6,12,99,-;BTRFS info (device loop2): y\n SUBSYSTEM=block\n", 1).unwrap();
        assert_eq!((info.level, info.text.as_str()), (6, "BTRFS info (device loop2): y"));
        assert!(concerns(&info, "loop2") && !concerns(&info, "loop1"));
    }
}
