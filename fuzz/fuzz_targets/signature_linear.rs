//! See `hostile::signature_linear`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::signature_linear::check(bytes));
