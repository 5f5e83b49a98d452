//! Moving bytes between two AF_UNIX sockets, one direction at a time: splice(2) through a pipe while a stream is in bulk,
//! one copy through a shared buffer while it is not (two system calls fewer for a small message, and no pipe held).
//! It never waits, never holds more than one pipe or one small buffer per direction, never reads what it cannot deliver
//! (back-pressure), and never looks at what it moves. splice(2), pipe(7), unix(7), epoll(7).

use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::{Errno, Result};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// What is copied at once. A read that fills it starts bulk mode; one such buffer per direction may be left over.
pub(crate) const COPY_BYTES: usize = 16 * 1024;
/// What is spliced at once, and the capacity asked for a pipe.
const SPLICE_BYTES: usize = 256 * 1024;
/// Pipes kept for the next stream in bulk.
const SPARE_PIPES: usize = 8;

/// What is known of one socket: what epoll (edge-triggered) last said, less what the kernel refused since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) readable: bool,
    /// A socket is taken for writable until it refuses.
    pub(crate) writable: bool,
    /// The peer sends no more: the end is behind what is left to read, and no further edge announces it.
    pub(crate) ended: bool,
    /// The peer is gone altogether.
    pub(crate) gone: bool,
    /// Whether epoll watches it for room. Not from the start: each message that the peer reads would wake the gate.
    pub(crate) room: Room,
}

/// Whether epoll watches a socket for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Ignored,
    Watched,
    /// Room was announced to nobody who needed it.
    Unneeded,
}

impl Ready {
    pub(crate) const UNKNOWN: Self = Self { readable: false, writable: true, ended: false, gone: false, room: Room::Ignored };

    /// What epoll has to be told, if anything, so that a socket that refused announces room (and others do not).
    pub(crate) fn change(&mut self) -> Option<Room> {
        let change = match (self.writable, self.room) {
            (false, Room::Ignored | Room::Unneeded) => Room::Watched,
            (true, Room::Unneeded) => Room::Ignored,
            _ => return None,
        };
        self.room = change;
        Some(change)
    }

    /// Notes that the socket has room.
    pub(crate) fn has_room(&mut self) {
        if self.writable {
            self.room = Room::Unneeded;
        }
        self.writable = true;
    }
}

/// One socket and its readiness.
pub(crate) struct End<'a> {
    pub(crate) fd: BorrowedFd<'a>,
    pub(crate) ready: &'a mut Ready,
}

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// The pipes, and the buffer that all streams share.
pub(crate) struct Tools {
    spare: Vec<Pipe>,
    lent: usize,
    most: usize,
    buffer: Vec<u8>,
    /// Bytes that all streams moved since this was last set to 0.
    pub(crate) moved: u64,
}

impl Tools {
    pub(crate) fn new(most_pipes: usize) -> Self {
        Self { spare: Vec::new(), lent: 0, most: most_pipes, buffer: vec![0; COPY_BYTES], moved: 0 }
    }

    /// A pipe, unless too many are lent or the kernel has none: the caller then copies.
    fn borrow(&mut self) -> Option<Pipe> {
        let pipe = self.spare.pop().or_else(|| (self.lent < self.most).then(make_pipe).flatten())?;
        self.lent += 1;
        Some(pipe)
    }

    fn give_back(&mut self, pipe: Pipe) {
        self.forget();
        if self.spare.len() < SPARE_PIPES {
            self.spare.push(pipe);
        }
    }

    /// A lent pipe was closed with its stream.
    fn forget(&mut self) {
        self.lent = self.lent.saturating_sub(1);
    }
}

fn make_pipe() -> Option<Pipe> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
    // A smaller pipe works as well, only slower: the kernel refuses when the user's quota of pipe pages is used up.
    let _capacity = fcntl_setpipe_size(&write, SPLICE_BYTES);
    Some(Pipe { read, write })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Copy,
    Splice,
}

/// Why a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing more can move until epoll says so.
    Blocked,
    /// Its share is used up; more is there.
    Again,
}

/// One direction of one stream.
pub(crate) struct Flow {
    mode: Mode,
    left: Vec<u8>,
    pipe: Option<Pipe>,
    in_pipe: usize,
    ended: bool,
    /// All was delivered, or cannot be any more.
    pub(crate) done: bool,
    /// Bytes delivered.
    pub(crate) moved: u64,
}

impl Flow {
    /// A direction that first delivers `left`.
    pub(crate) fn new(left: Vec<u8>) -> Self {
        Self { mode: Mode::Copy, left, pipe: None, in_pipe: 0, ended: false, done: false, moved: 0 }
    }

    /// Moves what can be moved, at most `share` bytes. An error means that nothing more can be delivered in this direction.
    pub(crate) fn turn(&mut self, from: &mut End<'_>, to: &mut End<'_>, tools: &mut Tools, share: usize) -> Result<Turn> {
        let until = self.moved.saturating_add(share as u64);
        let turn = loop {
            if !self.deliver(to)? {
                break Turn::Blocked;
            }
            if self.ended {
                self.done = true;
                shutdown(to.fd, Shutdown::Write)?;
                break Turn::Blocked;
            }
            if !from.ready.readable && !from.ready.ended {
                break Turn::Blocked;
            }
            if self.moved >= until {
                break Turn::Again;
            }
            if !self.fetch(from, to, tools)? {
                break Turn::Blocked;
            }
        };
        self.rest(tools);
        Ok(turn)
    }

    /// Ends the direction without delivering what is left, and returns its pipe's place.
    pub(crate) fn abandon(&mut self, tools: &mut Tools) {
        self.done = true;
        self.left = Vec::new();
        if self.pipe.take().is_some() {
            tools.forget();
        }
    }

    /// An empty pipe goes back to the others.
    fn rest(&mut self, tools: &mut Tools) {
        if self.in_pipe == 0
            && let Some(pipe) = self.pipe.take()
        {
            tools.give_back(pipe);
        }
    }

    /// Delivers what was fetched before. Whether nothing of it is left.
    fn deliver(&mut self, to: &mut End<'_>) -> Result<bool> {
        if !to.ready.writable && (self.in_pipe > 0 || !self.left.is_empty()) {
            return Ok(false);
        }
        while !self.left.is_empty() {
            let Some(sent) = would_block(send(to.fd, &self.left, SendFlags::NOSIGNAL), &mut to.ready.writable)? else {
                return Ok(false);
            };
            self.moved += sent as u64;
            self.left.drain(..sent);
        }
        self.left.shrink_to(0);
        while let Some(pipe) = self.pipe.as_ref().filter(|_| self.in_pipe > 0) {
            let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            let result = splice(&pipe.read, None, to.fd, None, self.in_pipe, flags);
            let Some(sent) = would_block(result, &mut to.ready.writable)? else { return Ok(false) };
            self.moved += sent as u64;
            self.in_pipe -= sent;
        }
        Ok(true)
    }

    /// Fetches the next bytes. Whether there were any, or the end.
    fn fetch(&mut self, from: &mut End<'_>, to: &mut End<'_>, tools: &mut Tools) -> Result<bool> {
        if self.mode == Mode::Splice && self.pipe.is_none() {
            self.pipe = tools.borrow();
        }
        match (self.mode, self.pipe.take()) {
            (Mode::Splice, Some(pipe)) => {
                let fetched = self.splice_in(from, &pipe);
                self.pipe = Some(pipe);
                fetched
            }
            (_, pipe) => {
                self.pipe = pipe;
                self.copy(from, to, &mut tools.buffer)
            }
        }
    }

    fn splice_in(&mut self, from: &mut End<'_>, pipe: &Pipe) -> Result<bool> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let result = splice(from.fd, None, &pipe.write, None, SPLICE_BYTES, flags);
        let Some(count) = would_block(result, &mut from.ready.readable)? else {
            self.mode = Mode::Copy;
            return Ok(false);
        };
        self.ended = count == 0;
        self.in_pipe = count;
        if count < COPY_BYTES {
            self.mode = Mode::Copy;
        }
        Ok(true)
    }

    fn copy(&mut self, from: &mut End<'_>, to: &mut End<'_>, buffer: &mut [u8]) -> Result<bool> {
        let room = buffer.len();
        let result = recv(from.fd, &mut *buffer, RecvFlags::empty()).map(|(count, _)| count);
        let Some(count) = would_block(result, &mut from.ready.readable)? else { return Ok(false) };
        self.ended = count == 0;
        self.mode = if count == room { Mode::Splice } else { Mode::Copy };
        // A stream socket that gave less than was asked for has no more, and the next edge will tell (epoll(7)).
        from.ready.readable = count == room;
        let fetched = buffer.get(..count).unwrap_or_default();
        let sent = would_block(send(to.fd, fetched, SendFlags::NOSIGNAL), &mut to.ready.writable)?.unwrap_or(0);
        self.moved += sent as u64;
        self.left.extend_from_slice(fetched.get(sent..).unwrap_or_default());
        Ok(true)
    }
}

/// `None` for "not now", which also clears the readiness that epoll will set again.
fn would_block(result: Result<usize>, ready: &mut bool) -> Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(Errno::AGAIN) => {
            *ready = false;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
