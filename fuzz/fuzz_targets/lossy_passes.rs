#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| optc::fuzzing::lossy_passes(bytes));
