//! See `hostile::signature_github`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::signature_github::check(bytes));
