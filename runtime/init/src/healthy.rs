//! `init healthy listens SOCKET` and `init healthy tor SOCKET COOKIE`: what an engine runs beside a program to know that it does its
//! work. The first connects; the second asks tor on its control port (control-spec, "GETINFO") whether it is connected to the network.
//!
//! It waits for no answer without a bound, and prints tor's progress and nothing else of it.

use crate::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(4);
const MAX_ANSWER: u64 = 4096;
/// tor's answer when it can be used.
const DONE: &str = "PROGRESS=100 ";

/// How far tor is.
pub(crate) enum Phase {
    /// It can be used.
    Connected,
    /// In tor's words.
    Connecting(String),
}

pub(crate) fn listens(socket: &str) -> Result<(), Error> {
    UnixStream::connect(socket).map(drop).map_err(|error| Error::Ask(socket.to_owned(), error))
}

pub(crate) fn tor(socket: &str, cookie: &str) -> Result<Phase, Error> {
    let phase = bootstrap_phase(socket, cookie).map_err(|error| Error::Ask(socket.to_owned(), error))?;
    Ok(if phase.contains(DONE) { Phase::Connected } else { Phase::Connecting(phase) })
}

/// The exit code of `init healthy tor`.
pub(crate) fn print(phase: &Phase) -> u8 {
    match phase {
        Phase::Connected => {
            println!("connected");
            0
        }
        Phase::Connecting(phase) => {
            println!("{phase}");
            1
        }
    }
}

fn bootstrap_phase(socket: &str, cookie: &str) -> io::Result<String> {
    let cookie: String = std::fs::read(cookie)?.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("AUTHENTICATE {cookie}\r\nGETINFO status/bootstrap-phase\r\nQUIT\r\n").as_bytes())?;
    let lines = BufReader::new(stream.take(MAX_ANSWER)).lines();
    let phase = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("250-status/bootstrap-phase=").map(str::to_owned));
    phase.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
