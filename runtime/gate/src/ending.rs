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

/// What the parent wrote to standard input, to be asked for when it is readable; none if the other end is gone.
#[must_use]
pub fn lifeline() -> Option<Vec<u8>> {
    let mut said = vec![0; 256];
    match rustix::io::read(rustix::stdio::stdin(), said.as_mut_slice()) {
        Ok(count @ 1..) => said.truncate(count),
        Err(Errno::AGAIN | Errno::INTR) => said.clear(),
        Ok(0) | Err(_) => return None,
    }
    Some(said)
}
