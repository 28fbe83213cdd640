//! See `hostile::signature_stripe`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::signature_stripe::check(bytes));
