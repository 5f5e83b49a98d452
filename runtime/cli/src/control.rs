//! The socket on which a running box answers its user: one word in, one line out (unix(7)).
//!
//! It lies in a directory of the user's own. It never says what is browsed.

use crate::dirs::{self, Dirs};
use crate::error::CliError;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use torbox_plan::BoxName;

/// How long the other side may take.
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_LINE: u64 = 4096;
/// How long the processes of a runtime that was killed may take to be gone.
const ENDING: Duration = Duration::from_secs(2);
/// How long sweeping one box may take.
const SWEEP: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(10);

/// What a running box says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// The box.
    pub(crate) name: BoxName,
    /// The process that holds it.
    pub(crate) pid: u32,
    /// tor's progress, in percent.
    pub(crate) bootstrap: u8,
    /// `wayland`, `x11` or `none`.
    pub(crate) display: String,
    /// The browser's recipe and version.
    pub(crate) browser: String,
    /// Whether the browser is one that makes its user anonymous.
    pub(crate) anonymous: bool,
}

/// The claim on a box's name: as long as it is held, no other process runs that box.
pub(crate) struct Claim {
    _lock: File,
    listener: UnixListener,
    left: Left,
}

/// What a box has on the host's file systems while it runs, and a killed one leaves there.
struct Left {
    name: BoxName,
    socket: PathBuf,
    scratch: PathBuf,
}

impl Left {
    fn of(dirs: &Dirs, name: &BoxName) -> Result<Self, CliError> {
        Ok(Self { name: name.clone(), socket: dirs.boxes()?.join(format!("{name}.sock")), scratch: dirs.scratch(name)? })
    }

    /// Removes it; to be called with the lock held. The socket goes last: while it is there, [`sweep`] finds the rest. The
    /// processes of a runtime that was killed may take `patience` to leave their control groups.
    fn remove(&self, patience: Duration) -> Result<(), CliError> {
        let deadline = Instant::now() + patience;
        loop {
            match torbox_backend::native::remove_left_cgroups(&self.name) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => std::thread::sleep(PAUSE),
                // Another installation of torbox runs a box of that name.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && !patience.is_zero() => break,
                other => break other.map_err(|source| CliError::System("remove the control groups of an earlier run", source))?,
            }
        }
        dirs::remove(&self.scratch)?;
        dirs::remove(&self.socket)
    }
}

/// Removes what killed runs have left. What cannot be removed yet, the next call removes.
pub(crate) fn sweep(dirs: &Dirs) -> Result<(), CliError> {
    for name in names(dirs)? {
        if let Ok(_lock) = lock(dirs, &name, Duration::ZERO) {
            Left::of(dirs, &name)?.remove(Duration::ZERO).ok();
        }
    }
    Ok(())
}

/// The boxes that run, or were killed.
pub(crate) fn names(dirs: &Dirs) -> Result<Vec<BoxName>, CliError> {
    let path = dirs.boxes_if_made();
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|source| CliError::Path { path, source })?,
    };
    let names = entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter_map(|file| BoxName::new(file.strip_suffix(".sock")?).ok()).collect())
}

fn lock(dirs: &Dirs, name: &BoxName, patience: Duration) -> Result<File, CliError> {
    let path = dirs.boxes()?.join(format!("{name}.lock"));
    let failed = |source| CliError::Path { path: path.clone(), source };
    let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    let deadline = Instant::now() + patience;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Err(CliError::Running(name.clone())),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
}

impl Claim {
    /// Claims `name`, and removes what a killed run of it has left.
    pub(crate) fn take(dirs: &Dirs, name: &BoxName) -> Result<Self, CliError> {
        // Another call may hold the lock for a moment, to sweep.
        let lock = lock(dirs, name, SWEEP)?;
        let left = Left::of(dirs, name)?;
        left.remove(ENDING)?;
        let failed = |source| CliError::Path { path: left.socket.clone(), source };
        let listener = UnixListener::bind(&left.socket).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        dirs::make(left.scratch.clone())?;
        Ok(Self { _lock: lock, listener, left })
    }

    /// Readable when someone asks.
    pub(crate) const fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Answers everyone who waits; whether one of them wants the box to end. A caller that goes away is no error.
    pub(crate) fn answer(&self, state: &State) -> bool {
        let mut stop = false;
        while let Ok((mut stream, _)) = self.listener.accept() {
            stop |= answer_one(&mut stream, state).unwrap_or(false);
        }
        stop
    }

    /// Gives the name up and removes what belongs to it.
    pub(crate) fn release(self) -> Result<(), CliError> {
        self.left.remove(ENDING)
    }
}

fn answer_one(stream: &mut UnixStream, state: &State) -> io::Result<bool> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    match read_line(stream)?.as_str() {
        "stop" => stream.write_all(b"stopping\n").map(|()| true),
        "status" => {
            serde_json::to_writer(&mut *stream, state)?;
            stream.write_all(b"\n").map(|()| false)
        }
        _ => stream.write_all(b"unknown\n").map(|()| false),
    }
}

fn read_line(stream: &UnixStream) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(MAX_LINE)).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// Asks box `name`; `None` if it does not run.
pub(crate) fn ask(dirs: &Dirs, name: &BoxName, word: &str) -> Result<Option<String>, CliError> {
    let socket = dirs.boxes()?.join(format!("{name}.sock"));
    let mut stream = match UnixStream::connect(&socket) {
        Ok(stream) => stream,
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind()) => return Ok(None),
        Err(source) => return Err(CliError::Path { path: socket, source }),
    };
    let mut talk = || -> io::Result<String> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{word}\n").as_bytes())?;
        read_line(&stream)
    };
    talk().map(Some).map_err(|_| CliError::NoAnswer)
}
