//! See `hostile::wire`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::wire::check(bytes));
