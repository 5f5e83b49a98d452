//! A process of torbox's own that joins a box once that runs, for one thing alone: `__asker`, `__speaker`. It is started before the box, because what
//! then supervises that can start nothing any more.

use crate::system;
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The process. Dropping it ends it.
pub(crate) struct Helper {
    process: Child,
    words: ChildStdin,
}

/// A container of the box that `launcher` holds: its process 1, as the box's runtime sees it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Inside {
    pub(crate) launcher: u32,
    pub(crate) process: u32,
}

impl Helper {
    /// Starts the one with this hidden subcommand; what it says comes out of the pipe.
    pub(crate) fn start(word: &str) -> io::Result<(Self, ChildStdout)> {
        let mut process = Command::new(system::program()?).arg(word).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (words, said) = process.stdin.take().zip(process.stdout.take()).ok_or(ErrorKind::BrokenPipe)?;
        Ok((Self { process, words }, said))
    }

    /// Tells it something, in a line.
    pub(crate) fn tell(&mut self, what: &impl Serialize) -> io::Result<()> {
        writeln!(self.words, "{}", serde_json::to_string(what)?)
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.try_wait().map_or(true, |ended| ended.is_some())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
