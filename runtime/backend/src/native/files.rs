//! The files of a box of torbox's own, which leave it and enter it without its doing.
//!
//! This runs in a process of the user's, which joins the user and mount namespace of the browser's container (setns(2)) and no other:
//! no process of the box can see it. What lies there was made by whoever took the browser over. Nothing of it is looked up
//! through a link (openat2(2)), nothing but a regular file is opened, and none is read beyond the size that its directory can hold.

use crate::files::{Directory, Download, Exchange, FilesError, limit, safe_name, write_new};
use nix::unistd::{Gid, Uid, setgid, setuid};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use torbox_plan::{BoxPath, paths};

/// The directories of a running box, from within its namespaces.
#[derive(Debug)]
pub struct Files {
    downloads: OwnedFd,
    uploads: Directory,
}

impl Files {
    /// Moves the calling process, which must have one thread, into the namespaces of the browser of the box that `launcher` holds; `browser`
    /// is process 1 of its container as the box's runtime sees it. Afterwards no path of the host can be opened.
    ///
    /// # Errors
    /// [`FilesError::Enter`]: there is no such process, or it is somebody else's.
    pub fn join(launcher: u32, browser: u32) -> Result<Self, FilesError> {
        enter(launcher, browser).map_err(|errno| FilesError::Enter(errno.into()))?;
        Ok(Self { downloads: place(paths::DOWNLOADS)?, uploads: place(paths::UPLOADS)?.into() })
    }

    /// None where it is gone by now.
    fn describe(&self, name: Vec<u8>) -> Option<Download> {
        let about = rustix::fs::statat(&self.downloads, name.as_slice(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(Download::new(name, about.st_mode, u64::try_from(about.st_size).unwrap_or(u64::MAX)))
    }
}

impl Exchange for Files {
    fn downloads(&self) -> Result<Vec<Download>, FilesError> {
        let failed = |errno: Errno| FilesError::at(paths::DOWNLOADS.as_str(), errno.into());
        let mut found = Vec::new();
        for entry in Dir::read_from(&self.downloads).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                found.extend(self.describe(name));
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn save(&self, download: &Download, to: &Directory) -> Result<String, FilesError> {
        download.allowed()?;
        let failed = |source: io::Error| FilesError::at(&download.safe_name, source);
        // NONBLOCK: it may have become a pipe by now, which nobody writes to.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from = openat2(&self.downloads, download.name.as_slice(), flags, Mode::empty(), BENEATH).map_err(|errno| failed(errno.into()))?;
        let about = fstat(&from).map_err(|errno| failed(errno.into()))?;
        if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
            return Err(download.refuse("no regular file"));
        }
        write_new(to, &download.safe_name, 0o600, |file| copy(&File::from(from), file).map_err(failed))
    }

    fn put(&self, from: &File, name: &str) -> Result<String, FilesError> {
        let failed = |source: io::Error| FilesError::at(name, source);
        // Whose the directory is.
        take_on(0).map_err(|errno| failed(errno.into()))?;
        write_new(&self.uploads, &safe_name(name), 0o644, |file| copy(from, file).map_err(failed))
    }
}

/// Moves the calling process, which must have one thread, into the user and mount namespace of process `inner`, as the runtime of the box sees it that
/// `launcher` holds.
pub(super) fn enter(launcher: u32, inner: u32) -> Result<(), Errno> {
    let process = find(launcher, inner).ok_or(Errno::SRCH)?;
    let id = i32::try_from(process).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let held = pidfd_open(id, PidfdFlags::empty())?;
    // It may have ended, and its number be another's: what is held now cannot change any more.
    if find(launcher, inner) != Some(process) {
        return Err(Errno::SRCH);
    }
    move_into_thread_name_spaces(held.as_fd(), ThreadNameSpaceType::USER | ThreadNameSpaceType::MOUNT)
}

/// Below the directory that it is given, and through nothing that leads elsewhere.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_XDEV);

/// At most [`limit`] bytes: more is an error.
fn copy(from: &File, to: &mut File) -> io::Result<()> {
    match io::copy(&mut from.take(limit() + 1), to)? {
        copied if copied > limit() => Err(io::Error::other("it is longer than it may be")),
        _ => Ok(()),
    }
}

/// Takes on user and group `id` of the joined container: the caller's own ids mean nothing to a file system of the box (user_namespaces(7)).
pub(super) fn take_on(id: u32) -> nix::Result<()> {
    setgid(Gid::from_raw(id))?;
    setuid(Uid::from_raw(id))
}

fn place(path: BoxPath) -> Result<OwnedFd, FilesError> {
    let opened = openat2(CWD, path.as_str(), OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    opened.map_err(|errno| FilesError::at(path.as_str(), errno.into()))
}

/// The process below `launcher` whose number is `inner` in the PID namespace next to the caller's (proc(5), `NSpid`).
fn find(launcher: u32, inner: u32) -> Option<u32> {
    let mut below = vec![launcher];
    while let Some(process) = below.pop() {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        if numbers.split_whitespace().nth(1) == Some(inner.to_string().as_str()) {
            return Some(process);
        }
        let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
        below.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    None
}
