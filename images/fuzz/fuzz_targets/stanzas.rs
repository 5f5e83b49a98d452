//! Drives `torbox_images::fuzz::stanzas` with libFuzzer's bytes; its invariants are written there.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| torbox_images::fuzz::stanzas(bytes));
