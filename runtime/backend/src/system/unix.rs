//! Linux, macOS and their kin.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

/// Release of the kernel (uname(2)).
pub(crate) fn kernel() -> Option<String> {
    Some(nix::sys::utsname::uname().ok()?.release().to_str()?.to_owned())
}

/// How many processes this user may have (getrlimit(2)); asked where engines run on this kernel.
pub(crate) fn processes() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NPROC).ok().map(|(_, hard)| hard);
    #[cfg(not(target_os = "linux"))]
    None
}

/// Whose the file is.
pub(crate) fn owner(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|metadata| metadata.uid())
}

/// The caller's own and root's: whoever else made it could look into every box.
pub(crate) fn is_trusted(path: &Path) -> bool {
    owner(path).is_some_and(|owner| [0, nix::unistd::geteuid().as_raw()].contains(&owner))
}

/// Both ends of a socket of this machine (unix(7)): what is read, what is written.
pub(crate) async fn connect(socket: &Path) -> io::Result<(impl AsyncRead + use<>, impl AsyncWrite + use<>)> {
    UnixStream::connect(socket).await.map(UnixStream::into_split)
}

/// From the kernel's random source (random(4)).
pub(crate) fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    File::open("/dev/urandom")?.read_exact(bytes)
}

/// What a launch needed and supervising does not.
pub(crate) fn give_back_memory() {
    #[cfg(target_os = "linux")]
    torbox_sys::give_back_memory();
}
