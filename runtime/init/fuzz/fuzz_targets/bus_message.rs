//! Reads libFuzzer's bytes as the bus in the browser's container reads what the browser says.

#![no_main]

#[allow(dead_code, unreachable_pub, reason = "init uses the rest")]
#[path = "../../src/bus/message.rs"]
mod message;

use message::{Parsed, parse};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Parsed::Message(message, length) = parse(bytes) {
        assert!((16..=bytes.len()).contains(&length), "{length} of {} bytes", bytes.len());
        assert_eq!(parse(&bytes[..length]), Parsed::Message(message, length), "what follows a message changes it");
        assert!((0..length).all(|count| !matches!(parse(&bytes[..count]), Parsed::Message(..))), "a part is a message");
    }
});
