//! tor's SOCKS socket of a box of torbox's own, for a question of torbox's own: no browser is asked, and no other way out is taken.
//!
//! This runs in a process of the user's that joins the user and mount namespace of tor's container, as [`super::files`] does with the browser's. No
//! process of the box can see it.

use super::files::{enter, take_on};
use nix::errno::Errno;
use std::io;
use std::os::unix::net::UnixStream;
use torbox_plan::{USER, paths};

/// tor cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// Its container cannot be joined: it has ended, or is somebody else's.
    #[error("tor's container cannot be joined")]
    Enter(#[source] io::Error),
    /// tor's user cannot be taken on, whose the socket's directory is.
    #[error("tor's user cannot be taken on")]
    User(#[source] Errno),
    /// It takes no connection.
    #[error("tor takes no connection")]
    Connect(#[source] io::Error),
}

/// Moves the calling process, which must have one thread, to the tor of the box that `launcher` holds, and connects to its SOCKS socket; `tor` is
/// process 1 of its container as the box's runtime sees it. Afterwards the process is tor's user, and no path of the host can be opened.
///
/// # Errors
/// [`ReachError`].
pub fn reach_tor(launcher: u32, tor: u32) -> Result<UnixStream, ReachError> {
    enter(launcher, tor).map_err(|errno| ReachError::Enter(errno.into()))?;
    take_on(USER).map_err(ReachError::User)?;
    UnixStream::connect(paths::TOR_SOCKS.as_str()).map_err(ReachError::Connect)
}
