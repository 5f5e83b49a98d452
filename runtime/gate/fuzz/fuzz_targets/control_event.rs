//! Drives `torbox_gate::fuzz::control_event` with libFuzzer's bytes; its invariants are written there.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| torbox_gate::fuzz::control_event(bytes));
