//! Windows, where engines listen on named pipes and their kernel is never this machine's.

use std::io;
use std::path::Path;

/// No engine runs on this kernel.
pub(crate) fn kernel() -> Option<String> {
    None
}

/// There is no such limit.
pub(crate) fn processes() -> Option<u64> {
    None
}

/// Pipes are no files, and have no user.
pub(crate) fn owner(_: &Path) -> Option<u32> {
    None
}

/// Sockets of other systems' products are not used here.
pub(crate) fn is_trusted(_: &Path) -> bool {
    false
}

/// What serves a page listens at no socket here.
pub(crate) async fn connect(_: &Path) -> io::Result<(tokio::io::Empty, tokio::io::Sink)> {
    Err(io::ErrorKind::Unsupported.into())
}

/// From the system's random source.
pub(crate) fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(io::Error::other)
}

/// The system does it by itself.
pub(crate) fn give_back_memory() {}
