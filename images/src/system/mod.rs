//! What differs between the systems on which images are built: one module for each, with the same functions.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::Socket;
#[cfg(unix)]
pub(crate) use unix::{connect, mode, mtime, set_mode, set_mode_of, symlink, sync_directory, sync_tree};
#[cfg(windows)]
pub use windows::Socket;
#[cfg(windows)]
pub(crate) use windows::{connect, mode, mtime, set_mode, set_mode_of, symlink, sync_directory, sync_tree};
