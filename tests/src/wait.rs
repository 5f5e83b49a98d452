//! Waiting with a bound, on descriptors and on files that grow (poll(2), inotify(7)).

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

/// Waits until `fd` is readable; `false` when `deadline` passed first.
pub fn readable(fd: BorrowedFd<'_>, deadline: Instant) -> Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).context("deadline too far away")?;
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).context("poll"),
        }
    }
}

/// Calls `test` at once and after each change of `file`, until it answers `Some` or `deadline` passes.
pub fn on_change<T>(file: &Path, deadline: Instant, mut test: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let watch = watch(file)?;
    loop {
        if let Some(found) = test()? {
            return Ok(Some(found));
        }
        if !readable(watch.as_fd(), deadline)? {
            return Ok(None);
        }
        drain(&watch)?;
    }
}

fn watch(file: &Path) -> Result<OwnedFd> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).context("inotify_init1")?;
    let what = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::CLOSE_WRITE;
    inotify::add_watch(&fd, file, what).with_context(|| format!("cannot watch {}", file.display()))?;
    Ok(fd)
}

fn drain(watch: &OwnedFd) -> Result<()> {
    let mut events = [0_u8; 4096];
    match rustix::io::read(watch, &mut events) {
        Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno).context("inotify read"),
    }
}

/// Calls `test` every `pause` until it answers `Some` or `deadline` passes: for what has no event to wait for.
pub fn retry<T>(pause: Duration, deadline: Instant, mut test: impl FnMut() -> Option<T>) -> Option<T> {
    loop {
        if let Some(found) = test() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(pause);
    }
}

/// Reads a file that may not be there yet; empty then.
#[must_use]
pub fn text_so_far(file: &Path) -> String {
    fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
