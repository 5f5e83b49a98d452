//! Linux, where torbox also makes boxes itself.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::ChildStdout;
use std::time::Duration;

pub(crate) use torbox_sys::give_back_memory;

/// How many processes this user may have (getrlimit(2)); asked where engines run on this kernel.
pub(crate) fn processes() -> Option<u64> {
    nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NPROC).ok().map(|(_, hard)| hard)
}

/// This program, also when another has taken its place on disk.
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(crate) fn program() -> io::Result<PathBuf> {
    Ok(PathBuf::from("/proc/self/exe"))
}

/// What a process of torbox's own says, as it comes.
pub struct Incoming(ChildStdout);

impl Incoming {
    /// Of a process that was just started.
    pub(crate) fn new(said: ChildStdout) -> Self {
        Self(said)
    }

    /// The next of it; nothing at its end. Waits for as long as `patience`, and then says [`ErrorKind::TimedOut`].
    pub(crate) fn read(&mut self, patience: Duration) -> io::Result<Vec<u8>> {
        loop {
            if poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], bound(patience)) == Ok(0) {
                return Err(ErrorKind::TimedOut.into());
            }
            let mut buffer = vec![0; 4096];
            match self.0.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                count => {
                    buffer.truncate(count?);
                    return Ok(buffer);
                }
            }
        }
    }

    /// Whether all that could say something ends within `patience`.
    pub(crate) fn ends(&self, patience: Duration) -> bool {
        matches!(poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::empty())], bound(patience)), Ok(1))
    }
}

impl AsFd for Incoming {
    /// Readable when there is something, or its end.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn bound(patience: Duration) -> PollTimeout {
    PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX)
}
