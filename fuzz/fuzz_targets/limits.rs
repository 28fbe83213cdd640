//! See `hostile::limits`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::limits::check(bytes));
