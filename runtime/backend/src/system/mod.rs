//! What differs between the systems on which torbox talks to engines: one module for each, with the same functions.
//!
//! Nothing of the native backend is here, which is Linux's alone.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{connect, fill_random, give_back_memory, is_trusted, kernel, owner, processes};
#[cfg(windows)]
pub(crate) use windows::{connect, fill_random, give_back_memory, is_trusted, kernel, owner, processes};
