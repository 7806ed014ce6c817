//! libFuzzer's entry to `streamctl_tests::fuzz::nested`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamctl_tests::fuzz::nested::nested(data));
