//! macOS, and what else has modes and users and is no Linux.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What opens a file for its user, where no variable names another.
pub(crate) const EDITOR: &str = "nano";

/// What ends programs: Ctrl-C, and the end of the terminal or of the session (signal(3)).
pub(crate) struct Endings([Signal; 3]);

impl Endings {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    /// Waits for the next.
    pub(crate) async fn next(&mut self) -> Option<()> {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            ended = interrupt.recv() => ended,
            ended = terminate.recv() => ended,
            ended = hangup.recv() => ended,
        }
    }
}
