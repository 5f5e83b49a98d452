//! The unsafe code of torbox: one file per man page, nothing but the call, each with why no safe crate has it.
//!
//! It holds no policy and keeps no state.

mod seccomp;

pub use seccomp::{Filter, install};
