//! See `hostile::rules`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::rules::check(bytes));
