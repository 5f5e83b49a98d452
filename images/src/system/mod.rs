//! What differs between the systems on which images are built: one module for each, with the same functions.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{Socket, connect, mode, mtime, set_mode, set_mode_of, symlink, sync_directory, sync_tree};
#[cfg(windows)]
pub(crate) use windows::{Socket, connect, mode, mtime, set_mode, set_mode_of, symlink, sync_directory, sync_tree};
