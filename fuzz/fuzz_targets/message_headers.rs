//! See `hostile::message_headers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::message_headers::check(bytes));
