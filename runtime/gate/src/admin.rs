//! The socket of the trusted side: one word a line, one answer a line. It never tells where a stream went.
//! Whoever can connect is trusted, so the socket belongs in a directory that the browser's container does not have.

use crate::socket;
use rustix::fd::OwnedFd;

const LINE_BYTES: usize = 64;

/// What the trusted side can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// `new-identity`: a new tag, and every stream ended.
    NewIdentity,
    /// `status`: counters.
    Status,
    /// Anything else.
    Unknown,
}

fn parse(line: &[u8]) -> Request {
    match line.strip_suffix(b"\r").unwrap_or(line) {
        b"new-identity" => Request::NewIdentity,
        b"status" => Request::Status,
        _ => Request::Unknown,
    }
}

/// One connection.
pub(crate) struct Admin {
    socket: OwnedFd,
    held: Vec<u8>,
}

impl Admin {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, held: Vec::new() }
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// The complete lines, and whether the connection is over.
    pub(crate) fn read(&mut self) -> (Vec<Request>, bool) {
        let mut requests = Vec::new();
        loop {
            let room = LINE_BYTES - self.held.len();
            let received = socket::receive(&self.socket, &mut self.held, room);
            while let Some(end) = self.held.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.held.drain(..=end).collect();
                requests.push(parse(line.strip_suffix(b"\n").unwrap_or(&line)));
            }
            match received {
                Ok(Some(_)) if self.held.len() < LINE_BYTES => {}
                Ok(None) => return (requests, false),
                Ok(Some(_)) | Err(_) => return (requests, true),
            }
        }
    }

    /// Whether the answer went out.
    pub(crate) fn say(&self, answer: &str) -> bool {
        socket::send_all(&self.socket, answer.as_bytes()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for (line, request) in [
            (&b"status"[..], Request::Status),
            (b"status\r", Request::Status),
            (b"new-identity", Request::NewIdentity),
            (b"Status", Request::Unknown),
            (b"", Request::Unknown),
            (b"status now", Request::Unknown),
        ] {
            assert_eq!(parse(line), request);
        }
    }
}
