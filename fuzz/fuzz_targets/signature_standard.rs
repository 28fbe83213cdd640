//! See `hostile::signature_standard`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::signature_standard::check(bytes));
