//! One direction of a connection: bytes and the descriptors that travel with them (unix(7), `SCM_RIGHTS`).
//! It never reads while something is left to deliver (back-pressure), so that what it holds is bounded.

use crate::policy::{DESCRIPTORS, HELD_BYTES, Way};
use crate::judge::{Fault, Judge, Passed, Stream};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSlice, IoSliceMut, Result};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, recvmsg, sendmsg, shutdown,
};
use std::mem::MaybeUninit;
use std::time::Instant;

/// What a lane waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Something to read.
    Input,
    /// Room to write.
    Room,
    /// A moment.
    Time(Instant),
    /// Nothing: it has delivered all there will ever be.
    Nothing,
}

/// Why a connection cannot go on.
#[derive(Debug)]
pub(crate) enum Broken {
    /// A socket failed, or its other end is gone.
    Socket,
    /// The judge ends the client.
    Fault(Fault),
}

impl From<Errno> for Broken {
    fn from(_: Errno) -> Self {
        Self::Socket
    }
}

/// One direction.
pub(crate) struct Lane {
    way: Way,
    held: Stream,
    passed: Passed,
    ended: bool,
    done: bool,
}

/// The two sockets of a direction, and the buffer that all lanes share.
pub(crate) struct Ends<'a> {
    pub(crate) from: BorrowedFd<'a>,
    pub(crate) to: BorrowedFd<'a>,
    pub(crate) buffer: &'a mut [u8],
}

/// Reads and writes of one turn, so that no connection starves another.
const TURN: usize = 8;

impl Lane {
    pub(crate) fn new(way: Way) -> Self {
        Self { way, held: Stream::default(), passed: Passed::default(), ended: false, done: false }
    }

    pub(crate) fn waits(&self) -> Waits {
        match (self.done, self.passed.bytes.is_empty(), self.passed.due) {
            (true, ..) => Waits::Nothing,
            (false, false, Some(due)) => Waits::Time(due),
            (false, false, None) => Waits::Room,
            (false, true, _) => Waits::Input,
        }
    }

    /// Moves what can be moved now, as `judge` says.
    pub(crate) fn turn(&mut self, ends: &mut Ends<'_>, judge: &mut Judge) -> std::result::Result<(), Broken> {
        for _ in 0..TURN {
            if self.done || !self.deliver(ends.to)? {
                break;
            }
            if self.ended {
                self.done = true;
                shutdown(ends.to, Shutdown::Write)?;
                break;
            }
            if !self.fetch(ends)? {
                break;
            }
            judge.pass(self.way, &mut self.held, &mut self.passed).map_err(Broken::Fault)?;
        }
        Ok(())
    }

    /// Says something of our own after what is already to be delivered, as far as there is room for it.
    pub(crate) fn say(&mut self, to: BorrowedFd<'_>, message: &[u8]) {
        self.passed.bytes.extend_from_slice(message);
        self.passed.due = None;
        // The connection ends in any case.
        self.deliver(to).ok();
    }

    /// Delivers what was passed. Whether nothing of it is left.
    fn deliver(&mut self, to: BorrowedFd<'_>) -> Result<bool> {
        let Passed { bytes, descriptors, due } = &mut self.passed;
        if due.is_some_and(|due| Instant::now() < due) {
            return Ok(false);
        }
        *due = None;
        while !bytes.is_empty() {
            let batch = descriptors.len().min(DESCRIPTORS);
            // A descriptor must not come later than its message: as long as some are left over, one byte goes with each batch.
            let count = if batch < descriptors.len() { 1 } else { bytes.len() };
            let (now, with) = (bytes.get(..count).unwrap_or_default(), descriptors.get(..batch).unwrap_or_default());
            let Some(sent) = would_block(send(to, now, with))? else { return Ok(false) };
            // They went with the first byte; ours are closed here.
            descriptors.drain(..batch);
            bytes.drain(..sent);
        }
        bytes.shrink_to(0);
        Ok(true)
    }

    /// Fetches what comes next. Whether there was anything.
    fn fetch(&mut self, ends: &mut Ends<'_>) -> Result<bool> {
        let Some((count, descriptors)) = would_block(receive(ends.from, ends.buffer))? else { return Ok(false) };
        self.ended = count == 0;
        self.held.bytes.extend_from_slice(ends.buffer.get(..count).unwrap_or_default());
        self.held.descriptors.extend(descriptors);
        Ok(true)
    }
}

fn send(to: BorrowedFd<'_>, bytes: &[u8], descriptors: &[OwnedFd]) -> Result<usize> {
    let descriptors: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::TOOBIG);
    }
    sendmsg(to, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
}

/// A message with more descriptors than there is room for is an error: what was cut off cannot be had any more.
fn receive(from: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(from, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let rights = |message| if let RecvAncillaryMessage::ScmRights(rights) = message { Some(rights) } else { None };
    let descriptors: Vec<OwnedFd> = control.drain().filter_map(rights).flatten().collect();
    // The room is a little larger than asked for, for the sake of alignment.
    let too_many = received.flags.contains(ReturnFlags::CTRUNC) || descriptors.len() > DESCRIPTORS;
    if too_many { Err(Errno::TOOBIG) } else { Ok((received.bytes, descriptors)) }
}

/// `None` for "not now".
fn would_block<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The buffer that all lanes share.
pub(crate) fn buffer() -> Vec<u8> {
    vec![0; HELD_BYTES]
}
