//! Where torbox keeps things (XDG Base Directory Specification; FHS for root).

use crate::error::CliError;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use torbox_plan::BoxName;

/// torbox's directories. Those that are used are made, mode 0700 for a user.
#[derive(Clone, Debug)]
pub(crate) struct Dirs {
    data: PathBuf,
    cache: PathBuf,
    state: PathBuf,
    runtime: PathBuf,
    config: PathBuf,
}

impl Dirs {
    /// Below `dir` if given, else where the system wants them.
    pub(crate) fn new(dir: Option<&Path>) -> Result<Self, CliError> {
        if let Some(dir) = dir {
            let dir = std::path::absolute(dir).map_err(|source| CliError::Path { path: dir.to_owned(), source })?;
            return Ok(Self { data: dir.join("data"), cache: dir.join("cache"), state: dir.join("state"), runtime: dir.join("run"), config: dir.join("config") });
        }
        if nix::unistd::geteuid().is_root() {
            let path = |path: &str| PathBuf::from(path);
            return Ok(Self { data: path("/var/lib/torbox"), cache: path("/var/cache/torbox"), state: path("/var/lib/torbox/state"), runtime: path("/run/torbox"), config: path("/etc/torbox") });
        }
        let state = xdg("XDG_STATE_HOME", ".local/state")?;
        // Without a session there is no XDG_RUNTIME_DIR; sockets and locks then lie beside the state.
        let runtime = xdg("XDG_RUNTIME_DIR", ".local/state/torbox/run")?;
        Ok(Self { data: xdg("XDG_DATA_HOME", ".local/share")?, cache: xdg("XDG_CACHE_HOME", ".cache")?, state, runtime, config: xdg("XDG_CONFIG_HOME", ".config")? })
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

    /// How the names of a box's control groups begin: with what tells this installation's boxes from those of all others on the
    /// machine, the device and inode of their directory (inode(7)).
    pub(crate) fn group(&self, name: &BoxName) -> Result<String, CliError> {
        let path = self.boxes()?;
        let found = fs::metadata(&path).map_err(|source| CliError::Path { path, source })?;
        Ok(format!("torbox-{:x}-{:x}-{name}", found.dev(), found.ino()))
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

fn xdg(variable: &'static str, fallback: &str) -> Result<PathBuf, CliError> {
    Ok(base(variable, fallback)?.join("torbox"))
}

/// A base directory, of which `torbox` is only a part.
fn base(variable: &'static str, fallback: &str) -> Result<PathBuf, CliError> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    if let Some(path) = std::env::var_os(variable).map(PathBuf::from).and_then(absolute) {
        return Ok(path);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).and_then(absolute).ok_or(CliError::NoDirectory("HOME"))?;
    Ok(home.join(fallback))
}

/// Where the desktop looks for a user's applications and icons; for root, those of everybody.
pub(crate) fn share() -> Result<PathBuf, CliError> {
    if nix::unistd::geteuid().is_root() { Ok(PathBuf::from("/usr/local/share")) } else { base("XDG_DATA_HOME", ".local/share") }
}

/// Makes a directory and those above it.
pub(crate) fn make(path: PathBuf) -> Result<PathBuf, CliError> {
    let mode = if nix::unistd::geteuid().is_root() { 0o755 } else { 0o700 };
    match DirBuilder::new().recursive(true).mode(mode).create(&path) {
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
