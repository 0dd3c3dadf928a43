//! A bzImage: its header, and the vmlinux packed in it (Documentation/arch/x86/boot.rst, v6.12).

use super::image::word;
use super::unpack::{UnpackError, unpack};

/// A bzImage whose header is right.
pub(super) struct Header<'a> {
    bytes: &'a [u8],
}

impl<'a> Header<'a> {
    /// The header of `bytes`, if it is a bzImage.
    pub(super) fn of(bytes: &'a [u8]) -> Option<Self> {
        // `boot_flag` 0x1fe, `header` 0x202, `version` 0x206: payload_offset came with protocol 2.08.
        let is_one = bytes.get(0x1fe..0x200)? == [0x55, 0xaa]
            && bytes.get(0x202..0x206)? == b"HdrS"
            && bytes
                .get(0x206..0x208)
                .is_some_and(|version| u16::from_le_bytes([version[0], version[1]]) >= 0x208);
        is_one.then_some(Self { bytes })
    }

    /// `kernel_version` 0x20e, "a pointer to a null-terminated human-readable kernel version number string, less 0x200".
    pub(super) fn release(&self) -> Option<String> {
        let pointer = self.bytes.get(0x20e..0x210)?;
        let at = usize::from(u16::from_le_bytes([pointer[0], pointer[1]])) + 0x200;
        word(self.bytes.get(at..)?)
    }

    /// The vmlinux.
    ///
    /// # Errors
    /// The payload is not there, or cannot be unpacked.
    pub(super) fn vmlinux(&self) -> Result<Vec<u8>, UnpackError> {
        let payload = self.payload().ok_or(UnpackError::Cut)?;
        // Kbuild puts the length of the vmlinux behind the payload (scripts/Makefile.lib, `size_append`); gzip ends with it
        // by itself. For the decoder of lz4 it would be the length of one more block.
        let (packed, length) = payload.split_last_chunk::<4>().ok_or(UnpackError::Cut)?;
        let packed = if payload.starts_with(&[0x1f, 0x8b]) { payload } else { packed };
        let vmlinux = unpack(packed)?;
        let length = u32::from_le_bytes(*length);
        if u32::try_from(vmlinux.len()) == Ok(length) { Ok(vmlinux) } else { Err(UnpackError::Cut) }
    }

    /// `setup_sects` 0x1f1 sectors behind the first are real-mode code, 4 if it says 0; then the protected-mode code,
    /// with the payload at `payload_offset` 0x248, `payload_length` 0x24c long.
    fn payload(&self) -> Option<&'a [u8]> {
        let setup = match self.bytes.get(0x1f1)? {
            0 => 4,
            count => usize::from(*count),
        };
        let start = (setup + 1) * 512 + self.number(0x248)?;
        self.bytes.get(start..start.checked_add(self.number(0x24c)?)?)
    }

    fn number(&self, at: usize) -> Option<usize> {
        let bytes = self.bytes.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::Kind;
    use super::super::image::Image;
    use super::*;

    fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 1024];
        bytes[0x1f1] = 1;
        bytes[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        bytes[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
        bytes[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        bytes[0x300..0x31b].copy_from_slice(b"6.1.0-50-cloud-amd64 (x) #1");
        bytes[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        bytes[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        bytes.extend([0; 16]);
        bytes.extend(payload);
        bytes
    }

    fn packed(format: &str, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_le_bytes();
        if format == "gzip" {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(content).unwrap();
            return encoder.finish().unwrap();
        }
        // The legacy frame: blocks of up to 8 MiB with their length, and no end mark.
        let block = lz4_flex::block::compress(content);
        let block_length = u32::try_from(block.len()).unwrap().to_le_bytes();
        let packed = [&[0x02, 0x21, 0x4c, 0x18][..], &block_length, &block].concat();
        [&packed[..], &length].concat()
    }

    #[test]
    fn a_bzimage_says_its_release() {
        let image = Image::of(&bzimage(&[])).unwrap();
        assert_eq!(image, Image { kind: Kind::Pc, release: "6.1.0-50-cloud-amd64".to_owned() });
        let mut without = bzimage(&[]);
        without[0x20e..0x210].fill(0xff);
        assert!(Image::of(&without).is_err());
        assert!(Header::of(&bzimage(&[])[..0x203]).is_none());
    }

    #[test]
    fn a_vmlinux_comes_out_as_it_went_in() {
        let content: Vec<u8> = (0..100_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        for format in ["gzip", "lz4"] {
            let image = bzimage(&packed(format, &content));
            assert!(Header::of(&image).unwrap().vmlinux().unwrap() == content, "{format}");
            // Cut anywhere it is an error, never another vmlinux.
            for len in [1023, 1040, 1100, image.len() - 5, image.len() - 1] {
                assert!(Header::of(&image[..len]).unwrap().vmlinux().is_err(), "{format}, {len}");
            }
        }
    }
}
