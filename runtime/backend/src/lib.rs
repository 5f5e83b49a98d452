//! Turns a plan into running containers, verifies them, supervises them and undoes them.
//!
//! It holds no policy: what exists is decided by `torbox-plan`. A container never starts unless what was read back
//! from the kernel equals the plan's facts.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking"))]

pub mod engine;
#[cfg(target_os = "linux")]
pub mod files;
#[cfg(target_os = "linux")]
pub mod native;
pub mod protocol;
pub mod secret;
mod system;
mod texts;
