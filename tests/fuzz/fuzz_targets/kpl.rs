//! libFuzzer's entry to `streamctl_tests::fuzz::kpl`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamctl_tests::fuzz::kpl::kpl(data));
