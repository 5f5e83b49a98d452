//! Messages on a socket: four bytes of length, big-endian, and the message. Nothing waits.

use super::message::Told;
use rustix::fd::{AsFd as _, BorrowedFd};
use rustix::io::{Errno, read, write};
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;

/// Bytes of a message from the page: a text that is pasted is the longest.
const LONGEST: usize = 1 << 20;
const LENGTH: usize = 4;
const AT_ONCE: usize = 1 << 16;

/// A socket with what has come and what is to go.
pub(super) struct Queue {
    stream: UnixStream,
    come: Vec<u8>,
    go: Vec<u8>,
    gone: usize,
}

impl Queue {
    pub(super) const fn new(stream: UnixStream) -> Self {
        Self { stream, come: Vec::new(), go: Vec::new(), gone: 0 }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub(super) const fn is_sending(&self) -> bool {
        self.gone < self.go.len()
    }

    /// Takes what is there, at most as much as one message can be.
    pub(super) fn receive(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; AT_ONCE];
        while self.come.len() <= LENGTH + LONGEST {
            match read(&self.stream, buffer.as_mut_slice()) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.come.extend(buffer.iter().take(count)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The next message that has come whole.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(length) = self.come.first_chunk::<LENGTH>().map(|bytes| u32::from_be_bytes(*bytes)) else { return Ok(None) };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > LONGEST {
            return Err(io::Error::new(ErrorKind::InvalidData, "a message is too long"));
        }
        if self.come.len() < LENGTH + length {
            return Ok(None);
        }
        let rest = self.come.split_off(LENGTH + length);
        let mut message = std::mem::replace(&mut self.come, rest);
        message.drain(..LENGTH);
        Ok(Some(message))
    }

    pub(super) fn push(&mut self, told: &Told<'_>) {
        if !self.is_sending() {
            self.go.clear();
            self.gone = 0;
        }
        let begin = self.go.len();
        self.go.extend([0; LENGTH]);
        told.write(&mut self.go);
        let length = u32::try_from(self.go.len().saturating_sub(begin + LENGTH)).unwrap_or(u32::MAX);
        if let Some(place) = self.go.get_mut(begin..begin + LENGTH) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }

    pub(super) fn send(&mut self) -> io::Result<()> {
        while let Some(rest) = self.go.get(self.gone..).filter(|rest| !rest.is_empty()) {
            match write(&self.stream, rest) {
                Ok(count) => self.gone += count,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn messages_come_whole_and_none_is_too_long() {
        let (mut other, own) = UnixStream::pair().unwrap();
        own.set_nonblocking(true).unwrap();
        let mut queue = Queue::new(own);
        other.write_all(&[0, 0, 0, 2, b'a']).unwrap();
        queue.receive().unwrap();
        assert_eq!(queue.next().unwrap(), None);
        other.write_all(&[b'b', 0, 0, 0, 0, 0, 0x10, 0, 1]).unwrap();
        queue.receive().unwrap();
        assert_eq!((queue.next().unwrap(), queue.next().unwrap()), (Some(b"ab".to_vec()), Some(Vec::new())));
        assert_eq!(queue.next().unwrap_err().kind(), ErrorKind::InvalidData);
        drop(other);
        assert_eq!(queue.receive().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}
