//! See `hostile::signature_gitlab`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::signature_gitlab::check(bytes));
