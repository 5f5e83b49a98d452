//! tor's control cookie (tor(1), CookieAuthFile): read when the gate starts, or later if tor is not there yet.
//! Its directory is opened once, so that no path is followed later; nothing else is ever read from it.

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const COOKIE_BYTES: usize = 32;

/// Why the cookie can never be read.
#[derive(Debug, thiserror::Error)]
pub enum CookieError {
    /// The path names no file in a directory.
    #[error("{0}: not the path of a file")]
    Path(PathBuf),
    /// The directory is not there.
    #[error("{0}: cannot be opened")]
    Directory(PathBuf, #[source] Errno),
}

enum State {
    /// Read when the gate started: nothing has to be opened any more.
    Known(Vec<u8>),
    /// tor had not written it yet.
    Awaited,
}

/// Where the cookie is, or what it is.
pub(crate) struct Cookie {
    directory: OwnedFd,
    name: OsString,
    state: State,
}

impl Cookie {
    pub(crate) fn open(path: &Path) -> Result<Self, CookieError> {
        let unusable = || CookieError::Path(path.to_owned());
        let name = path.file_name().ok_or_else(unusable)?.to_owned();
        let parent = path.parent().ok_or_else(unusable)?;
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let directory = open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| CookieError::Directory(parent.to_owned(), error))?;
        let mut cookie = Self { directory, name, state: State::Awaited };
        if let Some(bytes) = cookie.read() {
            cookie.state = State::Known(bytes);
        }
        Ok(cookie)
    }

    /// The directory that must stay readable, if the cookie has still to be read.
    pub(crate) fn awaited_in(&self) -> Option<&OwnedFd> {
        match self.state {
            State::Awaited => Some(&self.directory),
            State::Known(_) => None,
        }
    }

    /// The cookie, if it is there and complete.
    pub(crate) fn read(&self) -> Option<Vec<u8>> {
        match &self.state {
            State::Known(bytes) => Some(bytes.clone()),
            State::Awaited => self.read_file().ok().flatten(),
        }
    }

    fn read_file(&self) -> Result<Option<Vec<u8>>, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&self.directory, &self.name, flags, Mode::empty())?;
        let mut buffer = [0_u8; COOKIE_BYTES + 1];
        let count = rustix::io::read(&file, &mut buffer)?;
        Ok(buffer.get(..count).filter(|bytes| bytes.len() == COOKIE_BYTES).map(<[u8]>::to_vec))
    }
}
