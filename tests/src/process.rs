//! Child processes: run one to its end, end many within a bound, find those of a namespace or a user.
//!
//! Processes are held by pidfd (pidfd_open(2)), so a reused number is never signalled.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::wait;

/// Runs `command` to its end and returns its standard output; anything but success is an error that shows standard error.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let done = command.stdin(Stdio::null()).output();
    finish(command, done)
}

/// As [`output`], with `input` written to its standard input.
pub fn output_with(command: &mut Command, input: &[u8]) -> Result<Vec<u8>> {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let done = child.and_then(|mut child| {
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input)?;
        }
        child.wait_with_output()
    });
    finish(command, done)
}

fn finish(command: &Command, done: io::Result<Output>) -> Result<Vec<u8>> {
    let done = done.with_context(|| format!("cannot run {command:?}"))?;
    if !done.status.success() {
        bail!("{command:?}: {}: {}", done.status, String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(done.stdout)
}

/// The number of a process, as in `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ProcessId(pub u32);

impl ProcessId {
    /// The calling process.
    #[must_use]
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// When it was started, in clock ticks since boot (proc_pid_stat(5), field 22); `None` where there is no such process.
    #[must_use]
    pub fn started(self) -> Option<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
    }

    /// Its command line, words joined by blanks; empty for a kernel thread or one that is gone.
    #[must_use]
    pub fn command_line(self) -> String {
        let words = fs::read(format!("/proc/{}/cmdline", self.0)).unwrap_or_default();
        String::from_utf8_lossy(&words).replace('\0', " ").trim_end().to_owned()
    }

    /// Its real user; `None` where there is no such process.
    #[must_use]
    pub fn uid(self) -> Option<u32> {
        fs::metadata(format!("/proc/{}/task/{}", self.0, self.0)).ok()?;
        self.status("Uid")?.split_whitespace().next()?.parse().ok()
    }

    /// A line of its proc_pid_status(5); `None` where there is no such process or line.
    #[must_use]
    pub fn status(self, key: &str) -> Option<String> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).ok()?;
        status.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim().to_owned()))
    }

    /// Its parent; `None` where there is no such process.
    #[must_use]
    pub fn parent(self) -> Option<Self> {
        self.status("PPid")?.parse().ok().map(Self)
    }

    /// The interfaces of its network namespace.
    #[must_use]
    pub fn interfaces(self) -> Option<Vec<String>> {
        let table = fs::read_to_string(format!("/proc/{}/net/dev", self.0)).ok()?;
        Some(table.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect())
    }

    /// Sends it a signal.
    pub fn send(self, signal: Signal) -> Result<()> {
        let held = hold(self).with_context(|| format!("there is no process {}", self.0))?;
        pidfd_send_signal(&held, signal).context("pidfd_send_signal")
    }

    /// The namespace of `kind` (`net`, `pid`, ...) it is in, as its inode number; `None` where that cannot be read.
    #[must_use]
    pub fn namespace(self, kind: &str) -> Option<u64> {
        fs::metadata(format!("/proc/{}/ns/{kind}", self.0)).ok().map(|m| m.ino())
    }
}

/// Every process there is.
pub fn all() -> Result<Vec<ProcessId>> {
    let entries = fs::read_dir("/proc").context("cannot read /proc")?;
    Ok(entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok().map(ProcessId)).collect())
}

/// Every descendant of `of`, parents before their children.
pub fn descendants(of: ProcessId) -> Result<Vec<ProcessId>> {
    let all: Vec<_> = all()?.into_iter().filter_map(|p| Some((p, p.parent()?))).collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        next += 1;
    }
    Ok(found.split_off(1))
}

/// The processes in the network namespace bound at `path`, without the calling one.
pub fn in_network(path: &Path) -> Result<Vec<ProcessId>> {
    let wanted = fs::metadata(path).with_context(|| format!("no network namespace at {}", path.display()))?.ino();
    let others = all()?.into_iter().filter(|p| *p != ProcessId::own());
    Ok(others.filter(|p| p.namespace("net") == Some(wanted)).collect())
}

/// Ends `processes`: SIGTERM, up to `grace` for them to go, then SIGKILL and up to two seconds more.
pub fn end(processes: &[ProcessId], grace: Duration) -> Result<()> {
    let mut held: Vec<(ProcessId, OwnedFd)> = processes.iter().filter_map(|p| Some((*p, hold(*p)?))).collect();
    for (signal, bound) in [(Signal::TERM, grace), (Signal::KILL, Duration::from_secs(2))] {
        for (_, fd) in &held {
            match pidfd_send_signal(fd, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(errno) => return Err(errno).context("pidfd_send_signal"),
            }
        }
        let deadline = Instant::now() + bound;
        held.retain(|(_, fd)| !wait::readable(fd.as_fd(), deadline).unwrap_or(false));
    }
    match held.first() {
        None => Ok(()),
        Some((pid, _)) => bail!("process {} ({}) outlived SIGKILL", pid.0, pid.command_line()),
    }
}

fn hold(process: ProcessId) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(i32::try_from(process.0).ok()?)?, PidfdFlags::empty()).ok()
}
