//! What differs between the systems that torbox runs on: one module for each, with the same functions. What is the same wherever there is
//! no Linux is in `elsewhere`, what is the same wherever files have modes in `unix`.

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(all(unix, not(target_os = "linux")))]
mod macos;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::*;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;
#[cfg(all(unix, not(target_os = "linux")))]
pub(crate) use macos::*;
#[cfg(unix)]
pub(crate) use unix::*;
#[cfg(windows)]
pub(crate) use windows::*;

/// What there is to see to. Whatever it says may be seen to without waiting for it.
pub(crate) struct Woken {
    pub(crate) event: bool,
    pub(crate) control: bool,
    pub(crate) signal: bool,
}
