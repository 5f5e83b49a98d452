//! The side of `torbox run`: starts the process that makes and holds a box, and hands on its events.

use crate::engine;
use crate::protocol::{Event, Request};
use crate::system::{alone, program};
use serde::Serialize;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;
use torbox_plan::PlanError;

pub use crate::system::Incoming;

/// How long the processes of a runtime that has nothing left to do may take to end.
const ENDING: Duration = Duration::from_secs(3);

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
    pub(crate) process: Child,
    requests: Option<ChildStdin>,
    events: Incoming,
    pub(crate) pending: Vec<u8>,
}

impl Launched {
    /// Starts what makes a box in an engine. Events follow through [`Launched::next_event`].
    ///
    /// # Errors
    /// [`LaunchError`]; nothing is left running.
    pub fn start_in_engine(launch: &engine::Launch) -> Result<Self, LaunchError> {
        let mut launched = Self::spawn(engine::ENGINE)?;
        launched.say_json(launch)?;
        Ok(launched)
    }

    /// The terminal's Ctrl-C reaches torbox alone, which then ends the box in order.
    pub(crate) fn spawn(word: &str) -> Result<Self, LaunchError> {
        let mut command = Command::new(program().map_err(LaunchError::Start)?);
        let mut process = alone(command.arg(word)).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(LaunchError::Start)?;
        let missing = || LaunchError::Start(io::Error::other("no pipe"));
        let requests = process.stdin.take().ok_or_else(missing)?;
        let events = process.stdout.take().map(Incoming::new).ok_or_else(missing)?;
        Ok(Self { process, requests: Some(requests), events, pending: Vec::new() })
    }

    /// Asks something of the running box; the answer comes as an event.
    ///
    /// # Errors
    /// [`LaunchError::Talk`].
    pub fn ask(&mut self, request: Request) -> Result<(), LaunchError> {
        self.say_json(&request)
    }

    pub(crate) fn say_json(&mut self, value: &impl Serialize) -> Result<(), LaunchError> {
        let mut line = serde_json::to_vec(value).map_err(|error| LaunchError::Talk(error.into()))?;
        line.push(b'\n');
        self.say(&line)
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) -> Result<(), LaunchError> {
        let Some(requests) = &mut self.requests else { return Ok(()) };
        match requests.write_all(bytes) {
            // Gone already: its last event says why.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(LaunchError::Talk),
        }
    }

    /// Where events come from.
    #[must_use]
    pub const fn events(&self) -> &Incoming {
        &self.events
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
            match self.events.read(STILL) {
                Ok(bytes) if bytes.is_empty() => return Ok(None),
                Ok(bytes) => self.pending.extend(bytes),
                Err(error) if error.kind() == ErrorKind::TimedOut => return Err(LaunchError::Still),
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
        if !self.events.ends(ENDING) {
            self.process.kill().ok();
        }
        // Nothing can be done about a failure here.
        self.process.wait().ok();
    }
}
