//! Runs one program as process 1 (pid_namespaces(7), signalfd(2), wait(2)).

use crate::bus::{Bus, Opened};
use crate::error::Error;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, read};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, Stdio};
use torbox_plan::{BESIDE, NOT_OPENED, OPENED, Wish};

/// Signals that are passed on to the program.
const PASSED_ON: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
/// The signal at which every attempt to get out is made once more, beside the program. Whoever sends it learns nothing: what the attempts
/// find goes to the runtime.
const AUDIT: Signal = Signal::SIGUSR1;

const READ: usize = 4096;
/// More than the runtime ever has on its way.
const MAX_WISHES: usize = 1 << 17;

/// What becomes of what a program writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// It goes where init's own goes.
    Kept,
    /// Nobody reads it.
    Dropped,
}

/// Runs `program` to its end; its exit code, or 128 plus the number of the signal that ended it.
///
/// With a bus the program is a browser, which opens what comes through standard input.
pub(crate) fn run(program: &str, arguments: &[&str], output: Output, mut bus: Option<Bus>) -> Result<u8, Error> {
    // A program inherits the mask of whoever starts it, and tor would never see a blocked SIGTERM.
    SigSet::all().thread_unblock().map_err(|errno| Error::System("sigprocmask", errno))?;
    let child = start(program, arguments, output)?;
    let mut signals = SigSet::empty();
    PASSED_ON.iter().chain([&Signal::SIGCHLD, &AUDIT]).for_each(|&signal| signals.add(signal));
    signals.thread_block().map_err(|errno| Error::System("sigprocmask", errno))?;
    let signal_fd = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(|errno| Error::System("signalfd", errno))?;
    // It may have ended before its SIGCHLD could be waited for.
    if let Some(code) = reap(child)? {
        return Ok(code);
    }
    let (stdin, mut wishes) = (std::io::stdin(), Vec::new());
    torbox_sys::give_back_memory();
    loop {
        if wait(signal_fd.as_fd(), stdin.as_fd(), bus.as_ref())? && !read_wishes(stdin.as_fd(), &mut wishes)? {
            return Ok(crate::FAILED);
        }
        if let Some(bus) = &mut bus {
            serve(bus, &mut wishes)?;
        }
        while let Some(info) = signal_fd.read_signal().map_err(|errno| Error::System("read", errno))? {
            if info.ssi_signo == AUDIT as u32 {
                audit()?;
            } else {
                pass_on(info.ssi_signo, child);
            }
        }
        if let Some(code) = reap(child)? {
            return Ok(code);
        }
    }
}

fn start(program: &str, arguments: &[&str], output: Output) -> Result<Pid, Error> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    if output == Output::Dropped {
        command.stdout(Stdio::null()).stderr(Stdio::null());
    }
    let child = command.spawn().map_err(|error| Error::Start(program.to_owned(), error))?;
    Ok(Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX)))
}

/// One that cannot be started has an end all the same. The loop reaps it.
fn audit() -> Result<(), Error> {
    let started = Command::new("/proc/self/exe").args(["audit", "--beside"]).stdin(Stdio::inherit()).spawn();
    started.map(drop).or_else(|_| writeln!(std::io::stdout(), "{BESIDE}")).map_err(Error::Report)
}

/// Waits until something happens; whether it is on the lifeline.
fn wait(signals: BorrowedFd<'_>, lifeline: BorrowedFd<'_>, bus: Option<&Bus>) -> Result<bool, Error> {
    let own = [signals, lifeline].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    let mut fds: Vec<_> = own.into_iter().chain(bus.into_iter().flat_map(Bus::fds)).collect();
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::System("poll", errno)),
        }
    }
    Ok(fds.get(1).is_none_or(|lifeline| lifeline.any().unwrap_or(true)))
}

/// Takes what came through the lifeline; `false` when the runtime is gone, or says what it never would.
fn read_wishes(lifeline: BorrowedFd<'_>, wishes: &mut Vec<u8>) -> Result<bool, Error> {
    let mut buffer = [0; READ];
    let count = read(lifeline, &mut buffer).map_err(|errno| Error::System("read", errno))?;
    wishes.extend(buffer.get(..count).unwrap_or_default());
    Ok(count > 0 && wishes.len() <= MAX_WISHES)
}

/// Has the browser open what is asked for, and says on standard output what became of it, never what it was.
fn serve(bus: &mut Bus, wishes: &mut Vec<u8>) -> Result<(), Error> {
    let mut opened = bus.serve();
    while let Some(end) = wishes.iter().position(|&byte| byte == b'\n') {
        let line: Vec<u8> = wishes.drain(..=end).collect();
        let wish = String::from_utf8(line).ok().and_then(|line| Wish::parse(line.trim_end()));
        opened.extend(wish.map_or_else(|| vec![Opened::No], |wish| bus.open(wish.0)));
    }
    for outcome in opened {
        writeln!(std::io::stdout(), "{}", if outcome == Opened::Yes { OPENED } else { NOT_OPENED }).map_err(Error::Report)?;
    }
    Ok(())
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
