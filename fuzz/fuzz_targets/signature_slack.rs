//! See `hostile::signature_slack`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::signature_slack::check(bytes));
