//! Linux, macOS and their kin.

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawMode, openat, unlinkat};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use tokio::io::{AsyncRead, AsyncWrite};

/// Release of the kernel (uname(2)).
pub(crate) fn kernel() -> Option<String> {
    Some(nix::sys::utsname::uname().ok()?.release().to_str()?.to_owned())
}

/// Whose the file is.
pub(crate) fn owner(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|metadata| metadata.uid())
}

/// The caller's own and root's: whoever else made it could look into every box.
pub(crate) fn is_trusted(path: &Path) -> bool {
    owner(path).is_some_and(|owner| [0, nix::unistd::geteuid().as_raw()].contains(&owner))
}

/// There are no pipes with names that are no files.
pub(crate) const fn has_pipe(_: &str) -> bool {
    false
}

/// Both ends of a socket of this machine (unix(7)): what is read, what is written.
pub(crate) async fn connect(socket: &Path) -> io::Result<(impl AsyncRead + use<>, impl AsyncWrite + use<>)> {
    tokio::net::UnixStream::connect(socket).await.map(tokio::net::UnixStream::into_split)
}

/// From the kernel's random source (random(4)).
pub(crate) fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    File::open("/dev/urandom")?.read_exact(bytes)
}

/// A process group and an environment of its own: the terminal's Ctrl-C does not reach it.
pub(crate) fn alone(command: &mut Command) -> &mut Command {
    command.env_clear().process_group(0)
}

/// Sockets that the user of this machine alone can use: those that lie in a directory which nobody else can enter (unix(7)).
pub mod local {
    use std::io;
    pub use std::os::unix::net::{UnixListener as Listener, UnixStream as Stream};
    use std::path::Path;

    /// Listens at `path`.
    ///
    /// # Errors
    /// It cannot.
    pub fn bind(path: &Path) -> io::Result<Listener> {
        Listener::bind(path)
    }

    /// Connects to who listens at `path`.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] and [`io::ErrorKind::ConnectionRefused`] where nobody does.
    pub fn connect(path: &Path) -> io::Result<Stream> {
        Stream::connect(path)
    }
}

/// An open directory: what is made in it is made there, wherever its path leads by then.
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl Directory {
    /// Opens it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let opened = openat(CWD, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        Ok(Self(opened?))
    }

    /// Makes a file that is not there yet.
    pub(crate) fn create_new(&self, name: &str, mode: u32) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.0, name, flags, Mode::from_raw_mode(mode as RawMode))?.into())
    }

    /// Removes a file.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.0, name, AtFlags::empty())?)
    }
}

impl From<OwnedFd> for Directory {
    fn from(directory: OwnedFd) -> Self {
        Self(directory)
    }
}
