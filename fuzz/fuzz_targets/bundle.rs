#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brim_fuzz_bodies::bundle(data));
