//! The side of `torbox run`: starts the runtime process, writes its id maps, and hands on its events.

use super::OUTER;
use super::protocol::{Event, Launch};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use torbox_plan::{IdMap, Plan, PlanError};

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
    /// Starts the runtime for `launch`. Events follow through [`Launched::next_event`].
    ///
    /// # Errors
    /// [`LaunchError`]; nothing is left running.
    pub fn start(launch: &Launch) -> Result<Self, LaunchError> {
        let plan = Plan::new(&launch.intent, &launch.host)?;
        // A process group of its own: the terminal's Ctrl-C reaches torbox alone, which then ends the box in order.
        let mut process = Command::new("/proc/self/exe")
            .arg(OUTER)
            .env_clear()
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(LaunchError::Start)?;
        let missing = || LaunchError::Start(io::Error::other("no pipe"));
        let requests = process.stdin.take().ok_or_else(missing)?;
        let events = process.stdout.take().ok_or_else(missing)?;
        let mut launched = Self { process, requests: Some(requests), events, pending: Vec::new() };
        launched.say(if plan.outer_uids.is_empty() { b"root\n" } else { b"user\n" })?;
        if !plan.outer_uids.is_empty() {
            launched.write_maps(&plan)?;
        }
        let mut request = serde_json::to_vec(launch).map_err(|error| LaunchError::Talk(error.into()))?;
        request.push(b'\n');
        launched.say(&request)?;
        Ok(launched)
    }

    fn write_maps(&mut self, plan: &Plan) -> Result<(), LaunchError> {
        match self.next_event()? {
            Some(Event::NeedsMaps { pid }) => {
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

    /// The next event; `None` when the runtime has ended. Blocks.
    ///
    /// # Errors
    /// [`LaunchError::Talk`] or [`LaunchError::Unknown`].
    pub fn next_event(&mut self) -> Result<Option<Event>, LaunchError> {
        loop {
            if let Some(event) = self.buffered()? {
                return Ok(Some(event));
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
        // Nothing can be done about a failure here; the runtime ends with its request pipe.
        self.process.wait().ok();
    }
}

/// Writes an id map with the setuid helper of shadow (newuidmap(1), newgidmap(1)).
fn write_map(program: &'static str, pid: u32, map: &[IdMap]) -> Result<(), LaunchError> {
    let words = map.iter().flat_map(|&IdMap { inside, outside, count }| [inside, outside, count]);
    let output = Command::new(program).arg(pid.to_string()).args(words.map(|word| word.to_string())).output();
    let output = output.map_err(|source| LaunchError::NoMapper { program, source })?;
    let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(LaunchError::MapRefused { program, said: said() }) }
}
