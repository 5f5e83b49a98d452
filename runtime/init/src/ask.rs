//! `init ask SOCKET WORD`: says WORD to the program that listens on SOCKET (unix(7)), and prints its answer.
//!
//! An engine's links can be reached from the engine's containers alone. It never reads more than one bounded line, and never
//! waits without a bound.

use crate::error::Error;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);
const MAX_ANSWER: usize = 128;

pub(crate) fn ask(socket: &str, word: &str) -> Result<(), Error> {
    let answer = answer(socket, word).map_err(|error| Error::Ask(socket.to_owned(), error))?;
    io::stdout().write_all(&answer).map_err(Error::Report)
}

fn answer(socket: &str, word: &str) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{word}\n").as_bytes())?;
    // One read: who sends a byte now and then must not hold the runtime up.
    let mut answer = vec![0; MAX_ANSWER];
    let count = stream.read(&mut answer)?;
    answer.truncate(count);
    Ok(answer)
}
