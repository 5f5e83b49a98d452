//! Windows, whose files have no modes: who may read them is said by the directory of the user's that the store is in. Nothing is unpacked
//! to be run.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

/// Never one by a path.
pub use std::net::TcpStream as Socket;

/// Proxies listen at no sockets of other systems here.
pub(crate) fn connect(_: &Path) -> io::Result<Socket> {
    Err(io::ErrorKind::Unsupported.into())
}

/// There are none.
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(crate) fn set_mode(_: &Path, _: u32) -> io::Result<()> {
    Ok(())
}

/// There are none.
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(crate) fn set_mode_of(_: &File, _: u32) -> io::Result<()> {
    Ok(())
}

/// There is none.
pub(crate) fn mode(_: &Metadata) -> u32 {
    0
}

/// Nothing that was unpacked is looked at.
pub(crate) fn mtime(_: &Metadata) -> i64 {
    0
}

/// The root of a container is none on a file system without modes.
pub(crate) fn symlink(_: &str, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The file system keeps the order of what is renamed by itself.
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(crate) fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Nothing is unpacked.
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(crate) fn sync_tree(_: &Path) -> io::Result<()> {
    Ok(())
}
