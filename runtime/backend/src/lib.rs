//! Turns a plan into running containers, verifies them, supervises them and undoes them.
//!
//! It holds no policy: what exists is decided by `torbox-plan`. A container never starts unless what was read back
//! from the kernel equals the plan's facts.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking"))]

pub mod engine;
pub mod files;
pub mod launched;
#[cfg(target_os = "linux")]
pub mod native;
pub mod protocol;
pub mod secret;
mod system;
mod texts;

#[cfg(not(target_os = "linux"))]
pub use system::elsewhere::bell;
#[cfg(unix)]
pub use system::unix::local;
#[cfg(windows)]
pub use system::windows::local;
