//! What ends a program that is process 1 of a container: a signal, or the end of its lifeline. signalfd(2).
//! It never installs a handler.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::io::Errno;

/// Readable when a signal asks for the end. As process 1 a program has no default action for any signal; read as events,
/// they need no handler either.
///
/// # Errors
/// What signalfd(2) says.
pub fn signals() -> Result<SignalFd, nix::errno::Errno> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

/// Whether the other end of standard input is gone; to be asked when it is readable. Whatever the parent writes is ignored.
#[must_use]
pub fn lifeline_is_over() -> bool {
    let mut ignored = [0_u8; 256];
    !matches!(rustix::io::read(rustix::stdio::stdin(), &mut ignored), Ok(1..) | Err(Errno::AGAIN | Errno::INTR))
}
