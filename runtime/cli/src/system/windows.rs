//! Windows: everything lies below one directory of the user's profile, which the system keeps from other users, and is as private as that.

use crate::dirs::Dirs;
use crate::error::CliError;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use tokio::signal::windows::{CtrlBreak, CtrlC, CtrlClose, ctrl_break, ctrl_c, ctrl_close};

/// What opens a file for its user, where no variable names another.
pub(crate) const EDITOR: &str = "notepad";

/// What ends programs: Ctrl-C, and the end of the console. After that the system leaves them a few seconds.
pub(crate) struct Endings(CtrlC, CtrlBreak, CtrlClose);

impl Endings {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(ctrl_c()?, ctrl_break()?, ctrl_close()?))
    }

    /// Waits for the next.
    pub(crate) async fn next(&mut self) -> Option<()> {
        tokio::select! {
            ended = self.0.recv() => ended,
            ended = self.1.recv() => ended,
            ended = self.2.recv() => ended,
        }
    }
}

/// torbox's directories, where the system wants them.
pub(crate) fn dirs() -> Result<Dirs, CliError> {
    const BASE: &str = "LOCALAPPDATA";
    let base = std::env::var_os(BASE).map(PathBuf::from).filter(|path| path.is_absolute());
    Ok(Dirs::below(&base.ok_or(CliError::NoDirectory(BASE))?.join("torbox")))
}

/// There are no entries for applications here.
pub(crate) fn share() -> Result<PathBuf, CliError> {
    Err(CliError::NoDirectory("XDG_DATA_HOME"))
}

/// Makes a directory and those above it.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Makes a directory that is not there, in one of the caller's own.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    fs::create_dir(path)
}

/// Makes a file, in a directory of the caller's own.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    options
}
