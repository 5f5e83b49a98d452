//! The gate: the only thing a compromised browser can talk to.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::allow_attributes,
        reason = "a test that panics fails, which is what it is for"
    )
)]

pub mod address;
mod admin;
pub mod cage;
pub mod config;
pub mod control;
mod cookie;
mod counters;
mod hub;
pub mod policy;
mod relay;
pub mod server;
mod slab;
mod socket;
pub mod socks;
mod stream;
pub mod tag;
pub mod upstream;
mod wire;
