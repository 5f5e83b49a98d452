//! Watches a launched box until something ends it, and says what that was.
//!
//! One poll(2) loop over the containers' output, their processes, the request pipe and the signals. It never reads what
//! crosses the links.

use super::create::Created;
use crate::protocol::Request;
use super::requests::{Asked, Requests};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use torbox_plan::Role;

/// Why a box ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// A container's program ended with this code (128 plus the signal's number if by a signal).
    Exited(Role, u8),
    /// Whoever launched the box asked for it or is gone, or a signal did.
    Asked,
}

/// What wakes the loop besides the containers.
pub(super) struct Watch {
    signals: SignalFd,
    requests: Requests,
}

/// What the loop hands on.
pub(super) enum Happening<'a> {
    /// A complete line that a role wrote.
    Line(Role, &'a str),
    /// Something that the box is asked, and the container that it is for, the browser's or the display's, if there is one yet.
    Request(Request, Option<&'a mut Created>),
}

/// A container under watch.
pub(super) struct Watched {
    /// The container.
    pub(super) created: Created,
    /// What it wrote since the last newline.
    partial: Vec<u8>,
    /// Whether its output can still be read.
    open: bool,
}

/// A longer line is dropped. The probe's report, the longest, has some 10 KiB.
const MAX_LINE: usize = 1 << 16;
const READ: usize = 4096;
/// How many more times is read from each container once one has ended: more than a pipe holds.
const LAST_READS: usize = 32;

impl From<Created> for Watched {
    fn from(created: Created) -> Self {
        Self { created, partial: Vec::new(), open: true }
    }
}

impl Watch {
    /// Blocks the signals that are watched; must precede every fork, so that none is lost.
    pub(super) fn new() -> nix::Result<Self> {
        Ok(Self { signals: block_signals()?, requests: Requests::new() })
    }

    /// Where requests come from.
    pub(super) const fn requests(&mut self) -> &mut Requests {
        &mut self.requests
    }

    /// Waits, hands on what happens, and returns what ends the box, or `None` once `on` has enough.
    ///
    /// # Errors
    /// What poll(2) and read(2) say.
    pub(super) fn run(&mut self, boxed: &mut [Watched], deadline: Option<Instant>, on: &mut dyn FnMut(Happening<'_>) -> Flow) -> io::Result<Option<Ending>> {
        loop {
            let woken = self.wait(boxed, deadline)?;
            if signalled(&self.signals)? || woken.asked && self.serve(boxed, on)? {
                return Ok(Some(Ending::Asked));
            }
            let line = &mut |role, text: &str| on(Happening::Line(role, text));
            if drain(boxed, &woken.readable, line)? == Flow::Enough {
                return Ok(None);
            }
            if let Some(ending) = ended(boxed)? {
                drain_rest(boxed, line)?;
                return Ok(Some(ending));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Hands requests on; whether the box shall end.
    fn serve(&mut self, boxed: &mut [Watched], on: &mut dyn FnMut(Happening<'_>) -> Flow) -> io::Result<bool> {
        let Asked::Requests(requests) = self.requests.take()? else { return Ok(true) };
        for request in requests {
            let role = if request == Request::Copy { Role::Display } else { Role::Browser };
            let container = boxed.iter_mut().map(|watched| &mut watched.created).find(|created| created.role == role);
            on(Happening::Request(request, container));
        }
        Ok(false)
    }

    fn wait(&self, boxed: &[Watched], deadline: Option<Instant>) -> io::Result<Woken> {
        let outputs = boxed.iter().filter(|watched| watched.open).map(|watched| watched.created.output.as_fd());
        let all = [self.signals.as_fd(), self.requests.pipe().as_fd()].into_iter().chain(outputs);
        let mut fds: Vec<PollFd<'_>> = all.map(|fd: BorrowedFd<'_>| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
            PollTimeout::try_from(deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(true)).skip(1);
        let asked = ready.next().unwrap_or(true);
        let mut readable = Vec::with_capacity(boxed.len());
        for watched in boxed {
            readable.push(watched.open && ready.next().unwrap_or(false));
        }
        Ok(Woken { asked, readable })
    }

}

fn block_signals() -> nix::Result<SignalFd> {
    let mut signals = SigSet::empty();
    [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].iter().for_each(|&signal| signals.add(signal));
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Whether one of the signals that end a box arrived. `SIGCHLD` only wakes.
fn signalled(signals: &SignalFd) -> io::Result<bool> {
    let mut ends = false;
    while let Some(info) = signals.read_signal()? {
        ends |= info.ssi_signo != Signal::SIGCHLD as u32;
    }
    Ok(ends)
}

/// Whether to go on watching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Yes.
    More,
    /// What was waited for has come.
    Enough,
}

struct Woken {
    asked: bool,
    readable: Vec<bool>,
}

fn drain(boxed: &mut [Watched], readable: &[bool], line: &mut dyn FnMut(Role, &str) -> Flow) -> io::Result<Flow> {
    let mut flow = Flow::More;
    for (watched, _) in boxed.iter_mut().zip(readable).filter(|(_, readable)| **readable) {
        if read_lines(watched, line)? == Flow::Enough {
            flow = Flow::Enough;
        }
    }
    Ok(flow)
}

/// What was written between the last look and the end.
fn drain_rest(boxed: &mut [Watched], line: &mut dyn FnMut(Role, &str) -> Flow) -> io::Result<()> {
    for watched in boxed {
        for _ in 0..LAST_READS {
            let mut fds = [PollFd::new(watched.created.output.as_fd(), PollFlags::POLLIN)];
            if !watched.open || poll(&mut fds, PollTimeout::ZERO)? == 0 {
                break;
            }
            read_lines(watched, line)?;
        }
    }
    Ok(())
}

fn read_lines(watched: &mut Watched, line: &mut dyn FnMut(Role, &str) -> Flow) -> io::Result<Flow> {
    let mut buffer = [0; READ];
    let count = watched.created.output.read(&mut buffer)?;
    watched.open = count > 0;
    watched.partial.extend(buffer.get(..count).unwrap_or_default());
    let mut flow = Flow::More;
    while let Some(end) = watched.partial.iter().position(|&byte| byte == b'\n') {
        let whole: Vec<u8> = watched.partial.drain(..=end).collect();
        if line(watched.created.role, String::from_utf8_lossy(&whole).trim_end()) == Flow::Enough {
            flow = Flow::Enough;
        }
    }
    if watched.partial.len() > MAX_LINE {
        watched.partial.clear();
    }
    Ok(flow)
}

/// Reaps what ended. As process 1 of its PID namespace the runtime gets every orphan; only the containers' own count.
fn ended(boxed: &[Watched]) -> io::Result<Option<Ending>> {
    loop {
        let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, u8::try_from(code).unwrap_or(u8::MAX)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, u8::try_from(128 + signal as i32).unwrap_or(u8::MAX)),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        if let Some(watched) = boxed.iter().find(|watched| watched.created.pid == pid) {
            return Ok(Some(Ending::Exited(watched.created.role, code)));
        }
    }
}

/// Ends process `pid` and waits until it has ended, and with it all of its PID namespace: asks first, where there is
/// `patience`, then kills.
pub(super) fn end(pid: Pid, patience: Duration) -> io::Result<()> {
    for (signal, patience) in [(Signal::SIGTERM, patience), (Signal::SIGKILL, KILLED)] {
        if patience.is_zero() {
            continue;
        }
        match kill(pid, signal) {
            Ok(()) => {}
            Err(Errno::ESRCH) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
        if reap_until(pid, Instant::now() + patience)? {
            return Ok(());
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// How long the kernel may take to end a killed container.
const KILLED: Duration = Duration::from_secs(5);

/// Whether `pid` ended before `deadline`.
fn reap_until(pid: Pid, deadline: Instant) -> io::Result<bool> {
    let signals = block_signals()?;
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) if Instant::now() >= deadline => return Ok(false),
            Ok(WaitStatus::StillAlive) => wait_for_child(&signals, deadline)?,
            Ok(_) | Err(Errno::ECHILD) => return Ok(true),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn wait_for_child(signals: &SignalFd, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)).ok();
    signalled(signals).map(drop)
}
