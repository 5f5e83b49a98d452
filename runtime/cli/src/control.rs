//! The socket on which a running box answers its user: one word in, one line out (unix(7)).
//!
//! It lies in a directory of the user's own. It never says what is browsed.

use crate::dirs::{self, Dirs};
use crate::error::CliError;
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;
use torbox_plan::BoxName;

/// How long the other side may take.
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_LINE: u64 = 4096;

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
    socket: PathBuf,
    scratch: PathBuf,
}

impl Claim {
    /// Claims `name`, and removes what a killed run of it has left.
    pub(crate) fn take(dirs: &Dirs, name: &BoxName) -> Result<Self, CliError> {
        let directory = dirs.boxes()?;
        let path = directory.join(format!("{name}.lock"));
        let failed = |source| CliError::Path { path: path.clone(), source };
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CliError::Running(name.clone())),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        torbox_backend::native::remove_left_cgroups(name).map_err(|source| CliError::System("remove the control groups of an earlier run", source))?;
        let socket = directory.join(format!("{name}.sock"));
        dirs::remove(&socket)?;
        let listener = UnixListener::bind(&socket).map_err(|source| CliError::Path { path: socket.clone(), source })?;
        listener.set_nonblocking(true).map_err(|source| CliError::Path { path: socket.clone(), source })?;
        Ok(Self { _lock: lock, listener, socket, scratch: dirs::make(dirs.scratch(name)?)? })
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
        dirs::remove(&self.socket)?;
        dirs::remove(&self.scratch)
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

/// A connection to a running box.
pub(crate) struct Asked(UnixStream);

/// Asks box `name`; `None` if it does not run.
pub(crate) fn ask(dirs: &Dirs, name: &BoxName, word: &str) -> Result<Option<(String, Asked)>, CliError> {
    let socket = dirs.boxes()?.join(format!("{name}.sock"));
    let mut stream = match UnixStream::connect(&socket) {
        Ok(stream) => stream,
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind()) => return Ok(None),
        Err(source) => return Err(CliError::Path { path: socket, source }),
    };
    let talk = || -> io::Result<String> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{word}\n").as_bytes())?;
        read_line(&stream)
    };
    let answer = { talk }().map_err(|_| CliError::NoAnswer)?;
    Ok(Some((answer, Asked(stream))))
}
