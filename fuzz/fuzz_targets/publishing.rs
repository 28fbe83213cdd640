//! See `hostile::publishing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::publishing::check(bytes));
