//! Generated sessions and mutations over the functions that the fuzz targets drive, for a bounded time and from a fixed
//! seed. Invariants: no bytes make a parser panic or take more than it was given; what was parsed and written is parsed
//! alike; and nothing that only tor knows ever comes out.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::allow_attributes, reason = "a test that panics fails, which is what it is for")]

use std::time::{Duration, Instant};
use torbox_gate::fuzz;

/// Runs for `TORBOX_SMOKE_SECONDS` (default 3) or, with `TORBOX_SMOKE_SESSIONS`, so many inputs.
fn run(seed: u64, target: fn(&[u8])) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let until = Instant::now() + Duration::from_secs(number("TORBOX_SMOKE_SECONDS").unwrap_or(3));
    let (mut inputs, sessions) = (fuzz::Inputs::new(seed), number("TORBOX_SMOKE_SESSIONS"));
    let mut count = 0_u64;
    while sessions.map_or_else(|| Instant::now() < until, |most| count < most) {
        target(&inputs.bytes());
        count += 1;
    }
    println!("{count} inputs");
}

#[test]
fn socks_requests() {
    run(0x5eed_0001, fuzz::socks_request);
}

#[test]
fn socks_replies() {
    run(0x5eed_0002, fuzz::socks_reply);
}

#[test]
fn control_commands() {
    run(0x5eed_0003, fuzz::control_command);
}

#[test]
fn control_replies() {
    run(0x5eed_0004, fuzz::control_reply);
}

#[test]
fn control_events() {
    run(0x5eed_0005, fuzz::control_event);
}

#[test]
fn g5_no_session_brings_a_canary_to_light() {
    run(0x5eed_0006, fuzz::taint);
}
