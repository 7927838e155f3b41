//! What must hold is in the documentation of the function that is called.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| signaling_core::testing::fuzz::client_message(data));
