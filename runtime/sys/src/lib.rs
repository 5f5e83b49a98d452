//! The unsafe code of torbox: one file per man page, nothing but the call, each with why no safe crate has it.
//!
//! It holds no policy and keeps no state.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod attempt;
mod close_range;
#[cfg(target_arch = "x86_64")]
mod i386;
mod memory;
mod seccomp;

pub use attempt::{ARGUMENTS, ATTEMPTS, Attempt, CODE, IOCTLS};
pub use close_range::close_on_exec;
#[cfg(target_arch = "x86_64")]
pub use i386::getpid_answers;
pub use memory::give_back_memory;
pub use seccomp::{Filter, install};
