//! libFuzzer's entry to `streamctl_tests::fuzz::answer_cbor`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamctl_tests::fuzz::answer_cbor::answer_cbor(data));
