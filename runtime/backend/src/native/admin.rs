//! What the runtime asks of the gate, on the link that no container but the gate's has.
//!
//! The gate may have been taken over: its answer is one bounded line, awaited for a bounded time.

use super::enclose::link_dir;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use torbox_plan::{Link, paths};

/// How long the gate may take.
const PATIENCE: Duration = Duration::from_secs(2);
const MAX_ANSWER: usize = 128;

/// The gate did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminError {
    /// It could not be talked to.
    #[error("the gate cannot be reached")]
    Talk(#[source] io::Error),
    /// It answered something else than `ok`.
    #[error("the gate answered {0:?}")]
    Refused(String),
}

/// Ends every stream of the box, and gives those that follow circuits of their own.
pub(super) fn new_identity() -> Result<(), AdminError> {
    match ask("new-identity").map_err(AdminError::Talk)?.as_str() {
        "ok" => Ok(()),
        other => Err(AdminError::Refused(other.to_owned())),
    }
}

fn ask(word: &str) -> io::Result<String> {
    let name = paths::ADMIN.as_str().rsplit('/').next().unwrap_or_default();
    let mut stream = UnixStream::connect(link_dir(Link::Admin).join(name))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{word}\n").as_bytes())?;
    // One read: who sends a byte now and then must not hold the runtime up.
    let mut answer = [0; MAX_ANSWER];
    let count = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(answer.get(..count).unwrap_or_default()).trim_end().to_owned())
}
