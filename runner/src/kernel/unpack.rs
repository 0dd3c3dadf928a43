//! What kernels and modules are packed with, told by the first bytes and not by names.

use std::io::{self, Read};

/// Why bytes cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    #[error("nothing known packs like this")]
    Unknown,
    #[error("it is not whole")]
    Cut,
    #[error("{0}")]
    Damaged(#[from] io::Error),
}

/// Unpacks gzip, lz4, xz or zstd.
///
/// # Errors
/// It is none of them, or damaged.
pub(super) fn unpack(packed: &[u8]) -> Result<Vec<u8>, UnpackError> {
    let mut unpacked = Vec::new();
    match packed {
        [0x1f, 0x8b, ..] => flate2::read::GzDecoder::new(packed).read_to_end(&mut unpacked)?,
        // The legacy frame, which `lz4 -l` writes for the kernel.
        [0x02, 0x21, 0x4c, 0x18, ..] => {
            lz4_flex::frame::FrameDecoder::new(packed).read_to_end(&mut unpacked)?
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            lzma_rust2::XzReader::new(packed, false).read_to_end(&mut unpacked)?
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = ruzstd::decoding::StreamingDecoder::new(packed)
                .map_err(|error| io::Error::other(error.to_string()))?;
            decoder.read_to_end(&mut unpacked)?
        }
        _ => return Err(UnpackError::Unknown),
    };
    Ok(unpacked)
}

/// A module as the kernel loads it, whatever it is packed with.
///
/// # Errors
/// It is packed, and damaged.
pub(super) fn module(bytes: Vec<u8>) -> Result<Vec<u8>, UnpackError> {
    if bytes.starts_with(b"\x7fELF") { Ok(bytes) } else { unpack(&bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    // `printf 'brim' | xz --check=crc32 | xxd -i` and `… | zstd | …`.
    const XZ: &[u8] = &[
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02, 0x00, 0x21, 0x01, 0x16,
        0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x03, 0x62, 0x72, 0x69, 0x6d, 0x00, 0xa1, 0x91,
        0x22, 0x60, 0x00, 0x01, 0x18, 0x04, 0x6b, 0xe9, 0xf0, 0xa5, 0x90, 0x42, 0x99, 0x0d, 0x01, 0x00, 0x00,
        0x00, 0x00, 0x01, 0x59, 0x5a,
    ];
    const ZSTD: &[u8] = &[
        0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0x21, 0x00, 0x00, 0x62, 0x72, 0x69, 0x6d, 0x29, 0x0c, 0x37, 0x27,
    ];

    #[test]
    fn each_format_is_known_by_its_bytes() {
        for packed in [XZ, ZSTD] {
            assert_eq!(unpack(packed).unwrap(), b"brim");
            assert!(unpack(&packed[..packed.len() - 7]).is_err());
        }
        assert!(matches!(unpack(b"brim"), Err(UnpackError::Unknown)));
    }

    #[test]
    fn a_raw_module_stays_as_it_is() {
        assert_eq!(module(b"\x7fELF brim".to_vec()).unwrap(), b"\x7fELF brim");
        assert_eq!(module(XZ.to_vec()).unwrap(), b"brim");
    }
}
