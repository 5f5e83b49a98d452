//! `init carry SOCKET`: in the place of a server that lies beyond what the container reaches. It listens on SOCKET (unix(7)), says
//! [`Handed::READY`], and passes on what its one client and its own standard input and output say to each other, until either ends.
//!
//! An engine may be another machine's: its API alone leads out of it, which hands over the streams of a program that it runs in a container.

use crate::error::Error;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use torbox_plan::Handed;

/// How long the client may take to come.
const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };
/// What a pipe takes at once whenever it takes anything (pipe(7), `PIPE_BUF`): it may be one that waits for room.
const PIPE_BUF: usize = 4096;
const READ: usize = 1 << 16;

pub(crate) fn carry(socket: &str) -> Result<(), Error> {
    meet(socket).and_then(|mut client| pass_on(&mut client)).map_err(|error| Error::Ask(socket.to_owned(), error))
}

fn meet(socket: &str) -> io::Result<UnixStream> {
    let listener = UnixListener::bind(socket)?;
    let mut out = io::stdout();
    writeln!(out, "{}", Handed::READY)?;
    out.flush()?;
    let mut comes = [PollFd::new(&listener, PollFlags::IN)];
    if wait(&mut comes, Some(&PATIENCE))? == 0 {
        return Err(ErrorKind::TimedOut.into());
    }
    let (client, _) = listener.accept()?;
    std::fs::remove_file(socket)?;
    client.set_nonblocking(true)?;
    Ok(client)
}

fn wait(fds: &mut [PollFd<'_>], patience: Option<&Timespec>) -> io::Result<usize> {
    loop {
        match poll(fds, patience) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// What was read from one side and not yet written to the other.
#[derive(Default)]
struct Way {
    bytes: Vec<u8>,
    written: usize,
}

impl Way {
    fn left(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// What to wait for: the side that it comes from, or the one that it goes to.
    fn waits<'fd>(&self, from: BorrowedFd<'fd>, to: BorrowedFd<'fd>) -> PollFd<'fd> {
        if self.left().is_empty() { PollFd::from_borrowed_fd(from, PollFlags::IN) } else { PollFd::from_borrowed_fd(to, PollFlags::OUT) }
    }

    /// Once what [`Way::waits`] said is ready; whether there may be more. At most `most` bytes are written.
    fn go(&mut self, from: &mut impl Read, to: &mut impl Write, most: usize) -> io::Result<bool> {
        if self.left().is_empty() {
            self.bytes.resize(READ, 0);
            self.written = 0;
            let count = from.read(&mut self.bytes)?;
            self.bytes.truncate(count);
            return Ok(count > 0);
        }
        let left = self.left();
        let count = to.write(left.get(..most).unwrap_or(left))?;
        self.written += count;
        Ok(count > 0)
    }
}

fn pass_on(client: &mut UnixStream) -> io::Result<()> {
    // Standard output as Rust has it keeps what follows the last newline to itself.
    let (mut input, mut output) = (io::stdin().as_fd().try_clone_to_owned().map(std::fs::File::from)?, io::stdout().as_fd().try_clone_to_owned().map(std::fs::File::from)?);
    let (mut inwards, mut outwards) = (Way::default(), Way::default());
    loop {
        let mut fds = [inwards.waits(input.as_fd(), client.as_fd()), outwards.waits(client.as_fd(), output.as_fd())];
        wait(&mut fds, None)?;
        let [enters, leaves] = fds.map(|fd| !fd.revents().is_empty());
        let gone = |went: io::Result<bool>| match went {
            Err(error) if error.kind() == ErrorKind::WouldBlock || error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) if error.kind() == ErrorKind::BrokenPipe || error.kind() == ErrorKind::ConnectionReset => Ok(false),
            other => other,
        };
        if enters && !gone(inwards.go(&mut input, client, usize::MAX))? || leaves && !gone(outwards.go(client, &mut output, PIPE_BUF))? {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes one byte at a time.
    struct Slow(Vec<u8>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.extend(bytes.first());
            Ok(bytes.len().min(1))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_goes_in_comes_out_whole() {
        let mut way = Way::default();
        let (mut from, mut to) = (io::Cursor::new(b"a picture".to_vec()), Slow(Vec::new()));
        while way.go(&mut from, &mut to, 4).unwrap() {}
        assert_eq!(to.0, b"a picture");
    }
}
