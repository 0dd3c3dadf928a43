//! Seeded randomness: the same seed throws the same dice on every machine.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

/// As far into `span` as `drawn` is into all 64-bit numbers.
pub(crate) fn scale(drawn: u64, span: u128) -> u64 {
    // In two halves of `drawn`, since `span` may have a few more bits than 64.
    let (high, low) = (u128::from(drawn >> 32), u128::from(drawn & 0xffff_ffff));
    u64::try_from((high * span + ((low * span) >> 32)) >> 32).unwrap_or(u64::MAX)
}

/// The dice of whatever has this name, apart from those of other names.
pub(crate) fn stream(seed: u64, name: &str) -> Xoshiro256PlusPlus {
    // FNV-1a (RFC 9923): every bit of the name and of the seed counts.
    let start = 0xcbf2_9ce4_8422_2325;
    let bytes = seed.to_le_bytes().into_iter().chain(name.bytes());
    let hash = bytes.fold(start, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    Xoshiro256PlusPlus::seed_from_u64(hash)
}
