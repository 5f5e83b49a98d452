//! `init alone [STEP ...] -- PROGRAM [ARG ...]`: what a container begins with that nobody but an engine starts, as from a compose file.
//!
//! Each step does what torbox would have done: `--await SOCKET` waits until another container listens there, `--bootstrapped SOCKET
//! COOKIE` until tor is connected to the network, `--text PATH TEXT` writes a file, `--cookie PATH VARIABLE` one for an X server,
//! `--secret PATH` writes 64 random hexadecimal digits, and `--copy FROM TO` copies a file. Then PROGRAM takes init's place.
//!
//! It waits for nothing without a bound, starts nothing if a step fails, and hands on no variable that it was told for itself.

use crate::error::Error;
use crate::healthy::{self, Phase};
use crate::hold::become_program;
use nix::errno::Errno;
use nix::poll::poll;
use nix::unistd::close;
use rustix::event::epoll;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{IntoRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

/// How long the other containers may take to start, and tor to connect.
const PATIENCE: Duration = Duration::from_secs(300);
/// An engine tells nobody when another container is ready: there is no descriptor to wait on. Milliseconds.
const PAUSE: u8 = 50;
const STDIN: RawFd = 0;
const MAX_FILE: u64 = 1 << 20;
/// The method of the cookies that xauth(1) makes.
const METHOD: &[u8] = b"MIT-MAGIC-COOKIE-1\n";

/// Does every step of `words` and becomes the program behind them: returns only if that fails.
pub(crate) fn alone(words: &[&str]) -> Result<u8, Error> {
    let mut rest = words;
    let mut own = Vec::new();
    loop {
        rest = match rest {
            ["--await", socket, rest @ ..] => wait(socket, || healthy::listens(socket)).map(|()| rest)?,
            ["--bootstrapped", socket, cookie, rest @ ..] => wait(socket, || connected(socket, cookie)).map(|()| rest)?,
            ["--text", path, text, rest @ ..] => write(path, text.as_bytes()).map(|()| rest)?,
            ["--cookie", path, variable, rest @ ..] => {
                own.push(*variable);
                write(path, &cookie(variable)?).map(|()| rest)?
            }
            ["--secret", path, rest @ ..] => secret(path).map(|()| rest)?,
            ["--copy", from, to, rest @ ..] => copy(from, to).map(|()| rest)?,
            ["--", program, arguments @ ..] => {
                without_lifeline()?;
                return Err(become_program(program, arguments, &own));
            }
            _ => return Err(Error::Usage),
        }
    }
}

/// Nobody holds a lifeline here, and what engines give for standard input may be at its end: an epoll instance in its place has none.
/// dup2(2) is not for every role, but the lowest free number is taken.
fn without_lifeline() -> Result<(), Error> {
    close(STDIN).map_err(|errno| Error::System("close", errno))?;
    let endless = epoll::create(epoll::CreateFlags::empty()).map_err(|errno| Error::System("epoll_create1", Errno::from_raw(errno.raw_os_error())))?;
    if endless.into_raw_fd() == STDIN { Ok(()) } else { Err(Error::System("epoll_create1", Errno::EMFILE)) }
}

/// Tries until it works. The last failure says what is wrong.
fn wait(what: &str, mut attempt: impl FnMut() -> Result<(), Error>) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(Error::Absent(what.to_owned(), PATIENCE.as_secs(), Box::new(error))),
            Err(_) => pause()?,
        }
    }
}

/// clock_nanosleep(2), with which the library sleeps, is not for every role; poll(2) is.
fn pause() -> Result<(), Error> {
    match poll(&mut [], PAUSE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(Error::System("poll", errno)),
    }
}

fn connected(socket: &str, cookie: &str) -> Result<(), Error> {
    match healthy::tor(socket, cookie)? {
        Phase::Connected => Ok(()),
        Phase::Connecting(phase) => Err(Error::Connecting(phase)),
    }
}

/// The program's user alone can read it, as whom init runs.
fn write(path: &str, bytes: &[u8]) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).map_err(|error| Error::Supply(path.to_owned(), error))
}

fn cookie(variable: &str) -> Result<Vec<u8>, Error> {
    let digits = std::env::var(variable).unwrap_or_default();
    let data = bytes(digits.trim()).filter(|data| !data.is_empty()).ok_or_else(|| Error::Variable(variable.to_owned()))?;
    Ok([METHOD, &data].concat())
}

/// Pairs of hexadecimal digits.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digits.as_bytes().chunks(2).map(|pair| if let [high, low] = pair { Some(digit(high)? << 4 | digit(low)?) } else { None }).collect()
}

/// Whoever copies it waits first until the program listens that this init becomes.
fn secret(path: &str) -> Result<(), Error> {
    let mut random = [0; 32];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random)).map_err(|error| Error::Ask("/dev/urandom".to_owned(), error))?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    write(path, digits.as_bytes())
}

fn copy(from: &str, to: &str) -> Result<(), Error> {
    let mut contents = Vec::new();
    let read = File::open(from).and_then(|file| file.take(MAX_FILE).read_to_end(&mut contents));
    read.map_err(|error| Error::Ask(from.to_owned(), error))?;
    write(to, &contents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn pairs_of_hexadecimal_digits_are_bytes_and_nothing_else_is() {
        assert_eq!(bytes("00ff7a"), Some(vec![0, 0xff, 0x7a]));
        assert_eq!(bytes(""), Some(Vec::new()));
        for wrong in ["0", "0g", "00f", "+1", "é"] {
            assert!(bytes(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_made_anew_each_time_and_copied() {
        let dir = std::env::temp_dir().join(format!("torbox-init-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let [made, copied] = ["made", "copied"].map(|name| dir.join(name).display().to_string());
        secret(&made).unwrap();
        let first = fs::read_to_string(&made).unwrap();
        secret(&made).unwrap();
        copy(&made, &copied).unwrap();
        let second = fs::read_to_string(&copied).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert!(first.len() == 64 && first.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(first, second);
    }
}
