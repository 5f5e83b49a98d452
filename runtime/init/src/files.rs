//! `init downloads`, `init send NAME` and `init receive NAME LENGTH`: how an engine's box hands its user's files out and takes them in, where
//! nobody can join its namespaces.
//!
//! They run beside the browser, under its profile, because the runtime asks the engine for them. Nobody believes what they say: whoever took the browser
//! over can say it as well. NAME is a name and never a path. Nothing but a regular file is sent, none through a link, and nothing is written over.

use crate::error::Error;
use nix::errno::Errno;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, statat, unlinkat};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use torbox_plan::{BoxPath, Handed, paths};

fn place(path: BoxPath) -> Result<OwnedFd, Error> {
    let opened = openat(CWD, path.as_str(), OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    opened.map_err(|errno| Error::Ask(path.as_str().to_owned(), errno.into()))
}

/// Prints what was downloaded, a [`Handed`] a line.
pub(crate) fn list() -> Result<(), Error> {
    let failed = |errno: rustix::io::Errno| Error::Ask(paths::DOWNLOADS.as_str().to_owned(), errno.into());
    let directory = place(paths::DOWNLOADS)?;
    let mut out = io::stdout().lock();
    for entry in Dir::read_from(&directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_bytes().to_vec();
        // What is gone by now is not there.
        let Ok(about) = statat(&directory, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if name != b"." && name != b".." {
            let handed = Handed { name, mode: about.st_mode, size: u64::try_from(about.st_size).unwrap_or(u64::MAX) };
            writeln!(out, "{handed}").map_err(Error::Report)?;
        }
    }
    Ok(())
}

/// Writes a download to standard output: its length in a line, then so many bytes.
pub(crate) fn send(name: &str) -> Result<(), Error> {
    let name = Handed::name(name).ok_or(Error::Usage)?;
    let failed = |error: io::Error| Error::Ask(paths::DOWNLOADS.as_str().to_owned(), error);
    // NONBLOCK: it may be a pipe, which nobody writes to.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = openat(place(paths::DOWNLOADS)?, name.as_slice(), flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let about = fstat(&opened).map_err(|errno| failed(errno.into()))?;
    if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
        return Err(failed(io::Error::other("no regular file")));
    }
    let length = u64::try_from(about.st_size).unwrap_or_default();
    let mut out = io::stdout().lock();
    writeln!(out, "{length}").map_err(Error::Report)?;
    io::copy(&mut File::from(opened).take(length), &mut out).map(drop).map_err(Error::Report)
}

/// Says [`Handed::READY`], takes `length` bytes from standard input into a new file, and says [`Handed::DONE`]; [`Handed::TAKEN`] alone where there is a file of that name.
pub(crate) fn receive(name: &str, length: &str) -> Result<(), Error> {
    let (name, length) = Handed::name(name).zip(length.parse().ok()).ok_or(Error::Usage)?;
    let failed = |error: io::Error| Error::Supply(paths::UPLOADS.as_str().to_owned(), error);
    let directory = place(paths::UPLOADS)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match openat(&directory, name.as_slice(), flags, Mode::from_raw_mode(0o644)) {
        Err(rustix::io::Errno::EXIST) => return say(Handed::TAKEN),
        other => other.map_err(|errno| failed(errno.into()))?,
    };
    say(Handed::READY)?;
    let taken = io::copy(&mut io::stdin().lock().take(length), &mut File::from(file));
    match taken {
        Ok(taken) if taken == length => say(Handed::DONE),
        other => {
            unlinkat(&directory, name.as_slice(), AtFlags::empty()).map_err(|errno| failed(errno.into()))?;
            Err(failed(other.err().unwrap_or_else(|| Errno::EPIPE.into())))
        }
    }
}

fn say(word: &str) -> Result<(), Error> {
    writeln!(io::stdout(), "{word}").map_err(Error::Report)
}
