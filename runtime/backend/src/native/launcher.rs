//! The side of `torbox run`: starts the runtime process, writes its id maps, and hands on its events.

use super::OUTER;
use super::host::{RUNTIME_GROUP, make_group};
use super::launch::Launch;
use crate::protocol::{Event, Request};
use crate::engine;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;
use torbox_plan::{IdMap, Plan, PlanError};

/// How long the processes of a runtime that has nothing left to do may take to end, in milliseconds.
const ENDING: u16 = 3000;

/// How long the runtime may say nothing while it makes a box: more than anything may take that it waits for.
pub const STILL: Duration = Duration::from_secs(30);

/// A runtime that could not be started, or broke off.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The request cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Its process could not be started.
    #[error("cannot start the runtime process")]
    Start(#[source] io::Error),
    /// It could not be talked to.
    #[error("the runtime process broke off")]
    Talk(#[source] io::Error),
    /// Nothing was heard of it.
    #[error("torbox's own process that makes the box has stood still for {} s", STILL.as_secs())]
    Still,
    /// It said something unknown.
    #[error("the runtime process said {0:?}")]
    Unknown(String),
    /// newuidmap(1) or newgidmap(1) could not be run.
    #[error("{program} cannot be run")]
    NoMapper {
        /// Which.
        program: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A control group could not be joined.
    #[error("cannot use the control group {}", group.display())]
    Group {
        /// Which.
        group: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It refused.
    #[error("{program} refused the id map: {said}")]
    MapRefused {
        /// Which.
        program: &'static str,
        /// Its error message.
        said: String,
    },
}

/// A running box, as its launcher sees it. When this is dropped the box ends.
pub struct Launched {
    process: Child,
    requests: Option<ChildStdin>,
    events: ChildStdout,
    pending: Vec<u8>,
}

impl Launched {
    /// Starts the runtime for `launch`. Events follow through [`Launched::next_event`]. Its processes hold `lock` too, a descriptor that is locked
    /// (flock(2)): the lock is free when the last of them has ended, and nothing that belongs to the box is touched by it any more.
    ///
    /// # Errors
    /// [`LaunchError`]; nothing is left running.
    pub fn start(launch: &Launch, lock: BorrowedFd<'_>) -> Result<Self, LaunchError> {
        let plan = Plan::new(&launch.intent, &launch.host)?;
        // A duplicate is not closed by execve(2).
        let held = rustix::io::dup(lock).map_err(|errno| LaunchError::Start(errno.into()))?;
        let mut launched = Self::spawn(OUTER)?;
        drop(held);
        // Before it is told to enter its namespaces: the group becomes the root of its cgroup namespace.
        let group = launch.supplies.cgroup.as_deref();
        if let Some(group) = group {
            make_group(group).map_err(|source| LaunchError::Group { group: group.to_owned(), source })?;
            join(group, launched.process.id())?;
        }
        launched.say(if plan.outer_uids.is_empty() { b"root\n" } else { b"user\n" })?;
        if !plan.outer_uids.is_empty() {
            launched.write_maps(&plan, group)?;
        }
        launched.say_json(launch)?;
        Ok(launched)
    }

    /// The same for a box in an engine.
    ///
    /// # Errors
    /// [`LaunchError`]; nothing is left running.
    pub fn start_in_engine(launch: &engine::Launch) -> Result<Self, LaunchError> {
        let mut launched = Self::spawn(engine::ENGINE)?;
        launched.say_json(launch)?;
        Ok(launched)
    }

    fn spawn(word: &str) -> Result<Self, LaunchError> {
        // A process group of its own: the terminal's Ctrl-C reaches torbox alone, which then ends the box in order.
        let mut process = Command::new("/proc/self/exe")
            .arg(word)
            .env_clear()
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(LaunchError::Start)?;
        let missing = || LaunchError::Start(io::Error::other("no pipe"));
        let requests = process.stdin.take().ok_or_else(missing)?;
        let events = process.stdout.take().ok_or_else(missing)?;
        Ok(Self { process, requests: Some(requests), events, pending: Vec::new() })
    }

    /// Asks something of the running box; the answer comes as an event.
    ///
    /// # Errors
    /// [`LaunchError::Talk`].
    pub fn ask(&mut self, request: Request) -> Result<(), LaunchError> {
        self.say_json(&request)
    }

    fn say_json(&mut self, value: &impl Serialize) -> Result<(), LaunchError> {
        let mut line = serde_json::to_vec(value).map_err(|error| LaunchError::Talk(error.into()))?;
        line.push(b'\n');
        self.say(&line)
    }

    fn write_maps(&mut self, plan: &Plan, group: Option<&Path>) -> Result<(), LaunchError> {
        match self.next_event()? {
            Some(Event::NeedsMaps { pid }) => {
                // A group that limits those in it holds no process itself (cgroups(7), "no internal processes" rule).
                group.map_or(Ok(()), |group| join(&group.join(RUNTIME_GROUP), pid))?;
                write_map("newuidmap", pid, &plan.outer_uids)?;
                write_map("newgidmap", pid, &plan.outer_gids)?;
                self.say(b"mapped\n")
            }
            // It failed before: the caller finds the event when it asks for the next.
            Some(event @ Event::Failed { .. }) => {
                self.pending.extend(serde_json::to_vec(&event).map_err(|error| LaunchError::Talk(error.into()))?);
                self.pending.push(b'\n');
                Ok(())
            }
            other => Err(LaunchError::Unknown(format!("{other:?}"))),
        }
    }

    fn say(&mut self, bytes: &[u8]) -> Result<(), LaunchError> {
        let Some(requests) = &mut self.requests else { return Ok(()) };
        match requests.write_all(bytes) {
            // Gone already: its last event says why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(LaunchError::Talk),
        }
    }

    /// Readable when there is an event.
    #[must_use]
    pub fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// The next event; `None` when the runtime has ended. Blocks, for a while.
    ///
    /// # Errors
    /// [`LaunchError::Talk`], [`LaunchError::Still`] or [`LaunchError::Unknown`].
    pub fn next_event(&mut self) -> Result<Option<Event>, LaunchError> {
        loop {
            if let Some(event) = self.buffered()? {
                return Ok(Some(event));
            }
            let mut readable = [PollFd::new(self.events.as_fd(), PollFlags::POLLIN)];
            if poll(&mut readable, PollTimeout::try_from(STILL).unwrap_or(PollTimeout::MAX)) == Ok(0) {
                return Err(LaunchError::Still);
            }
            let mut buffer = [0; 4096];
            match self.events.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => self.pending.extend(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LaunchError::Talk(error)),
            }
        }
    }

    /// The next event if it has arrived whole; never blocks.
    ///
    /// # Errors
    /// [`LaunchError::Unknown`].
    pub fn buffered(&mut self) -> Result<Option<Event>, LaunchError> {
        let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
        let line: Vec<u8> = self.pending.drain(..=end).collect();
        serde_json::from_slice(&line).map(Some).map_err(|_| LaunchError::Unknown(String::from_utf8_lossy(&line).trim_end().to_owned()))
    }

    /// Asks the box to end; its events still say how.
    pub fn stop(&mut self) {
        self.requests = None;
    }

    /// Ends the box without asking: the kernel removes all of it.
    pub fn kill(&mut self) {
        // The process may have ended already.
        self.process.kill().ok();
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        self.stop();
        // The runtime ends with its request pipe, unless a process of it stands still: as long as one is there, the pipe of events is open.
        let mut events = [PollFd::new(self.events.as_fd(), PollFlags::empty())];
        if !matches!(poll(&mut events, PollTimeout::from(ENDING)), Ok(1)) {
            self.process.kill().ok();
        }
        // Nothing can be done about a failure here.
        self.process.wait().ok();
    }
}

/// Moves a process into a control group, which is made if it is not there.
fn join(group: &Path, pid: u32) -> Result<(), LaunchError> {
    let made = if group.is_dir() { Ok(()) } else { fs::create_dir(group) };
    made.and_then(|()| fs::write(group.join("cgroup.procs"), pid.to_string())).map_err(|source| LaunchError::Group { group: group.to_owned(), source })
}

/// Writes an id map with the setuid helper of shadow (newuidmap(1), newgidmap(1)).
fn write_map(program: &'static str, pid: u32, map: &[IdMap]) -> Result<(), LaunchError> {
    let words = map.iter().flat_map(|&IdMap { inside, outside, count }| [inside, outside, count]);
    let output = Command::new(program).arg(pid.to_string()).args(words.map(|word| word.to_string())).output();
    let output = output.map_err(|source| LaunchError::NoMapper { program, source })?;
    let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(LaunchError::MapRefused { program, said: said() }) }
}
