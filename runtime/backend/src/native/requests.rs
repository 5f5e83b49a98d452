//! What `__inner` is asked on its standard input: a launch first, then one word a line. The end of the pipe is the request to end.
//!
//! It never believes a longer line than the launch may have, and never waits for one but for the launch.

use super::launch::Launch;
use crate::protocol::Request;
use std::io::{self, Stdin};

/// No line is longer.
const MAX_LINE: usize = 4 << 20;
const READ: usize = 4096;

/// The request pipe and what of it was read ahead.
pub(super) struct Requests {
    stdin: Stdin,
    held: Vec<u8>,
}

/// What one look at the pipe found.
pub(super) enum Asked {
    /// Requests, in order; none if a line is not yet complete.
    Requests(Vec<Request>),
    /// The other side is gone, or says what is not understood.
    Closed,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self { stdin: io::stdin(), held: Vec::new() }
    }

    /// The pipe, readable when there is a request.
    pub(super) const fn pipe(&self) -> &Stdin {
        &self.stdin
    }

    /// Waits for the launch, the first line.
    pub(super) fn launch(&mut self) -> io::Result<Launch> {
        loop {
            if let Some(line) = self.line() {
                return Ok(serde_json::from_slice(&line)?);
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Takes what has arrived; to be called when the pipe is readable.
    pub(super) fn take(&mut self) -> io::Result<Asked> {
        if self.fill()? == 0 {
            return Ok(Asked::Closed);
        }
        let mut requests = Vec::new();
        while let Some(line) = self.line() {
            match serde_json::from_slice(&line) {
                Ok(request) => requests.push(request),
                Err(_) => return Ok(Asked::Closed),
            }
        }
        Ok(Asked::Requests(requests))
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.held.iter().position(|&byte| byte == b'\n')?;
        Some(self.held.drain(..=end).collect())
    }

    fn fill(&mut self) -> io::Result<usize> {
        if self.held.len() > MAX_LINE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut buffer = [0; READ];
        // Past std's buffer, which poll(2) does not know of.
        let count = nix::unistd::read(&self.stdin, &mut buffer)?;
        self.held.extend(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
