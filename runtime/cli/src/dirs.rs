//! Where torbox keeps things: below a directory that it was given, or where the system wants them (`system`).

use crate::error::CliError;
use crate::system;
use std::fs;
use std::path::{Path, PathBuf};
use torbox_plan::BoxName;

/// torbox's directories. Those that are used are made, mode 0700 for a user.
#[derive(Clone, Debug)]
pub(crate) struct Dirs {
    pub(crate) data: PathBuf,
    pub(crate) cache: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) runtime: PathBuf,
    pub(crate) config: PathBuf,
}

impl Dirs {
    /// Below `dir` if given, else where the system wants them.
    pub(crate) fn new(dir: Option<&Path>) -> Result<Self, CliError> {
        let Some(dir) = dir else { return system::dirs() };
        std::path::absolute(dir).map(|dir| Self::below(&dir)).map_err(|source| CliError::Path { path: dir.to_owned(), source })
    }

    /// All of them below one.
    pub(crate) fn below(dir: &Path) -> Self {
        Self { data: dir.join("data"), cache: dir.join("cache"), state: dir.join("state"), runtime: dir.join("run"), config: dir.join("config") }
    }

    /// The image store.
    pub(crate) fn store(&self) -> Result<PathBuf, CliError> {
        make(self.data.join("images"))
    }

    /// Downloads.
    pub(crate) fn cache(&self) -> Result<PathBuf, CliError> {
        make(self.cache.clone())
    }

    /// The file of settings, which need not be there.
    pub(crate) fn settings(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// The settings of a profile, which need not be there. The runtime of a box, which writes what a profile keeps, never sees them.
    pub(crate) fn settings_of(&self, profile: &BoxName) -> PathBuf {
        self.config.join("profiles").join(format!("{profile}.toml"))
    }

    /// The user's bridges, which need not be there.
    pub(crate) fn bridges(&self) -> PathBuf {
        self.config.join("bridges")
    }

    /// tor's state of a box, kept between runs.
    pub(crate) fn tor_state(&self, name: &BoxName) -> Result<PathBuf, CliError> {
        make(self.state.join("boxes").join(name.as_str()).join("tor"))
    }

    /// What is kept of a profile. It is there as long as the profile is.
    pub(crate) fn profile(&self, name: &BoxName) -> PathBuf {
        self.profiles().join(name.as_str())
    }

    /// All profiles.
    pub(crate) fn profiles(&self) -> PathBuf {
        self.state.join("profiles")
    }

    /// All that is kept of the box `name` besides: tor's guards.
    pub(crate) fn kept(&self, name: &BoxName) -> PathBuf {
        self.state.join("boxes").join(name.as_str())
    }

    /// Sockets and locks of boxes that run.
    pub(crate) fn boxes(&self) -> Result<PathBuf, CliError> {
        make(self.boxes_if_made())
    }

    /// The same, which is not there before the first box.
    pub(crate) fn boxes_if_made(&self) -> PathBuf {
        self.runtime.join("boxes")
    }

    /// How the names of a box's control groups begin.
    pub(crate) fn group(&self, name: &BoxName) -> Result<String, CliError> {
        let path = self.boxes()?;
        system::group(&path, name).map_err(|source| CliError::Path { path, source })
    }

    /// Where the empty directory is over which the runtime of a box mounts its root; whoever claims the box makes it.
    pub(crate) fn scratch(&self, name: &BoxName) -> Result<PathBuf, CliError> {
        Ok(self.boxes()?.join(format!("{name}.root")))
    }

    /// Where what is made of a display for a box lies; whoever opens the display makes it.
    pub(crate) fn display(&self, name: &BoxName) -> Result<PathBuf, CliError> {
        Ok(self.boxes()?.join(format!("{name}.display")))
    }
}

/// Makes a directory and those above it.
pub(crate) fn make(path: PathBuf) -> Result<PathBuf, CliError> {
    match system::make_directory(&path) {
        Ok(()) => Ok(path),
        Err(source) => Err(CliError::Path { path, source }),
    }
}

/// Removes `path`, which may not be there.
pub(crate) fn remove(path: &Path) -> Result<(), CliError> {
    let removed = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
    match removed {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(CliError::Path { path: path.to_owned(), source }),
        _ => Ok(()),
    }
}
