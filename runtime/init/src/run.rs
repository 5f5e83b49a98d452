//! Runs one program as process 1 (pid_namespaces(7), signalfd(2), wait(2)).

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, Stdio};

/// What can go wrong.
#[derive(Debug)]
pub(crate) enum Error {
    /// The command line is not one of the two forms.
    Usage,
    /// The program could not be started.
    Start(String, std::io::Error),
    /// A system call failed.
    System(&'static str, Errno),
    /// The report could not be written.
    Report(std::io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage => f.write_str("usage: init run -- PROGRAM [ARG ...] | init probe"),
            Self::Start(program, _) => write!(f, "cannot start {program}"),
            Self::System(call, _) => write!(f, "{call} failed"),
            Self::Report(_) => f.write_str("cannot write the report"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Usage => None,
            Self::Start(_, error) | Self::Report(error) => Some(error),
            Self::System(_, errno) => Some(errno),
        }
    }
}

/// Signals that are passed on to the program.
const PASSED_ON: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Runs `program` to its end; its exit code, or 128 plus the number of the signal that ended it.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<u8, Error> {
    // A program inherits the mask of whoever starts it, and tor would never see a blocked SIGTERM.
    SigSet::all().thread_unblock().map_err(|errno| Error::System("sigprocmask", errno))?;
    let child = start(program, arguments)?;
    let mut signals = SigSet::empty();
    PASSED_ON.iter().chain([&Signal::SIGCHLD]).for_each(|&signal| signals.add(signal));
    signals.thread_block().map_err(|errno| Error::System("sigprocmask", errno))?;
    let signal_fd = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(|errno| Error::System("signalfd", errno))?;
    // It may have ended before its SIGCHLD could be waited for.
    if let Some(code) = reap(child)? {
        return Ok(code);
    }
    let stdin = std::io::stdin();
    loop {
        if wait(signal_fd.as_fd(), stdin.as_fd())? == Woken::RuntimeGone {
            return Ok(crate::FAILED);
        }
        while let Some(info) = signal_fd.read_signal().map_err(|errno| Error::System("read", errno))? {
            pass_on(info.ssi_signo, child);
        }
        if let Some(code) = reap(child)? {
            return Ok(code);
        }
    }
}

fn start(program: &str, arguments: &[&str]) -> Result<Pid, Error> {
    let child = Command::new(program).args(arguments).stdin(Stdio::null()).spawn();
    let child = child.map_err(|error| Error::Start(program.to_owned(), error))?;
    Ok(Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX)))
}

#[derive(PartialEq, Eq)]
enum Woken {
    Signal,
    RuntimeGone,
}

fn wait(signals: BorrowedFd<'_>, lifeline: BorrowedFd<'_>) -> Result<Woken, Error> {
    let mut fds = [PollFd::new(signals, PollFlags::POLLIN), PollFd::new(lifeline, PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::System("poll", errno)),
        }
    }
    let [_, lifeline] = fds;
    Ok(if lifeline.any().unwrap_or(true) { Woken::RuntimeGone } else { Woken::Signal })
}

fn pass_on(number: u32, child: Pid) {
    let signal = i32::try_from(number).ok().and_then(|number| Signal::try_from(number).ok());
    if let Some(signal) = signal.filter(|signal| PASSED_ON.contains(signal)) {
        // The child may have ended already; the next reaping tells.
        kill(child, signal).ok();
    }
}

/// Reaps everything that has ended; the code of `child` if it was among it.
fn reap(child: Pid) -> Result<Option<u8>, Error> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => return Ok(Some(u8::try_from(code).unwrap_or(crate::FAILED))),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => return Ok(Some(u8::try_from(128 + signal as i32).unwrap_or(crate::FAILED))),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::System("waitpid", errno)),
        }
    }
}
