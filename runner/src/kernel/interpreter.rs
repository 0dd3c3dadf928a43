//! Gives a program another dynamic linker and another place for its libraries, without moving anything in it.
//!
//! A Linux built with ARCH=um takes its own layout in memory for granted: its "physical" memory begins where the program is
//! loaded, and goes on behind the break. So starting it as `ld.so --library-path DIR linux` fails, as the break is then that
//! of the linker ("Adding 93823369875456 bytes to physical memory", 6.12), and so might a tool that adds segments. Both
//! new paths are put where nothing is: between the headers of the file and its first code, in the same page, so that they
//! are mapped without a segment of their own.

use std::ops::Range;

use object::elf::{
    DT_RUNPATH, DT_STRTAB, Dyn64, FileHeader64, PT_DYNAMIC, PT_INTERP, PT_LOAD, ProgramHeader64,
};
use object::endian::LittleEndian as Le;
use object::pod::{bytes_of, from_bytes};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

/// The page that the headers of a program are mapped with.
const PAGE: usize = 4096;

/// Why a program cannot be given another linker.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum InterpreterError {
    #[error("its ELF headers are damaged")]
    Damaged,
    #[error("it has no interpreter, or no DT_RUNPATH, that could be changed")]
    NothingToChange,
    #[error("the path of the cache is {0} bytes too long for the room in its first page")]
    NoRoom(usize),
}

/// The interpreter that a program names.
pub(super) fn interpreter(program: &[u8]) -> Option<&[u8]> {
    let (_, header) =
        headers(program).ok()?.into_iter().find(|(_, header)| header.p_type(Le) == PT_INTERP)?;
    header.interpreter(Le, program).ok().flatten()
}

/// Makes `program` name `interpreter`, an absolute path, and look for libraries in `run_path` before anywhere else.
///
/// # Errors
/// The program is not made so that this can be done in place.
pub(super) fn set(program: &mut [u8], interpreter: &str, run_path: &str) -> Result<(), InterpreterError> {
    let headers = headers(program)?;
    let find = |kind| headers.iter().find(|(_, header)| header.p_type(Le) == kind);
    let (Some((at, interp)), Some((_, dynamic)), Some((_, first))) =
        (find(PT_INTERP), find(PT_DYNAMIC), find(PT_LOAD))
    else {
        return Err(InterpreterError::NothingToChange);
    };
    let (at, base) = (*at, first.p_vaddr(Le));
    let mut interp = *interp;
    let (runpath, string_table) = run_path_entry(program, dynamic)?;
    let room = room(program, first, &interp)?;

    let text = [interpreter.as_bytes(), &[0], run_path.as_bytes(), &[0]].concat();
    if text.len() > room.len() {
        return Err(InterpreterError::NoRoom(text.len() - room.len()));
    }
    let start = number(room.start)?;
    let length = number(interpreter.len() + 1)?;
    program[room.clone()].fill(0);
    program[room.start..room.start + text.len()].copy_from_slice(&text);
    interp.p_offset.set(Le, start);
    interp.p_vaddr.set(Le, base + start);
    interp.p_paddr.set(Le, base + start);
    interp.p_filesz.set(Le, length);
    interp.p_memsz.set(Le, length);
    put(program, at, bytes_of(&interp))?;
    // An offset from the table of strings, which lies behind: the linker adds it modulo 2⁶⁴.
    let offset = (base + start + length).wrapping_sub(string_table);
    put(program, runpath + 8, &offset.to_le_bytes())
}

/// The program headers, and where each is in the file.
fn headers(program: &[u8]) -> Result<Vec<(usize, ProgramHeader64<Le>)>, InterpreterError> {
    let damaged = |_| InterpreterError::Damaged;
    let header = FileHeader64::<Le>::parse(program).map_err(damaged)?;
    let headers = header.program_headers(Le, program).map_err(damaged)?;
    let start = usize::try_from(header.e_phoff(Le)).map_err(|_| InterpreterError::Damaged)?;
    let places = (start..).step_by(size_of::<ProgramHeader64<Le>>());
    Ok(places.zip(headers.iter().copied()).collect())
}

/// Where the entry with the path of libraries is in the file, and the address of the strings it counts from.
fn run_path_entry(program: &[u8], dynamic: &ProgramHeader64<Le>) -> Result<(usize, u64), InterpreterError> {
    let (start, size) = (length(dynamic.p_offset(Le))?, length(dynamic.p_filesz(Le))?);
    let mut entries = Vec::new();
    for at in (start..start.saturating_add(size)).step_by(size_of::<Dyn64<Le>>()) {
        let bytes = program.get(at..).ok_or(InterpreterError::Damaged)?;
        let (entry, _) = from_bytes::<Dyn64<Le>>(bytes).map_err(|()| InterpreterError::Damaged)?;
        entries.push((at, entry.d_tag(Le), entry.d_val(Le)));
    }
    let find = |wanted| entries.iter().find(|(_, tag, _)| *tag == wanted);
    match (find(DT_RUNPATH), find(DT_STRTAB)) {
        (Some((at, ..)), Some((.., table))) => Ok((*at, *table)),
        _ => Err(InterpreterError::NothingToChange),
    }
}

/// The bytes of the first page that belong to nothing, or to the interpreter that was set here before.
fn room(
    program: &[u8],
    first: &ProgramHeader64<Le>,
    interp: &ProgramHeader64<Le>,
) -> Result<Range<usize>, InterpreterError> {
    let start = length(first.p_filesz(Le))?.next_multiple_of(16);
    let room = program.get(start..PAGE).ok_or(InterpreterError::NothingToChange)?;
    let is_ours = length(interp.p_offset(Le))? == start;
    let is_free = first.p_offset(Le) == 0 && (is_ours || room.iter().all(|byte| *byte == 0));
    if is_free { Ok(start..PAGE) } else { Err(InterpreterError::NothingToChange) }
}

fn put(program: &mut [u8], at: usize, bytes: &[u8]) -> Result<(), InterpreterError> {
    let place = program.get_mut(at..at + bytes.len()).ok_or(InterpreterError::Damaged)?;
    place.copy_from_slice(bytes);
    Ok(())
}

fn number(length: usize) -> Result<u64, InterpreterError> {
    u64::try_from(length).map_err(|_| InterpreterError::Damaged)
}

fn length(number: u64) -> Result<usize, InterpreterError> {
    usize::try_from(number).map_err(|_| InterpreterError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0x6000_0000;
    /// Where the headers end, and the only other things of this program: its old interpreter, and DYNAMIC behind a page.
    const INTERP: usize = 0x120;
    const DYNAMIC: usize = 0x1000;
    const STRINGS: u64 = BASE + 0x3000;

    /// A program as Debian links UML: headers and interpreter in the first page, code from the second.
    fn program(tags: &[u64]) -> Vec<u8> {
        let mut bytes = vec![0_u8; DYNAMIC + 64];
        bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        bytes[16..20].copy_from_slice(&[2, 0, 62, 0]);
        bytes[20] = 1;
        bytes[32] = 64;
        bytes[52..58].copy_from_slice(&[64, 0, 56, 0, 3, 0]);
        let segments = [(3, INTERP, 8), (1, 0, INTERP + 8), (2, DYNAMIC, 16 * (tags.len() + 1))];
        for (index, (kind, offset, size)) in segments.into_iter().enumerate() {
            let at = 64 + index * 56;
            let (offset, size) = (number(offset).unwrap(), number(size).unwrap());
            let fields = [kind, offset, BASE + offset, BASE + offset, size, size];
            for (field, value) in fields.into_iter().enumerate() {
                bytes[at + field * 8..][..8].copy_from_slice(&value.to_le_bytes());
            }
        }
        bytes[INTERP..INTERP + 8].copy_from_slice(b"/lib/ld\0");
        for (index, tag) in tags.iter().enumerate() {
            let value = if *tag == 5 { STRINGS } else { 7 };
            bytes[DYNAMIC + index * 16..][..8].copy_from_slice(&tag.to_le_bytes());
            bytes[DYNAMIC + index * 16 + 8..][..8].copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    /// The string that `DT_RUNPATH` leads to.
    fn run_path(bytes: &[u8]) -> &[u8] {
        let value = u64::from_le_bytes(bytes[DYNAMIC + 24..DYNAMIC + 32].try_into().unwrap());
        let at = length(STRINGS.wrapping_add(value) - BASE).unwrap();
        bytes[at..].split(|byte| *byte == 0).next().unwrap()
    }

    #[test]
    fn both_paths_are_changed_in_place_again_and_again() {
        let before = program(&[5, 29]);
        let mut bytes = before.clone();
        assert_eq!(interpreter(&bytes), Some(&b"/lib/ld"[..]));
        for linker in ["/a/rather/long/path/lib/ld.so", "/b/ld.so"] {
            set(&mut bytes, linker, "$ORIGIN/lib").unwrap();
            assert_eq!(interpreter(&bytes), Some(linker.as_bytes()));
            assert_eq!(run_path(&bytes), b"$ORIGIN/lib");
        }
        assert_eq!(bytes.len(), before.len());
        // Of the first path nothing is left, and nothing else has changed.
        assert!(!bytes.windows(6).any(|window| window == b"rather"));
        assert_eq!(bytes[DYNAMIC..DYNAMIC + 24], before[DYNAMIC..DYNAMIC + 24]);
    }

    #[test]
    fn what_cannot_be_changed_in_place_stays_as_it_is() {
        let mut full = program(&[5, 29]);
        full[0x800] = 1;
        let long = "/x".repeat(2000);
        for (mut bytes, linker, error) in [
            (full, "/ld", InterpreterError::NothingToChange),
            (program(&[5]), "/ld", InterpreterError::NothingToChange),
            (program(&[5, 29]), &long, InterpreterError::NoRoom(0x130 + 4001 + 2 - 4096)),
            (program(&[5, 29])[..0x80].to_vec(), "/ld", InterpreterError::Damaged),
        ] {
            let before = bytes.clone();
            assert_eq!(set(&mut bytes, linker, "x").map(|()| 0), Err(error));
            assert_eq!(bytes, before);
        }
    }
}
