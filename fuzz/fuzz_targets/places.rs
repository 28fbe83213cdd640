//! See `hostile::places`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::places::check(bytes));
