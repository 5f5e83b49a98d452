//! Linux, macOS and their kin.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

pub(crate) use std::os::unix::fs::symlink;
/// A connection to a socket of this machine (unix(7)).
pub use std::os::unix::net::UnixStream as Socket;

/// Connects to the one at `path`.
pub(crate) fn connect(path: &Path) -> io::Result<Socket> {
    Socket::connect(path)
}

/// What may be done with it, as for chmod(2).
pub(crate) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// The same for an open file.
pub(crate) fn set_mode_of(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode))
}

/// Type and mode (inode(7)).
pub(crate) fn mode(metadata: &Metadata) -> u32 {
    metadata.mode()
}

/// When it was changed, in seconds since 1970.
pub(crate) fn mtime(metadata: &Metadata) -> i64 {
    metadata.mtime()
}

/// What was renamed in it stays so after a crash.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// One call for the whole file system instead of one for each of thousands of files.
#[cfg(target_os = "linux")]
pub(crate) fn sync_tree(root: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(root)?)?)
}

/// Nothing runs on what is unpacked here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn sync_tree(root: &Path) -> io::Result<()> {
    sync_directory(root)
}
