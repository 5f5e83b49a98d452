//! What a browser of torbox's own box plays, out of a FIFO (fifo(7)) in its container: samples come out of it, and nothing goes the other way.
//!
//! This runs in a process of the user's that joins the user and mount namespace of the browser's container, as [`super::files`] does. No
//! process of the box can see it.

use super::files::{enter, take_on};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mknodat, openat2};
use rustix::io::Errno;
use rustix::pipe::fcntl_setpipe_size;
use std::fs::File;
use std::io;
use torbox_plan::{USER, paths};

/// What the FIFO holds, in bytes: 85 ms of what the image's `/etc/pulse/sound.pa` makes of all sound.
const HELD: usize = 16 << 10;

/// Moves the calling process, which must have one thread, to the browser of the box that `launcher` holds, and opens the FIFO that its sound comes out of;
/// `browser` is process 1 of its container as the box's runtime sees it. Afterwards the process is the browser's user, and no path of the host can be opened.
///
/// The FIFO never ends: it is also open for writing.
///
/// # Errors
/// The container cannot be joined, because it has ended or is somebody else's; or something else lies in the FIFO's place.
pub fn open_sound(launcher: u32, browser: u32) -> io::Result<File> {
    enter(launcher, browser)?;
    take_on(USER)?;
    // What mixes the box's sound makes it where it is not there yet.
    match mknodat(CWD, paths::SOUND.as_str(), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let fifo = openat2(CWD, paths::SOUND.as_str(), OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
    if FileType::from_raw_mode(fstat(&fifo)?.st_mode) != FileType::Fifo {
        return Err(io::Error::other("what lies in the place of the FIFO for its sound is none"));
    }
    fcntl_setpipe_size(&fifo, HELD)?;
    Ok(fifo.into())
}
