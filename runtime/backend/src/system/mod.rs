//! What differs between the systems on which torbox talks to engines: one module for each, with the same functions. What is the same
//! wherever there is no Linux is in `elsewhere`.
//!
//! Nothing of the native backend is here, which is Linux's alone.

#[cfg(not(target_os = "linux"))]
pub(crate) mod elsewhere;
#[cfg(target_os = "linux")]
pub(crate) mod linux;
#[cfg(unix)]
pub(crate) mod unix;
#[cfg(windows)]
pub(crate) mod windows;

#[cfg(not(target_os = "linux"))]
pub use elsewhere::Incoming;
#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::{give_back_memory, processes, program};
#[cfg(target_os = "linux")]
pub use linux::Incoming;
#[cfg(target_os = "linux")]
pub(crate) use linux::{give_back_memory, processes, program};
#[cfg(unix)]
pub use unix::Directory;
#[cfg(unix)]
pub(crate) use unix::{alone, connect, fill_random, has_pipe, is_trusted, kernel, owner};
#[cfg(windows)]
pub use windows::Directory;
#[cfg(windows)]
pub(crate) use windows::{alone, connect, fill_random, has_pipe, is_trusted, kernel, owner};
