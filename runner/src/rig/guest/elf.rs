//! A program without what only a debugger reads of it: in a guest its file is memory.

// elf(5), ELFCLASS64 and ELFDATA2LSB: offsets in the file's header, and in a program header.
const PROGRAM_HEADERS: usize = 32;
const SECTION_HEADERS: usize = 40;
const PROGRAM_HEADER_SIZE: usize = 54;
const PROGRAM_HEADER_COUNT: usize = 56;
const SECTION_HEADER_COUNT: usize = 60;
const HEADER_END: usize = 64;
const SEGMENT_OFFSET: usize = 8;
const SEGMENT_SIZE: usize = 32;

/// The program as far as its segments go, which is all that the kernel and the dynamic linker look at. What is no such
/// file comes back as it is.
pub(super) fn without_debug_information(program: &[u8]) -> Vec<u8> {
    let Some(end) = end_of_segments(program).filter(|end| *end < program.len()) else {
        return program.to_vec();
    };
    let mut short = program.get(..end).unwrap_or(program).to_vec();
    // Its sections are not there any more: their offset, count and names' index are zero.
    for range in [SECTION_HEADERS..SECTION_HEADERS + 8, SECTION_HEADER_COUNT..HEADER_END] {
        if let Some(bytes) = short.get_mut(range) {
            bytes.fill(0);
        }
    }
    short
}

fn end_of_segments(program: &[u8]) -> Option<usize> {
    // 64 bits, little-endian.
    if program.get(..6)? != [0x7f, b'E', b'L', b'F', 2, 1] {
        return None;
    }
    let headers = number(program, PROGRAM_HEADERS, 8)?;
    let size = number(program, PROGRAM_HEADER_SIZE, 2)?;
    let count = number(program, PROGRAM_HEADER_COUNT, 2)?;
    let mut end = headers.checked_add(size.checked_mul(count)?)?.max(HEADER_END);
    for index in 0..count {
        let header = headers.checked_add(index.checked_mul(size)?)?;
        let offset = number(program, header.checked_add(SEGMENT_OFFSET)?, 8)?;
        end = end.max(offset.checked_add(number(program, header.checked_add(SEGMENT_SIZE)?, 8)?)?);
    }
    Some(end)
}

fn number(program: &[u8], at: usize, length: usize) -> Option<usize> {
    let bytes = program.get(at..at.checked_add(length)?)?;
    let number = bytes.iter().rev().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    usize::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_program_runs_without_it() {
        let whole = std::fs::read("/proc/self/exe").unwrap();
        let short = without_debug_information(&whole);
        assert!(short.len() < whole.len());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("short");
        std::fs::write(&path, short).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let said = std::process::Command::new(path).args(["--list"]).output().unwrap();
        assert!(said.status.success() && !said.stdout.is_empty());
    }

    #[test]
    fn what_is_no_program_stays() {
        for odd in [&b""[..], b"#!/bin/sh\n", b"\x7fELF\x02\x01", &[0xff; 100]] {
            assert_eq!(without_debug_information(odd), odd);
        }
    }
}
