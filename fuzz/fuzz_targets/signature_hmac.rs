//! See `hostile::signature_hmac`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::signature_hmac::check(bytes));
