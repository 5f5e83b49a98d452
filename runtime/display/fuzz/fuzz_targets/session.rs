//! Drives `torbox_display::nested::fuzz::session` with libFuzzer's bytes; its invariants are written there.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| { let _ended = torbox_display::nested::fuzz::session(bytes); });
