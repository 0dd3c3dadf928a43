//! What a file is that somebody calls a kernel, and which release: read from the image, which is never run for it.

use object::elf::{EM_X86_64, ET_EXEC, FileHeader64, NoteType};
use object::endian::LittleEndian;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};

use super::{Kind, bzimage};

/// Where a kernel's text is mapped (`__START_KERNEL_map`, `arch/x86/include/asm/page_64_types.h`). No program loads there.
const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

/// `XEN_ELFNOTE_PHYS32_ENTRY`, include/xen/interface/elfnote.h: where PVH enters.
const PVH_ENTRY: NoteType = NoteType(18);

/// What an image says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) kind: Kind,
    /// As `utsname` will have it.
    pub(super) release: String,
}

impl Image {
    /// Recognises an image.
    ///
    /// # Errors
    /// What it lacks for a kernel that brim can boot.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, &'static str> {
        if let Some(header) = bzimage::Header::of(bytes) {
            let release = header.release().ok_or("this bzImage does not say its release")?;
            return Ok(Self { kind: Kind::Pc, release });
        }
        let kind = elf_kind(bytes)?;
        let release = banner(bytes).ok_or("it nowhere says `Linux version …`")?;
        Ok(Self { kind, release })
    }
}

/// Which of the kernels that are ELF files this is.
///
/// To the headers a kernel built with ARCH=um is a program like any other: it has an interpreter and libraries, and
/// loads where programs load. Its sections tell it: `.uml.setup.init` has the table of its arguments, so that it is
/// loaded and `strip` keeps it (arch/um/include/asm/common.lds.S; seen in 5.10, 6.1, 6.12 and 7.2 as Debian builds them).
/// A vmlinux is told by where it loads.
fn elf_kind(bytes: &[u8]) -> Result<Kind, &'static str> {
    let damaged = |_| "its ELF headers are damaged";
    let not_ours = |_| "it is neither a bzImage nor an ELF file for x86-64";
    let header = FileHeader64::<LittleEndian>::parse(bytes).map_err(not_ours)?;
    let endian = header.endian().map_err(not_ours)?;
    if header.e_machine(endian) != EM_X86_64 {
        return Err("it is not for x86-64");
    }
    let sections = header.sections(endian, bytes).map_err(damaged)?;
    let is_uml = sections.iter().any(|section| {
        let name = sections.section_name(endian, section);
        name.is_ok_and(|name| name == b".uml.setup.init") && section.sh_size(endian) > 0
    });
    if is_uml {
        return Ok(Kind::Uml);
    }
    let segments = header.program_headers(endian, bytes).map_err(damaged)?;
    let is_high = segments.iter().any(|segment| segment.p_vaddr(endian) >= KERNEL_MAP);
    if header.e_type(endian) == ET_EXEC && is_high { Ok(Kind::Pc) } else { Err("it is some other program") }
}

/// The release out of `linux_banner` (init/version.c): `Linux version 6.12.101 (…`.
fn banner(bytes: &[u8]) -> Option<String> {
    const START: &[u8] = b"Linux version ";
    let starts = bytes.windows(START.len()).enumerate().filter(|(_, window)| *window == START);
    starts
        .filter_map(|(at, _)| word(&bytes[at + START.len()..]))
        .find(|release| release.starts_with(|first: char| first.is_ascii_digit()))
}

/// The text up to the first space, if it is one.
pub(super) fn word(bytes: &[u8]) -> Option<String> {
    // __NEW_UTS_LEN, include/uapi/linux/utsname.h.
    let end = bytes.iter().take(65).position(|byte| *byte == b' ' || *byte == 0)?;
    let word = std::str::from_utf8(&bytes[..end]).ok()?;
    (!word.is_empty() && word.chars().all(|c| c.is_ascii_graphic())).then(|| word.to_owned())
}

/// Whether a vmlinux can be entered by PVH, which is how QEMU starts one.
pub(super) fn has_pvh_entry(bytes: &[u8]) -> bool {
    let Ok(header) = FileHeader64::<LittleEndian>::parse(bytes) else { return false };
    let segments = header.program_headers(LittleEndian, bytes).unwrap_or_default();
    segments.iter().filter_map(|segment| segment.notes(LittleEndian, bytes).ok().flatten()).any(
        |mut notes| {
            std::iter::from_fn(|| notes.next().ok().flatten())
                .any(|note| note.name() == b"Xen" && note.n_type(LittleEndian) == PVH_ENTRY)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_the_word_behind_the_banner() {
        let text = b"\0%s version %s\0Linux version %s\0Linux version 6.12.101 (sbuild@x) #1\0";
        assert_eq!(banner(text).as_deref(), Some("6.12.101"));
        assert_eq!(banner(b"Linux version "), None);
        assert_eq!(banner(&[b"Linux version 6".as_slice(), &[b'6'; 80]].concat()), None);
    }

    #[test]
    fn what_is_no_kernel_is_told_apart() {
        for (bytes, why) in [
            (&b""[..], "neither"),
            (b"#!/bin/sh\n", "neither"),
            (&[0x7f, b'E', b'L', b'F', 2, 1, 1], "neither"),
        ] {
            let said = Image::of(bytes).unwrap_err();
            assert!(said.contains(why), "{bytes:?}: {said}");
        }
    }

    /// An executable that loads at `address`, with a section `name`, a note `Xen` of type 18, and a banner.
    fn executable(address: u64, name: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0_u8; 0x400];
        bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        bytes[16..21].copy_from_slice(&[2, 0, 62, 0, 1]);
        bytes[32] = 64;
        bytes[41] = 1;
        bytes[52..64].copy_from_slice(&[64, 0, 56, 0, 2, 0, 64, 0, 3, 0, 2, 0]);
        let note = [&4_u32.to_le_bytes()[..], &8_u32.to_le_bytes(), &18_u32.to_le_bytes(), b"Xen\0", &[0; 8]]
            .concat();
        for (at, kind, offset, vaddr, size) in
            [(64, 1_u64, 0_u64, address, 0x400_u64), (120, 4, 0x300, address, 24)]
        {
            for (field, value) in [kind, offset, vaddr, vaddr, size, size].into_iter().enumerate() {
                bytes[at + field * 8..][..8].copy_from_slice(&value.to_le_bytes());
            }
        }
        // The sections: none, the one, and the names, which begin with the empty one.
        for (at, name, kind, offset, size) in [(0x140, 1_u8, 1_u8, 0x30_u8, 16_u8), (0x180, 0, 3, 0xc0, 64)] {
            (bytes[at], bytes[at + 4]) = (name, kind);
            (bytes[at + 24], bytes[at + 25], bytes[at + 32]) = (offset, 2, size);
        }
        bytes[0x2c1..0x2c1 + name.len()].copy_from_slice(name);
        bytes[0x300..0x318].copy_from_slice(&note);
        bytes[0x320..0x33c].copy_from_slice(b"Linux version 6.12.101 (x) #");
        bytes
    }

    #[test]
    fn each_kind_of_kernel_is_told_by_its_headers() {
        let image = |kind| Ok(Image { kind, release: "6.12.101".to_owned() });
        let high = KERNEL_MAP + 0x100_0000;
        assert_eq!(Image::of(&executable(0x6000_0000, b".uml.setup.init")), image(Kind::Uml));
        assert_eq!(Image::of(&executable(high, b".init.setup")), image(Kind::Pc));
        assert_eq!(Image::of(&executable(0x6000_0000, b".init.setup")), Err("it is some other program"));
        let mut arm = executable(high, b".init.setup");
        arm[18] = 183;
        assert_eq!(Image::of(&arm), Err("it is not for x86-64"));
        let mut mute = executable(high, b".init.setup");
        mute[0x320] = 0;
        assert!(Image::of(&mute).unwrap_err().contains("Linux version"));
    }

    #[test]
    fn pvh_is_told_by_its_note() {
        let mut vmlinux = executable(KERNEL_MAP, b".init.setup");
        assert!(has_pvh_entry(&vmlinux));
        vmlinux[0x308] = 17;
        assert!(!has_pvh_entry(&vmlinux) && !has_pvh_entry(b""));
    }

    /// The test itself is an ELF program for x86-64 that says `Linux version 6.12.101`, just above.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_program_is_no_kernel_whatever_it_says() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(banner(&bytes).is_some());
        assert_eq!(Image::of(&bytes), Err("it is some other program"));
    }
}
