//! Linux, macOS and their kin: where things lie (XDG Base Directory Specification; FHS for root), and whose they are.

use crate::dirs::Dirs;
use crate::error::CliError;
use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// torbox's directories, where the system wants them.
pub(crate) fn dirs() -> Result<Dirs, CliError> {
    if nix::unistd::geteuid().is_root() {
        let path = |path: &str| PathBuf::from(path);
        return Ok(Dirs { data: path("/var/lib/torbox"), cache: path("/var/cache/torbox"), state: path("/var/lib/torbox/state"), runtime: path("/run/torbox"), config: path("/etc/torbox") });
    }
    let state = xdg("XDG_STATE_HOME", ".local/state")?;
    // Without a session there is no XDG_RUNTIME_DIR; sockets and locks then lie beside the state.
    let runtime = xdg("XDG_RUNTIME_DIR", ".local/state/torbox/run")?;
    Ok(Dirs { data: xdg("XDG_DATA_HOME", ".local/share")?, cache: xdg("XDG_CACHE_HOME", ".cache")?, state, runtime, config: xdg("XDG_CONFIG_HOME", ".config")? })
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

/// Makes a directory and those above it: a user's own alone.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    let mode = if nix::unistd::geteuid().is_root() { 0o755 } else { 0o700 };
    DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// Makes a directory that is not there, which the caller alone can enter.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Makes a file, which the caller alone can read.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}
