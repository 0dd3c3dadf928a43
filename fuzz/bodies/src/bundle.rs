//! Any bytes as the archive of a bundle.

use std::io::Write;

use brim_bundle::{Bundle, Limits, read, write};
use brim_device::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

/// What a small input may make of itself.
const LIMITS: Limits = Limits { text: Bytes(1 << 20), disk: Bytes(1 << 20) };

/// Bytes are a bundle or an error, packed or as they are; what was read of a bundle is the same when it is written and read again.
pub fn bundle(data: &[u8]) {
    let _refused = read(data, LIMITS);
    // What is packed has a checksum, which no dice get right.
    let mut packed = GzEncoder::new(Vec::new(), Compression::none());
    packed.write_all(data).unwrap();
    let Ok(bundle) = read(packed.finish().unwrap().as_slice(), LIMITS) else { return };
    let bytes = packed_again(&bundle);
    let again = read(bytes.as_slice(), Limits::default()).unwrap();
    assert_eq!(again.manifest, bundle.manifest);
    assert_eq!(packed_again(&again), bytes);
}

fn packed_again(bundle: &Bundle) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(bundle, "a", &mut bytes).unwrap();
    bytes
}
