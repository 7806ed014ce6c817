//! libFuzzer's entry to `streamctl_tests::fuzz::job_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamctl_tests::fuzz::job_file::job_file(data));
